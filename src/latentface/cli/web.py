"""`latentface web`: the page in the browser."""

import os
import signal
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from latentface.cli.console import Talk
from latentface.errors import InputError


def web(
    *,
    host: str = "127.0.0.1",
    port: int = 7860,
    prior: Annotated[str | None, Parameter(name=["--prior", "-p"])] = None,
    device: str = "auto",
    queue: int = 20,
    minutes: float = 30.0,
    examples: Path | None = None,
    offline: Annotated[bool, Parameter(negative="", show_default=False)] = False,
) -> int:
    """Serve a page for the browser: a photograph in, its faces to choose from, the search to watch, the result out.

    It listens on this machine alone unless --host says otherwise (0.0.0.0: every address). Nothing leaves the machine, and
    what visitors give is deleted within the hour.

    Parameters
    ----------
    host
        The address that it listens on.
    port
        Its port, from 1 to 65535.
    prior
        As of `latentface upscale`; visitors may choose celeba128, too.
    device
        auto, cpu, cuda, cuda:1, mps.
    queue
        How many visitors may wait; others are told that the queue is full.
    minutes
        After which a search ends at its best so far.
    examples
        A folder of pictures to try; the text of its CITATION.txt is shown below them.
    offline
        Fetch nothing; the environment variable LATENTFACE_OFFLINE=1 says the same.
    """
    if not 1 <= port <= 65535:
        raise InputError(f"--port is {port}; expected a number from 1 to 65535")
    if queue < 1 or not minutes > 0:
        raise InputError(f"--queue is {queue} and --minutes {minutes:g}; expected at least 1, and more than 0")
    from latentface.web.serve import serve

    talk = Talk()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # how a container is stopped
    try:
        serve(
            prior=prior,
            host=host,
            port=port,
            device=device,
            queue=queue,
            minutes=minutes,
            examples=examples,
            offline=offline,
            say=talk.say,
        )
    except KeyboardInterrupt:
        talk.say("the page has ended, and the visitors' files are deleted")
        os._exit(130)  # at once: the server's threads would wait for connections and searches
    return 0
