"""Measures a live stream over a slow up-link, and what is sent beside it."""

from __future__ import annotations

import contextlib
import pathlib
import sys
import tempfile
import time
from dataclasses import dataclass

import soundfile

from benchmarks.processes import running
from benchmarks.tables import heading, row
from tests.rigs import uplink
from tests.rigs.hosts import SERVER
from tests.rigs.owed import RATE
from tests.rigs.processes import gapless, serving
from tests.rigs.sound import speech

UPLINK_S = 60.0
BITRATE = 24_000

HEADER = f"""
## Over {uplink.KBITS} kbit/s

A live stream of {BITRATE // 1000} kbit/s, which takes 50 kbit/s with its headers, for
{UPLINK_S:.0f} s over an up-link of {uplink.KBITS} kbit/s (`tc tbf`) with a queue of
{uplink.QUEUE_BYTES // 1000} kB. With `--restore all`, captured sound is sent beside it. The delay
is that of the queue; a packet that is sent again waits from the first time on.

"""


@dataclass(frozen=True)
class Beside:
    """A live stream over a slow up-link, and what was sent beside it."""

    what: str
    packets: int
    dropped: int
    delays_ms: list[float]
    seconds: float
    media_bytes: int
    other_bytes: int

    @property
    def used(self) -> float:
        """Share of the up-link's capacity that the live stream left, and that was used."""
        capacity = uplink.KBITS * 1000 / 8 * self.seconds
        frames = 14 * (self.packets - self.dropped)  # the up-link counts the headers of Ethernet
        return self.other_bytes / (capacity - self.media_bytes - frames)


def beside(what: str, *, restores: bool, uploads: bool) -> Beside:
    print(f"  {uplink.KBITS} kbit/s: {what}", file=sys.stderr)
    with tempfile.TemporaryDirectory() as name, uplink.slow_uplink() as link:
        folder = pathlib.Path(name)
        source = folder / "source.wav"
        soundfile.write(str(source), speech(2 * UPLINK_S), RATE, subtype="PCM_16")
        soundfile.write(str(folder / "s.flac"), speech(2 * UPLINK_S), RATE, subtype="PCM_16")
        settings = ("--host", SERVER, "--allow-anyone", "--inactivity-timeout-s", "3")  # fmt: skip
        keep = ("--spool", str(folder / "spool"), "--restore", "all") if restores else ()
        peer = "benchmarks.peers.plain_upload"
        with (
            serving(folder / "recordings", *settings, host=link.server) as server,
            running("-m", peer, "serve", str(folder), SERVER, host=link.server) as upload,
            gapless(
                "stream", "--server", server.url, "--bitrate", str(BITRATE), "--capture", "file",
                "--input", str(source), *(keep or ("--no-spool",)), host=link.client,
            ) as client,
        ):  # fmt: skip
            url = upload.url()
            client.wait_for("connected")
            with contextlib.ExitStack() as more:
                if uploads:
                    flac = str(folder / "s.flac")
                    more.enter_context(running("-m", peer, "send", url, flac, host=link.client))
                link.packets = link.media_bytes = link.other_bytes = 0
                began = time.monotonic()
                link.watch(lambda: time.monotonic() - began >= UPLINK_S, timeout_s=UPLINK_S + 30)
                seconds = time.monotonic() - began
            client.kill()
        return Beside(
            what, link.packets, link.dropped, sorted(delay * 1000 for delay in link.delays),
            seconds, link.media_bytes, link.other_bytes,
        )  # fmt: skip


def measure() -> list[Beside]:
    return [
        beside("the live stream alone", restores=False, uploads=False),
        beside("restored beside it", restores=True, uploads=False),
        beside("a plain upload beside it", restores=False, uploads=True),
    ]


def table(found: list[Beside]) -> str:
    text = heading("what", "live packets", "lost", "delay: median", "99 %", "worst",
               "rest of the up-link used")  # fmt: skip
    for one in found:
        delays = one.delays_ms
        text += row(
            one.what, one.packets, f"{one.dropped / max(1, one.packets):.1%}",
            f"{delays[len(delays) // 2]:.0f} ms", f"{delays[len(delays) * 99 // 100]:.0f} ms",
            f"{delays[-1]:.0f} ms", f"{one.used:.0%}",
        )  # fmt: skip
    return text
