from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from skimage.transform import SimilarityTransform
from torch import Tensor

from latentface.errors import InputError, UnknownNameError, WeightsError
from latentface.metrics.identity import CROP_LANDMARKS, FACE_LANDMARKS, IdentityNet, align, face_to_crop
from latentface.metrics.weights import FILES


@pytest.fixture(params=["mobilefacenet", "sface"])
def net(request: pytest.FixtureRequest, need: Callable[[str], Path]) -> IdentityNet:
    need(FILES[request.param].file)
    return IdentityNet.load(request.param, fetch=False)


def test_the_alignment_is_the_least_squares_similarity() -> None:
    expected = SimilarityTransform.from_estimate(np.array(FACE_LANDMARKS), np.array(CROP_LANDMARKS))
    np.testing.assert_allclose(np.array(face_to_crop()), expected.params[:2], atol=1e-9)


@pytest.mark.parametrize("landmark", range(5))
def test_landmarks_land_near_the_template(landmark: int) -> None:
    crop = torch.zeros(1, 3, 128, 128)
    x, y = (round(v) for v in CROP_LANDMARKS[landmark])
    crop[..., y, x] = 1
    at = int(align(crop)[0, 0].argmax())
    fit = SimilarityTransform.from_estimate(np.array(CROP_LANDMARKS), np.array(FACE_LANDMARKS))
    assert (at % 112, at // 112) == pytest.approx(tuple(fit((x, y))[0]), abs=1)
    assert (at % 112, at // 112) == pytest.approx(FACE_LANDMARKS[landmark], abs=5)  # a mean face is not the template


def test_any_square_size_gives_nearly_the_same_face(net: IdentityNet) -> None:
    ramp = torch.linspace(0, 1, 128)
    face = torch.stack([ramp.expand(128, 128), ramp.expand(128, 128).T, 0.5 + 0 * ramp.expand(128, 128)])[None]
    large = torch.nn.functional.interpolate(face, (320, 320), mode="bicubic", antialias=True).clamp(0, 1)
    assert (align(large) - align(face)).abs().max() < 0.02
    embeddings = net.embed(torch.cat([face, face.flip(3)]))
    assert embeddings.shape == (2, 128)
    torch.testing.assert_close(embeddings.norm(dim=1), torch.ones(2))
    torch.testing.assert_close(embeddings[:1], net.embed(face))
    assert (net.embed(large) * embeddings[:1]).sum() > 0.9
    torch.testing.assert_close(net.cosine(face, face), torch.ones(1))


def test_opencv_runs_the_network_as_onnxruntime_does(need: Callable[[str], Path], weights_folder: Path) -> None:
    need("MobileFaceNet.onnx")
    net = IdentityNet.load(fetch=False)
    runtime = pytest.importorskip("onnxruntime", reason="the second computation needs onnxruntime")
    session = runtime.InferenceSession(weights_folder / "MobileFaceNet.onnx", providers=["CPUExecutionProvider"])
    pictures = torch.rand(2, 3, 112, 112, generator=torch.Generator().manual_seed(0))
    for embedding, face in zip(net.embed(pictures), align(pictures).numpy(), strict=True):
        mean, deviation = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
        blob = ((face - mean[:, None, None]) / deviation[:, None, None]).astype(np.float32)[None]
        (expected,) = session.run(None, {session.get_inputs()[0].name: blob})
        np.testing.assert_allclose(embedding.numpy(), expected[0] / np.linalg.norm(expected), atol=1e-4)


def test_a_blurred_face_is_nearer_than_another(net: IdentityNet, real_faces: Callable[[str, int], Tensor]) -> None:
    faces = real_faces("test.zip", 3)
    small = torch.nn.functional.interpolate(faces, (32, 32), mode="bicubic", antialias=True)
    blurred = torch.nn.functional.interpolate(small, (128, 128), mode="bicubic").clamp(0, 1)
    scores = net.embed(blurred) @ net.embed(faces).T
    assert (scores.argmax(1) == torch.arange(3)).all()
    assert scores.diagonal().min() > 0.4


def test_wrong_pictures_and_files_are_said(net: IdentityNet, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="100 x 90"):
        net.embed(torch.zeros(1, 3, 100, 90))
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(b"no model at all")
    with pytest.raises(WeightsError, match=r"broken\.onnx"):
        IdentityNet(broken)
    with pytest.raises(UnknownNameError, match="sface"):
        IdentityNet(broken, "arcface")


def test_two_eyes_alone_place_a_face_exactly() -> None:
    crop = torch.zeros(1, 3, 128, 128)
    for x, y in CROP_LANDMARKS[:2]:
        crop[..., round(y), round(x)] = 1
    moved = align(crop, ((10.0, 20.0), (42.8, 20.0)), 64)[0, 0]  # as far apart as in the crop: moved, not scaled
    assert sorted(divmod(int(i), 64) for i in moved.flatten().topk(2).indices) == [(20, 10), (20, 43)]
