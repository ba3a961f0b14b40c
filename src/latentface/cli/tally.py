"""What a run has done, and how its last line says so."""

import math
from collections import Counter
from dataclasses import dataclass, field

from latentface.io.inputs import NAMED
from latentface.restore.photoresult import PhotoUpscaled
from latentface.restore.upscaler import Result
from latentface.restore.verdict import REASONS
from latentface.words import counted, duration


@dataclass(slots=True)
class Tally:
    """What became of the inputs and their faces."""

    done: int = 0
    skipped: int = 0
    failed: int = 0
    worst: float = math.inf  # dB
    soft: list[int] = field(default_factory=list)  # px of detail of the faces that were soft
    located: int = 0
    flattened: int = 0
    found: int = 0  # faces of photographs
    upscaled: int = 0  # of them
    left: Counter[str] = field(default_factory=Counter)  # faces that were left, by reason
    wants: int = 0  # px of the prior that would enlarge those that are too large
    plain: int = 0  # photographs without a face
    unimproved: int = 0  # pictures in which nothing was enlarged by a network
    aligned: int = 0
    mosaics: list[tuple[int, int, float]] = field(default_factory=list)  # W, H in true pixels, and how often each stood
    turned: Counter[int] = field(default_factory=Counter)  # photographs whose faces do not stand upright, by degrees
    untried: int = 0  # because nothing can be written any more
    partly: list[str] = field(default_factory=list)  # files of several frames of which the first was done, with numbers

    def add(self, result: Result) -> None:
        """Count a result."""
        self.done += 1
        kept = isinstance(result, PhotoUpscaled) or result.reason is None
        if kept and result.consistency_db is not None:
            self.worst = min(self.worst, result.consistency_db)
        if "repeats" in result.record:
            height, width = result.record["low_size"]
            self.mosaics.append((width, height, result.record["repeats"]))
        if not isinstance(result, PhotoUpscaled):
            self.aligned += 1
            self.left.update([result.reason] if result.reason else [])
            self.unimproved += not kept
            self.soft += [result.seen.shape[-1]] if kept and result.seen.shape != result.low.shape else []
            return
        self.found += len(result.faces) + len(result.left)
        self.upscaled += len(result.faces)
        self.soft += [round(face.detail) for face in result.faces if face.soft]
        self.left.update(face.reason for face in result.left)
        self.wants = max(self.wants, *(face.wants or 0 for face in result.left), 0)
        self.plain += not result.faces and not result.left
        self.unimproved += not result.faces and result.background is None
        self.turned.update([result.record["turned"]] if "turned" in result.record else [])

    def words(self, seconds: float) -> list[str]:
        """Say what was done."""
        parts = [f"{self.done} done in {duration(seconds)}"] if self.done else []
        parts += [f"{self.skipped} already there"] if self.skipped else []
        parts += [f"{self.failed} failed"] if self.failed else []
        parts += [f"{self.untried} not tried"] if self.untried else []
        if self.partly:
            more = ", ..." if len(self.partly) > NAMED else ""
            named = ", ".join(self.partly[:NAMED])
            parts.append(
                f"{counted(len(self.partly), 'file')} of several frames or pages ({named}{more}); --all-frames does each"
            )
        if self.aligned:
            parts.append(f"{self.aligned} taken for {'an aligned face' if self.aligned == 1 else 'aligned faces'}")
        if len(self.mosaics) == 1:
            width, height, repeats = self.mosaics[0]
            parts.append(f"taken as {width} x {height} px: every pixel is repeated {repeats:g} times")
        elif self.mosaics:
            parts.append(f"{len(self.mosaics)} taken as smaller: every pixel of theirs is repeated")
        if self.found:
            parts.append(f"{counted(self.found, 'face')} found in photographs: {self.upscaled} upscaled")
        parts += [f"{n} left as {'it is' if n == 1 else 'they are'} ({reason})" for reason, n in self.left.items()]
        if any(reason in REASONS for reason in self.left):
            parts.append("--keep-all keeps what is no face, too")
        if self.wants:
            parts.append(f"a prior of {self.wants} px, given with -p, would enlarge the large ones too")
        for degrees, n in sorted(self.turned.items()):
            parts.append(
                f"{counted(n, 'photograph')} turned {degrees} degrees clockwise to find the faces, and left as given"
            )
        if self.plain:
            where = "" if self.plain == self.done == 1 else f" in {counted(self.plain, 'photograph')}"
            parts.append(f"no face was found{where}")
        if self.unimproved:
            where = "" if self.unimproved == self.done else f" in {self.unimproved} of the {self.done}"
            parts.append(f"nothing was improved{where}")
        if self.worst < math.inf:
            target = "its input, or a soft one's detail," if self.soft else "its input"
            parts.append(f"each shrinks back to {target} to within {self.worst:.1f} dB or better")
        if self.soft:
            low, high = min(self.soft), max(self.soft)
            sizes = f"{low} px" if low == high else f"{low} to {high} px"
            were = "were" if len(self.soft) > 1 else "was"
            parts.append(
                f"{len(self.soft)} {were} soft and taken as of {sizes} (--detail full takes faces as they are)"
            )
        if self.flattened:
            parts.append(
                f"what is transparent was laid on white in {counted(self.flattened, 'JPEG')}, which has no alpha"
            )
        if self.located:
            parts.append(
                "results say where the photograph was taken, as the input does (--strip-location leaves it out)"
            )
        return parts
