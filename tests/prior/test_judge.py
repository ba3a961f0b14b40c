"""The judge: whose it is, at its own resolution, and the methods with a judge of another size than the prior."""

from __future__ import annotations

import json
import math

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from tiny import mobile_prior, normal, small_arch, small_networks, small_prior, tiny_faces

from latentface.bench.tables.ablated import ABLATED, CHOICES, AblatedSettings, semantic_loss
from latentface.degradation import Downscale, resize
from latentface.errors import InputError, UnknownNameError, WeightsError
from latentface.explore.dgp import DgpSettings
from latentface.explore.engine import explore
from latentface.explore.ilo import IloSettings
from latentface.explore.mganprior import MganpriorSettings
from latentface.explore.pulse import PulseSettings
from latentface.explore.rls import RlsSettings
from latentface.explore.rlse import RlseSettings
from latentface.io.atomic import sha256
from latentface.io.weights import KEYS, read_card
from latentface.prior import load_prior
from latentface.prior import prior as prior_module
from latentface.prior.flow import FlowSettings
from latentface.prior.formats import identity, write_prior
from latentface.prior.judge import Judge, write_judge
from latentface.prior.published import EMBEDDED, PRIORS


def judge_of(resolution=16, dtype=torch.float32, **described):
    return Judge(small_networks(small_arch(resolution), dtype=dtype)[1], **{"alignment": "celeba", **described})


def written(path, prior, judge=None, **card):
    network = judge.network if judge is not None else None
    write_prior(path, prior.generator, network, prior.statistics, {**prior.card, **card})
    return path


# -- whose it is -------------------------------------------------------------------------------------------------------


def test_a_prior_without_discriminator_takes_the_embedded_one_where_faces_stand_alike(tmp_path):
    embedded = load_prior().judge
    alike = load_prior(written(tmp_path / "a.safetensors", mobile_prior(32), alignment=embedded.alignment))
    assert (alike.judge.name, alike.judge.resolution) == (EMBEDDED, 128)
    assert alike.judge.sha256 == identity(PRIORS[EMBEDDED].path)
    assert alike.resolution == 32
    other = {"ffhq": "celeba", "celeba": "ffhq"}[embedded.alignment]
    path = written(tmp_path / "b.safetensors", mobile_prior(32), alignment=other)
    assert load_prior(path).judge is None
    with pytest.raises(InputError, match=f"{EMBEDDED} knows faces in the alignment {embedded.alignment}.*b makes"):
        load_prior(path, judge=EMBEDDED)


def test_a_judge_by_name_or_file_or_none(tmp_path):
    own = small_prior(8)
    with_own = written(tmp_path / "own.safetensors", own, own.judge)
    other = written(tmp_path / "other.safetensors", small_prior(16), judge_of(16))
    bare = written(tmp_path / "bare.safetensors", mobile_prior(32))
    assert load_prior(with_own).judge.name == "own"
    assert load_prior(with_own).judge.sha256 == load_prior(with_own).sha256
    chosen = load_prior(with_own, judge=other)
    assert (chosen.judge.name, chosen.judge.resolution, chosen.resolution) == ("other", 16, 8)
    assert chosen.judge.sha256 == identity(other)
    assert load_prior(with_own, judge="none").judge is None
    assert load_prior(bare, judge=str(other)).judge.resolution == 16
    with pytest.raises(WeightsError, match=r"bare\.safetensors: there is no discriminator in it; name another prior"):
        load_prior(with_own, judge=bare)
    with pytest.raises(WeightsError, match="there is no such file"):
        load_prior(with_own, judge=tmp_path / "absent.safetensors")
    with pytest.raises(UnknownNameError, match="celeba46"):
        load_prior(with_own, judge="celeba46")


def test_with_judge_leaves_the_prior_as_it_was():
    prior, judge = mobile_prior(32, dtype=torch.float64), judge_of(16)
    with pytest.raises(WeightsError, match=r"mobile has no judge.*--judge.*--method pulse"):
        prior.needed_judge()
    other = prior.with_judge(judge)
    assert prior.judge is None
    assert other.generator is prior.generator
    assert other.needed_judge().resolution == 16
    pictures = normal(2, 3, 16, 16).sigmoid()
    assert other.judge.logits(pictures).dtype == torch.float64  # in the prior's floating type
    assert judge.logits(pictures.float()).dtype == torch.float32
    assert other.to(torch.float32).judge.logits(pictures.float()).dtype == torch.float32
    assert other.with_judge(None).judge is None
    with pytest.raises(InputError, match="knows faces in the alignment ffhq"):
        prior.with_judge(judge_of(16, alignment="ffhq"))


# -- what it sees ------------------------------------------------------------------------------------------------------


def test_features_at_its_own_resolution_whatever_the_priors():
    judge = judge_of(16, torch.float64)
    prior = mobile_prior(64, judge, dtype=torch.float64)
    pictures = normal(3, 3, 16, 16).sigmoid()
    mine, theirs = prior.judge.features(pictures), judge.network.features(2 * pictures - 1)
    assert len(mine) == prior.judge.blocks == 2
    for a, b in zip(mine, theirs, strict=True):
        torch.testing.assert_close(a, b)
    with pytest.raises(InputError, match=r"pictures are \(1, 3, 64, 64\).*takes \(B, 3, 16, 16\)"):
        prior.judge.features(normal(1, 3, 64, 64))


def test_an_untrained_judge_has_the_shape_and_other_numbers():
    judge = judge_of(16, torch.float64, name="known")
    one, two = judge.untrained(), judge.untrained()
    pictures = normal(2, 3, 16, 16).sigmoid()
    assert torch.equal(one.logits(pictures), two.logits(pictures))
    assert (one.logits(pictures) - judge.logits(pictures)).abs().min() > 1e-3
    assert (one.alignment, one.resolution, one.name) == ("celeba", 16, "known, untrained")
    assert not any(p.requires_grad for p in one.network.parameters())


@pytest.mark.parametrize("reach", CHOICES["semantic_reach"])
@pytest.mark.parametrize(("large", "size"), [(32, 16), (8, 16)])
def test_the_semantic_loss_at_the_judges_size(reach, large, size):
    judge, down = judge_of(size, torch.float64), Downscale(4, large)
    x, high = tiny_faces(2, dtype=torch.float64), tiny_faces(2, large, seed=2, dtype=torch.float64)
    y = down.forward(high)
    prior = mobile_prior(32)
    prior.judge = judge
    got = semantic_loss(prior, x, down, AblatedSettings(semantic_reach=reach))(y, high)
    if reach == "bilinear":
        pair = [F.interpolate(v, size=(size, size), mode="bilinear", align_corners=False) for v in (y, x)]
    else:
        sides = (down.pinv(y), down.pinv(x)) if reach == "pinv" else (high, high + down.pinv(x - y))
        pair = [F.interpolate(v, size=(size, size), mode="bicubic", antialias=True, align_corners=False) for v in sides]
    for i in range(2):
        one, other = (judge.network.features(2 * v[i : i + 1] - 1) for v in pair)
        wanted = sum(float((a - b).abs().mean()) for a, b in zip(one, other, strict=True))
        assert float(got[i]) == pytest.approx(wanted, rel=1e-9)


# -- the methods on MobileStyleGAN, with a judge of another size ---------------------------------------------------------

RUNS = {
    "rlse": ("rlse", RlseSettings(steps=3, candidates=2)),
    "rlse, projected": (ABLATED, AblatedSettings(steps=3, candidates=2, semantic_reach="projected")),
    "rlse, random": (ABLATED, AblatedSettings(steps=3, candidates=2, semantic_model="random")),
    "pulse": ("pulse", PulseSettings(steps=3)),
    "dgp": (
        "dgp",
        DgpSettings(steps=(2, 2), latent_rates=(1e-2, 1e-2), generator_rates=(1e-3, 1e-3), candidates=3),
    ),
    "mganprior": ("mganprior", MganpriorSettings(codes=3, steps=3, optimiser="adam", rate=0.02, feature_weight=0.1)),
    "ilo": ("ilo", IloSettings(steps=(3, 3, 3, 3))),
    "rls": ("rls", RlsSettings(steps=3, rate=0.05, flow=FlowSettings(couplings=2, hidden=8, steps=5, batch=16))),
}


@pytest.fixture(scope="module")
def judged():
    return mobile_prior(32, judge_of(16))


def of_the_prior(prior, count, size=8):
    """Faces that the prior can make, shrunk."""
    high = prior.synthesis(prior.mapping(normal(count, prior.z_dim, seed=99, dtype=prior.dtype)))
    return resize(high, size).clamp(0, 1)


@pytest.mark.parametrize("name", RUNS)
def test_every_method_runs(judged, name):
    method, settings = RUNS[name]
    low = of_the_prior(judged, 2)
    found = explore(method, judged, low, degradation=Downscale(8, 32), settings=settings, seeds=[0, 1])
    assert found.high.shape == (2, 3, 32, 32)
    assert all(v.isfinite().all() for v in (found.high, found.low_again, found.consistency_db))
    assert all(v.isfinite().all() for v in found.latent.values())
    history = {k: v for k, v in found.history.items() if k != "consistency_db"}
    total = torch.stack(list(history.values())).sum(0)  # (S, B)
    assert total.isfinite().all()
    assert (total.min(0).values < total[0]).all()  # a step was better than the start
    assert found.best_step.min() > 1


def test_dgp_moves_the_weights_of_mobilestylegan(judged):
    settings = DgpSettings(
        steps=(3,), latent_rates=(1e-9,), generator_rates=(1e-2,), candidates=1, keep_generators=True
    )
    before = {k: v.clone() for k, v in judged.generator.synthesis.named_parameters()}
    found = explore(
        "dgp", judged, of_the_prior(judged, 2), degradation=Downscale(8, 32), settings=settings, seeds=[0, 1]
    )
    for name, value in before.items():
        assert torch.equal(dict(judged.generator.synthesis.named_parameters())[name], value)
        kept = next(v for k, v in found.latent.items() if k.endswith(name))
        assert (kept[0] != value).any(), name
        assert (kept[0] != kept[1]).any(), name


def test_methods_that_need_a_judge_say_so():
    prior, low = mobile_prior(32), tiny_faces(1)
    for name in ("rlse", "dgp", "mganprior"):
        method, settings = RUNS[name]
        with pytest.raises(WeightsError, match="mobile has no judge"):
            explore(method, prior, low, degradation=Downscale(4, 32), settings=settings, seeds=[0])
    settings = RlseSettings(steps=2, candidates=1, semantic_weight=0)
    found = explore("rlse", prior, low, degradation=Downscale(4, 32), settings=settings, seeds=[0])
    assert found.high.isfinite().all()


def test_rlse_in_half_precision_gives_exact_pictures(judged, monkeypatch):
    low, settings = of_the_prior(judged, 2), RlseSettings(steps=3, candidates=2)
    monkeypatch.setattr("latentface.prior.prior.fast_dtype", lambda device: torch.bfloat16)
    found = explore("rlse", judged, low, degradation=Downscale(8, 32), settings=settings, seeds=[0, 1])
    exact = judged.synthesis(found.latent["w_plus"]).clamp(0, 1)
    torch.testing.assert_close(found.high, exact)
    again = -10 * torch.log10((found.low_again - low).square().mean((1, 2, 3)))
    torch.testing.assert_close(found.consistency_db, again, atol=1e-3, rtol=0)
    assert math.isfinite(float(found.history["consistency_db"].sum()))


# -- a file of its own -------------------------------------------------------------------------------------------------


def judge_file(path, judge, prior_sha256="0" * 64, **card):
    write_judge(path, judge.network, prior_sha256, {"alignment": judge.alignment, **card})
    return path


def test_a_judges_file_is_read_as_it_was_written(tmp_path):
    made = judge_of(16)
    path = judge_file(tmp_path / "mine.judge.safetensors", made)
    read = Judge.read(path)
    assert (read.name, read.resolution, read.alignment) == ("mine.judge", 16, "celeba")
    assert read.sha256 == sha256(path.read_bytes())
    for name, value in read.network.state_dict().items():
        torch.testing.assert_close(value, made.network.state_dict()[name], atol=1e-3, rtol=1e-3)
    bare = written(tmp_path / "bare.safetensors", mobile_prior(32))
    assert load_prior(bare, judge=path).judge.sha256 == read.sha256  # whichever prior it was trained for


def test_a_priors_own_judge_is_the_default(tmp_path, monkeypatch):
    monkeypatch.setattr(prior_module, "BUNDLED", tmp_path / "bundled")
    (tmp_path / "bundled").mkdir()
    own = small_prior(8)
    path = written(tmp_path / "own.safetensors", own, own.judge)
    assert load_prior(path).judge.name == "own"
    bundled = judge_file(tmp_path / "bundled" / "own.judge.safetensors", judge_of(16), identity(path))
    assert load_prior(path).judge.sha256 == sha256(bundled.read_bytes())
    assert load_prior(path, judge=path).judge.name == "own"
    assert load_prior(path, judge="none").judge is None
    judge_file(bundled, judge_of(16), "1" * 64)  # a user's prior with a published name does without it
    assert load_prior(path).judge.name == "own"
    beside = judge_file(tmp_path / "own.judge.safetensors", judge_of(8), identity(path))
    assert load_prior(path).judge.resolution == 8
    judge_file(beside, judge_of(8), "1" * 64)
    with pytest.raises(WeightsError, match="another prior's; name it with --judge"):
        load_prior(path)
    assert load_prior(path, judge=beside).judge.resolution == 8


@pytest.mark.parametrize(
    ("change", "card", "words"),
    [
        (lambda t: t.pop("b4.out.bias"), {}, r"b4\.out\.bias is missing"),
        (lambda t: t["b4.out.bias"].fill_(float("nan")), {}, "holds NaN"),
        (lambda t: t.update({"b4.out.bias": torch.zeros(7)}), {}, "has shape"),
        (lambda t: t.update(x=torch.zeros(1)), {}, "x is not part of the network"),
        (lambda t: None, {"architecture": {"resolution": 16}}, "architecture cannot be used"),
        (lambda t: None, {"architecture": [1]}, "architecture cannot be used"),
        (lambda t: None, {"format": 2}, "its format is 2"),
    ],
)
def test_broken_files_of_a_judge(tmp_path, change, card, words):
    path = judge_file(tmp_path / "j.safetensors", judge_of(16))
    tensors, full = load_file(path), {**read_card(path, "judge"), **card}
    change(tensors)
    save_file(tensors, path, {KEYS["judge"]: json.dumps(full)})
    with pytest.raises(WeightsError, match=words):
        Judge.read(path)


def test_files_that_hold_no_judge(tmp_path):
    own = small_prior(8)
    path = judge_file(tmp_path / "j.safetensors", own.judge)
    with pytest.raises(WeightsError, match="this is a latentface judge, expected prior"):
        load_prior(path)
    save_file(load_file(path), path, {KEYS["encoder"]: json.dumps({"format": 1})})
    with pytest.raises(WeightsError, match="this is a latentface encoder"):
        Judge.read(path)
    path.write_bytes(b"no weights")
    with pytest.raises(WeightsError, match="this is a text file; expected a latentface prior"):
        Judge.read(path)
