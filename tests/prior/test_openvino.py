"""MobileStyleGAN out of OpenVINO's files, written here in the layout of the real ones; broken and hostile files."""

from __future__ import annotations

import hashlib
import os
import zipfile
from pathlib import Path

import pytest
import torch
from mobile_reference import Graph, mapping_reference, members_of, synthesis_reference
from tiny import mobile_arch, mobile_generator, normal, published, state_of

from latentface.errors import WeightsError
from latentface.prior.foreign.openvino import FFHQ1024_MEMBERS, mobilestylegan, read_constants, write_ffhq1024
from latentface.prior.prior import Prior

ARCH = mobile_arch(32)
DW, POINT, NOISE = "m.layers.1.conv2.conv.weight_dw", "Mul_239_copy", "1739"
MAPPING_XML, MAPPING_BIN, XML, BIN = FFHQ1024_MEMBERS


@pytest.fixture(scope="module")
def numbers():
    return published(ARCH, dtype=torch.float32)


# -- what is read ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("resolution", [16, 64])
def test_the_network_that_is_read_is_the_one_that_was_written(resolution):
    arch = mobile_arch(resolution)
    numbers = published(arch, seed=resolution, dtype=torch.float32)
    generator = mobilestylegan(members_of(numbers)).requires_grad_(False)
    assert generator.arch == arch
    for name, value in state_of(arch, numbers).items():
        torch.testing.assert_close(generator.state_dict()[name], value, rtol=1e-6, atol=0)
    doubles = {k: v.double() for k, v in numbers.items()}
    z, w_plus = normal(3, arch.z_dim), normal(3, arch.num_ws, arch.w_dim)
    generator = generator.double()
    torch.testing.assert_close(generator.mapping(z), mapping_reference(doubles, z), rtol=0, atol=1e-6)
    torch.testing.assert_close(
        generator.synthesis(w_plus)[1], synthesis_reference(doubles, w_plus), rtol=1e-5, atol=1e-5
    )


def test_constants_come_in_order_without_scalars_and_whole_numbers():
    graph = Graph()
    graph.add("b", torch.tensor([[1.5, -2.0, 3.0]]))
    graph.add("axis", torch.tensor([1, 2]))
    graph.add("scalar", torch.tensor(4.0), shape="")
    graph.add("a", torch.tensor([5.0, 6.0]))
    found = read_constants(graph.text().encode(), graph.flat)
    assert [(c.name, c.value.tolist()) for c in found] == [("b", [[1.5, -2.0, 3.0]]), ("a", [5.0, 6.0])]


def test_overlapping_constants_take_no_more_memory():
    graph = Graph()
    graph.add("a", torch.zeros(1000))
    for k in range(50):
        graph.add(f"view{k}", torch.zeros(0), shape="1000", offset=0, size=4000)
    found = read_constants(graph.text().encode(), graph.flat)
    assert len(found) == 51
    assert len({c.value.untyped_storage().data_ptr() for c in found}) == 1


# -- what is refused ---------------------------------------------------------------------------------------------------


def with_xml(text):
    def change(members):
        return {**members, XML: text if isinstance(text, bytes) else text.encode()}

    return change


def edited(old, new):
    def change(members):
        assert old in members[XML]
        return {**members, XML: members[XML].replace(old, new, 1)}

    return change


BOMB = '<!DOCTYPE net [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;">]><net><layers>&b;</layers></net>'
DEEP = b"<a>" * 150_000 + b"</a>" * 150_000
MANY_DIGITS = ",".join(["9" * 4000] * 100)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (with_xml(BOMB), "declaration"),
        (with_xml(BOMB.encode("utf-16")), "cannot be read"),
        (with_xml('<?xml version="1.0" encoding="utf-7"?><net/>'), "0 layers"),  # the declared encoding is not used
        (with_xml("<net><layers>&nothing;</layers></net>"), "cannot be read"),
        (with_xml(b"\xff\xfe<net/>"), "cannot be read"),
        (with_xml(DEEP), "bytes of XML"),
        (with_xml(DEEP[300_000:-400_000]), "0 layers"),
        (with_xml(""), "cannot be read"),
        (lambda m: {**m, XML: m[XML][:-30]}, "cannot be read"),
        (lambda m: {**m, BIN: m[BIN][:-4]}, "does not fit the file's"),
        (lambda m: {**m, BIN: b""}, "does not fit the file's"),
        (lambda m: {k: v for k, v in m.items() if k != BIN}, "SynthesisNetwork.bin is missing"),
        (lambda m: {**m, XML: m[MAPPING_XML], BIN: m[MAPPING_BIN]}, "0 layers"),
        (lambda m: {**m, MAPPING_XML: m[XML], MAPPING_BIN: m[BIN]}, "weights and 0 biases"),
        (edited(b'name="m.input.input"', b'name="other"'), "no m.input.input"),
    ],
)
def test_broken_files(numbers, change, message):
    with pytest.raises(WeightsError, match=message):
        mobilestylegan(change(members_of(numbers)))


@pytest.mark.parametrize(
    ("name", "described", "message"),
    [
        (DW, {"offset": -4}, "does not fit"),
        (DW, {"offset": 1 << 40}, "does not fit"),
        (DW, {"offset": "9" * 4000}, "does not fit"),
        (DW, {"offset": "9" * 5000}, "has no size"),
        (DW, {"offset": "ten"}, "has no size"),
        (DW, {"size": None}, "has no size"),
        (DW, {"size": 4}, "does not fit"),
        (DW, {"size": -4}, "does not fit"),
        (DW, {"shape": "3, 1, 1, 3, 4"}, "does not fit"),
        (DW, {"shape": "0, 1, 1, 3, 3"}, "does not fit"),
        (DW, {"shape": "-3, -1, 1, 3, 3"}, "does not fit"),
        (DW, {"shape": "1e3"}, "has no size"),
        (DW, {"shape": f"{1 << 62}, 4", "size": 0}, "does not fit"),
        (DW, {"shape": MANY_DIGITS}, "does not fit"),
        (DW, {"shape": ", ".join(["1"] * 9 + ["27"])}, "does not fit"),
        (DW, {"shape": "27"}, "do not fit MobileStyleGAN"),
        (DW, {"element_type": "f16"}, "4 layers, 5 weights|3 layers, 5 weights"),
        (POINT, {"shape": "9"}, "do not fit MobileStyleGAN"),
        (POINT, {"element_type": "f64"}, "weights"),
        ("Mul_39_copy", {"shape": str(12 * 12 * 9)}, "do not fit MobileStyleGAN"),
        (NOISE, {"shape": "1, 1, 4, 64"}, "do not fit MobileStyleGAN|no synthesis"),
        (NOISE, {"shape": "256"}, "noise maps"),
        ("m.conv1.bias", {"shape": "1, 2, 6"}, None),  # a bias is a bias in any shape
        ("m.input.input", {"shape": "1, 4, 12, 4"}, "do not fit MobileStyleGAN"),
        ("m.layers.1.to_img.conv.weight", {"shape": "36"}, "do not fit MobileStyleGAN"),
        ("fc1.weight", {"shape": "49"}, "biases"),
        ("fc1.bias", {"shape": "7, 1"}, "biases"),
    ],
)
def test_constants_that_are_not_what_they_say(numbers, name, described, message):
    members = members_of(numbers, {name: described})
    if message is None:
        mobilestylegan(members)
        return
    with pytest.raises(WeightsError, match=message):
        mobilestylegan(members)


def test_every_constant_is_needed(numbers):
    for name in numbers:
        haar = name.isdigit() and numbers[name].ndim == 5
        if haar:
            mobilestylegan(members_of(numbers, without=(name,)))
            continue
        with pytest.raises(WeightsError):
            mobilestylegan(members_of(numbers, without=(name,)))


def test_constants_of_another_network(numbers):
    for extra in (("Mul_1_copy", torch.ones(2, 2)), ("9", torch.ones(1, 1, 4, 4)), ("x.conv.weight_dw", torch.ones(3))):
        with pytest.raises(WeightsError, match="it is no MobileStyleGAN"):
            mobilestylegan(members_of(numbers, also=[extra]))


def test_a_graph_with_the_right_names_and_no_layer(numbers):
    one = {k: v for k, v in numbers.items() if k.startswith(("fc", "m.conv1", "Mul_39", "m.input")) or k == "1539"}
    with pytest.raises(WeightsError, match="0 layers"):
        mobilestylegan(members_of(one))


def test_numbers_that_no_file_can_hold(numbers, tmp_path):
    for value in (float("nan"), float("inf"), 1e30):
        broken = {**numbers, DW: numbers[DW].clone()}
        broken[DW].view(-1)[0] = value
        with pytest.raises(WeightsError, match=r"synthesis\.b16\.conv2\.depthwise does not fit float16"):
            write_ffhq1024(members_of(broken), tmp_path / "x.safetensors", {})
    assert not list(tmp_path.iterdir())


# -- the prior's file --------------------------------------------------------------------------------------------------


def test_the_same_bytes_twice(tmp_path):
    arch = mobile_arch(16, w_dim=512, mapping_layers=1)  # as wide as the statistics in the package
    numbers = published(arch, dtype=torch.float32)
    paths = [tmp_path / f"{k}.safetensors" for k in range(2)]
    for path in paths:
        write_ffhq1024(members_of(numbers), path, {"package": "tiny 1.0"})
    assert paths[0].read_bytes() == paths[1].read_bytes()
    prior = Prior.read(paths[0])
    assert (prior.alignment, prior.judge, prior.card["package"]) == ("ffhq", None, "tiny 1.0")
    assert "non-commercial" in prior.licence
    w_plus = normal(2, arch.num_ws, 512, dtype=torch.float32)
    wanted = mobile_generator(arch, numbers).synthesis(w_plus)[1]
    got = prior.generator.synthesis(w_plus)[1]
    assert (got - wanted).norm() < 0.003 * wanted.norm()


def test_the_real_file(tmp_path):
    wheel = os.environ.get("LATENTFACE_FFHQ1024_WHEEL", "")
    if not Path(wheel).is_file():
        pytest.skip("LATENTFACE_FFHQ1024_WHEEL names no wheel of random-face 2021.7.21.1")
    with zipfile.ZipFile(wheel) as archive:
        members = {name: archive.read(name) for name in FFHQ1024_MEMBERS}
    path = tmp_path / "ffhq1024.safetensors"
    write_ffhq1024(members, path, {"package": "random-face 2021.7.21.1"})
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    assert digest == "4397ae7f8b89b534053774de9fc99444227b9a78c4581b98053cd5914b65f75a"
