"""Writes docs/pages.md and its pictures: each state of both pages, as it looks."""

from __future__ import annotations

import argparse
import asyncio
import io
import pathlib
from collections.abc import Sequence
from typing import cast

from PIL import Image

from tests.rigs.screens import LOOKS, WORLDS, Look, Screen, a_browser, shown, staged
from tests.rigs.speaker_screens import SPEAKER_SCREENS
from tests.rigs.studio_screens import STUDIO_SCREENS

SCREENS = (*SPEAKER_SCREENS, *STUDIO_SCREENS)
DOCS = pathlib.Path(__file__).parents[2] / "docs"
FOLDER = DOCS / "pages"
_COLOURS = 64
_SPOKEN_S = 20.0
_INTRODUCTION = """\
# The pages

The speaker's page is at `/`, the studio at `/studio`. `make screenshots` has made these pictures,
with real recordings and real sessions.

`python -m benchmarks.studio` measures the studio beside what it shows. On a machine of two cores
with the server, the senders of 100 streams, 5,000 recordings and the browser, two runs had frames
of 51 and 44 ms at most (median 17 ms), and every recording was whole.
"""


def file_name(screen: Screen, look: Look) -> str:
    return f"{screen.name}-{look.name}.png"


def squeezed(png: bytes) -> bytes:
    """Return a picture with the colours that it has most of, which is a third of the size.

    Those of areas stay as they are, also of small ones, such as the mark of a kind of samples.
    """
    picture = Image.open(io.BytesIO(png)).convert("RGB")
    found = picture.getcolors(picture.width * picture.height) or []
    most = [colour for _, colour in sorted(found, reverse=True)[:_COLOURS]]
    palette = Image.new("P", (1, 1))
    palette.putpalette([part for colour in most for part in cast("Sequence[int]", colour)])
    few = picture.quantize(palette=palette, dither=Image.Dither.NONE)
    written = io.BytesIO()
    few.save(written, "PNG", optimize=True)
    return written.getvalue()


def page_of(screens: Sequence[Screen]) -> str:
    """Return docs/pages.md."""
    parts = [_INTRODUCTION]
    for screen in screens:
        pictures = []
        for look in LOOKS:
            width = 130 if look.is_phone else 340
            alternative = f"{screen.title}: {look.name.replace('-', ', ')}"
            pictures.append(
                f'<img src="pages/{file_name(screen, look)}" width="{width}" alt="{alternative}">'
            )
        parts.append(f"## {screen.title}\n\n" + "\n".join(pictures) + "\n")
    return "\n".join(parts)


async def shoot(screens: Sequence[Screen], looks: Sequence[Look], folder: pathlib.Path) -> int:
    """Write the pictures of screens; return how many could not be made."""
    failed = 0
    async with a_browser() as browser:
        for name in WORLDS:
            here = [screen for screen in screens if screen.world == name]
            if not here:
                continue
            async with staged(WORLDS[name], for_s=_SPOKEN_S) as stage:
                for screen in here:
                    for look in looks:
                        try:
                            async with shown(browser, stage, screen, look) as page:
                                png = await page.screenshot()
                        except Exception as error:
                            failed += 1
                            print(f"{screen.name} {look.name}: {error}")
                            continue
                        (folder / file_name(screen, look)).write_bytes(squeezed(png))
    return failed


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", help="only states whose names begin like this")
    parser.add_argument("--into", type=pathlib.Path, help="another folder, and no page")
    parser.add_argument("--look", help="only looks whose names contain this")
    given = parser.parse_args()
    begins = tuple(given.names) or ("",)
    screens = [screen for screen in SCREENS if screen.name.startswith(begins)]
    looks = [look for look in LOOKS if (given.look or "") in look.name]
    folder: pathlib.Path = given.into or FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    if given.into is None and screens == list(SCREENS) and looks == list(LOOKS):
        for old in folder.glob("*.png"):
            old.unlink()
        (DOCS / "pages.md").write_text(page_of(SCREENS))
    failed = asyncio.run(shoot(screens, looks, folder))
    total = sum(path.stat().st_size for path in folder.glob("*.png"))
    print(f"{folder}: {total / 1e6:.1f} MB")
    return 1 if failed else 0


if __name__ == "__main__":
    raise SystemExit(main())
