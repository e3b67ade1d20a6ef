"""Figures as inline SVG: text stays text in the reader's own font, colours follow the page, nothing points outside."""

from __future__ import annotations

import io
import re
from pathlib import Path
from typing import TYPE_CHECKING, cast

from efface.report.plots import COLOURS

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["inline_svg", "save_svg"]

_FONT = re.compile(r"font(?:-family)?: (?P<size>[\d.]+px )?[^;\"]*sans-serif")
_SIZE = re.compile(r'<svg[^>]*? width="([\d.]+)pt"')


def inline_svg(axes: Axes, *, key: str, label: str) -> str:
    """Return the figure of ``axes`` as one ``<svg>`` element.

    Args:
        axes: Axes in the house style, alone in their figure.
        key: Short name that is unique on the page; prefixes every id.
        label: What a screen reader says; plain text.
    """
    import matplotlib

    buffer = io.StringIO()
    # Metadata would carry the date and a web address, the salt would be random: the same figures give the same bytes.
    nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": key}):
        cast("Figure", axes.figure).savefig(buffer, format="svg", transparent=True, metadata=nothing)
    text = buffer.getvalue()
    text = text[text.index("<svg") :].strip()
    width = float(match.group(1)) if (match := _SIZE.search(text)) else 480.0
    body = text[text.index(">") + 1 :]
    viewbox = re.search(r'viewBox="([^"]*)"', text)
    body = re.sub(r"<metadata>.*?</metadata>", "", body, flags=re.DOTALL)
    body = re.sub(r"<!--.*?-->", "", body, flags=re.DOTALL)
    body = body.replace("xlink:href", "href")
    body = re.sub(r'\bid="', f'id="{key}-', body)
    body = re.sub(r'href="#', f'href="#{key}-', body).replace("url(#", f"url(#{key}-")
    body = _FONT.sub(lambda m: f"font: {m.group('size')}var(--sans)" if m.group("size") else "font-family: var(--sans)", body)
    for name, colour in COLOURS.items():
        body = body.replace(colour, f"var(--{name.replace('_', '-')})")
    body = re.sub(r"\n\s*", "\n", body)
    box = viewbox.group(1) if viewbox else ""
    head = f'<svg class="figure" viewBox="{box}" style="max-width:{width * 96 / 72:.0f}px" role="img"'
    return f'{head} aria-label="{_escape(label)}">{body}'


def _escape(text: str) -> str:
    for old, new in (("&", "&amp;"), ("<", "&lt;"), (">", "&gt;"), ('"', "&quot;")):
        text = text.replace(old, new)
    return text


def save_svg(axes: Axes, path: Path) -> None:
    """Write the figure of ``axes`` as a file of its own; the same figures give the same bytes."""
    import matplotlib

    path.parent.mkdir(parents=True, exist_ok=True)
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": path.stem}):
        cast("Figure", axes.figure).savefig(path, format="svg", facecolor="white", metadata={"Date": None, "Creator": None})
