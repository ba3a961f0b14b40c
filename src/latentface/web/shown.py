"""The page's own pieces of HTML: lines of text, and the slider of before and after."""

import base64
import io
from html import escape

from PIL import Image

LIVE = "element.setAttribute('role', 'status'); element.setAttribute('aria-live', 'polite')"  # for screen readers
CSS = """
.lf-notice {border-left: 4px solid #d97706; padding: .5rem .9rem; margin: 0; background: var(--background-fill-secondary)}
.lf-line {margin: 0} .lf-bar {height: .5rem; margin-top: .4rem; border-radius: 1rem; background: var(--border-color-primary)}
.lf-bar div {height: 100%; border-radius: 1rem; background: var(--color-accent)}
.lf-both {position: relative; display: grid; width: fit-content; margin: auto}
.lf-both img {grid-area: 1 / 1; max-width: 100%; height: auto; margin: 0} .lf-after {clip-path: inset(0 0 0 var(--at, 50%))}
.lf-edge {position: absolute; inset: 0 auto 0 calc(var(--at, 50%) - 1px); width: 3px; background: white; box-shadow: 0 0 3px black}
.lf-both span {position: absolute; top: .4rem; padding: 0 .5rem; border-radius: .3rem; background: #000b; color: white}
.lf-range {width: 100%; margin-top: .6rem; accent-color: var(--color-accent)}
"""


def notice(words: str) -> str:
    """Return the notice as it stands on the page."""
    return f'<p class="lf-notice" role="note">{escape(words)}</p>'


def line(words: str, share: float | None = None) -> str:
    """Return a line of what goes on, with a bar for the share that is done."""
    words = words[:1].upper() + words[1:]
    bar = "" if share is None else f'<div class="lf-bar"><div style="width: {100 * share:.1f}%"></div></div>'
    return f'<p class="lf-line">{escape(words)}.</p>{bar}'


def slider(before: Image.Image, after: Image.Image) -> str:
    """Return two pictures of one size, one over the other, with a slider that a mouse, a finger and arrow keys move."""
    move = "this.previousElementSibling.style.setProperty('--at', this.value + '%')"
    return (
        f'<div class="lf-both"><img src="{_inline(before)}" alt="before: the input, plainly enlarged">'
        f'<img class="lf-after" src="{_inline(after)}" alt="after: the result"><div class="lf-edge"></div>'
        '<span style="left: .4rem">before</span><span style="right: .4rem">after</span></div>'
        f'<input type="range" class="lf-range" value="50" oninput="{move}" aria-label="how much of the input is shown, in percent">'
    )


def _inline(picture: Image.Image) -> str:
    memory = io.BytesIO()
    picture.save(memory, "JPEG", quality=90)
    return f"data:image/jpeg;base64,{base64.b64encode(memory.getvalue()).decode()}"
