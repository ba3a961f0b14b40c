"""The page as programs and many visitors at once use it."""

from __future__ import annotations

import re
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from driver import until
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
    from gradio_client.utils import QueueError

    try:
        return client(url, folder).predict(picture=handle_file(path), **SEARCH, api_name="/upscale")[0]
    except (AppError, QueueError) as error:
        return str(error)


def test_twenty_visitors_at_once_are_served_or_told_and_ctrl_c_ends_it(start, tmp_path):
    server = start("--queue", str(LIMIT))
    inputs = [grey_face(tmp_path / f"visitor-{n}.png", 30 + 10 * n) for n in range(20)]
    held = []
    for batch in ("first", "second", "third"):  # the first two reach what a busy server holds
        with ThreadPoolExecutor(20) as pool:
            answers = list(
                pool.map(partial(enlarge, server.url), inputs, [tmp_path / f"{batch}-{n}" for n in range(20)])
            )
        held.append(server.memory)
    served = {n: answer for n, answer in enumerate(answers) if not isinstance(answer, str)}
    told = [answer for answer in answers if isinstance(answer, str)]
    assert len(served) >= LIMIT
    assert all("Queue is full" in words for words in told), told
    for n, files in served.items():
        picture = next(Path(f) for f in files if re.search(r"-large\.png$", str(f)))
        assert picture.name == f"visitor-{n}-large.png"
        assert abs(np.asarray(Image.open(picture)).mean() - (30 + 10 * n)) < 3
    assert held[2] < held[1] + 100, held
    running = ThreadPoolExecutor(1).submit(enlarge, server.url, inputs[0], tmp_path / "last")
    time.sleep(1)
    assert server.stop() < 5
    assert list(server.folder.glob("latentface-web-*")) == []
    running.exception()


def test_programs_are_told_faces_and_errors_in_words(server, group, tmp_path):
    from gradio_client import handle_file
    from gradio_client.exceptions import AppError

    program = client(server.url, tmp_path)
    given = {"picture": handle_file(group)}
    faces = program.predict(**given, api_name="/faces")
    assert [face["number"] for face in faces] == [1, 2, 3]
    short = {**given, "steps": 4, "ending": "jpg", "api_name": "/upscale"}
    files, record = program.predict(**short, faces="2")
    assert Path(files[0]).name == "group-large.jpg"
    with Image.open(files[0]) as picture:
        assert picture.size == (540, 240)
    assert record["settings"]["photo"]["faces"] == [2]
    for wrong, words in (
        ({"faces": "9"}, "no face 9"),
        ({"faces": "x"}, "no number of a face"),
        ({"method": "/etc/passwd.safetensors"}, "not in the list of choices"),
        ({"prior": "/etc/passwd"}, "not in the list of choices"),
        ({"steps": 9999}, "greater than maximum"),
        ({"picture": {"path": "/etc/passwd", "meta": {"_type": "gradio.FileData"}}}, "."),
        ({"picture": None}, "choose a picture"),
    ):
        with pytest.raises(AppError, match=words):
            program.predict(**short | wrong)


def test_the_server_gives_no_file_of_its_own(server):
    import httpx

    for path in ("/etc/passwd", str(server.log), str(server.folder.parent / "log")):
        assert httpx.get(f"{server.url}/gradio_api/file={path}").status_code in (403, 404)


def test_a_visitors_files_are_deleted_in_time_and_examples_stay(start, tmp_path):
    server = start(before="import latentface.web.limits as limits; limits.CLEARED = (1, 8)")
    assert not isinstance(enlarge(server.url, grey_face(tmp_path / "mine.png", 99), tmp_path / "out"), str)

    def left() -> list[str]:
        return [path.name for path in server.folder.rglob("*") if path.name.startswith("mine")]

    assert "mine-large.png" in left()
    until(lambda: not left(), 60)
    assert len(list(server.folder.rglob("files/**/invented-*.png"))) == 3


def test_a_port_in_use_is_told(start, server):
    second = start("--port", server.url.rpartition(":")[2])
    assert second.process.wait(300) == 2
    assert "name another with --host or --port" in second.log.read_text()
    assert list(second.folder.glob("latentface-web-*")) == []
