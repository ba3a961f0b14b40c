"""The prior's file: what is written is read, and what cannot be used is refused in one line."""

from __future__ import annotations

import json
import os
import pickle

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny import normal, small_arch, small_networks

from latentface.errors import OutputError, WeightsError
from latentface.io.atomic import sha256
from latentface.io.weights import FORMAT
from latentface.prior.formats import identity, read_card, read_prior, write_figures, write_prior
from latentface.prior.prior import Prior
from latentface.prior.statistics import latent_statistics

ARCH = small_arch(8)


@pytest.fixture
def file(tmp_path):
    """A small prior's file."""
    generator, discriminator = small_networks(ARCH, dtype=torch.float32)
    statistics = latent_statistics(generator.mapping, 9, 1_000)
    write_prior(tmp_path / "p.safetensors", generator, discriminator, statistics, {"alignment": "celeba", "by": "é"})
    return tmp_path / "p.safetensors"


def rewrite(file, change, metadata=None):
    """Change the tensors (a function on the dict) or the metadata of a file."""
    tensors = load_file(file)
    card = json.dumps(read_card(file))
    change(tensors)
    save_file(tensors, file, metadata if metadata is not None else {"latentface": card})


def refused(file, words):
    """Assert that reading raises WeightsError, in one line that names the file and says `words`."""
    with pytest.raises(WeightsError, match=words) as caught:
        read_prior(file)
    assert "\n" not in str(caught.value)
    assert str(file) in str(caught.value)


def test_round_trip_is_float16(file):
    generator, discriminator = small_networks(ARCH, dtype=torch.float32)
    read_g, read_d, statistics, card = read_prior(file)
    for wrote, read in ((generator, read_g), (discriminator, read_d)):
        assert wrote.state_dict().keys() == read.state_dict().keys()
        for name, value in wrote.state_dict().items():
            assert read.state_dict()[name].dtype == torch.float32
            assert torch.equal(read.state_dict()[name], value.half().float()), name
    assert torch.equal(statistics["mean"], latent_statistics(generator.mapping, 9, 1_000)["mean"].half().float())
    assert read_g.arch == ARCH
    assert card == {"alignment": "celeba", "by": "é", "format": FORMAT, "architecture": ARCH.to_json()}
    stored = load_file(file)
    assert stored.pop("w.gauss_cov").dtype == torch.float32
    assert {v.dtype for v in stored.values()} == {torch.float16}
    assert (read_g(normal(2, 9).float()) - generator(normal(2, 9).float())).abs().max() < 0.02
    assert not any(p.is_meta for p in [*read_g.parameters(), *read_d.parameters()])


def test_a_read_file_writes_the_same_bytes(file, tmp_path):
    generator, discriminator, statistics, card = read_prior(file)
    write_prior(tmp_path / "again.safetensors", generator, discriminator, statistics, card)
    assert (tmp_path / "again.safetensors").read_bytes() == file.read_bytes()


def test_the_card_is_read_without_the_tensors(file):
    header = int.from_bytes(file.read_bytes()[:8], "little")
    whole = read_card(file)
    data = bytearray(file.read_bytes())
    data[8 + header :] = bytes(len(data) - 8 - header)
    file.write_bytes(data)
    assert read_card(file) == whole


def test_figures_change_the_card_and_nothing_else(file):
    before, name = file.read_bytes(), identity(file)
    card, tensors = read_card(file), load_file(file)
    assert name == sha256(before)
    write_figures(
        file, {"values": {"psnr": {"value": [20.5, 1e-05, 21], "n": 3}}, "by": "é \N{GREEK SMALL LETTER PI}\x1f"}
    )
    assert read_card(file) == {**card, "figures": read_card(file)["figures"]}
    assert read_card(file)["figures"]["values"] == {"psnr": {"value": [20.5, 1e-05, 21], "n": 3}}
    now = load_file(file)
    assert now.keys() == tensors.keys()
    for key, value in tensors.items():
        assert (now[key].dtype, now[key].shape) == (value.dtype, value.shape)
        assert now[key].numpy().tobytes() == value.numpy().tobytes(), key
    assert file.read_bytes() != before
    assert identity(file) == name
    assert Prior.read(file).sha256 == name
    write_figures(file, {"values": {}})  # again: they are replaced
    assert read_card(file)["figures"] == {"values": {}}
    assert identity(file) == name
    assert list(file.parent.iterdir()) == [file]


def test_the_identity_follows_everything_but_the_figures(file):
    names = {identity(file)}
    rewrite(file, lambda t: None, metadata={"latentface": json.dumps({**read_card(file), "licence": "another"})})
    names.add(identity(file))
    rewrite(file, lambda t: t["g.synthesis.b8.conv0.weight"].view(-1)[0].add_(0.5))
    names.add(identity(file))
    assert len(names) == 3


def test_figures_of_what_is_no_prior(file, tmp_path):
    for change in (identity, lambda f: write_figures(f, {})):
        with pytest.raises(WeightsError, match="no such file"):
            change(tmp_path / "none.safetensors")
    rewrite(file, lambda tensors: None, metadata={})
    before = file.read_bytes()
    with pytest.raises(WeightsError, match="no latentface prior"):
        write_figures(file, {})
    assert file.read_bytes() == before


@pytest.mark.parametrize("keep", [0, 7, 100, 3_000, -1])
def test_truncated(file, keep):
    file.write_bytes(file.read_bytes()[:keep])
    refused(file, "broken" if keep else "empty")


def test_no_file_and_a_folder(tmp_path):
    refused(tmp_path / "none.safetensors", "no such file")
    refused(tmp_path, "this is a folder; expected a latentface prior")


def test_text(file):
    file.write_text("these are not the weights you are looking for\n" * 100)
    refused(file, "this is a text file; expected a latentface prior")


class Bomb:
    """Unpickling it makes a folder."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("dump", [pickle.dump, torch.save], ids=["pickle", "torch"])
def test_a_pickle_of_another_name_runs_nothing(tmp_path, dump):
    file = tmp_path / "evil.safetensors"
    with open(file, "wb") as out:
        dump({"g.mapping.w_avg": Bomb(tmp_path / "ran")}, out)
    refused(file, "this is a (Python pickle|checkpoint of PyTorch); expected a latentface prior")
    assert not (tmp_path / "ran").exists()
    with open(file, "rb") as data:  # the bomb is live: a reader that unpickles would have set it off
        pickle.load(data) if dump is pickle.dump else torch.load(data, weights_only=False)
    assert (tmp_path / "ran").exists()


def test_safetensors_without_card(file):
    rewrite(file, lambda tensors: None, metadata={})
    refused(file, "no latentface prior")


@pytest.mark.parametrize("text", ["{", "[1]", '"celeba"', "{}", json.dumps({"format": FORMAT + 1}), "[" * 100_000])
def test_cards_that_cannot_be_read(file, text):
    rewrite(file, lambda tensors: None, metadata={"latentface": text})
    refused(file, "card cannot be read")


@pytest.mark.parametrize(
    "changes",
    [{"resolution": 48}, {"z_dim": 2.5}, {"channels": 8}, {"channels": {"4": None, "8": 2}}, {"colour": 1}, None],
)
def test_architectures_that_cannot_be(file, changes):
    card = read_card(file)
    card["architecture"] = [] if changes is None else {**card["architecture"], **changes}
    rewrite(file, lambda tensors: None, metadata={"latentface": json.dumps(card)})
    refused(file, "architecture cannot be used")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"z_dim": 8}, r"g.mapping.fc0.weight has shape \(10, 9\), expected \(10, 8\)"),
        ({"mapping_layers": 4}, "g.mapping.fc3.weight is missing"),
        ({"mapping_layers": 2}, "g.mapping.fc2.bias is not part"),
        ({"d_channels": {"4": 4, "8": 6}}, "d.b8.* has shape"),
        ({"resolution": 16, "channels": {}, "d_channels": {}}, "g.synthesis.* has shape"),
    ],
)
def test_tensors_of_another_architecture(file, changes, words):
    card = read_card(file)
    card["architecture"].update(changes)
    rewrite(file, lambda tensors: None, metadata={"latentface": json.dumps(card)})
    refused(file, words)


@pytest.mark.parametrize("name", ["g.synthesis.b8.conv0.weight", "d.b4.out.bias", "w.gauss_cov"])
@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda tensors, name: tensors.pop(name), "is missing"),
        (lambda tensors, name: tensors[name].view(-1)[0].fill_(float("nan")), "holds NaN or infinite"),
        (lambda tensors, name: tensors[name].view(-1)[-1].fill_(float("inf")), "holds NaN or infinite"),
        (lambda tensors, name: tensors.update({name: tensors[name][None].clone()}), "has shape"),
        (lambda tensors, name: tensors.update({f"{name}2": tensors[name].clone()}), "is not part of"),
    ],
    ids=["missing", "nan", "inf", "shape", "extra"],
)
def test_tensors_that_do_not_fit(file, name, change, words):
    rewrite(file, lambda tensors: change(tensors, name))
    refused(file, rf"{name}2? {words}")


def test_tensors_of_no_group(file):
    rewrite(file, lambda tensors: tensors.update({"x.y": torch.zeros(1)}))
    refused(file, r"x\.y is no part")


def test_an_unknown_alignment(file):
    rewrite(file, lambda t: None, metadata={"latentface": json.dumps({**read_card(file), "alignment": "mine"})})
    with pytest.raises(WeightsError, match="alignment is 'mine', expected one of ffhq, celeba"):
        Prior.read(file)


@pytest.mark.parametrize("value", [float("nan"), 1e6])
def test_numbers_that_float16_cannot_hold_are_not_written(file, value):
    before = file.read_bytes()
    generator, discriminator, statistics, card = read_prior(file)
    with torch.no_grad():
        generator.synthesis.b8.conv0.weight[0, 0, 0, 0] = value
    with pytest.raises(WeightsError, match=r"g\.synthesis\.b8\.conv0\.weight does not fit float16"):
        write_prior(file, generator, discriminator, statistics, card)
    assert file.read_bytes() == before


def test_a_place_that_cannot_be_written(file, tmp_path):
    (tmp_path / "taken").write_text("a file where a folder is needed")
    with pytest.raises(OutputError, match="taken"):
        write_prior(tmp_path / "taken" / "p.safetensors", *read_prior(file))
