"""The Markdown that this package's tables are written in, as HTML."""

from __future__ import annotations

import re

from markdown_it import MarkdownIt

_KEPT = re.compile(r"&lt;(/?u|br)&gt;")
_READER = MarkdownIt("commonmark", {"html": False}).enable("table")


def to_html(text: str) -> str:
    """Return Markdown as HTML; only <u> and <br> of the tags that stand in it are kept."""
    page = _KEPT.sub(r"<\1>", _READER.render(text))
    return page.replace("<table>", '<div class="wide"><table>').replace("</table>", "</table></div>")
