"""Data sets: folders, zips, the published layouts, crops, who is who."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from latentface.bench.core.sets import gallery_of
from latentface.datasets import CROPS, open_faces, read_face
from latentface.errors import InputError, MissingDataError, PictureError, UnknownNameError
from latentface.io.sources import open_source, open_sources, read_entry

SHARED = Path(__file__).resolve().parents[1].parent / "shared"


def picture(path: Path, size: tuple[int, int] = (178, 218), seed: int = 0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(seed).integers(0, 255, (6, 5, 3), dtype=np.uint8)
    Image.fromarray(noise).resize(size).save(path)


@pytest.fixture
def celeba(tmp_path: Path) -> Path:
    for i in range(1, 7):
        picture(tmp_path / "img_align_celeba" / f"{i:06d}.png", seed=i)
    (tmp_path / "list_eval_partition.txt").write_text("".join(f"{i:06d}.jpg {(i - 1) // 2}\n" for i in range(1, 7)))
    (tmp_path / "identity_CelebA.txt").write_text("".join(f"{i:06d}.jpg {100 + i // 2}\n" for i in range(1, 7)))
    return tmp_path


def test_plain_folders_zips_and_files(tmp_path: Path) -> None:
    picture(tmp_path / "in" / "b.png")
    picture(tmp_path / "in" / "sub" / "a.png", seed=1)
    (tmp_path / "in" / "notes.txt").write_text("no picture")
    with zipfile.ZipFile(tmp_path / "test.zip", "w") as archive:
        archive.write(tmp_path / "in" / "b.png", "000001.png")
        archive.writestr("__MACOSX/._000001.png", b"x")
    (tmp_path / "identities.csv").write_text("image,person,partition\n000001,7,test\n000002,8,val\n")
    assert [e.name for e in open_source(tmp_path / "in")] == ["b.png", "sub/a.png"]
    zipped = open_faces(tmp_path / "test.zip")
    assert (zipped.name, len(zipped), zipped.partition, zipped.person) == ("test", 1, "test", {"000001": "7"})
    entry = zipped.pictures.entries[0]
    assert read_entry(entry) == (tmp_path / "in" / "b.png").read_bytes()
    assert tuple(read_face(entry, 16).shape) == (3, 16, 16)
    assert len(open_sources([tmp_path / "in", tmp_path / "test.zip"])) == 3
    assert len(open_faces(tmp_path / "in" / "b.png")) == 1
    with pytest.raises(InputError, match="expected a folder, a zip or a picture"):
        open_faces(tmp_path / "identities.csv")
    with pytest.raises(MissingDataError, match="no such file"):
        open_faces(tmp_path / "nowhere")


def test_a_zip_whose_names_say_who_is_who(tmp_path: Path) -> None:
    picture(tmp_path / "a.png", (32, 32))
    for name, kinds in (("london-test", ["neutral"]), ("london-test-more", ["smiling"])):
        with zipfile.ZipFile(tmp_path / f"{name}.zip", "w") as archive:
            for kind in kinds:
                for i in (2, 4):
                    archive.write(tmp_path / "a.png", f"london-{i:03d}-{kind}.png")
            archive.write(tmp_path / "a.png", f"{name}-neutral-or-not.png")
    faces, more = (open_faces(str(tmp_path / f"{name}.zip")) for name in ("london-test", "london-test-more"))
    assert faces.person == {"london-002-neutral": "london-002", "london-004-neutral": "london-004"}
    assert (faces.name, faces.partition, len(faces)) == ("london-test", "test", 3)
    assert {k: entry.stem for k, (_, entry) in gallery_of(faces, more).items()} == {
        "london-002-neutral": "london-002-smiling",
        "london-004-neutral": "london-004-smiling",
    }
    (tmp_path / "identities.csv").write_text("image,person\nlondon-002-neutral,9\n")
    assert open_faces(tmp_path / "london-test.zip").person["london-002-neutral"] == "9"  # a file knows better


@pytest.mark.parametrize(("name", "people"), [("london-val", 26), ("london-test", 52), ("wild-test", 0)])
def test_faces_of_512_px(name: str, people: int) -> None:
    path = SHARED / "data" / "faces512" / f"{name}.zip"
    if not path.is_file():
        pytest.skip("the faces of 512 px are not at hand")
    faces = open_faces(path)
    assert (len(set(faces.person.values())), faces.partition) == (people, name.partition("-")[2])
    assert tuple(faces.read(faces.pictures.entries[0], 512).shape) == (3, 512, 512)
    more = path.with_name(f"{name}-more.zip")
    assert len(gallery_of(faces, open_faces(more) if more.is_file() else None)) == people


def test_celebas_official_folder(celeba: Path) -> None:
    faces = open_faces(f"celeba:{celeba}#test")
    assert [e.stem for e in faces] == ["000005", "000006"]
    assert (faces.name, faces.partition, faces.crop.name) == ("celeba-test", "test", "ffhq")
    assert faces.person_of(faces.pictures.entries[0]) == "102"
    assert [e.stem for e in open_faces(f"celeba:{celeba}#val,square178")] == ["000003", "000004"]
    with pytest.raises(UnknownNameError, match="part of celeba"):
        open_faces(f"celeba:{celeba}#tset")
    with pytest.raises(UnknownNameError, match="crop"):
        open_faces(f"celeba:{celeba}#test,oval")
    with pytest.raises(UnknownNameError, match="data set 'celebb'; did you mean 'celeba'"):
        open_faces(f"celebb:{celeba}")
    (celeba / "list_eval_partition.txt").unlink()
    with pytest.raises(MissingDataError, match=r"list_eval_partition.txt.*holds.*mmlab"):
        open_faces(f"celeba:{celeba}#test")


def test_celeba_in_a_zip(celeba: Path) -> None:
    with zipfile.ZipFile(celeba / "img_align_celeba.zip", "w") as archive:
        for path in sorted((celeba / "img_align_celeba").iterdir()):
            archive.write(path, f"img_align_celeba/{path.name}")
            path.unlink()
    (celeba / "img_align_celeba").rmdir()
    faces = open_faces(f"celeba:{celeba}#train")
    assert [e.stem for e in faces] == ["000001", "000002"]
    assert tuple(faces.read(faces.pictures.entries[0], 32).shape) == (3, 32, 32)


def test_crops_are_the_named_boxes(tmp_path: Path) -> None:
    picture(tmp_path / "a.png")
    entry = open_source(tmp_path / "a.png").entries[0]
    whole = Image.open(tmp_path / "a.png").convert("RGB")
    wanted = whole.resize((128, 128), Image.Resampling.LANCZOS, box=(12.5, 39.5, 164.5, 191.5))
    found = read_face(entry, 128, CROPS["ffhq"]).permute(1, 2, 0).numpy() * 255
    assert np.abs(found - np.asarray(wanted)).max() < 0.01
    small = read_face(entry, 64, CROPS["ffhq"]).permute(1, 2, 0).numpy() * 255
    assert np.abs(small - np.asarray(wanted.resize((64, 64), Image.Resampling.BICUBIC))).max() < 0.01
    square = read_face(entry, 178, CROPS["square178"]).permute(1, 2, 0).numpy() * 255
    assert np.abs(square - np.asarray(whole)[20:198]).max() < 0.01
    centre = read_face(entry, 148, CROPS["center148"]).permute(1, 2, 0).numpy() * 255
    assert np.abs(centre - np.asarray(whole)[35:183, 15:163]).max() < 0.01
    picture(tmp_path / "b.png", (128, 128))
    with pytest.raises(PictureError, match=r"128 x 128 px.*178 x 218"):
        read_face(open_source(tmp_path / "b.png").entries[0], 64, CROPS["ffhq"])


def test_celebahq_and_ffhq(tmp_path: Path) -> None:
    hq = tmp_path / "hq"
    for i in range(3):
        picture(hq / "CelebA-HQ-img" / f"{i}.png", (32, 32), i)
    (hq / "CelebA-HQ-to-CelebA-mapping.txt").write_text(
        "idx orig_idx orig_file\n0 119612 119613.jpg\n1 162770 162771.jpg\n2 182637 182638.jpg\n"
    )
    assert [e.stem for e in open_faces(f"celebahq:{hq}#test")] == ["2"]
    assert [e.stem for e in open_faces(f"celeba-hq:{hq}#val")] == ["1"]
    assert len(open_faces(f"celebahq:{hq}")) == 3
    ffhq = tmp_path / "ffhq"
    for name in ("00000/00001.png", "69000/69001.png"):
        picture(ffhq / "images1024x1024" / name, (32, 32))
    assert [e.stem for e in open_faces(f"ffhq:{ffhq}#val")] == ["69001"]
    with pytest.raises(MissingDataError, match=r"thumbnails128x128.*NVlabs"):
        open_faces(f"ffhq:{ffhq}#thumbnails")


def test_tinyfaces_official_folder(tmp_path: Path) -> None:
    from scipy.io import savemat

    root = tmp_path / "tinyface"
    for name in ("Testing_Set/Probe/12_2.png", "Testing_Set/Gallery_Match/12_1.png", "Training_Set/5/5_1.png"):
        picture(root / name, (20, 24))
    names = np.array([["12_2.png"]], dtype=object)
    savemat(root / "Testing_Set" / "probe_img_ID_pairs.mat", {"probe_set": names, "probe_ids": np.array([[12]])})
    probe = open_faces(f"tinyface:{tmp_path}")
    assert (probe.name, len(probe), dict(probe.person)) == ("tinyface-probe", 1, {"12_2": "12"})
    assert len(open_faces(f"tinyface:{root}#test")) == 2
    assert dict(open_faces(f"tinyface:{root}#train").person) == {"5_1": "5"}
    with pytest.raises(MissingDataError, match=r"Gallery_Distractor.*qmul-tinyface"):
        open_faces(f"tinyface:{root}#distractor")


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_archives_that_may_unpack_without_bound_are_not_read(tmp_path: Path, method: int) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w", method) as archive:
        archive.writestr("a.png", bytes(1000))
    with pytest.raises(PictureError, match="stored and deflated"):
        read_entry(open_source(tmp_path / "a.zip").entries[0])


def test_an_index_that_lies_about_a_size_is_not_believed(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.png", bytes(5000))
    entry = open_source(tmp_path / "a.zip").entries[0]
    assert len(read_entry(entry, 5000)) == 5000
    with pytest.raises(PictureError, match="unpacks to more"):
        read_entry(entry, 4999)
    lying = (tmp_path / "a.zip").read_bytes().replace((5000).to_bytes(4, "little"), (100).to_bytes(4, "little"))
    (tmp_path / "b.zip").write_bytes(lying)
    with pytest.raises(PictureError):
        read_entry(open_source(tmp_path / "b.zip").entries[0], 4999)


def test_several_sets_are_one(tmp_path: Path) -> None:
    for folder, names in (("a-test", ("1_x", "2_y")), ("b", ("3_x",)), ("c", ("3_x",))):
        for name in names:
            (tmp_path / folder).mkdir(exist_ok=True)
            Image.new("RGB", (20, 20)).save(tmp_path / folder / f"{name}.png")
    found = open_faces(f"{tmp_path}/a-test+{tmp_path}/b")
    assert (found.name, [e.stem for e in found], found.partition) == ("a-test+b", ["1_x", "3_x", "2_y"], "test")
    assert found.read(list(found)[2], 8).shape == (3, 8, 8)
    with pytest.raises(InputError, match="have the same name"):
        open_faces(f"{tmp_path}/b+{tmp_path}/c")
    with pytest.raises(MissingDataError, match="none"):
        open_faces(f"{tmp_path}/b+{tmp_path}/none")
    (tmp_path / "d+e").mkdir()  # a plus in a name is a plus
    Image.new("RGB", (20, 20)).save(tmp_path / "d+e" / "1.png")
    assert open_faces(tmp_path / "d+e").name == "d+e"
