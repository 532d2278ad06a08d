"""Pictures of the documents have few colours, but those that mean something as they are."""

from __future__ import annotations

import io

from PIL import Image, ImageDraw

from tests.rigs.screenshots import squeezed

KINDS = [(0xC2, 0x7A, 0x00), (0xC2, 0x3A, 0x30), (0x6A, 0x55, 0xA8)]


def test_the_mark_of_a_kind_keeps_its_colour() -> None:
    picture = Image.new("RGB", (640, 400))
    for x in range(640):
        for y in range(400):
            picture.putpixel((x, y), (200 + x % 50, 200 + y % 50, 220))
    draw = ImageDraw.Draw(picture)
    for number, colour in enumerate(KINDS):
        draw.rectangle((10 + 20 * number, 10, 16 + 20 * number, 16), fill=colour)
    png = io.BytesIO()
    picture.save(png, "PNG")
    few = Image.open(io.BytesIO(squeezed(png.getvalue()))).convert("RGB")
    assert [few.getpixel((13 + 20 * number, 13)) for number in range(len(KINDS))] == KINDS
