"""Standard WHIP publishers: Chromium, and FFmpeg's muxer."""

from __future__ import annotations

import asyncio
import pathlib
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
import soundfile
from playwright.async_api import Page

from domain.ports.signaling import ServerConnection
from domain.recording.effects import EndReason
from tests.rigs.browser import CHROMIUM, PUBLISH, WAIT_UNTIL_SENT, WHIP, browser_page
from tests.rigs.clients import Local, local_server
from tests.rigs.outages import only_recording
from tests.rigs.processes import environment
from tests.rigs.sound import SPEECH

AUDIO_SENT = """
async () => {
  const sent = async () => [...(await pc.getStats()).values()]
    .filter((report) => report.type === "outbound-rtp")
    .map((report) => [report.kind, report.packetsSent]);
  for (;;) {
    const packets = Object.fromEntries(await sent());
    if (packets.audio >= 150 && packets.video !== 0) return packets;
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}
"""
"""Waits until 3 s of sound are sent, and some video if there is any; returns the packet counts."""

needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed")


@asynccontextmanager
async def page_at(server: Local, folder: pathlib.Path) -> AsyncIterator[Page]:
    speech, rate = soundfile.read(SPEECH, dtype="int16")
    soundfile.write(folder / "microphone.wav", speech, rate)
    async with browser_page(folder / "microphone.wav") as page:
        await page.goto(f"{server.url}/blank")
        yield page


@dataclass
class Accepted:
    """Records the offers that a server has answered."""

    offers: list[str] = field(default_factory=list)
    connections: list[ServerConnection] = field(default_factory=list)

    def media_lines(self) -> list[tuple[list[str], list[str]]]:
        """Describe each m-line of the only offer and of its answer."""
        (offer,), (connection,) = self.offers, self.connections
        found = [
            [line.split() for line in sdp.splitlines() if line.startswith("m=")]
            for sdp in (offer, connection.answer_sdp)
        ]
        return list(zip(*found, strict=True))


def observe(server: Local, monkeypatch: pytest.MonkeyPatch) -> Accepted:
    """Record what a server's transport accepts."""
    transport, accepted = server.container.transport(), Accepted()
    accept = transport.accept

    async def accept_and_keep(offer_sdp: str, **options: Any) -> ServerConnection:
        connection: ServerConnection = await accept(offer_sdp, **options)
        accepted.offers.append(offer_sdp)
        accepted.connections.append(connection)
        return connection

    monkeypatch.setattr(transport, "accept", accept_and_keep)
    return accepted


@needs_chromium
@pytest.mark.parametrize("video", [False, True])
async def test_a_browser_publishes_trickles_and_ends(
    tmp_path: pathlib.Path, video: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with local_server() as server, page_at(server, tmp_path) as page:
        accepted = observe(server, monkeypatch)
        await page.evaluate(WHIP, {"video": video})
        sent = await page.evaluate(AUDIO_SENT)
        assert await page.evaluate("whip.end()") == 200
        assert set(await page.evaluate("whip.statuses")) == {204}
        stored = only_recording(server)
        assert stored.info.name.split("-")[1] == "browser"
        assert stored.ledger["end_reason"] == "deleted"
        assert {span["kind"] for span in stored.ledger["spans"]} == {"received"}
        # everything that was sent, including packets sent while the browser ended
        assert sent["audio"] * 960 <= len(stored.samples) <= (sent["audio"] + 50) * 960
        assert server.seen.failures == []
        *others, (audio, answered) = accepted.media_lines()
        assert audio[0] == answered[0] == "m=audio"
        assert set(answered[3:]) < set(audio[3:])
        (connection,) = accepted.connections
        assert {str(number) for number in connection.tracks[0].codecs} == set(answered[3:])
        if video:
            # video comes first and describes the transport of the bundle, so it cannot be declined
            ((offered, answered),) = others
            assert offered[0] == "m=video"
            assert answered[1:] == ["9", *offered[2:]]
            assert sent["video"] > 0
            assert connection._unwanted == set(map(int, offered[3:]))  # type: ignore[attr-defined]
        else:
            assert others == []


@needs_chromium
async def test_an_ice_restart_loses_no_packet(tmp_path: pathlib.Path) -> None:
    async with local_server() as server, page_at(server, tmp_path) as page:
        await page.evaluate(WHIP, {})
        for restarts in (1, 2):
            await page.evaluate(WAIT_UNTIL_SENT, 100 * restarts)
            await page.evaluate("whip.restart()")
        await page.evaluate(WAIT_UNTIL_SENT, 300)
        assert await page.evaluate("whip.end()") == 200
        statuses = await page.evaluate("whip.statuses")
        assert statuses.count(200) == 2
        assert set(statuses) == {200, 204}
        stored = only_recording(server)
        assert {span["kind"] for span in stored.ledger["spans"]} == {"received"}
        assert {event["type"] for event in stored.ledger["events"]} == {"anchor"}
        assert len(stored.samples) / 48_000 >= 5.5


@needs_chromium
@pytest.mark.parametrize("door", [PUBLISH, WHIP], ids=["offer", "whip"])
async def test_a_closed_tab_ends_the_recording(tmp_path: pathlib.Path, door: str) -> None:
    async with local_server(inactivity_timeout_s=3) as server, page_at(server, tmp_path) as page:
        await page.evaluate(door, {"token": None})
        await page.evaluate(WAIT_UNTIL_SENT, 50)
        await page.close()
        async with asyncio.timeout(10):
            # the browser may or may not send a close_notify
            assert await server.seen.next_end() in (EndReason.CLOSED, EndReason.INACTIVE)
        assert len(only_recording(server).samples) / 48_000 >= 0.9


@needs_chromium
async def test_a_frozen_tab_continues_the_same_recording(tmp_path: pathlib.Path) -> None:
    async with local_server() as server, page_at(server, tmp_path) as page:
        await page.evaluate(WHIP, {})
        await page.evaluate(WAIT_UNTIL_SENT, 50)
        devtools = await page.context.new_cdp_session(page)
        await devtools.send("Page.setWebLifecycleState", {"state": "frozen"})
        await asyncio.sleep(4)
        await devtools.send("Page.setWebLifecycleState", {"state": "active"})
        sent = await page.evaluate(
            "pc.getStats().then((stats) => [...stats.values()]"
            ".find((report) => report.type === 'outbound-rtp').packetsSent)"
        )
        await page.evaluate(WAIT_UNTIL_SENT, sent + 50)
        assert await page.evaluate("whip.end()") == 200
        stored = only_recording(server)
        assert server.seen.ended == [EndReason.DELETED]
        assert len(stored.samples) / 48_000 >= 5.5  # the frozen time included


FFMPEG = """
import fractions, sys, time
import av, numpy as np

url, certificate, key, seconds, video = sys.argv[1:]
options = {"cert_file": certificate, "key_file": key}
with av.open(url, "w", format="whip", options=options) as output:
    sound = output.add_stream("libopus", rate=48_000, options={"frame_duration": "20"})
    sound.layout, sound.bit_rate = "stereo", 64_000
    sound.time_base = fractions.Fraction(1, 48_000)
    if video == "1":
        picture = output.add_stream("libx264", rate=10, options={"bf": "0", "preset": "ultrafast"})
        picture.width = picture.height = 64
        picture.pix_fmt = "yuv420p"
    output.start_encoding()
    begin = time.monotonic()
    for position in range(0, int(float(seconds) * 48_000), 960):
        time.sleep(max(0.0, begin + position / 48_000 - time.monotonic()))
        wave = 8000 * np.sin(2 * np.pi * 440 * np.arange(position, position + 960) / 48_000)
        samples = np.repeat(wave.astype(np.int16), 2)[None, :]
        frame = av.AudioFrame.from_ndarray(samples, format="s16", layout="stereo")
        frame.sample_rate, frame.pts = 48_000, position
        output.mux(sound.encode(frame))
        if video == "1" and position % 4800 == 0:
            image = av.VideoFrame.from_ndarray(np.zeros((64, 64, 3), np.uint8), format="rgb24")
            image.pts, image.time_base = position // 4800, fractions.Fraction(1, 10)
            output.mux(picture.encode(image))
    output.mux(sound.encode(None))
"""


async def ffmpeg(url: str, folder: pathlib.Path, *, seconds: float, video: bool = False) -> None:
    """Publish a tone, in another process: the muxer holds the GIL."""
    certificate, key = folder / "cert.pem", folder / "key.pem"
    # a P-256 key, because OpenSSL refuses the P-224 key that the muxer makes itself
    subprocess.run(
        [
            "openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256",
            "-nodes", "-days", "2", "-subj", "/CN=whip", "-keyout", str(key), "-out",
            str(certificate),
        ],
        check=True,
        capture_output=True,
    )  # fmt: skip
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", FFMPEG, url, str(certificate), str(key), str(seconds),
        str(int(video)), env=environment(), stderr=subprocess.PIPE,
    )  # fmt: skip
    _, errors = await process.communicate()
    assert process.returncode == 0, errors.decode()


@pytest.mark.parametrize("video", [False, True])
async def test_ffmpeg_publishes_and_ends(
    tmp_path: pathlib.Path, video: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with local_server() as server:
        accepted = observe(server, monkeypatch)
        await ffmpeg(f"{server.url}/whip?name=ffmpeg", tmp_path, seconds=3, video=video)
        stored = only_recording(server)
        assert stored.ledger["end_reason"] == "deleted"
        assert stored.info.format.channels == 2
        assert len(stored.samples) / 48_000 == pytest.approx(3, abs=0.05)
        assert {span["kind"] for span in stored.ledger["spans"]} == {"received"}
        assert server.seen.failures == []
        (audio, answered), *others = accepted.media_lines()
        assert audio[0] == "m=audio"
        assert answered[1:] == ["9", *audio[2:]]
        (connection,) = accepted.connections
        if video:  # the sound comes first and describes the transport, so video can be declined
            ((offered, answered),) = others
            assert offered[0] == "m=video"
            assert answered[1:] == ["0", *offered[2:]]
            assert connection._unwanted == set(map(int, offered[3:]))  # type: ignore[attr-defined]
        else:
            assert others == []
            assert connection._unwanted == set()  # type: ignore[attr-defined]


@pytest.mark.soak
@pytest.mark.timeout(90)
async def test_ffmpeg_is_recorded_for_longer_than_consent_lasts_without_answering_checks(
    tmp_path: pathlib.Path,
) -> None:
    async with local_server() as server:
        await ffmpeg(f"{server.url}/whip", tmp_path, seconds=38)
        assert len(only_recording(server).samples) / 48_000 == pytest.approx(38, abs=0.05)
