"""The server of the page: at Ctrl-C it is gone, with everything that visitors left."""

import os
import shutil
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

from latentface.errors import InputError, require
from latentface.restore.choices import offered_priors, pictures_to_try
from latentface.web.desk import Desk
from latentface.web.limits import FILE_MB
from latentface.web.shown import CSS

SILENT = {"GRADIO_ANALYTICS_ENABLED": "False", "HF_HUB_OFFLINE": "1"}  # Gradio reads them when it is imported


def serve(
    *,
    prior: str | None = None,
    host: str = "127.0.0.1",
    port: int = 7860,
    device: str = "auto",
    queue: int = 20,
    minutes: float = 30.0,
    examples: Path | None = None,
    offline: bool = False,
    say: Callable[[str], None] = print,
) -> None:
    """Serve the page until KeyboardInterrupt, after which the process should end.

    Raises MissingExtraError: without Gradio. InputError: an address that cannot be used.

    Args:
        prior: a name or a file; the embedded one may be chosen, too. device, offline: see `Upscaler`.
        queue: visitors that may wait. minutes: after which a search ends at its best.
        examples: a folder of pictures to try, see `pictures_to_try`. say: is told the address.
    """
    folder = Path(tempfile.mkdtemp(prefix="latentface-web-"))  # of all visitors' files
    os.environ |= {"GRADIO_TEMP_DIR": str(folder / "files"), **SILENT}
    desk = None
    try:
        gradio = require("gradio", "web", "the page")
        from latentface.web.page import Page

        priors = offered_priors(prior, device, offline=offline, say=say)
        for one in priors.values():
            say(
                f"prior {one.name}: faces of {one.resolution} px, on {one.device}; licence of its weights: {one.licence}"
            )
        desk = Desk(priors, 60 * minutes, folder)
        page = Page(desk, queue, *pictures_to_try(priors, folder / "examples", examples)).blocks
        fonts = {"font": ["system-ui", "sans-serif"], "font_mono": ["ui-monospace", "monospace"]}
        off = dict.fromkeys(("share", "ssr_mode", "pwa", "mcp_server", "run_history", "enable_monitoring"), False)
        try:
            page.launch(
                server_name=host,
                server_port=port,
                quiet=True,
                show_error=True,
                prevent_thread_lock=True,
                max_file_size=f"{FILE_MB}mb",
                footer_links=["api"],
                theme=gradio.themes.Default(**fonts),
                css=CSS,
                **off,
            )
        except OSError as error:
            raise InputError(f"{host}:{port} cannot be used ({error}); name another with --host or --port") from None
        say(f"the page is at http://{host}:{port} (Ctrl-C ends it)")
        threading.Event().wait()
    finally:
        if desk is not None:
            desk.close()
        _remove(folder)


def _remove(folder: Path) -> None:
    """Remove a folder into which a request that is ending may still write: for two seconds at most, until it stays away."""
    absent = 0  # times in a row
    for _ in range(20):
        absent = 0 if folder.exists() else absent + 1
        if absent == 3:
            return
        shutil.rmtree(folder, ignore_errors=True)
        time.sleep(0.1)
