"""What a file says besides its pixels survives in every format, and our record stands beside it."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms, PngImagePlugin

from latentface.errors import InputError
from latentface.io.metadata import MOST_XMP
from latentface.io.photo import Photo
from latentface.io.pictures import check_writable
from latentface.io.records import begin_result, is_done, text_chunks

COLOURS = np.random.default_rng(0).integers(0, 256, (12, 9, 3), dtype=np.uint8)
ICC = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
XMP = (
    b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
    b'<rdf:Description rdf:about="" tiff:Orientation="6" dc:title="The garden"/></rdf:RDF></x:xmpmeta>'
)
RECORD = {"input": "a.png", "input_sha256": "12", "notice": 'invented <& "so">', "method": "rlse"}
ENDINGS = ("png", "jpg", "webp", "tiff")


def jpeg(xmp: bytes = XMP, **tags: object) -> bytes:
    """Return a JPEG turned by EXIF, with all that can be kept."""
    exif = Image.Exif()
    exif[0x0112], exif[0x010F] = 6, "a camera"
    exif.get_ifd(0x8769)[0xA434] = "a lens"
    for tag, value in tags.items():
        exif[int(tag[1:])] = value
    file = io.BytesIO()
    Image.fromarray(COLOURS).save(
        file, "JPEG", exif=exif, xmp=xmp, icc_profile=ICC, dpi=(300, 300), comment="hello", quality=95
    )
    return file.getvalue()


@pytest.mark.parametrize("ending", ENDINGS)
def test_every_format_keeps_what_it_can_and_holds_the_record(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"a.{ending}"
    photo = Photo.read(jpeg(), "a.jpg")
    assert photo.size == (9, 12)
    photo.save(path, text_chunks(RECORD))
    again = Photo.read(path.read_bytes(), path.name)
    assert again.metadata.icc == ICC
    assert again.metadata.xmp is not None
    assert b"The garden" in again.metadata.xmp
    assert b"Orientation" not in again.metadata.xmp
    with Image.open(path) as picture:
        exif = picture.getexif()
        assert exif[0x010F] == "a camera"
        assert exif.get_ifd(0x8769)[0xA434] == "a lens"
        assert 0x0112 not in exif or exif[0x0112] == 1
        if ending != "webp":
            assert picture.info["dpi"][0] == pytest.approx(300, abs=0.1)
        if ending == "jpg":
            assert picture.info["comment"] == f"hello\n{RECORD['notice']}".encode()
    assert is_done(path, RECORD) is False  # ours, by the record inside; its JSON is missing
    again.save(tmp_path / "second.png")  # a result as an input leaves its record behind
    assert "input_sha256" not in (tmp_path / "second.png").read_bytes().decode("latin-1")


def test_texts_of_a_png_survive_beside_ours(tmp_path: Path) -> None:
    info = PngImagePlugin.PngInfo()
    info.add_text("Author", "me")
    info.add_itxt("parameters", "größer", zip=True)
    info.add_text("Raw profile type APP1", "\nexif\n 4\n00000000\n")  # an EXIF in disguise, untrue after a turn
    file = io.BytesIO()
    Image.fromarray(COLOURS).save(file, "PNG", pnginfo=info)
    for photo in (Photo.read(file.getvalue()), Photo.of(Image.open(file))):
        photo.save(tmp_path / "a.png", text_chunks(RECORD))
        with Image.open(tmp_path / "a.png") as picture:
            assert {k: picture.text[k] for k in ("Author", "parameters")} == {"Author": "me", "parameters": "größer"}
            assert json.loads(picture.text["latentface"])["input"] == "a.png"
            assert not any(key.startswith("Raw profile") for key in picture.text)


def test_a_record_too_long_for_a_jpeg_is_left_to_the_json(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    Photo.read(jpeg()).save(path, text_chunks({**RECORD, "faces": ["x" * MOST_XMP]}))
    with Image.open(path) as picture:
        kept = picture.info["xmp"]
    assert b"The garden" in kept
    assert b"latentface:Software" in kept
    assert b"xxxx" not in kept


def test_the_place_is_taken_out_of_exif_and_xmp(tmp_path: Path) -> None:
    placed = XMP.replace(b"dc:title", b'exif:GPSLatitude="48,51N" dc:title')
    for data in (jpeg(placed), jpeg(_34853={1: "N", 2: (48.0, 51.0, 29.0)})):
        photo = Photo.read(data)
        assert photo.located
        photo.without_location().save(tmp_path / "a.png")
        after = Photo.read((tmp_path / "a.png").read_bytes())
        assert not after.located
        assert b"GPS" not in (tmp_path / "a.png").read_bytes()
        assert after.metadata.exif is not None
    assert not Photo.read(jpeg()).located


def test_grey_keeps_a_profile_of_colours_that_is_not_srgb() -> None:
    grey = np.repeat(COLOURS[:, :, :1], 3, axis=2)
    swapped = ICC.replace(b"s\0R\0G\0B", b"m\0i\0n\0e").replace(b"sRGB", b"mine")
    for icc, mode in ((None, "L"), (ICC, "L"), (swapped, "RGB")):
        file = io.BytesIO()
        Image.fromarray(grey).save(file, "PNG", **({} if icc is None else {"icc_profile": icc}))
        photo = Photo.read(file.getvalue())
        assert photo.grey
        assert photo.image().mode == mode
        assert photo.metadata.icc == (swapped if icc == swapped else None)


def test_another_format_replaces_a_result_and_nothing_else(tmp_path: Path) -> None:
    path, mine = tmp_path / "a.png", tmp_path / "a-1.png"
    Photo("x", COLOURS).save(path, text_chunks(RECORD))
    Image.fromarray(COLOURS).save(mine)
    begin_result(tmp_path / "a.jpg")
    assert path.exists()  # no JSON says that it is a result
    path.with_suffix(".json").write_text(json.dumps(RECORD))
    begin_result(tmp_path / "a.jpg")
    assert [p.name for p in tmp_path.iterdir()] == ["a-1.png"]


def test_what_a_format_cannot_hold_is_told() -> None:
    check_writable("a.webp", 16_383, 16_383)
    for name, side, words in (("a.webp", 16_384, "at most 16383 px"), ("a.jpg", 65_501, "65500"), ("a.gif", 9, "webp")):
        with pytest.raises(InputError, match=words):
            check_writable(name, 9, side)
