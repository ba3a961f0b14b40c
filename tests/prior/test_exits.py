"""A prior's exits: their file, faces at their sizes, and what is refused."""

from __future__ import annotations

import json

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny import mobile_prior, prior_with_exits, random_exits, tiny_prior, written_prior

from latentface.errors import InputError, OutputError, WeightsError
from latentface.io.weights import KEYS
from latentface.prior import prior as prior_module
from latentface.prior.exits import beside, read_exits, rows_of, whole_rows, write_exits
from latentface.prior.prior import Prior


@pytest.fixture
def prior(tmp_path):
    return prior_with_exits(tmp_path)


def codes(prior, count=2, seed=0):
    z = torch.randn(count, prior.z_dim, generator=torch.Generator().manual_seed(seed))
    return prior.mapping(z.to(prior.dtype))


def test_what_is_written_is_read_up_to_half_precision(prior):
    made, read = random_exits(prior), read_exits(beside(prior.path), prior.generator, prior.sha256)
    assert list(read) == [16, 32]
    for r, head in read.items():
        assert not head.training
        for name, value in head.state_dict().items():
            assert value.dtype == torch.float32
            assert not value.requires_grad
            torch.testing.assert_close(value, made[r].state_dict()[name], atol=1e-3, rtol=1e-3)


def test_an_exit_is_a_prior_of_its_size(prior):
    whole = codes(prior)
    for r, rows in ((16, 4), (32, 6)):
        small = prior.at(r)
        assert (small.resolution, small.num_ws, rows_of(r)) == (r, rows, rows)
        assert small.layers == [s for s in prior.layers if s < r]
        assert len(small.noise_shapes) == rows - 1
        assert small.sha256 == f"{prior.sha256}-{r}"
        w_plus = codes(small)
        torch.testing.assert_close(w_plus, whole[:, :rows])  # the same latent space
        pictures = small.synthesis(w_plus)
        assert pictures.shape == (2, 3, r, r)
        features = prior.leave(whole, r // 2)[1]
        expected = prior.to_unit(prior.exits[r](features, whole[:, rows - 1]))
        torch.testing.assert_close(pictures, expected)
        noise = [torch.zeros(1, 1, *s) for s in small.noise_shapes]
        assert not torch.equal(small.synthesis(w_plus, noise), pictures)


def test_an_exit_shares_the_weights(prior):
    small = prior.at(16)
    own = {p.data_ptr() for p in prior.generator.parameters()} | {p.data_ptr() for p in prior.exits[16].parameters()}
    assert {p.data_ptr() for p in small.generator.parameters()} <= own
    assert not any(p.is_meta for p in (*small.generator.parameters(), *small.generator.buffers()))
    assert prior.generator.synthesis.head is None
    assert prior.at(64) is prior


@pytest.mark.parametrize("resolution", [8, 17, 128])
def test_other_sizes_are_refused(prior, resolution):
    with pytest.raises(InputError, match=rf"no exit of {resolution} px \(there are: 16 px, 32 px\)"):
        prior.at(resolution)


def test_an_exit_has_no_exits_wherever_it_is_moved(prior):
    small = prior.at(16)
    assert small.exits == {}
    assert small.to(torch.float64).exits == {}
    with pytest.raises(InputError, match="there are: none"):
        small.at(32)


def test_moving_a_prior_moves_its_exits(prior):
    expected = prior.at(16).synthesis(codes(prior.at(16)))
    beside(prior.path).unlink()  # they were read
    double = prior.to(torch.float64)
    assert {v.dtype for v in double.exits[16].state_dict().values()} == {torch.float64}
    assert {v.dtype for v in prior.exits[16].state_dict().values()} == {torch.float32}
    pictures = double.at(16).synthesis(codes(prior.at(16)).double())
    torch.testing.assert_close(pictures.float(), expected, atol=1e-5, rtol=1e-5)
    assert list(prior.with_judge(None).exits) == [16, 32]


def test_gradients_reach_the_style_rows(prior):
    double = prior.to(torch.float64).at(16)
    w_plus = codes(double, 1).clone().requires_grad_()
    assert torch.autograd.gradcheck(double.synthesis, w_plus)


def test_rows_above_an_exit_are_its_last():
    w_plus = torch.arange(8.0).view(1, 4, 2)
    whole = whole_rows(w_plus, 6)
    assert whole.shape == (1, 6, 2)
    assert torch.equal(whole[:, :4], w_plus)
    assert torch.equal(whole[0, 4:], w_plus[0, [3, 3]])
    assert torch.equal(whole_rows(w_plus, 4), w_plus)


def test_only_a_file_beside_or_of_a_published_name_counts(prior, tmp_path, monkeypatch):
    other = written_prior(tmp_path, name="other")
    assert other.exits_path is None
    assert (other.exits, other.exits_sha256) == ({}, "")
    assert len(prior.exits_sha256) == 64
    assert mobile_prior(64).exits == {}
    monkeypatch.setattr(prior_module, "BUNDLED", tmp_path / "bundled")
    (tmp_path / "bundled").mkdir()
    write_exits(tmp_path / "bundled" / "other.exits.safetensors", random_exits(other), other.sha256, {})
    assert list(Prior.read(other.path).exits) == [16, 32]
    tiny = tiny_prior(16)
    tiny.name = "other"
    assert tiny.exits == {}  # a StyleGAN2 by that name


def test_a_users_prior_with_a_published_name_does_without_its_exits(tmp_path):
    own = written_prior(tmp_path, name="ffhq1024")
    assert own.exits_path.parent == prior_module.BUNDLED
    assert (own.exits, own.exits_sha256) == ({}, "")
    assert own.at(64) is own


def test_another_priors_exits_beside_a_file_are_an_error(prior, tmp_path):
    write_exits(beside(prior.path), random_exits(prior), "0" * 64, {})
    with pytest.raises(WeightsError, match="another prior's"):
        _ = prior.exits


def rewritten(path, change=lambda tensors: None, **card):
    tensors = load_file(path)
    change(tensors)
    save_file(tensors, path, {KEYS["exits"]: json.dumps(card)})


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda t: t.pop("e16.conv1.weight"), r"e16\.conv1\.weight is missing"),
        (lambda t: t.pop("e16.conv2.bias"), "e16.* (has shape|is missing)"),
        (lambda t: t.update({"e16.conv2.bias": torch.zeros(())}), "e16.* has shape"),
        (lambda t: t.update({"e16.conv2.bias": torch.zeros(300_000)}), "e16.* has shape"),  # 3 TB of weights
        (lambda t: t["e32.bias"].fill_(float("nan")), r"e32\.bias holds NaN"),
        (lambda t: t.update({"e64.conv2.bias": torch.zeros(5)}), r"e64\.conv2\.bias"),  # as large as the prior
        (lambda t: t.update({"e17.conv2.bias": torch.zeros(5)}), r"e17\.conv2\.bias"),
        (lambda t: t.update({"e².conv2.bias": torch.zeros(5)}), "expected exits of"),
        (lambda t: t.update({"x": torch.zeros(5)}), "expected exits of"),
        (lambda t: t.clear(), "holds nothing"),
    ],
)
def test_tensors_that_do_not_fit(prior, change, words):
    path = beside(prior.path)
    rewritten(path, change, format=1, prior_sha256=prior.sha256)
    with pytest.raises(WeightsError, match=words) as caught:
        _ = prior.exits
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("card", [b"{}", b"[]", b"no JSON", b'{"format": 2}', b"[" * 100_000])
def test_cards_that_cannot_be_used(prior, card):
    save_file(load_file(beside(prior.path)), beside(prior.path), {KEYS["exits"]: card.decode()})
    with pytest.raises(WeightsError):
        _ = prior.exits


@pytest.mark.parametrize("data", [b"", b"no weights", b"\xff" * 16])
def test_files_that_are_none(prior, data):
    beside(prior.path).write_bytes(data)
    with pytest.raises(
        WeightsError, match=r"broken or is no safetensors file|this is an empty file|this is a text file"
    ):
        _ = prior.exits


def test_a_prior_is_no_file_of_exits_and_an_absent_one_is_told(prior, tmp_path):
    with pytest.raises(WeightsError, match="this is a latentface prior, expected exits"):
        read_exits(prior.path, prior.generator, prior.sha256)
    with pytest.raises(WeightsError, match="no such file"):
        read_exits(tmp_path / "absent.safetensors", prior.generator, prior.sha256)


def test_what_cannot_be_written(prior, tmp_path):
    heads = random_exits(prior)
    heads[16].bias.data[0] = 1e6
    with pytest.raises(WeightsError, match=r"e16\.bias does not fit float16"):
        write_exits(tmp_path / "a.safetensors", heads, prior.sha256, {})
    assert not (tmp_path / "a.safetensors").exists()
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError):
        write_exits(tmp_path / "file" / "a.safetensors", random_exits(prior), prior.sha256, {})
