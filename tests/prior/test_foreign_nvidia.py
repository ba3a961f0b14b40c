"""StyleGAN2 and StyleGAN3 out of NVIDIA's pickles: the same networks, and clear words for those that are not ours."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from nvidia_files import Module, discriminator, dumped, easy, snapshot, stylegan2, stylegan3, tensorflow
from stylegan3_reference import small_generator
from tiny import normal, small_arch, small_networks

from latentface.errors import UnsafeFileError, WeightsError
from latentface.prior.foreign.convert import convert, describe, networks_of
from latentface.prior.registry import load_prior


def written(path, content, protocol=4):
    path.write_bytes(dumped(content, protocol))
    return path


def same(network, other):
    for name, value in other.state_dict().items():
        assert torch.equal(network.state_dict()[name], value), name


def networks(**changes):
    return small_networks(small_arch(16, **changes), dtype=torch.float32)


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_stylegan2(tmp_path, protocol):
    g, d = networks(clamp=2.0, mbstd_group=2)
    path = written(tmp_path / "g.pkl", snapshot(stylegan2(g), discriminator(d)), protocol)
    found, judge, facts = networks_of(path)
    assert found.arch.to_json() == {
        **g.arch.to_json(),
        "d_channels": found.arch.to_json()["channels"],
        "mbstd_group": 4,
    }
    same(found, g)
    same(judge, d)
    assert judge.arch.clamp == 2.0
    assert judge.arch.mbstd_group == 2
    assert "NVIDIA" in facts["origin"]


@pytest.mark.parametrize("kind", ["t", "r"])
def test_stylegan3(tmp_path, kind):
    g, layers = small_generator(kind)
    _, d = networks()
    path = written(tmp_path / "g.pkl", snapshot(stylegan3(g, layers), discriminator(d)))
    found, judge, _ = networks_of(path)
    assert found.arch == g.arch
    same(found, g)
    same(judge, d)


def test_a_tensorflow_pickle(tmp_path):
    g, d = networks()
    found, judge, facts = networks_of(written(tmp_path / "g.pkl", tensorflow(g, d)))
    for network, other in ((found, g), (judge, d)):
        for name, value in other.state_dict().items():
            torch.testing.assert_close(network.state_dict()[name], value, rtol=0, atol=1e-6)
    assert "TensorFlow" in facts["origin"]


def test_the_prior_is_the_file_s_network(tmp_path):
    g, d = networks()
    path = written(tmp_path / "faces.pkl", snapshot(stylegan2(g), discriminator(d)))
    out = convert(path, tmp_path / "faces.safetensors", alignment="celeba", licence="mine")
    prior = load_prior(out)
    w_plus = normal(2, g.arch.num_ws, 10, dtype=torch.float32)
    want = 0.5 + 0.5 * g.requires_grad_(False).synthesis(w_plus)[1]
    torch.testing.assert_close(prior.synthesis(w_plus), want, rtol=1e-6, atol=1e-6)
    assert prior.judge.name == "faces"
    assert prior.judge.resolution == 16
    assert (prior.alignment, prior.licence) == ("celeba", "mine")
    assert len(prior.card["source_sha256"]) == 64


def test_without_a_discriminator_the_embedded_judge_serves(tmp_path):
    g, _ = networks()
    out = convert(written(tmp_path / "g.pkl", snapshot(stylegan2(g))), tmp_path / "g.safetensors")
    assert load_prior(out).judge.name == "celeba128"
    out = convert(tmp_path / "g.pkl", tmp_path / "c.safetensors", alignment="celeba")
    assert load_prior(out).judge is None  # its faces stand otherwise


def test_another_rate_of_the_mapping_and_no_noise(tmp_path):
    g, _ = networks()
    made = stylegan2(g)
    for layer in made.state["_modules"]["mapping"].state["_modules"].values():
        layer.state["bias_gain"] = 0.02
    conv = made.state["_modules"]["synthesis"].state["_modules"]["b8"].state["_modules"]["conv0"]
    del conv.state["_buffers"]["noise_const"], conv.state["_parameters"]["noise_strength"]
    found, _, _ = networks_of(written(tmp_path / "g.pkl", snapshot(made)))
    torch.testing.assert_close(found.mapping.fc0.weight, 2 * g.mapping.fc0.weight)
    torch.testing.assert_close(found.mapping.fc0.bias, 2 * g.mapping.fc0.bias)
    assert found.synthesis.b8.conv0.noise_strength == 0


def relu(made):
    made.state["_modules"]["synthesis"].state["_modules"]["b8"].state["_modules"]["conv1"].state["activation"] = "relu"


def other_filter(made):
    layer = made.state["_modules"]["synthesis"].state["_modules"]["b8"].state["_modules"]["conv0"]
    layer.state["_buffers"]["resample_filter"] = torch.ones(2, 2) / 4


def resnet(made):
    made.state["_modules"]["synthesis"].state["_modules"]["b8"].state["architecture"] = "resnet"


def other_clamp(made):
    layer = made.state["_modules"]["synthesis"].state["_modules"]["b8"].state["_modules"]["conv0"]
    layer.state["conv_clamp"] = 7


def lost(made):
    del made.state["_modules"]["synthesis"].state["_modules"]["b8"].state["_modules"]["torgb"]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda made: made.state.update(c_dim=5), "trained with labels"),
        (lambda made: made.state.update(img_channels=4), "makes no RGB"),
        (lambda made: made.state.update(img_resolution="16"), "no number img_resolution"),
        (lambda made: made.state["_modules"].pop("mapping"), "has no mapping"),
        (lambda made: made.state["_modules"].pop("synthesis"), "has no synthesis"),
        (relu, "another activation"),
        (other_filter, r"another filter than \[1, 3, 3, 1\]"),
        (resnet, "neither a generator with skips"),
        (other_clamp, "different clamps"),
        (lost, "torgb.*is missing"),
    ],
)
def test_what_is_built_otherwise_is_refused_in_one_line(tmp_path, change, words):
    made = stylegan2(networks()[0])
    change(made)
    with pytest.raises(WeightsError, match=words) as error:
        networks_of(written(tmp_path / "g.pkl", snapshot(made)))
    assert "\n" not in str(error.value)


def test_a_judge_with_labels_or_several_channels_of_deviation_is_refused(tmp_path):
    g, d = networks()
    with pytest.raises(WeightsError, match="labels"):
        networks_of(written(tmp_path / "g.pkl", snapshot(stylegan2(g), discriminator(d, c_dim=3))))
    made = discriminator(d)
    made.state["_modules"]["b4"].state["_modules"]["mbstd"].state["num_channels"] = 2
    with pytest.raises(WeightsError, match="several channels"):
        networks_of(written(tmp_path / "g.pkl", snapshot(stylegan2(g), made)))


def test_stylegan3_layers_that_differ_from_their_sizes_are_refused(tmp_path):
    g, layers = small_generator()
    made = stylegan3(g, layers)
    parts = made.state["_modules"]["synthesis"].state["_modules"]
    name = next(k for k in parts if k.startswith("L1_"))
    parts[name].state["out_size"] = np.array([99, 99])
    with pytest.raises(WeightsError, match="99"):
        networks_of(written(tmp_path / "g.pkl", snapshot(made)))
    parts[name].state["padding"] = [1, 2, 3, 4]
    with pytest.raises(WeightsError, match="no square layer"):
        networks_of(written(tmp_path / "g.pkl", snapshot(made)))


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({"a": 1}, "expected StyleGAN's networks"),
        ([1, 2], "a pickle of a list"),
        ({"G": None, "D": Module("D"), "G_ema": None}, "no generator"),
        (Module("Generator"), "no number img_channels"),
        (easy({"G_ema": Module("Generator", _modules="none", img_channels=3)}), "has no synthesis"),
    ],
)
def test_other_pickles_are_told(tmp_path, content, words):
    with pytest.raises(WeightsError, match=words):
        networks_of(written(tmp_path / "g.pkl", content))


def test_the_source_of_a_class_is_never_run(tmp_path):
    mark = tmp_path / "mark"
    made = stylegan2(networks()[0])
    made.source = f"open({str(mark)!r}, 'w').write('run')"
    networks_of(written(tmp_path / "g.pkl", snapshot(made)))
    assert not mark.exists()


def test_what_is_inside_is_told_without_building_it(tmp_path, call_models):
    g, d = networks()
    path = written(tmp_path / "faces.pkl", snapshot(stylegan2(g), discriminator(d)))
    told = describe(path)
    assert told["networks"]["G_ema"]["class"] == "Generator"
    assert told["networks"]["G_ema"]["img_resolution"] == 16
    assert told["networks"]["D"]["numbers"] == sum(p.numel() for p in d.parameters())
    assert json.loads(call_models("info", path, "--json"))["networks"] == told["networks"]


def test_hostile_names_in_a_snapshot_are_refused_by_name(tmp_path):
    class Owned:
        def __reduce__(self):
            return (tmp_path / "mark").write_text, ("run",)

    with pytest.raises(UnsafeFileError, match=r"pathlib|builtins"):
        networks_of(written(tmp_path / "g.pkl", {**snapshot(stylegan2(networks()[0])), "extra": Owned()}))
    assert not (tmp_path / "mark").exists()


@pytest.fixture
def call_models(capsys):
    from latentface.cli import run

    def call(*arguments):
        assert run(["models", *map(str, arguments)]) == 0
        return capsys.readouterr().out

    return call


def test_from_the_command_line(tmp_path, call_models):
    path = written(tmp_path / "faces.pkl", snapshot(stylegan2(networks()[0])))
    out = call_models("convert", path, "--alignment", "celeba", "--licence", "mine")
    assert out.strip() == str(tmp_path / "faces.safetensors")
    assert "licence: mine" in call_models("info", tmp_path / "faces.safetensors")
    assert "latentface models convert faces.pkl" in call_models("info", path)


def test_a_hostile_file_ends_in_one_line_of_the_command(tmp_path, capsys):
    from latentface.cli import run

    mark, path = tmp_path / "mark", tmp_path / "h.pkl"
    path.write_bytes(f"cposix\nsystem\n(S'touch {mark}'\ntR.".encode())
    path.write_bytes(b"\x80\x02" + path.read_bytes())
    for command in (["convert", path], ["info", path]):
        assert run(["models", *map(str, command)]) == 1
        told = capsys.readouterr()
        assert told.out == ""
        assert len(told.err.splitlines()) == 1
        assert "posix.system" in told.err
    assert not mark.exists()
    assert [p.name for p in tmp_path.iterdir()] == ["h.pkl"]


@pytest.mark.parametrize("name", ["resample_kernel", "nonlinearity", "label_size"])
def test_a_list_of_lists_of_lists_is_not_written_out(tmp_path, name):
    laughs = [1]
    for _ in range(60):
        laughs = [laughs] * 10
    g, d, _ = tensorflow(*networks())
    g.state["static_kwargs"][name] = laughs
    with pytest.raises(WeightsError, match=f"its {name} is another, expected"):
        networks_of(written(tmp_path / "g.pkl", (g, d, g)))


def test_the_same_storage_by_many_names_is_not_copied_without_end(tmp_path):
    half = torch.zeros(1 << 20, dtype=torch.float16)
    made = Module("Generator", img_channels=3)
    made.state["_modules"]["synthesis"] = Module("S")
    made.state["_buffers"] = {f"b{i}": half for i in range(1000)}
    with pytest.raises(WeightsError, match="more numbers, than any network"):
        networks_of(written(tmp_path / "g.pkl", snapshot(made)))


def test_modules_that_share_modules_without_end_are_refused(tmp_path):
    inner = Module("Inner")
    for _ in range(9):
        outer = Module("Outer")
        outer.state["_modules"].update({f"m{i}": inner for i in range(9)})
        inner = outer
    inner.state.update(img_channels=3, c_dim=0)
    inner.state["_modules"]["synthesis"] = Module("S")
    path = written(tmp_path / "g.pkl", {"G_ema": inner})
    with pytest.raises(WeightsError, match="too many"):
        networks_of(path)
    with pytest.raises(WeightsError, match="too many"):
        describe(path)
