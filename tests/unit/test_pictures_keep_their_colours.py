"""Pictures of the documents have few colours, but those that mean something as they are."""

from __future__ import annotations

import io

from PIL import Image, ImageDraw

from tests.rigs.screenshots import squeezed

KINDS = [(0xC2, 0x7A, 0x00), (0xC2, 0x3A, 0x30), (0x6A, 0x55, 0xA8)]
PAPER, PANEL = (0xF6, 0xF5, 0xF1), (0xFF, 0xFF, 0xFF)


def test_the_mark_of_a_kind_keeps_its_colour() -> None:
    picture = Image.new("RGB", (640, 400), PAPER)
    picture.paste(PANEL, (0, 100, 640, 300))
    for x in range(640):  # shades of letters, of which there are many
        picture.putpixel((x, 200), (x % 256, x % 251, x % 241))
    draw = ImageDraw.Draw(picture)
    for number, colour in enumerate(KINDS):
        draw.rectangle((10 + 20 * number, 10, 16 + 20 * number, 16), fill=colour)
    png = io.BytesIO()
    picture.save(png, "PNG")
    few = Image.open(io.BytesIO(squeezed(png.getvalue()))).convert("RGB")
    assert [few.getpixel((13 + 20 * number, 13)) for number in range(len(KINDS))] == KINDS
    assert few.getpixel((600, 50)) == PAPER
    assert few.getpixel((600, 150)) == PANEL
