"""`latentface web` before it serves anything: wrong options, and without Gradio."""

from __future__ import annotations

import sys
import tempfile

import pytest


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--port", "0"), "--port is 0; expected a number from 1 to 65535"),
        (("--queue", "0"), "--queue is 0"),
        (("--minutes", "nan"), "--minutes nan"),
    ],
)
def test_wrong_options(call, options, words):
    done = call("web", *options)
    assert done.code == 2
    assert words in done.err


def test_without_gradio_it_says_what_to_install(call, monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "gradio", None)
    monkeypatch.setattr("signal.signal", lambda number, handler: None)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    for name in ("GRADIO_TEMP_DIR", "GRADIO_ANALYTICS_ENABLED", "HF_HUB_OFFLINE"):
        monkeypatch.setenv(name, "")  # as it was, afterwards
    done = call("web")
    assert done.code == 1
    assert "pip install 'latentface[web]'" in done.err
    assert list(tmp_path.iterdir()) == []
