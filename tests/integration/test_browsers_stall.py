"""Chromium and Firefox stop sending for a while, and the recording has that time in it.

Their microphone hears a tone that tells the time. So the recording itself shows whether its sound
is at its place, whatever the browser's RTP clock did while nothing was sent.
"""

from __future__ import annotations

import asyncio
import pathlib
from collections.abc import Mapping

import numpy as np
import pytest

from tests.rigs import microphone as rig
from tests.rigs.browser import BROWSERS, STALLS, WAIT_FOR_MORE, Browser, opened
from tests.rigs.priority import ahead_of_others
from tests.rigs.processes import Server, serving
from tests.rigs.sweep import DESK, RATE, ToneRecording, microphones

TOLERANCE_S = 0.06
SOUND_S = 1.7
"""How long there is sound before and after a stall."""
SECONDS = {
    "track replaced by none": 5,
    "another microphone": 1,
    "context suspended": 3,
    "direction inactive": 4,
    "encoding inactive": 4,
}
PROCESS_STALL_S = 3

pytestmark = [
    pytest.mark.skipif(rig.missing() is not None, reason=str(rig.missing())),
    pytest.mark.timeout(180),  # the first test of a browser makes all recordings of it
]


async def steady(browser: Browser) -> None:
    await asyncio.sleep(PROCESS_STALL_S)


async def processes_stopped(browser: Browser) -> None:
    browser.stop()
    await asyncio.sleep(PROCESS_STALL_S)
    browser.resume()


async def processes_starved(browser: Browser) -> None:
    """Let all processes run for a tenth of the time."""
    loop = asyncio.get_running_loop()
    until = loop.time() + PROCESS_STALL_S
    while loop.time() < until:
        browser.stop()
        await asyncio.sleep(0.09)
        browser.resume()
        await asyncio.sleep(0.01)


async def page_frozen(browser: Browser) -> None:
    assert browser.devtools is not None
    await browser.devtools.send("Page.setWebLifecycleState", {"state": "frozen"})
    await asyncio.sleep(PROCESS_STALL_S)
    await browser.devtools.send("Page.setWebLifecycleState", {"state": "active"})


async def page_throttled(browser: Browser) -> None:
    assert browser.devtools is not None
    await browser.devtools.send("Emulation.setCPUThrottlingRate", {"rate": 50})
    await asyncio.sleep(PROCESS_STALL_S)
    await browser.devtools.send("Emulation.setCPUThrottlingRate", {"rate": 1})


OF_ANY = {
    "steady": steady,
    "processes stopped": processes_stopped,
    "processes starved": processes_starved,
}
OF_CHROMIUM = {"page frozen": page_frozen, "page throttled": page_throttled}


CASES = [
    *(("chromium", case) for case in [*OF_ANY, *OF_CHROMIUM, *STALLS]),
    *(("firefox", case) for case in [*OF_ANY, *STALLS]),
]
FIRST = "first"
"""A browser that opens its first microphone loses up to 60 ms while it starts. That session is not
judged."""
SENT_LATE = {("chromium", "processes stopped"), ("chromium", "processes starved")}
"""Chromium loses nothing then: PulseAudio keeps the sound, and all of it is sent afterwards."""
LOSES_BITS = {("firefox", "processes starved")}
"""Firefox loses some milliseconds many times, and sends what is left without a gap."""
HOLDS_BACK_S = {
    ("chromium", "context suspended"): 0.2,
    ("firefox", "another microphone"): 0.3,
    ("firefox", "context suspended"): 0.3,
    ("firefox", "processes stopped"): 0.3,
    ("firefox", "processes starved"): 0.25,
}
"""By how much browsers delay all sound afterwards, or lose it unnoticed.

They send sound from before the stall first, in real time, or open a device with more buffers.
"""


def record_all(browser: str, folder: pathlib.Path) -> dict[str, ToneRecording]:
    """Record every case of a browser, one after the other."""
    cases = [case for name, case in CASES if name == browser]

    async def publish_all(server: Server, environ: Mapping[str, str]) -> None:
        async with opened(browser, folder / "browser", environ) as publisher:
            await publisher.page.goto(f"{server.url}/blank")
            await publisher.publish(FIRST, device=DESK)
            await publisher.page.evaluate(WAIT_FOR_MORE, round(SOUND_S * 50))
            await publisher.end(FIRST)
            for case in cases:
                through_context = case == "context suspended"
                await publisher.publish(case, device=DESK, context=through_context)
                server.process.wait_for("recording,")
                await asyncio.sleep(SOUND_S)
                if case in STALLS:
                    await publisher.stall(case, case, seconds=SECONDS[case])
                else:
                    await (OF_ANY | OF_CHROMIUM)[case](publisher)
                held_s = PROCESS_STALL_S if (browser, case) in SENT_LATE else 0
                await publisher.page.evaluate(WAIT_FOR_MORE, round((held_s + SOUND_S) * 50))
                await publisher.end(case)

    with (
        ahead_of_others(),
        microphones(folder / "microphones") as heard,
        serving(folder / "recordings") as server,
    ):
        asyncio.run(publish_all(server, heard.environ))
        server.process.stop()
        paths = server.recordings()
    assert len(paths) == 1 + len(cases)
    return {case: ToneRecording(path) for case, path in zip(cases, paths[1:], strict=True)}


@pytest.fixture(scope="module")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> dict[str, ToneRecording]:
    return record_all("chromium", tmp_path_factory.mktemp("chromium"))


@pytest.fixture(scope="module")
def firefox(tmp_path_factory: pytest.TempPathFactory) -> dict[str, ToneRecording]:
    return record_all("firefox", tmp_path_factory.mktemp("firefox"))


@pytest.mark.parametrize(
    ("browser", "case"),
    [
        pytest.param(
            browser,
            case,
            id=f"{browser}: {case}",
            marks=pytest.mark.skipif(
                BROWSERS[browser] is None, reason=f"{browser} is not installed"
            ),
        )
        for browser, case in CASES
    ],
)
def test_sound_is_at_its_place_after_a_stall(
    browser: str, case: str, request: pytest.FixtureRequest
) -> None:
    recording: ToneRecording = request.getfixturevalue(browser)[case]
    spans = recording.spans
    # browsers also step by some milliseconds when they begin again
    events = [event for event in recording.events if event["type"] != "timestamps"]
    told = f"{recording.length_s:.3f} s in {recording.wall_s:.3f} s; {spans}; {events}"

    late, tolerance_s = recording.how_late(), HOLDS_BACK_S.get((browser, case), TOLERANCE_S)
    if (browser, case) in HOLDS_BACK_S:
        late = late[-50:]
    assert np.abs(late).max() <= tolerance_s, f"sound is not at its place: {told}"
    assert recording.length_s == pytest.approx(recording.wall_s, abs=max(0.1, tolerance_s)), told
    assert {span.kind for span in spans} <= {"received", "silence"}, told
    holes = [span for span in spans if span.kind == "silence"]
    if case in OF_CHROMIUM or case == "steady" or (browser, case) in SENT_LATE:
        assert (holes, events) == ([], []), told
    elif holes and (browser, case) not in LOSES_BITS:
        assert (len(holes), len(events)) == (1, 1), told
        (hole,), (event,) = holes, events
        assert abs(event["position"] - hole.start) <= TOLERANCE_S * RATE, told
    else:  # the browser has sent silence itself, or loses a little many times
        assert len(events) == len(holes), told
