"""The page as programs and many visitors at once use it."""

from __future__ import annotations

import re
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("default")]
SEARCH = {"kind": "aligned", "prior": "celeba128", "method": "rlse", "factor": 0, "steps": 4, "seed": 0}
LIMIT = 8


def client(url: str, folder: Path):
    from gradio_client import Client

    return Client(url, verbose=False, download_files=str(folder))


def grey_face(path: Path, grey: int) -> Path:
    """Write an aligned face that is known by its grey."""
    ramp = np.linspace(grey - 4, grey + 4, 16).astype(np.uint8)
    Image.fromarray(np.broadcast_to(ramp[:, None, None], (16, 16, 3)).copy()).save(path)
    return path


def enlarge(url: str, path: Path, folder: Path) -> list[str] | str:
    """Return a visitor's files, or in words why there are none."""
    from gradio_client import handle_file
    from gradio_client.exceptions import AppError

    try:
        more = {"samples": 1, "strength": 1, "ending": "png", "faces": ""}
        return client(url, folder).predict(handle_file(path), *SEARCH.values(), *more.values(), api_name="/upscale")[0]
    except (AppError, ValueError) as error:
        return str(error)


def test_twenty_visitors_at_once_are_served_or_told_and_ctrl_c_ends_it(start, tmp_path):
    server = start("--queue", str(LIMIT))
    inputs = [grey_face(tmp_path / f"visitor-{n}.png", 30 + 10 * n) for n in range(20)]
    enlarge(server.url, inputs[0], tmp_path / "first")
    before = server.memory
    with ThreadPoolExecutor(20) as pool:
        answers = list(pool.map(lambda n: enlarge(server.url, inputs[n], tmp_path / f"of-{n}"), range(20)))
    served = {n: answer for n, answer in enumerate(answers) if not isinstance(answer, str)}
    told = [answer for answer in answers if isinstance(answer, str)]
    assert len(served) >= LIMIT
    assert all("Queue is full" in words for words in told), told
    for n, files in served.items():
        picture = next(Path(f) for f in files if re.search(r"-large\.png$", str(f)))
        assert picture.name == f"visitor-{n}-large.png"
        assert abs(np.asarray(Image.open(picture)).mean() - (30 + 10 * n)) < 3
    time.sleep(2)
    assert server.memory < before + 150
    running = ThreadPoolExecutor(1).submit(enlarge, server.url, inputs[0], tmp_path / "last")
    time.sleep(1)
    assert server.stop() < 5
    assert list(server.folder.glob("latentface-web-*")) == []
    running.exception()


def test_programs_are_told_faces_and_errors_in_words(server, group, tmp_path):
    from gradio_client import handle_file
    from gradio_client.exceptions import AppError

    program = client(server.url, tmp_path)
    faces = program.predict(handle_file(group), "auto", "celeba128", api_name="/faces")
    assert [face["number"] for face in faces] == [1, 2, 3]
    more = ["rlse", 2, 4, 0, 1, 1, "jpg"]
    files, record = program.predict(handle_file(group), "auto", "celeba128", *more, "2", api_name="/upscale")
    assert Path(files[0]).name == "group-large.jpg"
    assert Image.open(files[0]).size == (540, 240)
    assert record["settings"]["photo"]["faces"] == [2]
    for wrong, words in (("9", "no face 9"), ("x", "no number of a face")):
        with pytest.raises(AppError, match=words):
            program.predict(handle_file(group), "auto", "celeba128", *more, wrong, api_name="/upscale")
    with pytest.raises(AppError, match="not in the list of choices"):  # a file of the server's
        wanted = ["/etc/passwd.safetensors", *more[1:]]
        program.predict(handle_file(group), "auto", "celeba128", *wanted, "", api_name="/upscale")
    with pytest.raises(AppError, match="greater than the maximum"):
        program.predict(handle_file(group), "auto", "celeba128", *["rlse", 2, 9999, *more[3:]], "", api_name="/upscale")


def test_the_server_gives_no_file_of_its_own(server):
    import httpx

    for path in ("/etc/passwd", str(server.log), str(server.folder.parent / "log")):
        assert httpx.get(f"{server.url}/gradio_api/file={path}").status_code in (403, 404)
