"""The table of single results, `per_image.csv`: appended to as faces are finished, and safe against being cut off.

A batch's lines are one write at the end of the file. Whatever stands in it incomplete after a crash is dropped when it
is read again, so a face is either done or not.
"""

from __future__ import annotations

import csv
import io
import math
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from latentface.errors import InputError, OutputError
from latentface.io.atomic import write_text

COLUMNS = ("dataset", "method", "factor", "image", "metric", "value")
Key = tuple[str, str, str, str]  # dataset, method, factor, image


def factor_text(factor: float) -> str:
    """Write a factor: 8 for 8.0, 5.333 for 16/3."""
    return f"{factor:.4g}"


def number_text(value: float | None) -> str:
    """Write a figure with 7 digits; nothing for None and what is not finite."""
    return "" if value is None or not math.isfinite(value) else f"{value:.7g}"


def csv_text(rows: Iterable[Iterable[str]]) -> str:
    """Return lines of a CSV, ended by a newline each."""
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="\n").writerows(rows)
    return buffer.getvalue()


class Records:
    """The rows of one file, in memory and on disk.

    Raises:
        InputError: the file is there but is no such table. OutputError: it cannot be written.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._values: dict[Key, dict[str, float | None]] = {}
        if self.path.exists():
            self._read()
        else:
            write_text(self.path, csv_text([COLUMNS]))

    def _read(self) -> None:
        try:
            text = self.path.read_text(encoding="utf-8", errors="replace")
        except OSError as error:
            raise InputError(f"{self.path}: it cannot be read ({error.strerror})") from None
        lines = text.splitlines(keepends=True)
        head = csv_text([COLUMNS])
        if lines and lines[0] != head:
            raise InputError(
                f"{self.path}: its head is {lines[0].strip()!r}, expected {head.strip()!r}; choose another folder with -o"
            )
        good = [head]
        for line in lines[1:]:
            if line.endswith("\n") and self._accept(next(csv.reader([line]), [])):
                good.append(line)
        if good != lines:
            write_text(self.path, "".join(good))

    def _accept(self, row: list[str]) -> bool:
        try:
            dataset, method, factor, image, metric, text = row
            value = float(text) if text else None
        except ValueError:
            return False
        metrics = self._values.setdefault((dataset, method, factor, image), {})
        new = metric not in metrics
        metrics.setdefault(metric, value)
        return new

    def get(self, key: Key) -> Mapping[str, float | None]:
        """Return what is known of one face by one method."""
        return self._values.get(key, {})

    def images(self, dataset: str, method: str, factor: str) -> Iterator[str]:
        """Yield the faces of which something is known, in the order in which they were finished."""
        return (image for d, m, f, image in self._values if (d, m, f) == (dataset, method, factor))

    def groups(self) -> list[tuple[str, str]]:
        """Return every pair of data set and factor, in the order in which they came."""
        return list(dict.fromkeys((d, f) for d, _, f, _ in self._values))

    def methods(self, dataset: str, factor: str) -> list[str]:
        """Return the methods of which something is known on a data set at a factor."""
        return list(dict.fromkeys(m for d, m, f, _ in self._values if (d, f) == (dataset, factor)))

    def add(self, rows: Mapping[Key, Mapping[str, float]]) -> None:
        """Append the figures of some faces that are not known yet, in one write.

        Raises:
            OutputError: the file cannot be written.
        """
        lines = []
        for key, metrics in rows.items():
            known = self._values.setdefault(key, {})
            for metric, value in metrics.items():
                if metric not in known:
                    text = number_text(value)
                    known[metric] = float(text) if text else None
                    lines.append((*key, metric, text))
        if not lines:
            return
        try:
            with open(self.path, "ab", buffering=0) as file:
                file.write(csv_text(lines).encode())
                os.fsync(file)
        except OSError as error:
            raise OutputError(f"{self.path}: it cannot be written ({error.strerror}); free some space") from error

    def rewrite(self, order: Iterable[Key], metrics: Iterable[str]) -> None:
        """Write the whole file anew, faces and metrics in the given order, what is not named behind it."""
        ranks = {name: i for i, name in enumerate(metrics)}
        keys = dict.fromkeys(key for key in order if key in self._values)
        keys.update(dict.fromkeys(self._values))
        rows = [
            (*key, metric, number_text(self._values[key][metric]))
            for key in keys
            for metric in sorted(self._values[key], key=lambda m: (ranks.get(m, len(ranks)), m))
        ]
        write_text(self.path, csv_text([COLUMNS, *rows]))
