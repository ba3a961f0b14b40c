"""rosinality's, PULSE's and MobileStyleGAN's checkpoints: the same networks as written plainly, and clear refusals."""

from __future__ import annotations

import argparse
import sys
import types

import pytest
import stylegan1_reference as first
import torch
from mobile_reference import mapping_reference, synthesis_reference
from tiny import mobile_arch, normal, published, small_arch, small_networks, tiny_faces

from latentface.errors import InputError, WeightsError
from latentface.explore.engine import explore
from latentface.explore.registry import METHODS
from latentface.prior.foreign.convert import convert, describe, networks_of
from latentface.prior.registry import load_prior

# -- rosinality's StyleGAN2 --------------------------------------------------------------------------------------------


def rosinality(generator, network=None, maps=True):
    """Return a checkpoint of their trainer, of networks of ours."""
    g = generator.state_dict()
    out = {}
    for i in range(generator.arch.mapping_layers):
        out |= {f"style.{i + 1}.{k}": g[f"mapping.fc{i}.{k}"] for k in ("weight", "bias")}
    out["input.input"] = g["synthesis.b4.const"][None]
    number = 0
    for r in generator.arch.channels:
        k = r.bit_length() - 4
        places = {"conv1": "conv1", "torgb": "to_rgb1"} if r == 4 else {}
        places = places or {"conv0": f"convs.{2 * k}", "conv1": f"convs.{2 * k + 1}", "torgb": f"to_rgbs.{k}"}
        for ours, theirs in places.items():
            name = f"synthesis.b{r}.{ours}"
            out[f"{theirs}.conv.weight"] = g[f"{name}.weight"][None]
            out |= {f"{theirs}.conv.modulation.{kind}": g[f"{name}.affine.{kind}"] for kind in ("weight", "bias")}
            if ours == "torgb":
                out[f"{theirs}.bias"] = g[f"{name}.bias"].view(1, 3, 1, 1)
                continue
            out |= {
                f"{theirs}.activate.bias": g[f"{name}.bias"],
                f"{theirs}.noise.weight": g[f"{name}.noise_strength"][None],
            }
            if maps:
                out[f"noises.noise_{number}"] = g[f"{name}.noise_const"][None, None]
            number += 1
    content = {"g_ema": out, "g": out, "latent_avg": g["mapping.w_avg"], "args": argparse.Namespace(size=16)}
    if network is not None:
        d, theirs = network.state_dict(), {}
        for i, r in enumerate(network.resolutions):
            names = {"conv0": ("conv1.0", "conv1.1"), "conv1": ("conv2.1", "conv2.2"), "skip": ("skip.1", "")}
            for ours, (weight, bias) in names.items():
                theirs[f"convs.{i + 1}.{weight}.weight"] = d[f"b{r}.{ours}.weight"]
                if bias:
                    theirs[f"convs.{i + 1}.{bias}.bias"] = d[f"b{r}.{ours}.bias"]
        top = network.resolutions[0]
        theirs |= {"convs.0.0.weight": d[f"b{top}.fromrgb.weight"], "convs.0.1.bias": d[f"b{top}.fromrgb.bias"]}
        theirs |= {"final_conv.0.weight": d["b4.conv.weight"], "final_conv.1.bias": d["b4.conv.bias"]}
        for i, ours in enumerate(("fc", "out")):
            theirs |= {f"final_linear.{i}.{k}": d[f"b4.{ours}.{k}"] for k in ("weight", "bias")}
        content["d"] = theirs
    return content


@pytest.mark.parametrize(("new", "judge"), [(True, True), (False, False)])
def test_rosinality(tmp_path, new, judge):
    g, d = small_networks(small_arch(16), dtype=torch.float32)
    path = tmp_path / "550000.pt"
    torch.save(rosinality(g, d if judge else None), path, _use_new_zipfile_serialization=new)
    found, its, facts = networks_of(path)
    for name, value in g.state_dict().items():
        assert torch.equal(found.state_dict()[name], value), name
    assert (its is not None) == judge
    for name, value in d.state_dict().items() if judge else ():
        assert torch.equal(its.state_dict()[name], value), name
    assert "rosinality" in facts["origin"]
    assert describe(path)["networks"]["g_ema"]["tensors"] == len(rosinality(g)["g_ema"])


def test_older_checkpoints_get_noise_of_a_fixed_seed_and_a_mean(tmp_path):
    g, _ = small_networks(small_arch(16), dtype=torch.float32)
    content = rosinality(g, maps=False)
    torch.save({"g_ema": content["g_ema"]}, tmp_path / "old.pt")
    torch.save(content["g_ema"], tmp_path / "bare.pt")
    one, two = (networks_of(tmp_path / name)[0] for name in ("old.pt", "bare.pt"))
    assert torch.equal(one.synthesis.b8.conv0.noise_const, two.synthesis.b8.conv0.noise_const)
    assert one.synthesis.b8.conv0.noise_const.std() > 0.5
    prior = load_prior(convert(tmp_path / "old.pt", tmp_path / "p.safetensors"))
    torch.testing.assert_close(prior.generator.mapping.w_avg, prior.w_mean)


# -- PULSE's StyleGAN --------------------------------------------------------------------------------------------------


def pulse(tmp_path, channels):
    synthesis, mapping = first.files(channels)
    torch.save(synthesis, tmp_path / "synthesis.pt")
    torch.save(mapping, tmp_path / "mapping.pt", _use_new_zipfile_serialization=False)
    return synthesis, mapping


@pytest.mark.parametrize("channels", [{4: 5, 8: 4, 16: 3}, {4: 3, 8: 3, 16: 2, 32: 2, 64: 2, 128: 2}])
def test_pulse(tmp_path, channels):
    synthesis, mapping = pulse(tmp_path, channels)
    generator, judge, _ = networks_of(tmp_path / "synthesis.pt", tmp_path / "mapping.pt")
    assert judge is None
    generator = generator.double().requires_grad_(False)
    assert generator.arch.num_ws == 2 * len(channels)
    z, w_plus = normal(2, 9), normal(1, generator.arch.num_ws, 9)
    torch.testing.assert_close(generator.mapping(z), first.mapping_reference(mapping, z), rtol=0, atol=1e-6)
    shapes = generator.synthesis.noise_shapes
    assert len(shapes) == generator.arch.num_ws - 1
    noise = [normal(1, 1, *shape, seed=i) for i, shape in enumerate(shapes)]
    last = torch.zeros(1, 1, *shapes[-1], dtype=torch.float64)
    want = first.synthesis_reference(synthesis, w_plus, [n[0, 0] for n in (*noise, last)])
    torch.testing.assert_close(generator.synthesis(w_plus, noise)[1], want, rtol=0, atol=1e-5)


def test_pulse_in_either_order_and_searched(tmp_path):
    pulse(tmp_path, {4: 5, 8: 4, 16: 3})
    out = convert(tmp_path / "mapping.pt", tmp_path / "p.safetensors", mapping=tmp_path / "synthesis.pt")
    prior = load_prior(out, judge="none")
    assert prior.layers == [4, 8, 16]
    for method, settings in (("pulse", {"steps": 2}), ("ilo", {"steps": (1, 1)})):
        made = METHODS[method].settings(**settings)
        found = explore(method, prior, tiny_faces(1, 4), factor=4, settings=made, seeds=[0])
        assert torch.isfinite(found.high).all()
    w_plus = normal(1, prior.num_ws, 9, dtype=torch.float32)
    entry = prior.leave(w_plus, 8)
    torch.testing.assert_close(prior.enter(w_plus, entry), prior.synthesis(w_plus))


def test_one_of_pulses_files_alone_is_told(tmp_path):
    pulse(tmp_path, {4: 5, 8: 4})
    with pytest.raises(InputError, match="--mapping"):
        networks_of(tmp_path / "synthesis.pt")
    with pytest.raises(WeightsError, match="expected PULSE's synthesis and its mapping"):
        networks_of(tmp_path / "synthesis.pt", tmp_path / "synthesis.pt")


# -- MobileStyleGAN's trainer ------------------------------------------------------------------------------------------


def test_mobilestylegan(tmp_path):
    """The trainer's state: what `published` has as constants, before the demodulation is folded into the weights."""
    arch = mobile_arch(32)
    constants = published(arch, dtype=torch.float32)
    state, points = {}, [v for k, v in constants.items() if k.startswith("Mul_")]
    convs = ["conv1", *(f"layers.{i}.conv{k}" for i in range(len(arch.channels) - 1) for k in (1, 2))]
    g = torch.Generator().manual_seed(7)
    for name, value in constants.items():
        if name.startswith("m."):
            state[f"student.{name[2:]}"] = value[:, :, 0] if name.endswith(".weight_dw") else value
    for conv, weight in zip(convs, points, strict=True):
        place = f"student.{conv}"
        state[f"{place}.conv.{'weight' if conv == 'conv1' else 'weight_permute'}"] = weight
        state[f"{place}.noise.weight"] = torch.randn(1, generator=g)
    for i in range(arch.mapping_layers):
        inputs = constants[f"fc{i}.weight"].shape[1]
        state[f"mapping_net.layers.{i + 1}.weight"] = constants[f"fc{i}.weight"] * 100 * inputs**0.5
        state[f"mapping_net.layers.{i + 1}.bias"] = constants[f"fc{i}.bias"] * 100
    place = "pytorch_lightning.callbacks.model_checkpoint"
    callback = type("ModelCheckpoint", (), {"__module__": place})
    with pytest.MonkeyPatch.context() as patch:
        for i in range(3):
            whole = ".".join(place.split(".")[: i + 1])
            patch.setitem(sys.modules, whole, types.ModuleType(whole))
        sys.modules[place].ModelCheckpoint = callback
        content = {"state_dict": state, "epoch": 3, "callbacks": {callback: {"best": torch.tensor(0.5)}}}
        torch.save(content, tmp_path / "m.ckpt")
    generator, _, facts = networks_of(tmp_path / "m.ckpt")
    assert generator.arch == arch
    assert "MobileStyleGAN" in facts["origin"]
    # Plainly: each 3x3 kernel, depthwise times pointwise, divided by the root of its squares' mean.
    folded = {k: v.double() for k, v in constants.items()}
    for conv, key in zip(convs, [k for k in constants if k.startswith("Mul_")], strict=True):
        kernel = folded[key]
        if conv != "conv1":
            kernel = kernel * folded[f"m.{conv}.conv.weight_dw"].reshape(1, -1, 3, 3)
        folded[key] = folded[key] / (kernel.square().mean((1, 2, 3), keepdim=True) + 1e-8).sqrt()
    maps = [k for k in constants if k.isdigit() and constants[k].ndim == 4 and constants[k].shape[:2] == (1, 1)]
    generator = generator.double().requires_grad_(False)
    sides = generator.synthesis.noise_shapes
    drawn = {k: normal(1, 1, *shape, seed=i) for i, (k, shape) in enumerate(zip(maps, sides, strict=True))}
    z, w_plus = normal(2, arch.z_dim), normal(2, arch.num_ws, arch.w_dim)
    torch.testing.assert_close(generator.mapping(z), mapping_reference(folded, z), rtol=0, atol=1e-5)
    found = generator.synthesis(w_plus, list(drawn.values()))[1]
    torch.testing.assert_close(found, synthesis_reference(folded | drawn, w_plus), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({"a": torch.ones(2)}, "no generator that is known"),
        ([1], "it holds a list"),
        ({"g_ema": {"style.1.weight": torch.ones(2, 2)}}, "it has no"),
        ({"g_ema": {"input.input": torch.ones(2)}, "d": {}}, "it has no"),
        ({"state_dict": {"student.a": torch.ones(1)}}, "0 weights|has no"),
    ],
)
def test_other_checkpoints_are_told_in_one_line(tmp_path, content, words):
    torch.save(content, tmp_path / "x.pt")
    with pytest.raises(WeightsError, match=words) as error:
        networks_of(tmp_path / "x.pt")
    assert "\n" not in str(error.value)


def test_blocks_without_end_draw_no_maps(tmp_path):
    g, _ = small_networks(small_arch(8), dtype=torch.float32)
    theirs = rosinality(g)["g_ema"] | {f"to_rgbs.{k}.bias": torch.zeros(1, 3, 1, 1) for k in range(30)}
    torch.save({"g_ema": theirs}, tmp_path / "x.pt")
    with pytest.raises(WeightsError, match="resolution is"):
        networks_of(tmp_path / "x.pt")
    synthesis, mapping = first.files({4: 3, 8: 3})
    synthesis["blocks.1048576x1048576.epi1.noise.weight"] = torch.zeros(3)
    torch.save(synthesis, tmp_path / "s.pt")
    torch.save(mapping, tmp_path / "m.pt")
    with pytest.raises(WeightsError, match="resolution is"):
        networks_of(tmp_path / "s.pt", tmp_path / "m.pt")
