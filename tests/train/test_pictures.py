"""Training pictures: from folders and zips, squared and resized; broken ones named; each once an epoch."""

from __future__ import annotations

import zipfile

import numpy as np
import pytest
import torch
from PIL import Image
from small_training import coloured, write_pictures

from latentface.errors import OutputError, TrainingError
from latentface.io.sources import open_source, open_sources
from latentface.train.pictures import Shuffled, decode_square, load_pictures


def zipped(folder, path):
    with zipfile.ZipFile(path, "w") as archive:
        for file in sorted(folder.iterdir()):
            archive.write(file, f"faces/{file.name}")
    return path


def test_folder_and_zip_give_the_pictures_as_they_are(tmp_path):
    folder = write_pictures(tmp_path / "faces", 5)
    archive = zipped(folder, tmp_path / "faces.zip")
    for source in (folder, archive):
        loaded = load_pictures(open_source(source), 8)[0]
        assert loaded.dtype == torch.uint8
        assert torch.equal(loaded, coloured(5))
    assert torch.equal(load_pictures(open_sources([folder, archive]), 8)[0], coloured(5).repeat(2, 1, 1, 1))


@pytest.mark.parametrize("size", [(32, 16), (16, 32), (16, 16)])
def test_the_central_square_is_taken_and_resized_as_pillow_does(tmp_path, size):
    pixels = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    half = Image.fromarray(pixels).resize((size[0] // 2, size[1] // 2), Image.Resampling.BICUBIC)
    left, top = (half.width - 8) // 2, (half.height - 8) // 2
    square = half.crop((left, top, left + 8, top + 8))
    (entry,) = open_source(tmp_path)
    difference = decode_square(entry, 8).astype(int) - np.asarray(square).transpose(2, 0, 1)
    assert abs(difference).max() <= 1  # Pillow rounds between its two passes


@pytest.mark.parametrize("mode", ["L", "P", "RGBA", "LA", "I;16", "1", "CMYK"])
def test_every_kind_of_picture_becomes_three_colours(tmp_path, mode):
    grey = Image.new("L", (8, 8), 255)
    image = Image.fromarray(np.full((8, 8), 65535, np.uint16)) if mode == "I;16" else grey.convert(mode)
    image.save(tmp_path / ("a.tif" if mode == "CMYK" else "a.png"))
    (entry,) = open_source(tmp_path)
    assert (decode_square(entry, 8) == 255).all()
    assert decode_square(entry, 8).shape == (3, 8, 8)


def test_broken_pictures_are_named_and_left_out(tmp_path):
    folder = write_pictures(tmp_path / "faces", 5)
    (folder / "001.png").write_bytes(b"")
    (folder / "003.png").write_bytes((folder / "003.png").read_bytes()[:60])
    (folder / "zzz.png").write_text("no picture")
    for source in (folder, zipped(folder, tmp_path / "faces.zip")):
        said = []
        loaded, kept = load_pictures(open_source(source), 8, warn=said.append)
        assert torch.equal(loaded, coloured(5)[[0, 2, 4]])
        assert [entry.stem for entry in kept] == ["000", "002", "004"]
        assert len(said) == 3
        for line, name in zip(said, ("001.png", "003.png", "zzz.png"), strict=True):
            assert line.startswith("left out: ")
            assert name in line
            assert "\n" not in line


def test_nothing_but_broken_pictures(tmp_path):
    (tmp_path / "a.png").write_text("no picture")
    with pytest.raises(TrainingError, match="not one of 1 pictures could be read"):
        load_pictures(open_source(tmp_path), 8)


def test_large_sets_stay_on_disk_and_leave_nothing_behind(tmp_path):
    folder = write_pictures(tmp_path / "faces", 5)
    scratch = tmp_path / "scratch" / "pictures.npy"
    first = load_pictures(open_source(folder), 8, scratch=scratch, memory=0)[0]
    second = load_pictures(open_source(folder), 8, scratch=scratch, memory=0)[0]
    assert torch.equal(first, coloured(5))
    second.zero_()  # two sets do not meet in one file
    assert torch.equal(first, coloured(5))
    assert list(scratch.parent.iterdir()) == []


@pytest.mark.parametrize(("count", "batch"), [(7, 3), (10, 5), (3, 8)])
def test_every_picture_is_shown_once_an_epoch(count, batch):
    order = Shuffled(count, seed=1)
    shown = torch.cat([order.indices(start, batch) for start in range(0, 6 * count * batch, batch)])
    epochs = shown[: len(shown) // count * count].view(-1, count)
    assert (epochs.sort(1).values == torch.arange(count)).all()
    assert len({tuple(row.tolist()) for row in epochs}) > 1


def test_the_order_follows_from_seed_and_place_alone():
    forward = [Shuffled(9, seed=4).indices(start, 4) for start in range(0, 80, 4)]
    order = Shuffled(9, seed=4)
    for start in reversed(range(0, 80, 4)):
        assert torch.equal(order.indices(start, 4), forward[start // 4])
    assert not torch.equal(Shuffled(99, seed=5).indices(0, 50), Shuffled(99, seed=4).indices(0, 50))


def test_any_seed_will_do():
    for seed in (-1, 2**62):
        assert Shuffled(5, seed).indices(0, 5).sort().values.tolist() == [0, 1, 2, 3, 4]


def test_no_room_for_a_large_sets_pictures_is_told_at_once(tmp_path):
    resource = pytest.importorskip("resource")
    pictures = open_sources([write_pictures(tmp_path / "faces", 20)])
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2_000, limits[1]))
    try:
        with pytest.raises(OutputError, match=r"cannot be kept there \(File too large\)"):
            load_pictures(pictures, 8, scratch=tmp_path / "out" / "pictures.npy", memory=100)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert list((tmp_path / "out").iterdir()) == []
