"""A prior's active subspace: its file, where it is found, and what is refused."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import save_file
from tiny import prior_with_exits, tiny_prior, written_prior

from latentface.errors import WeightsError, WrongFileError
from latentface.io.weights import read_card, write_weights
from latentface.prior import prior as prior_module
from latentface.prior.exits import beside
from latentface.prior.prior import Prior
from latentface.prior.subspace import read_subspace, write_subspace


def directions(rows, width, count, seed=0):
    random = torch.randn(rows, width, count, generator=torch.Generator().manual_seed(seed))
    return torch.linalg.qr(random)[0]


def with_subspace(folder, rows=4, count=3):
    """Return a prior with exits whose file has a subspace beside it, and the directions."""
    prior = prior_with_exits(folder)
    made = directions(rows, prior.w_dim, count)
    write_subspace(beside(prior.path, "subspace"), made, prior.sha256, {"faces": 8})
    return Prior.read(prior.path), made


def test_what_is_written_is_read_back_orthonormal(tmp_path):
    path, made = tmp_path / "a.subspace.safetensors", directions(3, 32, 5)
    write_subspace(path, made, "abc", {"faces": 8})
    found = read_subspace(path, "abc", rows=3, width=32)
    torch.testing.assert_close(found.mT @ found, torch.eye(5).expand(3, 5, 5), atol=1e-5, rtol=0)
    kept = torch.linalg.svdvals(found.mT @ made)  # cosines of the angles between the two subspaces
    assert kept.min() > 0.99
    assert read_card(path, "subspace")["faces"] == 8
    assert path.stat().st_size < 3 * 32 * 5 + 400  # 8 bits a number


def test_a_prior_finds_it_beside_its_file(tmp_path):
    prior, made = with_subspace(tmp_path)
    assert prior.subspace.shape == (prior.num_ws, prior.w_dim, 3)
    assert torch.equal(prior.subspace[4:], prior.subspace[3:4].expand(prior.num_ws - 4, -1, -1))  # the last row's
    assert torch.linalg.svdvals(prior.subspace[:4].mT @ made).min() > 0.98
    assert len(prior.subspace_sha256) == 64
    small = prior.at(16)
    assert torch.equal(small.subspace, prior.subspace[: small.num_ws])
    assert prior.to(torch.float64).subspace.dtype == torch.float64
    assert prior.to(torch.float64).at(16).subspace.dtype == torch.float64


def test_most_priors_have_none(tmp_path, monkeypatch):
    for prior in (tiny_prior(16), written_prior(tmp_path)):
        assert (prior.subspace, prior.subspace_sha256) == (None, "")
    own = written_prior(tmp_path, name="ffhq1024")  # a user's file by a published name
    assert own.subspace is None


def test_another_priors_beside_a_file_is_an_error(tmp_path):
    prior = written_prior(tmp_path)
    write_subspace(beside(prior.path, "subspace"), directions(4, prior.w_dim, 3), "0" * 64, {})
    with pytest.raises(WeightsError, match=r"another prior's.*latentface train subspace"):
        _ = prior.subspace


@pytest.mark.parametrize(
    ("tensors", "words"),
    [
        ({}, "nothing"),
        ({"other": torch.ones(3, 8, 2)}, "other"),
        ({"directions": torch.ones(3, 8)}, "directions"),
        ({"directions": directions(4, 8, 2)}, "at most 3 rows of 8"),
        ({"directions": directions(3, 9, 2)}, r"\(3, 9, 2\)"),
        ({"directions": torch.ones(3, 8, 9)}, r"\(3, 8, 9\)"),
        ({"directions": torch.zeros(3, 8, 0)}, r"\(3, 8, 0\)"),
        ({"directions": torch.zeros(3, 8, 2)}, "not apart"),
        ({"directions": torch.ones(3, 8, 2)}, "not apart"),
    ],
)
def test_files_that_hold_no_directions_are_refused(tensors, words, tmp_path):
    path = tmp_path / "a.safetensors"
    write_weights(path, "subspace", tensors, {}, {"prior_sha256": "abc"})
    with pytest.raises(WeightsError, match=words):
        read_subspace(path, "abc", rows=3, width=8)


def test_infinite_numbers_and_other_files_are_refused(tmp_path):
    path = tmp_path / "a.safetensors"
    made = directions(3, 8, 2)
    made[1, 2, 0] = float("nan")
    with pytest.raises(WeightsError, match="float16"):
        write_subspace(path, made, "abc", {})
    write_subspace(path, directions(3, 8, 2), "abc", {})
    from safetensors import safe_open

    with safe_open(str(path), framework="pt") as file:
        metadata = file.metadata()
    save_file({"directions": made.contiguous()}, path, metadata)
    with pytest.raises(WeightsError, match="not apart"):
        read_subspace(path, "abc", rows=3, width=8)
    save_file({"directions": directions(3, 8, 2).contiguous()}, path)
    with pytest.raises(WrongFileError, match="no latentface subspace"):
        read_subspace(path, "abc", rows=3, width=8)
    with pytest.raises(WeightsError, match="no such file"):
        read_subspace(tmp_path / "none.safetensors", "abc", rows=3, width=8)


def test_the_packages_own_is_that_of_ffhq1024():
    path = prior_module.BUNDLED / "ffhq1024.subspace.safetensors"
    card = read_card(path, "subspace")
    found = read_subspace(path, card["prior_sha256"], rows=16, width=512)
    assert found.shape == (10, 512, 16)
    assert (
        card["prior_sha256"]
        == read_card(prior_module.BUNDLED / "ffhq1024.encoder.safetensors", "encoder")["prior_sha256"]
    )
