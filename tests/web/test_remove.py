"""The visitors' folder goes, though a request that is ending still writes into it."""

from __future__ import annotations

import threading
import time

from latentface.web.serve import _remove


def test_a_folder_that_is_written_to_goes(tmp_path):
    folder = tmp_path / "files"

    def write():
        for number in range(40):
            folder.mkdir(exist_ok=True)
            (folder / f"{number}").write_bytes(b"x")
            time.sleep(0.005)

    def careful():
        while True:
            try:
                return write()
            except FileNotFoundError:  # the folder went in between
                continue

    writer = threading.Thread(target=careful)
    writer.start()
    _remove(folder)
    writer.join()
    assert not folder.exists()
