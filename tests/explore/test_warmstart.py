"""Warm starts: what they see, whom they find, where they are kept, and that every search begins there."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from tiny import tiny_faces, tiny_prior

from latentface.degradation import Downscale
from latentface.errors import InputError, MissingDataError, UnknownNameError, WeightsError
from latentface.explore.engine import explore
from latentface.explore.registry import METHODS, find_method
from latentface.explore.space import drawn
from latentface.explore.start import bank as warmstart
from latentface.explore.start.bank import (
    WarmStart,
    bank_path,
    load_bank,
    make_bank,
    on_sphere,
    shown_rows,
)
from latentface.explore.start.encoder import (
    EncoderNetwork,
    EncoderShape,
    find_encoder,
    read_encoder,
    write_encoder,
)
from latentface.explore.start.sight import blur, low_sides, seen
from latentface.faces import Similarity, Warp
from latentface.io.weights import NARROW
from latentface.prior import prior as prior_module
from latentface.prior.architecture import Architecture
from latentface.prior.exits import beside
from latentface.prior.flow import FlowSettings, flow_path
from latentface.prior.formats import write_figures
from latentface.prior.prior import Prior
from latentface.restore.engine import Engine
from latentface.restore.job import Job
from latentface.restore.settings import UpscaleSettings

SMALL = 40
SHAPE = EncoderShape(rows=6, width=10, parts=12, hidden=16, blocks=1, rank=4)


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("LATENTFACE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def with_encoder(prior_file):
    """A prior read from a file, with an untrained encoder beside it."""
    prior = Prior.read(prior_file)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = EncoderNetwork(SHAPE)
    write_encoder(beside(prior_file, "encoder"), network, prior.sha256, {})
    yield prior
    beside(prior_file, "encoder").unlink()


def faces_of_the_prior(prior, count=5, seed=3):
    z = torch.randn(count, prior.z_dim, generator=torch.Generator().manual_seed(seed))
    w_plus = prior.mapping(z)
    return w_plus[:, 0], prior.synthesis(w_plus).clamp(0, 1)


# -- what is seen ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("side", [3, 4, 8, 13])
def test_a_face_looks_as_its_shrunk_picture_does(side):
    high = faces_of_the_prior(tiny_prior(32))[1]
    down = Downscale(side, 32)
    torch.testing.assert_close(blur(high, side, 32), seen(down.forward(high), down), atol=1e-5, rtol=0)
    assert low_sides(down, 2) == (side, side)


def test_a_photographs_faces_look_as_upright_ones_do():
    high = faces_of_the_prior(tiny_prior(32), 2)[1]
    warp = Warp([Similarity(8, 0, 9, 7), Similarity.square((20, 18), 12, 90)], 32, (40, 40))
    assert low_sides(warp, 2) == (8, 12)
    views = seen(warp.forward(high), warp)
    for view, face, side in zip(views, high, (8, 12), strict=True):
        down = Downscale(side, 32)
        error = (view - seen(down.forward(face[None]), down)[0])[:, 2:-2, 2:-2].abs().max()
        assert error < 0.05


# -- the bank ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("side", [4, 8, 12])
def test_a_bank_finds_a_face_that_is_in_it(side):
    prior = tiny_prior(16)
    bank, down = make_bank(prior, SMALL), Downscale(side, 16)
    w = bank.w[[7, 31]]
    low = down.forward(prior.synthesis(w[:, None].expand(-1, prior.num_ws, -1)).clamp(0, 1))
    assert bank.nearest(low, down).tolist() == [7, 31]
    v = bank.rows(prior, low, down)
    expected = prior.gaussianise(w)
    torch.testing.assert_close(torch.cosine_similarity(v[:, 0], expected), torch.ones(2))
    torch.testing.assert_close(v.norm(dim=-1), torch.full((2, 1), 10**0.5))


def test_a_bank_keeps_few_sides():
    bank = make_bank(tiny_prior(64), SMALL)
    first = [look.clone() for look in bank.looks(3)]
    for side in range(4, 60):
        bank.looks(side)
    assert bank.looks.cache_info().currsize == warmstart.SIDES_KEPT
    assert all(torch.equal(a, b) for a, b in zip(bank.looks(3), first, strict=True))


def test_a_bank_is_built_once_for_each_prior(cache, monkeypatch):
    prior, other = tiny_prior(16), tiny_prior(16, seed=1)
    first = load_bank(prior, SMALL)
    assert [p.parent for p in cache.rglob("*.safetensors")] == [cache / "banks"]
    monkeypatch.setattr(warmstart, "make_bank", lambda *_: pytest.fail("the bank was in the cache"))
    again = load_bank(prior, SMALL)
    assert torch.equal(first.w, again.w)
    assert torch.equal(first.pictures, again.pictures)
    monkeypatch.undo()
    monkeypatch.setenv("LATENTFACE_CACHE", str(cache))
    assert not torch.equal(load_bank(other, SMALL).w, first.w)
    assert bank_path(prior, SMALL) != bank_path(prior, SMALL + 1)


def test_a_broken_bank_is_made_again_and_a_prior_in_memory_is_not_cached(cache):
    prior = tiny_prior(16)
    first = load_bank(prior, SMALL)
    bank_path(prior, SMALL).write_bytes(b"broken")
    assert torch.equal(load_bank(prior, SMALL).w, first.w)
    assert bank_path(prior, SMALL).stat().st_size > 1000
    prior.sha256 = ""
    before = sorted(cache.rglob("*"))
    load_bank(prior, SMALL)
    assert sorted(cache.rglob("*")) == before


# -- the encoder's file ------------------------------------------------------------------------------------------------


def test_an_encoder_is_the_same_after_its_file(tmp_path):
    prior, low, down = tiny_prior(16), tiny_faces(2), Downscale(4, 16)
    network = EncoderNetwork(SHAPE)
    for p in network.parameters():
        p.data.copy_(p.data.to(NARROW if p.ndim == 2 else torch.float16))  # as its file has them
    write_encoder(tmp_path / "e.safetensors", network, prior.sha256, {"steps": 3})
    encoder = read_encoder(tmp_path / "e.safetensors", prior)
    assert encoder.card["steps"] == 3
    rows = encoder.rows(low, down)
    assert rows.shape == (2, 6, 10)
    torch.testing.assert_close(rows.norm(dim=-1), torch.full((2, 6), 10**0.5))
    octaves = torch.full((2,), 2.0)
    torch.testing.assert_close(rows, network(seen(low, down), octaves).detach(), atol=1e-5, rtol=1e-5)
    assert not torch.allclose(rows, network(seen(low, down), octaves + 1), atol=1e-3)  # the size counts


def test_figures_in_the_priors_card_leave_it_its_encoder_and_its_caches(prior_file, tmp_path):
    """`bench prior --into-card` changes the file; nothing that was made for the prior may be lost by it."""
    file = Path(shutil.copy(prior_file, tmp_path))
    before = Prior.read(file)
    write_encoder(beside(file, "encoder"), EncoderNetwork(SHAPE), before.sha256, {})
    write_figures(file, {"values": {"invert-w psnr": {"value": 20.0, "n": 3}}})
    after = Prior.read(file)
    assert after.card["figures"]["values"]
    assert find_encoder(after).card["prior_sha256"] == before.sha256
    assert bank_path(after, SMALL) == bank_path(before, SMALL)
    assert flow_path(after, FlowSettings()) == flow_path(before, FlowSettings())


def test_a_bad_encoder_is_refused(tmp_path):
    prior, path = tiny_prior(16), tmp_path / "e.safetensors"
    with pytest.raises(WeightsError, match="no such file"):
        read_encoder(path, prior)
    write_encoder(path, EncoderNetwork(SHAPE), tiny_prior(16, seed=1).sha256, {})
    with pytest.raises(WeightsError, match=r"trained for the prior 0000.*latentface train encoder"):
        read_encoder(path, prior)
    whole = path.read_bytes()
    path.write_bytes(whole[:-20])
    with pytest.raises(WeightsError, match="broken"):
        read_encoder(path, prior)
    path.write_bytes(whole.replace(b'\\"hidden\\": 16', b'\\"hidden\\": 17'))
    with pytest.raises(WeightsError, match="has shape"):
        read_encoder(path, tiny_prior(16, seed=1))
    network = EncoderNetwork(SHAPE)
    network.common.bias.data[0] = 1e6
    with pytest.raises(WeightsError, match="float16"):
        write_encoder(path, network, prior.sha256, {})


def test_the_published_size_fits_the_package():
    shape = EncoderShape(rows=12, width=256)
    assert 2 * sum(p.numel() for p in EncoderNetwork(shape).parameters()) < 3.8e6


def test_the_package_has_the_encoder_of_a_published_prior(tmp_path, monkeypatch):
    prior = tiny_prior(16)
    prior.name, prior.sha256 = "published", "a" * 64
    monkeypatch.setattr(prior_module, "BUNDLED", tmp_path)
    write_encoder(tmp_path / "published.encoder.safetensors", EncoderNetwork(SHAPE), prior.sha256, {"steps": 7})
    assert find_encoder(prior).card["steps"] == 7
    prior.sha256 = "b" * 64  # a file of the user's by the same name
    with pytest.raises(MissingDataError, match="train encoder"):
        find_encoder(prior)


# -- starts ------------------------------------------------------------------------------------------------------------


def test_without_an_encoder_the_message_says_what_to_do(prior_file):
    with pytest.raises(MissingDataError, match="train encoder"):
        WarmStart(Prior.read(prior_file), "encoder")
    with pytest.raises(MissingDataError, match="in memory"):
        WarmStart(tiny_prior(16), "encoder")
    with pytest.raises(UnknownNameError, match="bank, encoder, random"):
        WarmStart(tiny_prior(16), "banc")


@pytest.mark.parametrize("kind", ["bank", "encoder"])
def test_a_start_depends_on_the_picture_and_the_seed_alone(with_encoder, kind):
    start, low, down = WarmStart(with_encoder, kind, size=SMALL), tiny_faces(4), Downscale(4, 16)
    rows = start(low, down, [0, 1, 2, 3])
    assert rows.shape == (4, 6, 10)
    assert torch.equal(start(low.flip(0), down, [3, 2, 1, 0]).flip(0), rows)
    assert torch.equal(start(low[2:3], down, [2])[0], rows[2])
    other = start(low, down, [4, 5, 6, 7])
    assert not torch.allclose(other, rows, atol=1e-3)
    v, u = (with_encoder.gaussianise(x) for x in (rows, other))
    torch.testing.assert_close(v.norm(dim=-1), torch.full((4, 6), 10**0.5), atol=1e-4, rtol=0)
    likeness = torch.cosine_similarity(v, u, dim=-1)
    assert likeness.min() > 0.9 if kind == "bank" else (likeness < 0.9).any()  # a little apart, or more
    still = WarmStart(with_encoder, kind, size=SMALL, wander=(0.0, 0.0))
    assert torch.equal(still(low, down, [0] * 4), still(low, down, [9] * 4))
    with pytest.raises(InputError, match="two shares from 0 to 1"):
        WarmStart(with_encoder, kind, size=SMALL, wander=(0.0, 1.1))


def test_the_best_of_its_codes_is_taken(with_encoder, monkeypatch):
    low, down = tiny_faces(4), Downscale(4, 16)

    def loss(draws):
        monkeypatch.setitem(warmstart.DRAWS, "encoder", draws)
        start = WarmStart(with_encoder, "encoder")(low, down, [0, 1, 2, 3])
        return (down.forward(with_encoder.synthesis(start)) - low).square().mean((1, 2, 3)), start

    (one, first), (best, start) = loss(1), loss(8)
    assert (best <= one + 1e-7).all()
    assert (best < one - 1e-6).any()
    alone = WarmStart(with_encoder, "encoder")(low[2:3], down, [2])
    torch.testing.assert_close(alone[0], start[2], atol=1e-4, rtol=1e-4)
    assert not torch.equal(first, start)


def test_what_is_finer_than_the_input_is_left_to_chance(with_encoder, monkeypatch):
    low = tiny_faces(4)
    answer = with_encoder.gaussianise(
        WarmStart(with_encoder, "encoder", wander=(0.0, 0.0))(low, Downscale(4, 16), [0] * 4)
    )
    monkeypatch.setitem(warmstart.DRAWS, "encoder", 1)
    start = WarmStart(with_encoder, "encoder", wander=(0.0, 1.0))
    for side, rows in ((4, 2), (8, 4)):  # a generator of 4 px has 2 style rows, one of 8 px 4
        small = torch.nn.functional.interpolate(low, size=(side, side), mode="nearest")
        v = with_encoder.gaussianise(start(small, Downscale(side, 16), [0, 1, 2, 3]))
        if side == 4:
            torch.testing.assert_close(v[:, :rows], answer[:, :rows], atol=1e-4, rtol=1e-4)
        own = on_sphere(drawn([0, 1, 2, 3], 10))[:, None].expand(-1, 6 - rows, -1)
        torch.testing.assert_close(v[:, rows:], own, atol=1e-4, rtol=1e-4)
    for side in (8, 16, 32, 128):
        assert shown_rows(side) == Architecture(resolution=side).num_ws
    assert [shown_rows(side) for side in (2, 3, 4, 15, 40)] == [2, 2, 2, 4, 8]


def test_a_bank_starts_nearer_than_chance(prior):
    low = Downscale(4, 16).forward(faces_of_the_prior(prior, 6)[1])
    settings = find_method("rlse").settings(steps=1)
    start = WarmStart(prior, "bank", size=400)(low, Downscale(4, 16), range(6))
    warm = explore("rlse", prior, low, settings=settings, start=start)
    cold = explore("rlse", prior, low, settings=settings)
    assert (warm.consistency_db - cold.consistency_db).mean() > 3


class Unpainted:
    """A prior that notes what it paints, and one of whose paintings is NaN: the `lost`-th, of all faces."""

    def __init__(self, prior, lost):
        self.prior, self.lost, self.asked = prior, lost, []

    def __getattr__(self, name):
        return getattr(self.prior, name)

    def at(self, resolution):
        return self

    def synthesis(self, w_plus, fast=False):
        self.asked.append(w_plus)
        return self.prior.synthesis(w_plus) * (float("nan") if len(self.asked) - 1 == self.lost else 1)


@pytest.mark.parametrize("lost", [0, 1, 3])
def test_a_code_that_gives_no_picture_blocks_no_other(with_encoder, lost):
    low, down, prior = tiny_faces(4), Downscale(4, 16), Unpainted(with_encoder, lost)
    start = WarmStart(prior, "encoder")(low, down, [0, 1, 2, 3])
    errors = torch.stack(
        [(down.forward(with_encoder.synthesis(w)) - low).square().mean((1, 2, 3)) for w in prior.asked]
    )
    errors[lost] = float("inf")
    best = errors.argmin(0)
    assert len(errors) == 4
    assert len(set(best.tolist())) > 1  # each face has its own
    assert torch.equal(start, torch.stack(prior.asked)[best, torch.arange(4)])  # w_plus


STARTING = sorted(name for name, method in METHODS.items() if method.starts)
QUICK = {"dgp": {"steps": (2,), "latent_rates": (0.1,), "generator_rates": (1e-3,), "space": "w_plus"}}


def test_the_methods_that_start_from_style_rows():
    assert STARTING == ["dgp", "ilo", "pulse", "rls", "rlse"]


@pytest.mark.parametrize("name", STARTING)
def test_every_search_begins_at_the_start(name):
    prior, low = tiny_prior(16), tiny_faces(2)
    regular = {"density_weight": 0.0, "norm_weight": 0.0} if name == "rls" else {}
    settings = find_method(name).settings("equal", **QUICK.get(name, {}), **regular)
    w = faces_of_the_prior(prior, 2)[0]
    w_plus = w[:, None].repeat(1, 6, 1)
    w_plus[:, 3:] = w_plus[:, 3:].flip(0)
    for start, rows in ((w, w[:, None].expand(-1, 6, -1)), (w_plus, w_plus)):
        found = explore(name, prior, low, settings=settings, on_step=lambda step: True, start=start)
        torch.testing.assert_close(found.latent["w_plus"], rows, atol=1e-4, rtol=1e-4)
    with pytest.raises(InputError, match=r"start is \(2, 5, 10\); expected w"):
        explore(name, prior, low, settings=settings, start=w_plus[:, :5])


def test_a_search_of_z_cannot_start_from_style_rows(prior):
    settings = find_method("dgp").settings("paper")
    assert not settings.in_w
    with pytest.raises(InputError, match="space w or w_plus"):
        explore("dgp", prior, tiny_faces(2), settings=settings, start=torch.zeros(2, 10))


# -- as people use it --------------------------------------------------------------------------------------------------


def test_upscaling_from_an_encoder(with_encoder):
    settings = UpscaleSettings(method="rlse", start="encoder", steps=1, samples=2, projection=False)
    engine = Engine(with_encoder, settings)
    (answer,) = engine.explore([Job(tiny_faces(1), Downscale(4, 16), 16)])
    start = WarmStart(with_encoder, "encoder")(tiny_faces(1).expand(2, -1, -1, -1), Downscale(4, 16), [0, 1])
    torch.testing.assert_close(answer.samples, with_encoder.synthesis(start).clamp(0, 1), atol=1e-4, rtol=0)
    assert not torch.allclose(answer.samples[0], answer.samples[1], atol=1e-3)
    request = engine.request((4, 4), (16, 16))
    assert request["settings"]["start"] == "encoder"
    assert len(request["encoder_sha256"]) == 64


def test_a_method_without_a_start_says_so():
    with pytest.raises(InputError, match="mganprior has no start"):
        UpscaleSettings(method="mganprior", start="bank").method_settings()
    with pytest.raises(UnknownNameError, match="start 'warm'"):
        UpscaleSettings(start="warm")
    with pytest.raises(InputError, match="leave stop out"):
        UpscaleSettings(method="pulse", stop=0.1).method_settings()


def test_upscaling_without_exits_starts_at_random_unless_asked(with_encoder):
    assert Engine(with_encoder, UpscaleSettings()).start.kind == "random"
    chosen = Engine(with_encoder, UpscaleSettings(start="encoder"))
    assert chosen.request((4, 4), (16, 16))["encoder_sha256"] == chosen.start.sha256
    assert chosen.start.sha256
