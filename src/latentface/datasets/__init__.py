"""Where faces come from: folders, zips and the field's data sets, by a path or a name such as `celeba:PATH#test`.

`files` lists and reads picture files, `crop` cuts squares out of them, `faceset` holds what the tables need and opens
a source by its name, `people` knows who is who; the published layouts have a file each.
"""

from latentface.datasets.crop import CROPS, Crop, read_face
from latentface.datasets.faceset import FaceSet, named_sets, open_faces
from latentface.datasets.files import Entry, Pictures, is_picture_name, open_source, open_sources, read_entry

__all__ = [
    "CROPS",
    "Crop",
    "Entry",
    "FaceSet",
    "Pictures",
    "is_picture_name",
    "named_sets",
    "open_faces",
    "open_source",
    "open_sources",
    "read_entry",
    "read_face",
]
