"""Where faces come from: folders, zips and the field's data sets, by a path or a name such as `celeba:PATH#test`.

`crop` cuts squares out of them, `faceset` holds what the tables need and opens
a source by its name, `people` knows who is who; the published layouts have a file each.
"""

from latentface.datasets.crop import CROPS, Crop, read_face
from latentface.datasets.faceset import FaceSet, open_faces

__all__ = ["CROPS", "Crop", "FaceSet", "open_faces", "read_face"]
