"""The Markdown that this package's tables are written in, as HTML: heads, tables, lists, bold, italics, code."""

from __future__ import annotations

import html
import re

_KEPT = re.compile(r"&lt;(/?u|br)&gt;")


def inline(text: str) -> str:
    """Return one piece of text as HTML; only <u> and <br> of what stands in it are kept as tags."""
    text = _KEPT.sub(r"<\1>", html.escape(text, quote=False))
    text = re.sub(r"`([^`]+)`", r"<code>\1</code>", text)
    text = re.sub(r"\*\*([^*]+)\*\*", r"<b>\1</b>", text)
    return re.sub(r"(?<![*\w])\*([^*]+)\*(?![*\w])", r"<i>\1</i>", text)


def to_html(text: str) -> str:
    """Return Markdown as HTML, block by block (blocks are set apart by empty lines)."""
    out = []
    for block in re.split(r"\n\s*\n", text.strip()):
        lines = block.splitlines()
        if head := re.match(r"(#{1,4}) (.*)", lines[0]):
            out.append(f"<h{len(head[1])}>{inline(head[2])}</h{len(head[1])}>")
        elif lines[0].startswith("|"):
            out.append(_table(lines))
        elif lines[0].startswith("- "):
            out.append("<ul>" + "".join(f"<li>{inline(line[2:])}</li>" for line in lines) + "</ul>")
        else:
            out.append(f"<p>{inline(' '.join(lines))}</p>")
    return "\n".join(out)


def _table(lines: list[str]) -> str:
    rows = [[inline(cell.strip()) for cell in line.strip().strip("|").split("|")] for line in lines]
    head = "".join(f"<th>{c}</th>" for c in rows[0])
    body = "".join("<tr>" + "".join(f"<td>{c}</td>" for c in row) + "</tr>" for row in rows[2:])
    return f'<div class="wide"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'
