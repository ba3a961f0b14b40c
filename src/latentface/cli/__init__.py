"""The command line. Results go to stdout, everything else to stderr; errors are one line, never a traceback.

Commands live in modules that are imported when they are called, so that `latentface --help` is fast.
"""

import io
import os
import sys
from collections.abc import Sequence

from cyclopts import App, CycloptsError

from latentface import __version__
from latentface.errors import InputError, LatentfaceError, UnknownNameError
from latentface.io import PIPE

app = App(
    name="latentface",
    version=__version__,
    help="Turn a tiny face into a large one by exploring the latent space of a pretrained GAN.",
    help_epilogue="A result is one plausible face among many. It is not evidence of who a person is and must not be used to identify anyone.",
    suppress_keyboard_interrupt=False,
)
app.command("latentface.cli.upscale:upscale")
app.command("latentface.cli.degrade:degrade")
app.command("latentface.cli.train:app", name="train")
app.command("latentface.cli.models:app", name="models")
app.command("latentface.cli.lists:methods")
app.command("latentface.cli.evaluate:evaluate")
app.command("latentface.cli.evaluate:metrics")
app.command("latentface.cli.bench:app", name="bench")
app.command("latentface.cli.web:web")
app.command("latentface.cli.doctor:doctor")


def run(arguments: Sequence[str]) -> int:
    """Run one command line and return its exit code: 0 done, 1 failed, 2 misused, 130 stopped by Ctrl-C."""
    try:
        if not set(arguments) - {"--help", "-h"}:
            for name in app:
                _ = app[name]  # imports it: the list of commands says a line of each
        words = [PIPE if word == "-" else word for word in arguments]
        code = app(words, exit_on_error=False, print_error=False, result_action="return_value")
    except CycloptsError as error:
        print(f"latentface: {_plain(error)} (see: latentface --help)", file=sys.stderr)
        return 2
    except (UnknownNameError, InputError) as error:
        print(f"latentface: {error}", file=sys.stderr)
        return 2
    except LatentfaceError as error:
        print(f"latentface: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt as stop:
        before = {"train": "the first step; what is on the disk is as it was", "upscale": "anything was written"}
        told = "stopped; what is written is whole, and the same command goes on from there"
        if arguments and arguments[0] in before:  # what has begun says itself where it stopped
            told = str(stop) or f"stopped before {before[arguments[0]]}"
        print(f"latentface: {told}", file=sys.stderr)
        return 130
    except BrokenPipeError:
        # The reader of stdout has gone (`| head`): nothing to say, and no second error when Python flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except (MemoryError, RuntimeError) as error:
        from latentface.devices import out_of_memory  # loads PyTorch, as whatever raised this has

        if not out_of_memory(error):
            raise
        print("latentface: there is not enough memory; use smaller pictures or a smaller --batch-size", file=sys.stderr)
        return 1
    return code if isinstance(code, int) else 0


def _plain(error: CycloptsError) -> str:
    return " ".join(str(error).split())


def wait_passively() -> None:
    """Let PyTorch's threads sleep while they wait for each other; without effect once PyTorch is imported.

    A thread that waits by spinning takes a core from whatever else runs: beside one other process on two cores a search
    took three times as long. Before they sleep they spin for some 50 us, since most waits are shorter
    (docs/performance.md). What the environment says of it stays.
    """
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ["OMP_WAIT_POLICY"] = "PASSIVE"
        os.environ.setdefault("GOMP_SPINCOUNT", "1000")


def main() -> None:
    """The console script."""
    wait_passively()
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="surrogateescape")  # a file's name may be no Unicode; print it as it is
    sys.exit(run(sys.argv[1:]))
