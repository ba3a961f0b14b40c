"""What a picture file says besides its pixels, and how the file that is made of it says it again.

EXIF (with the turn applied), XMP, the ICC profile, the resolution, and the text of PNG and the comment of JPEG are kept.
This package's own record goes beside them: into the text of a PNG, and into the XMP of a JPEG, WebP or TIFF.
"""

from __future__ import annotations

import html
import io
import re
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Self
from xml.sax.saxutils import escape

from PIL import Image, ImageCms, PngImagePlugin

# EXIF tags that are untrue of an enlarged, turned picture (orientation, sizes, how a TIFF lays out its pixels), and
# those of XMP and of the profile, which are kept by themselves.
UNTRUE = frozenset(
    {
        *(0x0100, 0x0101, 0x0102, 0x0103, 0x0106, 0x010A, 0x0111, 0x0112, 0x0115, 0x0116, 0x0117, 0x0118, 0x0119),
        *(0x011C, 0x0124, 0x0125, 0x013D, 0x0140, 0x0142, 0x0143, 0x0144, 0x0145, 0x014A, 0x0152, 0x0153, 0x0154),
        *(0x0155, 0x015B, 0x0211, 0x0212, 0x0213, 0x0214, 0x02BC, 0x8773),
    }
)
EXIF_IFD, GPS_IFD, PIXEL_SIZE, XMP_TAG = 0x8769, 0x8825, (0xA002, 0xA003), 0x02BC
MOST_EXIF, MOST_XMP = 65_527, 65_000  # bytes that a JPEG holds
_UNTRUE_XMP = rb"(?:tiff:(?:Orientation|ImageWidth|ImageLength)|exif:Pixel[XY]Dimension)"
_PLACE_XMP = re.compile(rb"GPS|Iptc4xmp\w+:Location|photoshop:(?:City|State|Country)")
_NAMESPACE = "urn:latentface:1.0:"
_OURS = re.compile(rf'<rdf:Description rdf:about="" xmlns:latentface="{_NAMESPACE}"[^>]*/>'.encode())
_PACKET = (
    b'<?xpacket begin="\xef\xbb\xbf" id="W5M0MpCehiHzreSzNTczkc9d"?><x:xmpmeta xmlns:x="adobe:ns:meta/">'
    b'<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"></rdf:RDF></x:xmpmeta><?xpacket end="w"?>'
)


@dataclass(frozen=True, slots=True)
class Metadata:
    """What a file says besides its pixels; None, or no text, where it says nothing.

    Attributes:
        exif: without what is untrue of a larger picture; icc: a profile of these channels; dpi: pixels an inch.
        xmp: an XMP packet; text: of a PNG by keyword, of others the "Comment".
    """

    exif: bytes | None = None
    icc: bytes | None = None
    dpi: tuple[float, float] | None = None
    xmp: bytes | None = None
    text: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, picture: Image.Image, *, grey: bool, text: Mapping[str, str]) -> Self:
        """Read it from a turned picture whose pixels will be grey or RGB; `text`: see `text_of`."""
        return cls(_exif(picture), _profile(picture, grey=grey), _dpi(picture.info.get("dpi")), _xmp(picture), text)

    @property
    def located(self) -> bool:
        """Whether EXIF or XMP say where it was taken."""
        in_exif = self.exif is not None and GPS_IFD in loaded_exif(self.exif)
        return in_exif or (self.xmp is not None and _PLACE_XMP.search(self.xmp) is not None)

    def without_location(self) -> Self:
        """Return it without the place where it was taken; an XMP packet that names one is left out."""
        exif, xmp = self.exif, self.xmp
        if exif is not None:
            loaded = loaded_exif(exif)
            loaded.pop(GPS_IFD, None)
            exif = loaded.tobytes() if len(loaded) else None
        return replace(self, exif=exif, xmp=None if xmp is not None and _PLACE_XMP.search(xmp) else xmp)

    def options(self, kind: str, ours: Mapping[str, str]) -> dict[str, Any]:
        """Return what Pillow's `save` takes to write it, and our text, as PNG, JPEG, WEBP or TIFF."""
        made: dict[str, Any] = {"exif": self.exif, "icc_profile": self.icc, "dpi": self.dpi}
        if kind == "PNG":
            made["pnginfo"] = info = PngImagePlugin.PngInfo()
            for key, value in self.text.items():
                info.add_itxt(key, value)
            if self.xmp is not None:
                info.add_itxt("XML:com.adobe.xmp", self.xmp.decode(errors="replace"))
            for key, value in ours.items():  # last: of two texts of one keyword readers show the last
                info.add_itxt(key, value)
        else:
            made["xmp"] = with_ours(self.xmp, ours) if ours else self.xmp
        if kind == "JPEG":
            comments = [said["Comment"] for said in (self.text, ours) if said.get("Comment")]
            made["comment"] = "\n".join(comments).encode(errors="replace")[:65_000]
            made["exif"] = None if self.exif is not None and len(self.exif) > MOST_EXIF else self.exif
        if kind == "TIFF":
            made["exif"] = tags = loaded_exif(self.exif or b"")
            if (xmp := made.pop("xmp")) is not None:
                tags[XMP_TAG] = xmp
        return {key: value for key, value in made.items() if value is not None}


def with_ours(xmp: bytes | None, ours: Mapping[str, str]) -> bytes:
    """Return an XMP packet with our text in it; its longest part is left out where a JPEG could not hold it all."""
    theirs = xmp if xmp is not None and b"</rdf:RDF>" in xmp else _PACKET
    short = {key: value for key, value in ours.items() if key != "latentface"}
    for packet, said in ((theirs, ours), (theirs, short), (_PACKET, short)):
        values = (f'latentface:{key}="{escape(said[key], {chr(34): "&quot;", chr(10): "&#10;"})}"' for key in said)
        own = f'<rdf:Description rdf:about="" xmlns:latentface="{_NAMESPACE}" {" ".join(values)}/>'
        head, _, tail = packet.rpartition(b"</rdf:RDF>")
        made = head + own.encode(errors="replace") + b"</rdf:RDF>" + tail
        if len(made) <= MOST_XMP:
            break
    return made


def ours_in(picture: Image.Image) -> dict[str, str]:
    """Return the text that `Metadata.options` wrote into a picture, or a PNG's texts; empty where there is none."""
    if picture.format == "PNG":
        return {str(k): v for k, v in picture.info.items() if isinstance(v, str)}
    found = _OURS.search(_bytes(picture.info.get("xmp")))
    pairs = re.findall(r'latentface:(\w+)="([^"]*)"', found[0].decode(errors="replace")) if found else []
    return {key: html.unescape(value) for key, value in pairs}


def text_of(picture: Image.Image) -> dict[str, str]:
    """Return a PNG's texts, or another file's comment; without ours, and without profiles disguised as text."""
    texts = getattr(picture, "text", None)
    if isinstance(texts, dict):
        kept = {str(k): str(v) for k, v in texts.items() if not str(k).startswith(("Raw profile type", "XML:com"))}
        if kept.get("Software", "").startswith("latentface "):
            kept = {k: v for k, v in kept.items() if k not in ("Software", "Comment", "latentface")}
        return kept
    comment = picture.info.get("comment")
    if _OURS.search(_bytes(picture.info.get("xmp"))) or not isinstance(comment, bytes | str) or not comment:
        return {}
    return {"Comment": comment.decode(errors="replace") if isinstance(comment, bytes) else comment}


def loaded_exif(exif: bytes) -> Image.Exif:
    """Return EXIF bytes as tags."""
    loaded = Image.Exif()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        loaded.load(exif)
    return loaded


def _exif(picture: Image.Image) -> bytes | None:
    """Return a turned picture's EXIF without what is not true any more; None where there is none, or a broken one."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            exif = picture.getexif()
            for tag in UNTRUE:
                exif.pop(tag, None)
            inner = exif.get_ifd(EXIF_IFD)
            for tag in PIXEL_SIZE:
                inner.pop(tag, None)
            if not inner:
                exif.pop(EXIF_IFD, None)
            return exif.tobytes() if len(exif) else None
    except Exception:  # whatever a broken EXIF makes Pillow raise: the picture matters more
        return None


def _profile(picture: Image.Image, *, grey: bool) -> bytes | None:
    """Return the ICC profile if it is one for these channels; a profile for CMYK would falsify RGB.

    Grey keeps an RGB profile (it is then written as three equal channels) unless that is sRGB, which grey without a
    profile means anyhow.
    """
    icc = picture.info.get("icc_profile")
    if not isinstance(icc, bytes):
        return None
    if not grey:
        return icc if icc[16:20] == b"RGB " else None
    return icc if icc[16:20] == b"GRAY" or (icc[16:20] == b"RGB " and not _is_srgb(icc)) else None


def _is_srgb(icc: bytes) -> bool:
    try:
        return "srgb" in ImageCms.getProfileDescription(ImageCms.ImageCmsProfile(io.BytesIO(icc))).lower()
    except (OSError, ImageCms.PyCMSError):  # a broken one, which says nothing
        return True


def _xmp(picture: Image.Image) -> bytes | None:
    xmp = _OURS.sub(b"", _bytes(picture.info.get("xmp")))
    xmp = re.sub(rb"\s" + _UNTRUE_XMP + rb'="[^"]*"', b"", xmp)
    xmp = re.sub(rb"<(" + _UNTRUE_XMP + rb")>[^<]*</\1>", b"", xmp)
    return xmp if b"</rdf:RDF>" in xmp and xmp.count(b"<rdf:Description") else None


def _bytes(value: object) -> bytes:
    return value.encode(errors="replace") if isinstance(value, str) else value if isinstance(value, bytes) else b""


def _dpi(dpi: object) -> tuple[float, float] | None:
    try:
        x, y = (float(v) for v in dpi)  # type: ignore[attr-defined]
    except (TypeError, ValueError, ZeroDivisionError):
        return None
    return (x, y) if 1 <= x < 1e6 and 1 <= y < 1e6 else None
