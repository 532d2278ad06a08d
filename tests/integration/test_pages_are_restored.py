"""A page sends its spool beside its sound: the recording is what it captured, whatever happens."""

from __future__ import annotations

import asyncio
import pathlib
from collections.abc import Awaitable, Callable

import numpy as np
import numpy.typing as npt

from tests.integration.test_other_clients_are_restored import ledger_of, mask_of, sound_of
from tests.rigs.other_client import KnownSound, connection_with
from tests.rigs.page import Page, page_at
from tests.rigs.processes import Server, serving
from tests.rigs.relay import random_loss

SECOND = 48_000
LONGEST_S = 60.0


async def loses_packets(page: Page) -> None:
    await page.send_for(6, random_loss(0.2, seed=3), error=14_400)


async def has_an_outage(page: Page) -> None:
    await page.send_for(11, lambda index: [] if 150 <= index < 400 else [0.0], error=-14_400)


async def is_loaded_again(page: Page) -> None:
    await page.send_for(4, random_loss(0.05, seed=4), error=9600, vanish=True)
    await page.reload(1.5, unwritten=0.3)
    await page.send_for(4, random_loss(0.05, seed=5), error=-9600)


async def has_no_udp(page: Page) -> None:
    async with connection_with(KnownSound(0, 0)) as connection:
        await connection.setLocalDescription(await connection.createOffer())
        assert (await page.publish(connection.localDescription.sdp)).status == 201
        await asyncio.sleep(2)


Story = Callable[[Page], Awaitable[None]]


async def told(server: Server, story: Story, mode: str) -> tuple[Page, str]:
    """Let a page live through a story, and send everything; return what the server confirmed."""
    async with page_at(server.url, LONGEST_S, restore=mode) as page:
        await asyncio.sleep(0.5)  # positions that are told too early are not negative
        await story(page)
        page.stop()
        await page.end()
        said = await page.deliver(longest=5 * SECOND)
        assert said.body["state"] == "complete"
        return page, said.body["sha256"]


def check_all(server: Server, page: Page, confirmed: str) -> None:
    """The recording is the spool, and both ends have the same hash of it."""
    ledger = ledger_of(server, page)
    assert confirmed == page.spool.sha256() == ledger["sha256"]
    assert np.array_equal(sound_of(server, page), page.spool.samples)
    silence = [(s["start"], s["length"]) for s in ledger["spans"] if s["kind"] == "silence"]
    assert silence == page.missing


def check_lost(server: Server, page: Page) -> None:
    """What was lost is restored to the sample, and what was received is where it belongs."""
    samples, ledger = sound_of(server, page), ledger_of(server, page)
    captured = page.spool.samples
    assert abs(len(samples) - len(captured)) <= SECOND // 2
    length = min(len(samples), len(captured))
    restored = mask_of(ledger, "restored")[:length]
    assert (samples[:length][restored] == captured[:length][restored]).all()
    received = mask_of(ledger, "received")[:length]
    for microphone in page.microphones:
        start, end = microphone.first + SECOND // 2, microphone.next - SECOND // 2
        masked = np.where(received[start:end], samples[start:end, 0], 0)
        assert abs(lag_of(masked, captured[start:end, 0])) <= 1
    # a machine that is busy may stall the sender: very short runs say nothing
    found = [e for e in ledger["events"] if e["type"] == "aligned" and e["windows"]]
    assert len(found) >= len(page.microphones)
    for run in found:
        assert run["residual_samples"] <= 1
        assert run["correlation"] > 0.5  # a decoder needs a while after a loss


def lag_of(heard: npt.NDArray[np.int32], captured: npt.NDArray[np.int32]) -> int:
    """Return by how many samples sound is later than it was captured."""
    size = 2 * len(heard)
    spectrum = np.fft.rfft(heard, size) * np.conj(np.fft.rfft(captured, size))
    likeness = np.fft.irfft(spectrum, size)
    return max(range(-SECOND // 2, SECOND // 2), key=lambda lag: float(likeness[lag]))


async def test_a_recording_is_what_the_page_has_captured(tmp_path: pathlib.Path) -> None:
    stories = [loses_packets, has_an_outage, is_loaded_again, has_no_udp]
    with serving(tmp_path) as server:
        cases = [(story, mode) for story in stories for mode in ("all", "lost")]
        results = await asyncio.gather(*(told(server, *case) for case in cases))
        for (story, mode), (page, confirmed) in zip(cases, results, strict=True):
            if mode == "all" or story is has_no_udp:
                check_all(server, page, confirmed)
            else:
                check_lost(server, page)
