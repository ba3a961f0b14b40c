"""`latentface upscale --ray`: the same run, its faces computed by the workers of a cluster."""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from latentface.cli.upscaling import EndsRunError, Run, Task
from latentface.cluster.faces import Spread
from latentface.errors import LatentfaceError, OutputError
from latentface.io.inputs import Inputs
from latentface.io.manifest import Listed, Manifest
from latentface.io.result_names import Input
from latentface.restore.upscaler import Found

Key = tuple[Task, Input]


@dataclass(slots=True, kw_only=True)
class SpreadRun(Run):
    """One call of the command on a cluster: results are written as they come, in any order.

    Attributes:
        manifest: the inputs, where it is noted in a file what is done; None: results on the disk tell it.
        unread: inputs that are not read yet.
    """

    spread: Spread[Key]
    manifest: Manifest | None = None
    unread: int = 0

    @property
    def where(self) -> str:
        """On what the faces are computed, in words."""
        return self.spread.workers.words

    def _each(self, inputs: Inputs) -> None:
        self.unread = len(inputs)
        self.manifest = inputs if isinstance(inputs, Manifest) else None
        with self.talk.progress("pictures", len(inputs)) as bar:
            try:
                for (task, item), found, result in self.spread.finish(self._pictures(inputs, bar)):
                    self._end(task, item, found, result)
                    bar.advance(bar.task_ids[0])
            except EndsRunError as error:
                self.fail(*error.args)
                self.tally.untried = self.unread + len(self.spread.open)

    def _pictures(self, inputs: Inputs, bar: Any) -> Iterator[tuple[Key, Found]]:
        """Read inputs one by one; those that are done or failed are told, and not given."""
        for item in inputs:
            self.unread -= 1
            failed = self.tally.failed
            self._read(item, bar)
            waiting, self.waiting = self.waiting, []
            if not waiting and self.tally.failed == failed:  # its result is there
                self._note(item, self._path(item, "", ""))
            for task, found in waiting:
                yield (task, item), found

    def _end(self, task: Task, item: Input, found: Found, result: Any) -> None:
        """Write a result, or tell why there is none. Raises EndsRunError."""
        try:
            if isinstance(result, Exception):
                raise result
            self._write(task, result, found, None)
            self._note(item, task.path)
        except (LatentfaceError, MemoryError, RuntimeError) as error:
            self._failed(task.name, error)

    def _note(self, item: Input, path: Path) -> None:
        if self.manifest is not None and isinstance(item, Listed):
            self.manifest.finish(item.line, path)

    def fail(self, name: str, reason: str) -> None:
        """Tell of an input that could not be done, and note it in the manifest: the next run tries it again."""
        Run.fail(self, name, reason)
        if self.manifest is not None:
            with contextlib.suppress(OutputError):  # of a full disk, which ends the run, nothing can be noted
                self.manifest.note({"input": name, "failed": reason})
