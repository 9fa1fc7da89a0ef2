"""Images with their captions, one by one and as one sheet."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

FONT = Path(__file__).parent / "fonts" / "NotoSansCJKsc-Subset.otf"

PAPER, INK, FAINT, EDGE = "#faf9f6", "#1d1d1f", "#76767c", "#dcdad4"
SCALE = 2
"""How much larger the images are shown."""
MARGIN, GAP, PADDING = 72, 44, 16
"""Pixels: around the sheet, between images, between an image and its caption."""
CAPTION, NOTE, ROW, HEADING = 19, 15, 27, 44
"""Font sizes."""
LINE = 1.35
"""Height of a line over its font size."""


@dataclass(frozen=True)
class Captioned:
    """An image and what is said of it."""

    image: Image.Image
    caption: str
    notes: tuple[str, ...] = ()
    """Fainter lines under the caption."""


@dataclass(frozen=True)
class Row:
    """Images that stand beside each other, under a title of their own."""

    title: str
    cells: tuple[Captioned, ...]


def draw_one(captioned: Captioned) -> Image.Image:
    """The image, enlarged, over its caption."""
    width = captioned.image.width * SCALE
    text = _lines(captioned, width)
    height = captioned.image.height * SCALE + PADDING + _height(text)
    sheet = Image.new("RGB", (width + 2 * GAP, height + 2 * GAP), PAPER)
    _place(sheet, captioned, GAP, GAP)
    return sheet


def draw_sheet(rows: Sequence[Row], title: str, subtitle: str) -> Image.Image:
    """A titled sheet of rows.

    Args:
        rows: one at least; an empty title takes no room.
        title: in large letters.
        subtitle: wrapped to the sheet's width.
    """
    inner = max(_row_width(row) for row in rows)
    about = _wrap(subtitle, _font(CAPTION), inner)
    top = MARGIN + round(HEADING * LINE) + round(len(about) * CAPTION * LINE) + GAP
    height = top + sum(_row_height(row) for row in rows) + (len(rows) - 1) * GAP + MARGIN
    sheet = Image.new("RGB", (inner + 2 * MARGIN, height), PAPER)
    pen = ImageDraw.Draw(sheet)
    pen.text((MARGIN, MARGIN), title, INK, _font(HEADING), anchor="lt")
    for number, line in enumerate(about):
        y = MARGIN + round(HEADING * LINE) + round(number * CAPTION * LINE)
        pen.text((MARGIN, y), line, FAINT, _font(CAPTION), anchor="lt")
    y = top
    for row in rows:
        pen.text((MARGIN, y), row.title, INK, _font(ROW), anchor="lt")
        x = MARGIN
        for cell in row.cells:
            _place(sheet, cell, x, y + _title_height(row))
            x += cell.image.width * SCALE + GAP
        y += _row_height(row) + GAP
    return sheet


def _row_width(row: Row) -> int:
    return sum(cell.image.width * SCALE + GAP for cell in row.cells) - GAP


def _row_height(row: Row) -> int:
    return _title_height(row) + max(_cell_height(cell) for cell in row.cells)


def _title_height(row: Row) -> int:
    return round(ROW * LINE) + PADDING if row.title else 0


def _place(sheet: Image.Image, captioned: Captioned, x: int, y: int) -> None:
    size = (captioned.image.width * SCALE, captioned.image.height * SCALE)
    pen = ImageDraw.Draw(sheet)
    pen.rectangle((x - 1, y - 1, x + size[0], y + size[1]), outline=EDGE)
    sheet.paste(captioned.image.convert("RGB").resize(size, Image.Resampling.LANCZOS), (x, y))
    y += size[1] + PADDING
    for text, font_size, colour in _lines(captioned, size[0]):
        pen.text((x, y), text, colour, _font(font_size), anchor="lt")
        y += round(font_size * LINE)


def _lines(captioned: Captioned, width: int) -> list[tuple[str, int, str]]:
    caption = [
        (line, CAPTION, INK)
        for line in _wrap(captioned.caption, _font(CAPTION), width)
        if captioned.caption
    ]
    notes = [
        (line, NOTE, FAINT) for note in captioned.notes for line in _wrap(note, _font(NOTE), width)
    ]
    return caption + notes


def _cell_height(captioned: Captioned) -> int:
    size = captioned.image.size
    return size[1] * SCALE + PADDING + _height(_lines(captioned, size[0] * SCALE))


def _height(lines: Sequence[tuple[str, int, str]]) -> int:
    return sum(round(size * LINE) for _, size, _ in lines)


def _wrap(text: str, font: ImageFont.FreeTypeFont, width: int) -> list[str]:
    """Breaks at spaces; text without any, such as Chinese, between its characters."""
    lines = [""]
    for piece in _pieces(text):
        if lines[-1] and font.getlength((lines[-1] + piece).rstrip()) > width:
            lines.append("")
        lines[-1] += piece
    return [line.strip() for line in lines]


def _pieces(text: str) -> list[str]:
    pieces = []
    for word in text.split(" "):
        pieces += list(word) if any(character >= "\u3000" for character in word) else [word]
        pieces[-1] += " "
    return pieces


def _font(size: int) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(str(FONT), size)
