"""Reading every kind of picture, refusing what is none, and writing whole files or none."""

from __future__ import annotations

import contextlib
import io
import os
import socket
import struct
import subprocess
import sys
import time
import zlib

import numpy as np
import pytest
import torch
from PIL import Image

from latentface.errors import InputError, OutputError, PictureError
from latentface.io import atomic, sheets
from latentface.io.atomic import write_bytes, write_json
from latentface.io.pictures import check_batch, read_picture, to_pillow, write_picture

COLOURS = np.random.default_rng(0).integers(0, 256, (6, 4, 3), dtype=np.uint8)  # 4 wide, 6 high


def encoded(picture: Image.Image, kind: str = "PNG", **options) -> bytes:
    file = io.BytesIO()
    picture.save(file, format=kind, **options)
    return file.getvalue()


def expected(values: np.ndarray = COLOURS) -> torch.Tensor:
    return torch.from_numpy(values.transpose(2, 0, 1).copy()).float() / 255


def png_header(width: int, height: int) -> bytes:
    """A PNG whose header announces a size that its data does not have."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 100)) + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize(
    ("kind", "options"), [("PNG", {}), ("BMP", {}), ("TIFF", {}), ("WEBP", {"lossless": True}), ("PPM", {})]
)
def test_lossless_formats_come_back_exactly(kind, options):
    assert torch.equal(read_picture(encoded(Image.fromarray(COLOURS), kind, **options)), expected())


def test_a_file_written_is_read_again(tmp_path):
    path = tmp_path / "a" / "b.png"
    write_picture(path, expected(), {"Comment": "größer"})
    assert torch.equal(read_picture(path), expected())
    assert Image.open(path).text["Comment"] == "größer"


def test_transparency_is_laid_on_white():
    alpha = np.dstack([COLOURS, np.full((6, 4), 255, np.uint8)])
    alpha[0, 0, 3] = 0
    got = read_picture(encoded(Image.fromarray(alpha)))
    wanted = expected()
    wanted[:, 0, 0] = 1
    assert torch.equal(got, wanted)


def test_palettes_with_and_without_transparency():
    picture = Image.fromarray(COLOURS).quantize(8)
    wanted = expected(np.asarray(picture.convert("RGB")))
    assert torch.equal(read_picture(encoded(picture)), wanted)
    clear = picture.getpixel((0, 0))
    mask = torch.from_numpy(np.asarray(picture) == clear)
    assert torch.equal(read_picture(encoded(picture, transparency=clear)), torch.where(mask, 1.0, wanted))


@pytest.mark.parametrize("mode", ["1", "L", "LA"])
def test_grey_pictures_have_three_equal_colours(mode):
    got = read_picture(encoded(Image.fromarray(COLOURS).convert(mode)))
    assert got.shape == (3, 6, 4)
    assert torch.equal(got[0], got[2])


def test_sixteen_bits_keep_their_precision():
    values = np.arange(24, dtype=np.uint16).reshape(6, 4) * 2700 + 1
    for kind in ("PNG", "TIFF"):
        got = read_picture(encoded(Image.fromarray(values), kind))
        torch.testing.assert_close(got[1], torch.from_numpy(values.astype(np.float32)) / 65535)


def test_floating_tiffs_with_nan_stay_finite():
    values = np.linspace(0, 1, 24, dtype=np.float32).reshape(6, 4)
    values[0, 0] = np.nan
    got = read_picture(encoded(Image.fromarray(values), "TIFF"))
    assert torch.isfinite(got).all()
    torch.testing.assert_close(got[0, 1:], torch.from_numpy(values[1:]))


def test_an_infinite_pixel_is_as_bright_as_the_brightest():
    values = np.linspace(0, 4, 24, dtype=np.float32).reshape(6, 4)
    values[0, :2] = np.inf, -np.inf
    got = read_picture(encoded(Image.fromarray(values), "TIFF"))
    torch.testing.assert_close(got[0, 1:], torch.from_numpy(values[1:] / 4))
    assert got[0, 0, :2].tolist() == [1, 0]


def test_only_pictures_formats_are_opened():
    script = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\nshowpage\n"
    with pytest.raises(PictureError, match="not a picture that can be read"):
        read_picture(script)


def test_cmyk_is_converted():
    flat = Image.new("RGB", (8, 8), (200, 60, 30)).convert("CMYK")
    got = read_picture(encoded(flat, "JPEG", quality=98))
    torch.testing.assert_close(got.mean((1, 2)), torch.tensor([200, 60, 30]) / 255, atol=0.03, rtol=0)


def test_exif_turns_the_picture():
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees clockwise to view
    got = read_picture(encoded(Image.fromarray(COLOURS), exif=exif))
    assert torch.equal(got, expected(np.rot90(COLOURS, -1)))


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG"])
def test_an_animation_gives_its_first_frame(kind):
    first, second = Image.new("RGB", (6, 6), (255, 0, 0)), Image.new("RGB", (6, 6), (0, 0, 255))
    options = {"lossless": True} if kind == "WEBP" else {}
    got = read_picture(encoded(first, kind, save_all=True, append_images=[second], duration=50, **options))
    assert torch.equal(got, torch.tensor([1.0, 0, 0])[:, None, None].expand(3, 6, 6))


BROKEN = {
    "empty": (b"", "empty"),
    "text": (b"this is a shopping list", "not a picture"),
    "cut PNG": (encoded(Image.fromarray(COLOURS).resize((64, 64)))[:600], "broken or cut off"),
    "cut JPEG": (encoded(Image.fromarray(COLOURS).resize((64, 64)), "JPEG")[:700], "broken or cut off"),
    "giant": (png_header(50_000, 50_000), "megapixels"),
    "large": (png_header(16_000, 10_000), "16000 x 10000 pixels.*shrink or cut"),
    "short data": (png_header(100, 100), "broken or cut off"),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_broken_files_are_told_in_one_line(kind):
    data, words = BROKEN[kind]
    with pytest.raises(PictureError, match=f"x.png: .*{words}") as caught:
        read_picture(data, "x.png")
    assert "\n" not in str(caught.value)


def test_every_prefix_of_a_file_is_refused_or_read_never_a_crash():
    for kind in ("PNG", "JPEG", "GIF", "WEBP", "TIFF", "BMP"):
        data = encoded(Image.fromarray(COLOURS).resize((16, 16)), kind)
        for end in range(0, len(data), max(1, len(data) // 25)):
            with contextlib.suppress(PictureError):
                assert read_picture(data[:end]).shape == (3, 16, 16)


def test_missing_files_and_folders(tmp_path):
    with pytest.raises(PictureError, match="no such file"):
        read_picture(tmp_path / "no.png")
    with pytest.raises(PictureError, match="a folder"):
        read_picture(tmp_path)


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        (torch.zeros(3, 4, 4), r"\(3, 4, 4\), expected a tensor"),
        (torch.zeros(1, 1, 4, 4), "expected a tensor"),
        (torch.zeros(0, 3, 4, 4), "expected a tensor"),
        ([1, 2], "list, expected a tensor"),
        (torch.zeros(1, 3, 4, 4, dtype=torch.uint8), "divide 8-bit values"),
        (torch.full((1, 3, 4, 4), float("nan")), "NaN"),
        (torch.full((1, 3, 4, 4), float("inf")), "infinite"),
        (torch.full((1, 3, 4, 4), 200.0), "200.*divide"),
    ],
)
def test_tensors_are_checked(bad, words):
    with pytest.raises(InputError, match=words):
        check_batch(bad)


def test_bytes_are_rounded_not_cut():
    assert to_pillow(torch.full((3, 1, 1), 0.999)).getpixel((0, 0)) == (255, 255, 255)
    assert to_pillow(torch.full((3, 1, 1), -3.0)).getpixel((0, 0)) == (0, 0, 0)


# ---------------------------------------------------------------------------------------------------------------------
# Writing.


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "a.txt"
    write_bytes(path, b"old")
    with pytest.raises(RuntimeError), atomic.atomic_path(path) as temporary:  # noqa: PT012
        temporary.write_bytes(b"ne")
        raise RuntimeError
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def leftover(folder, process: int, host: str | None = None, days: float = 2):
    path = folder / f".a.png.{host or socket.gethostname()}-{process}-abcd{days:.0f}.part"
    path.write_bytes(b"half")
    os.utime(path, times=(time.time() - days * 86400,) * 2)
    return path


def test_old_leftovers_of_killed_processes_are_removed_and_others_kept(tmp_path):
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    killed = leftover(tmp_path, dead.pid)
    recent = leftover(tmp_path, dead.pid, days=0)  # perhaps of a process in another container of this host name
    mine, elsewhere = leftover(tmp_path, os.getpid()), leftover(tmp_path, dead.pid, "another-machine")
    user = tmp_path / ".movie.part"
    user.write_bytes(b"")
    write_bytes(tmp_path / "b.txt", b"new")
    assert not killed.exists()
    assert all(path.exists() for path in (recent, mine, elsewhere, user))


def test_files_get_the_mode_that_the_umask_gives_and_it_is_never_changed(tmp_path, monkeypatch):
    """Between a change of the umask and its return, another thread's files would be open to everyone."""
    before = os.umask(0o027)
    try:
        with monkeypatch.context() as patch:
            patch.delattr(os, "umask")
            write_bytes(tmp_path / "a.txt", b"x")
        assert (tmp_path / "a.txt").stat().st_mode & 0o777 == 0o640
    finally:
        os.umask(before)


def test_a_folder_is_searched_for_leftovers_once(tmp_path, monkeypatch):
    scans = []
    real = os.scandir
    monkeypatch.setattr(atomic.os, "scandir", lambda path: scans.append(path) or real(path))
    for i in range(5):
        write_bytes(tmp_path / f"{i}.txt", b"x")
    assert scans == [tmp_path]


def test_names_may_be_as_long_as_the_file_system_allows(tmp_path):
    path = tmp_path / ("a" * 251 + ".png")
    write_bytes(path, b"x")
    assert path.read_bytes() == b"x"
    with pytest.raises(OutputError, match=r"cannot be written.*-o"):
        write_bytes(tmp_path / ("a" * 300), b"x")


def test_unwritable_places_say_so(tmp_path):
    (tmp_path / "file").write_text("")
    for place in (tmp_path / "file" / "a.txt", tmp_path / "file" / "sub" / "a.txt"):
        with pytest.raises(OutputError, match="a file stands where a folder is needed; choose another"):
            write_bytes(place, b"x")
        with pytest.raises(OutputError, match="a file stands where a folder is needed"):
            atomic.check_folder(place.parent)


@pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="this system has no /proc")
def test_a_folder_of_the_kernel_is_unwritable():
    with pytest.raises(OutputError, match="choose another"):
        write_bytes("/proc/latentface/a.txt", b"x")


def test_json_of_a_name_that_is_no_unicode(tmp_path):
    write_json(tmp_path / "a.json", {"input": "caf\udce9.png", "ok": "é"})
    assert '"ok": "é"' in (tmp_path / "a.json").read_text()
    import json

    assert json.loads((tmp_path / "a.json").read_text())["input"] == "caf\udce9.png"


# ---------------------------------------------------------------------------------------------------------------------
# Sheets.


def test_grid_and_comparison_sheet():
    pictures = torch.stack([torch.full((3, 4, 4), v) for v in (0.0, 0.2, 0.4)])
    sheet = sheets.grid(pictures, columns=2, gap=1)
    assert sheet.size == (11, 11)
    assert sheet.getpixel((1, 1)) == (0, 0, 0)
    assert sheet.getpixel((6, 1)) == (51, 51, 51)
    assert sheet.getpixel((6, 6)) == (255, 255, 255)
    compared = sheets.comparison_sheet({"input": [pictures[0]], "result": [pictures[1], pictures[2]]}, side=8, gap=2)
    assert compared.size == (22, 46)
    assert compared.getpixel((14, 40)) == (102, 102, 102)


def test_rows_and_boxes_have_names():
    black = torch.zeros(3, 8, 8)
    sheet = sheets.comparison_sheet({"input": [black]}, side=40, gap=4, rows=["12"])
    plain = sheets.comparison_sheet({"input": [black]}, side=40, gap=4)
    assert sheet.height == plain.height
    margin = sheet.width - plain.width
    assert np.asarray(sheet)[26:, :margin].min() < 128 < np.asarray(plain)[26:, :4].min()
    picture = Image.new("RGB", (60, 40), "black")
    sheets.mark_boxes(picture, [("3", (20.0, 20.0, 40.0, 35.0)), ("1", (-5.0, -5.0, 10.0, 10.0))])
    pixels = np.asarray(picture)
    assert tuple(pixels[30, 20]) == tuple(pixels[10, 21]) == (255, 255, 0)  # a side, and the name above it
    assert tuple(pixels[12, 1]) == (255, 255, 0)  # below, where there is no room above
    assert pixels[30, 30].max() == 0
