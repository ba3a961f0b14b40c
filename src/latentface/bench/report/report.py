"""The report: one HTML page without outside assets, out of an output folder's tables, figures and pictures.

It shows people's faces where the folder has them: it belongs in the output folder and nowhere else.
"""

import base64
import html
import json
import re
from collections.abc import Sequence
from pathlib import Path

from markdown_it import MarkdownIt

from latentface.bench.core.progress import OnProgress, Progress, quiet
from latentface.bench.core.variants import POSTER_ORDER, title_of
from latentface.bench.report.plots import all_plots
from latentface.bench.tables.notes import NOTICE
from latentface.bench.tables.tables import TABLES, cell, markdown, read_rows
from latentface.errors import InputError
from latentface.io.atomic import read_bytes, write_text

_TEMPLATE = Path(__file__).with_name("report.html")
_KEPT = re.compile(r"&lt;(/?u|br)&gt;")
_READER = MarkdownIt("commonmark", {"html": False}).enable("table")


def run_report(output: str | Path, *, faces: int = 8, on_progress: OnProgress = quiet) -> Path:
    """Write report.html into an output folder of `bench`; return its path. `faces`: rows of each picture wall.

    Raises InputError: the folder holds no table. MissingExtraError: no matplotlib. OutputError: it cannot be written.
    """
    folder = Path(output).expanduser()
    parts = [section for name in TABLES if (section := table_section(folder, name))]
    if not parts:
        raise InputError(f"{folder}: no table is in it; run `latentface bench table1 ... -o {folder}` first")
    on_progress(Progress("drawing the plots"))
    plots = [
        f'<figure><img alt="{html.escape(title)}" src="{data_uri(svg.encode(), "svg+xml")}"><figcaption>{html.escape(title)}'
        "</figcaption></figure>"
        for title, svg in all_plots(folder)
    ]
    if plots:
        parts.append('<h2>Plots</h2><div class="plots">' + "".join(plots) + "</div>")
    on_progress(Progress("collecting the pictures"))
    walls = [(group, columns) for group in picture_groups(folder) if (columns := wall_columns(group, faces))]
    if walls:
        parts.append(wall_section(walls))
    page = _TEMPLATE.read_text(encoding="utf-8")
    page = page.replace("{{notice}}", html.escape(NOTICE)).replace("{{body}}", "\n".join(parts))
    target = folder / "report.html"
    write_text(target, page)
    return target


def table_section(folder: Path, name: str) -> str:
    """Return one table as HTML: its Markdown where it has one, else its CSV; "" where there is neither."""
    if (folder / f"{name}.md").is_file():
        return to_html((folder / f"{name}.md").read_text(encoding="utf-8"))
    if not (folder / f"{name}.csv").is_file():
        return ""
    head = ["data set", "method", "factor", "metric", "mean", "n"]
    rows = read_rows(folder / f"{name}.csv")
    lines = [[r.dataset, r.method, f"{r.factor}x", r.metric, cell(r.value, r.metric), str(r.value.n)] for r in rows]
    return to_html(f"## {name}\n\n{markdown(head, lines)}")


def to_html(text: str) -> str:
    """Return Markdown as HTML; only <u> and <br> of the tags that stand in it are kept."""
    page = _KEPT.sub(r"<\1>", _READER.render(text))
    return page.replace("<table>", '<div class="wide"><table>').replace("</table>", "</table></div>")


def data_uri(data: bytes, kind: str) -> str:
    """Return bytes as an address that stands in the page itself."""
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"


def picture_groups(folder: Path) -> list[Path]:
    """Return the folders `faces/DATASET/FACTORx`, by data set, then by factor."""

    def rank(path: Path) -> tuple[str, float]:
        text = path.name.removesuffix("x")
        return path.parent.name, float(text) if text.replace(".", "", 1).isdecimal() else 0.0

    return sorted((p for p in folder.glob("faces/*/*") if (p / "low").is_dir()), key=rank)


def wall_columns(group: Path, faces: int) -> dict[str, list[Path]]:
    """Return name -> files of a group's first faces; columns that lack one of them are left out."""
    images = sorted(p.name for p in (group / "low").glob("*.png"))[:faces]

    def rank(name: str) -> tuple[int, str]:
        base = name.partition("+")[0].partition("@")[0]
        order = ("low", *POSTER_ORDER)
        return (len(order) + 1 if name == "truth" else order.index(base) if base in order else len(order)), name

    names = sorted((p.name for p in group.iterdir() if p.is_dir()), key=rank)
    columns = {name: [group / name / image for image in images] for name in names}
    return {name: paths for name, paths in columns.items() if paths and all(p.is_file() for p in paths)}


def wall_section(walls: Sequence[tuple[Path, dict[str, list[Path]]]]) -> str:
    """Return the slider and the wall of every group as HTML; each picture stands in the page once, as data."""
    store: dict[str, dict[str, list[str]]] = {}
    parts = ["<h2>Pictures</h2>", '<div id="slider"></div>']
    for group, columns in walls:
        label = f"{group.parent.name} {group.name}"
        store[label] = {
            title_of(name): [data_uri(read_bytes(path), "png") for path in paths] for name, paths in columns.items()
        }
        head = "".join(f"<th>{html.escape(title)}</th>" for title in store[label])
        count = len(next(iter(columns.values())))
        cells = [
            "<tr>"
            + "".join(
                f'<td><img alt="{html.escape(t)}" data-g="{html.escape(label)}" data-m="{html.escape(t)}" data-i="{i}"></td>'
                for t in store[label]
            )
            + "</tr>"
            for i in range(count)
        ]
        parts.append(f"<h3>{html.escape(label)}</h3>")
        parts.append(f'<div class="wide"><table class="wall"><tr>{head}</tr>{"".join(cells)}</table></div>')
    data = json.dumps(store).replace("</", "<\\/")
    return "\n".join([*parts, f'<script id="pictures" type="application/json">{data}</script>'])
