"""What the Linux kernel knows of ALSA's sound cards: where each is plugged in, its serial number.

ALSA numbers cards in the order in which they were plugged in, and gives identical cards the same
name. Only the place where a card is plugged in tells it from its twin.
"""

from __future__ import annotations

import contextlib
import pathlib
import re
from dataclasses import dataclass

_OWNER = re.compile(r"^owner_pid *: *(\d+)$", re.MULTILINE)
"""The thread that opened an input."""
_USB_INTERFACE = re.compile(r"^(\d+-[\d.]+):[\d.]+$")
_LONG_NAME_OF_CARD = re.compile(r"^ *(\d+) \[.*\n +.* at ([^\s,]+)", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class CardPlace:
    """Where a sound card is plugged in."""

    port: str | None
    """The path of its bus and ports; None if it is unknown."""
    serial: str | None


class SoundCards:
    """The sound cards of this machine; `root` is the folder that holds ``sys`` and ``proc``."""

    def __init__(self, root: pathlib.Path = pathlib.Path("/")) -> None:
        self._root = root.resolve()

    def place(self, card: int) -> CardPlace:
        """Return where the card with this number is plugged in at the moment."""
        link = self._root / "sys/class/sound" / f"card{card}" / "device"
        try:
            device = link.resolve(strict=True)
        except (OSError, RuntimeError):  # no such card, no sysfs, or a loop of links
            return CardPlace(self._port_in_proc(card), None)
        return CardPlace(str(device), _serial(device))

    def recording(self) -> set[int]:
        """Return the numbers of the cards from which this process records."""
        found = set()
        for status in self._root.glob("proc/asound/card*/pcm*c/sub*/status"):
            with contextlib.suppress(OSError):  # the card may go at any moment
                owner = _OWNER.search(status.read_text(errors="replace"))
                if owner and (self._root / "proc/self/task" / owner[1]).exists():
                    found.add(int(status.parts[-4].removeprefix("card")))
        return found

    def _port_in_proc(self, card: int) -> str | None:
        """Read the port from the card's long name, such as ``… at usb-0000:00:14.0-2, …``."""
        try:
            listing = (self._root / "proc/asound/cards").read_text(errors="replace")
        except OSError:
            return None
        return dict(_LONG_NAME_OF_CARD.findall(listing)).get(str(card))


def port_label(port: str) -> str:
    """Return the part of a port that a person may recognise, such as ``1-2``."""
    return _USB_INTERFACE.sub(r"\1", port.rsplit("/", 1)[-1])


def _serial(device: pathlib.Path) -> str | None:
    """Return the serial number of the USB device to which this interface belongs."""
    for folder in (device, device.parent):
        if (folder / "idVendor").exists():
            try:
                return (folder / "serial").read_text(errors="replace").strip() or None
            except OSError:
                return None
    return None
