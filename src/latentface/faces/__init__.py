"""Whole photographs: find the faces, square them up, compare in the photograph's own pixels, paste the results back.

Everywhere here a point (x, y) is in **edge coordinates**: the pixel of column i and row j covers [i, i + 1) x [j, j + 1),
its centre is (i + 0.5, j + 0.5), and a picture of w x h pixels covers [0, w] x [0, h]. So enlarging a picture by a factor
multiplies its points by that factor, with no half-pixel shifts.
"""

from latentface.faces.align import crop
from latentface.faces.detect import Face, detect
from latentface.faces.paste import Patch, compose, paste_faces
from latentface.faces.similarity import Similarity
from latentface.faces.warp import Warp

__all__ = ["Face", "Patch", "Similarity", "Warp", "compose", "crop", "detect", "paste_faces"]
