"""Downloads against a server of this machine: resumed, checked, and at their place only when they are whole."""

from __future__ import annotations

import contextlib
import hashlib
import http.server
import threading

import pytest

from latentface.errors import MissingDataError, OutputError, WeightsError
from latentface.io.download import download

DATA = bytes(range(256)) * 40_000  # 10 MB


class Server:
    """A web server of one file, which may cut it off, change it, or refuse parts of it."""

    def __init__(self) -> None:
        self.data, self.cut, self.ranges, self.tag, self.asked = DATA, None, True, '"one"', []
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def log_message(self, *arguments):
                pass

            def do_GET(self):
                outer.answer(self)

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"http://127.0.0.1:{self.server.server_address[1]}/faces.pkl"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def answer(self, request) -> None:
        asked = request.headers.get("Range")
        self.asked.append(asked)
        start = 0
        if self.data is None:
            return request.send_error(404)
        if asked and self.ranges and request.headers.get("If-Range") == self.tag:
            start = int(asked.removeprefix("bytes=").removesuffix("-"))
            request.send_response(206)
            request.send_header("Content-Range", f"bytes {start}-{len(self.data) - 1}/{len(self.data)}")
        else:
            request.send_response(200)
        request.send_header("ETag", self.tag)
        request.send_header("Content-Length", str(len(self.data) - start))
        request.end_headers()
        with contextlib.suppress(ConnectionError):
            request.wfile.write(self.data[start : start + self.cut] if self.cut else self.data[start:])
        return None


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    made = Server()
    yield made
    made.server.shutdown()
    made.server.server_close()


def test_a_whole_file(server, tmp_path):
    told = []
    found = download(server.address, tmp_path / "a" / "faces.pkl", told=lambda done, whole: told.append((done, whole)))
    assert found == hashlib.sha256(DATA).hexdigest()
    assert (tmp_path / "a" / "faces.pkl").read_bytes() == DATA
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["faces.pkl"]
    assert told[-1] == (len(DATA), len(DATA))


def test_it_goes_on_where_it_was_cut_off(server, tmp_path):
    target, server.cut = tmp_path / "faces.pkl", 4_000_000
    with pytest.raises(MissingDataError, match=r"does not answer.*faces\.pkl\.part.*try again") as error:
        download(server.address, target)
    assert server.address in str(error.value)
    assert str(target) in str(error.value)
    assert not target.exists()
    server.cut = None
    download(server.address, target)
    assert server.asked == [None, "bytes=4000000-"]
    assert target.read_bytes() == DATA


@pytest.mark.parametrize("change", ["tag", "ranges", "address"])
def test_it_begins_anew_where_the_file_may_be_another(server, tmp_path, change):
    target, server.cut = tmp_path / "faces.pkl", 1_000_000
    with pytest.raises(MissingDataError):
        download(server.address, target)
    server.cut, server.data, address = None, DATA[::-1], server.address
    if change == "tag":
        server.tag = '"two"'
    elif change == "ranges":
        server.ranges = False
    else:
        address += "?other"
    download(address, target)
    assert target.read_bytes() == DATA[::-1]


def test_another_file_than_the_known_one_is_not_kept(server, tmp_path):
    target = tmp_path / "faces.pkl"
    with pytest.raises(WeightsError) as error:
        download(server.address, target, "0" * 64)
    for words in (server.address, hashlib.sha256(DATA).hexdigest(), "0" * 64, str(target)):
        assert words in str(error.value)
    assert not any(path.name != "faces.pkl.part.json" for path in tmp_path.iterdir())
    assert download(server.address, target, hashlib.sha256(DATA).hexdigest())


def test_no_such_address_and_no_such_folder(server, tmp_path):
    server.data = None
    with pytest.raises(MissingDataError, match="Not Found"):
        download(server.address, tmp_path / "x")
    with pytest.raises(MissingDataError, match="does not answer"):
        download("http://127.0.0.1:9/x", tmp_path / "x")
    (tmp_path / "file").write_text("x")
    with pytest.raises(OutputError):
        download(server.address, tmp_path / "file" / "x")
