"""The common look and the small parts of the HTML pages that this package writes: one file each, without network."""

import base64
import html
import io
from collections.abc import Iterable

import numpy as np
from PIL import Image

from .class_colors import class_color

STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; color: #1b1b1f; background: #fff }
body { max-width: 68rem; margin: 2rem auto; padding: 0 1rem }
h1 { font-size: 1.6rem; margin-bottom: 0 } h2 { font-size: 1.2rem; margin-top: 2.2rem }
.notice { background: #fff4ce; border-left: .4rem solid #b58900; padding: .6rem 1rem; margin: 1rem 0 }
.warning { background: #fde3d3; border-left: .4rem solid #d55e00; padding: .6rem 1rem; margin: 1rem 0 }
svg { width: 100%; height: auto } table { border-collapse: collapse; width: 100% }
th, td { text-align: left; padding: .3rem .6rem; border-bottom: 1px solid #ddd; vertical-align: top }
td.number, th.number { text-align: right; font-variant-numeric: tabular-nums }
.swatch { display: inline-block; width: .9em; height: .9em; border-radius: .15em; margin-right: .4em; vertical-align: -.1em }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .2rem 1rem } dt { color: #55555c } dd { margin: 0 }
"""


def page(title: str, parts: Iterable[str], style: str = "") -> str:
    """Return a whole page.

    Args:
        title: title of the page, as text.
        parts: HTML of its body.
        style: CSS in addition to `STYLE`.
    """
    body = "\n".join(parts)
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>\n'
        f'<meta name="viewport" content="width=device-width, initial-scale=1"><style>{STYLE}{style}</style></head><body>\n'
        f"{body}\n</body></html>\n"
    )


def escape(value: object) -> str:
    """Return a text so that it stands for itself in HTML and in attributes.

    Example:
        >>> escape("grasper & <hook>")
        'grasper &amp; &lt;hook&gt;'
    """
    return html.escape(str(value), quote=True)


def swatch(number: int) -> str:
    """Return a small square in the color of a class."""
    return f'<span class="swatch" style="background:{class_color(number)}"></span>'


def table(heads: Iterable[str], rows: Iterable[Iterable[str]], numbers: int = 0) -> str:
    """Return a table.

    Args:
        heads: HTML of the heads of the columns.
        rows: HTML of the cells of each row.
        numbers: number of columns at the end that hold numbers, which are aligned at the right.
    """

    def _line(cells: Iterable[str], kind: str) -> str:
        listed = list(cells)
        classes = ["" if number < len(listed) - numbers else ' class="number"' for number in range(len(listed))]
        inner = "".join(f"<{kind}{each}>{cell}</{kind}>" for each, cell in zip(classes, listed, strict=True))
        return f"<tr>{inner}</tr>"

    body = "".join(_line(row, "td") for row in rows)
    return f"<table><thead>{_line(heads, 'th')}</thead><tbody>{body}</tbody></table>"


def image_source(pixels: np.ndarray | Image.Image, width: int, quality: int = 80) -> str:
    """Return an image as the source of an `<img>`, so that the page needs no other file.

    Args:
        pixels: image, (height, width, 3) uint8, or a PIL image.
        width: largest width and height in pixels.
        quality: quality of the JPEG encoding, 1-95.
    """
    image = Image.fromarray(pixels) if isinstance(pixels, np.ndarray) else pixels.convert("RGB")
    image.thumbnail((width, width))
    stream = io.BytesIO()
    image.save(stream, "JPEG", quality=quality)
    return "data:image/jpeg;base64," + base64.b64encode(stream.getvalue()).decode()


def clock(second: float) -> str:
    """Return a time as minutes and seconds, with hours where there are any.

    Example:
        >>> clock(75.2), clock(3675)
        ('1:15', '1:01:15')
    """
    minutes, seconds = divmod(round(second), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{seconds:02d}" if minutes >= 60 else f"{minutes}:{seconds:02d}"
