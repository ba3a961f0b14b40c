"""Measuring a prior's active subspace, and searches of few steps that move along it."""

from __future__ import annotations

import copy
import json
from dataclasses import replace

import pytest
import torch
from tiny import prior_with_exits, tiny_faces, tiny_prior

from latentface.bench.tables.ablated import ABLATED, AblatedSettings
from latentface.cli import run
from latentface.degradation import Downscale
from latentface.errors import InputError, WeightsError
from latentface.explore.coarse import explore_coarse
from latentface.explore.registry import find_method
from latentface.explore.rlse import RlseSettings, bases_of
from latentface.io.pictures import write_picture
from latentface.io.weights import read_card
from latentface.prior.exits import beside
from latentface.prior.prior import Prior
from latentface.prior.subspace import read_subspace
from latentface.train.subspace import gradient_moments, train_subspace

R = 64


@pytest.fixture(scope="module")
def mobile(tmp_path_factory):
    """A prior of 64 px with exits, a judge, and its subspace of 4 directions."""
    prior = prior_with_exits(tmp_path_factory.mktemp("prior")).with_judge(tiny_prior(16).judge)
    train_subspace(prior, beside(prior.path, "subspace"), faces=4, directions=4)
    return Prior.read(prior.path).with_judge(tiny_prior(16).judge)


def test_moments_are_means_of_outer_products(mobile):
    """The gradients of one step have length 1 together: a search of 13 evaluations makes 12 steps."""
    told = []
    moments = gradient_moments(mobile, mobile.at(16), 2, 0, told.append)
    assert moments.shape == (mobile.at(16).num_ws, mobile.w_dim, mobile.w_dim)
    assert told == [1, 2]
    torch.testing.assert_close(moments, moments.mT)
    assert torch.linalg.eigvalsh(moments).min() > -1e-9
    assert sum(m.trace() for m in moments).item() == pytest.approx(2 * 12)
    assert torch.equal(moments, gradient_moments(mobile, mobile.at(16), 2, 0))
    assert not torch.equal(moments, gradient_moments(mobile, mobile.at(16), 2, 1))


def test_what_is_written_are_the_leading_eigenvectors(mobile, tmp_path):
    path = train_subspace(mobile, tmp_path / "a.safetensors", faces=3, directions=2, seed=5)
    card = read_card(path, "subspace")
    painter = mobile.at(16)  # an eighth of 64 px is less than the smallest exit
    assert (card["side"], card["faces"], card["seed"]) == (16, 3, 5)
    found = read_subspace(path, mobile.sha256, rows=painter.num_ws, width=mobile.w_dim).double()
    moments = gradient_moments(mobile, painter, 3, 5)
    best = torch.linalg.eigvalsh(moments).flip(1)[:, :2].sum(1)
    kept = (found.mT @ moments @ found).diagonal(dim1=1, dim2=2).sum(1)
    assert (kept > 0.99 * best).all()
    whole = moments.diagonal(dim1=1, dim2=2).sum(1)
    assert card["share_of_gradient"] == pytest.approx((best / whole).tolist(), abs=2e-3)


def copy_in_memory(prior):
    other = copy.copy(prior)
    other.sha256 = ""
    return other


def test_numbers_and_priors_that_cannot_be_used(mobile, tmp_path):
    for change in ({"faces": 0}, {"directions": 0}, {"directions": mobile.w_dim + 1}):
        with pytest.raises(InputError, match=next(iter(change))):
            train_subspace(mobile, tmp_path / "a.safetensors", **change)
    with pytest.raises(InputError, match="in memory"):
        train_subspace(copy_in_memory(mobile), tmp_path / "a.safetensors", directions=2)
    with pytest.raises(WeightsError, match="no judge"):
        train_subspace(mobile.with_judge(None), tmp_path / "a.safetensors", directions=2)
    assert not (tmp_path / "a.safetensors").exists()


# -- searches ----------------------------------------------------------------------------------------------------------


def searched(prior, steps, coarse, degradation=None, **changes):
    settings = RlseSettings(steps=steps, candidates=2, **changes)
    degradation = degradation or Downscale(4, R)
    start = prior.mapping(torch.randn(1, prior.z_dim, generator=torch.Generator().manual_seed(3)))
    return explore_coarse(
        find_method("rlse"),
        prior,
        tiny_faces(1, degradation.low_size[0]),
        steps=coarse,
        degradation=degradation,
        settings=settings,
        seeds=[0],
        start=start,
    )


def test_few_steps_at_exits_move_along_it_and_others_do_not(mobile):
    few, own = searched(mobile, 8, 4), searched(mobile, 8, 4, subspace=False)
    assert (few.high - own.high).abs().max() > 1e-3
    long, forced = searched(mobile, 60, 54), searched(mobile, 60, 54, subspace=True)
    assert torch.equal(long.high, searched(mobile, 60, 54, subspace=False).high)
    assert (long.high - forced.high).abs().max() > 1e-3


def test_few_steps_without_an_exit_for_the_input_keep_their_own_axes(mobile):
    large = Downscale(20, R)  # no exit is twice as large
    found = searched(mobile, 8, 4, degradation=large)
    assert torch.equal(found.high, searched(mobile, 8, 4, degradation=large, subspace=False).high)


def test_rows_that_move_as_one_keep_their_own_axes(mobile):
    assert bases_of(mobile, RlseSettings(subspace=True)) == {}
    free = RlseSettings(subspace=True).from_start()
    assert torch.equal(bases_of(mobile, free)["latent"], mobile.subspace)
    assert bases_of(mobile, replace(free, subspace=None)) == {}
    assert bases_of(tiny_prior(16), free) == {}


def test_the_ablation_moves_alike(mobile):
    def found(method, settings):
        start = mobile.mapping(torch.randn(1, mobile.z_dim, generator=torch.Generator().manual_seed(3)))
        return explore_coarse(
            method,
            mobile,
            tiny_faces(1),
            steps=4,
            degradation=Downscale(4, R),
            settings=settings,
            seeds=[0],
            start=start,
        ).high

    plain = found(find_method("rlse"), RlseSettings(steps=8, subspace=True))
    assert torch.equal(found(ABLATED, AblatedSettings(steps=8, subspace=True)), plain)
    for other in ({"whitened": True}, {"space": "w"}):
        shape = found(ABLATED, AblatedSettings(steps=8, subspace=True, **other)).shape
        assert shape == (1, 3, R, R)


def test_from_measuring_to_upscaling_on_the_command_line(mobile, prior_file, tmp_path, capsys):
    own = tmp_path / "mine.safetensors"
    own.write_bytes(mobile.path.read_bytes())
    beside(own).write_bytes(beside(mobile.path).read_bytes())
    write_picture(tmp_path / "face.png", tiny_faces(1)[0])

    def record(steps):
        call = ["upscale", tmp_path / "face.png", "-p", own, "-o", tmp_path / str(steps), "--steps", steps]
        call += ["--device", "cpu", "--json", "-q", "--aligned", "--overwrite", "--judge", prior_file]
        assert run([str(c) for c in call]) == 0
        return json.loads(capsys.readouterr().out)

    assert "subspace_sha256" not in record(6)
    arguments = [
        "train",
        "subspace",
        "-p",
        own,
        "--faces",
        2,
        "--directions",
        3,
        "--device",
        "cpu",
        "-q",
        "--judge",
        prior_file,
    ]
    assert run([str(a) for a in arguments]) == 0
    assert capsys.readouterr().out.strip() == str(beside(own, "subspace"))
    told = record(6)
    assert told["subspace_sha256"] == Prior.read(own).subspace_sha256
    assert told["at_exits"] == {"subspace": True}
    assert "subspace_sha256" not in record(50)
    assert run(["train", "subspace", "-p", str(own), "--faces", "0", "--device", "cpu", "-q"]) != 0
    assert "faces 0" in capsys.readouterr().err
