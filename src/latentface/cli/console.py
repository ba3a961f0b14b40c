"""What every command says while it works: lines and a progress bar on stderr."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn


class Talk:
    """Speaks on stderr unless it is told to be quiet."""

    def __init__(self, quiet: bool = False) -> None:
        self.quiet = quiet
        self.console = Console(stderr=True, highlight=False, soft_wrap=True, emoji=False)

    def say(self, message: str) -> None:
        """Write a line, unless quiet."""
        if not self.quiet:
            self.console.print(message, markup=False)

    def warn(self, message: str) -> None:
        """Write a line even when quiet: something was left out or failed."""
        self.console.print(f"latentface: {' '.join(message.split())}", markup=False)

    @contextmanager
    def progress(self, what: str, total: float, *, counted: bool = True) -> Iterator[Progress]:
        """Show a bar with the time left; task 0 is the only one. Nothing is drawn where stderr is no terminal."""
        columns = [TextColumn("{task.description}"), BarColumn()]
        columns += [MofNCompleteColumn()] if counted else [TextColumn("{task.percentage:>3.0f} %")]
        columns += [TimeElapsedColumn(), TextColumn("left"), TimeRemainingColumn()]
        hidden = self.quiet or not sys.stderr.isatty()
        # What a command prints goes round the bar only where both are on the screen: in a file or pipe it is the result.
        with Progress(*columns, console=self.console, disable=hidden, redirect_stdout=sys.stdout.isatty()) as bar:
            bar.add_task(what, total=total)
            yield bar
