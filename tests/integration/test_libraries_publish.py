"""Libraries that people build publishers with: GStreamer, libdatachannel, werift."""

from __future__ import annotations

import asyncio
import base64
import json
import pathlib
import shutil
import subprocess
import sys

import pytest

from domain.sound.comparison import compare
from tests.rigs.clients import Local, local_server
from tests.rigs.outages import only_recording
from tests.rigs.processes import environment
from tests.rigs.sound import encode, speech
from tests.rigs.tones import tone_in

RIGS = pathlib.Path(__file__).parents[1] / "rigs"
NPM = pathlib.Path(sys.prefix) / "npm/node_modules"
"""Where the Makefile installs packages of npm."""
SECONDS = 3
DEBIAN_PYTHON = "/usr/bin/python3"


def has_gstreamer() -> bool:
    """Whether Debian's Python finds webrtcbin and what it needs."""
    elements = ("webrtcbin", "nicesrc", "dtlsenc", "srtpenc", "opusenc", "rtpopuspay")
    script = (
        "import gi; gi.require_version('Gst', '1.0'); gi.require_version('GstWebRTC', '1.0')\n"
        "from gi.repository import Gst, GstWebRTC\n"
        f"Gst.init(None); assert all(map(Gst.ElementFactory.find, {elements}))"
    )
    if shutil.which(DEBIAN_PYTHON) is None:
        return False
    return subprocess.run([DEBIAN_PYTHON, "-c", script], capture_output=True).returncode == 0


async def run(*command: str, **variables: str) -> None:
    process = await asyncio.create_subprocess_exec(
        *command, env=environment(variables), stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    output, errors = await process.communicate()
    assert process.returncode == 0, (output + errors).decode()


async def publish_from_node(
    library: str, server: Local, folder: pathlib.Path, packets: list[bytes]
) -> None:
    if shutil.which("node") is None or not NPM.exists():
        pytest.skip("node, or its packages, are not installed")
    texts = [base64.b64encode(packet).decode() for packet in packets]
    (folder / "packets.json").write_text(json.dumps(texts))
    script, url = str(RIGS / "npm/publish.cjs"), f"{server.url}/whip?name=node"
    await run("node", script, library, url, str(folder / "packets.json"), NODE_PATH=str(NPM))


@pytest.mark.skipif(not has_gstreamer(), reason="GStreamer is not installed")
async def test_gstreamer_publishes_with_its_own_certificate() -> None:
    async with local_server() as server:
        url = f"{server.url}/whip?name=gstreamer"
        await run(DEBIAN_PYTHON, str(RIGS / "gstreamer.py"), url, str(SECONDS))
        stored = only_recording(server)
    assert stored.ledger["end_reason"] == "deleted"
    assert stored.info.format.channels == 1
    assert tone_in(stored.samples[4800:-4800, 0], sample_rate_hz=48_000) == pytest.approx(440, 0.01)
    assert {span["kind"] for span in stored.ledger["spans"]} == {"received"}
    # its second timestamp is 312 too small, the delay of its encoder: no packet may be cut for that
    assert len(stored.samples) % 960 == 0
    assert {event["type"] for event in stored.ledger["events"]} <= {"anchor", "timestamps"}
    assert SECONDS - 0.5 <= len(stored.samples) / 48_000 <= SECONDS + 2


@pytest.mark.parametrize("library", ["libdatachannel", "werift"])
async def test_a_library_of_node_publishes(library: str, tmp_path: pathlib.Path) -> None:
    sound = speech(SECONDS)
    async with local_server() as server:
        await publish_from_node(library, server, tmp_path, encode(sound))
        stored = only_recording(server)
    assert stored.ledger["end_reason"] == "deleted"
    assert {span["kind"] for span in stored.ledger["spans"]} == {"received"}
    assert {event["type"] for event in stored.ledger["events"]} == {"anchor"}
    assert len(stored.samples) == SECONDS * 48_000
    heard = stored.samples[:, 0] / 32768
    assert compare(sound[:, 0] / 32768, heard, sample_rate_hz=48_000).correlation >= 0.90


async def test_werift_takes_an_answer_that_declines_its_data_channel(
    tmp_path: pathlib.Path,
) -> None:
    async with local_server() as server:
        await publish_from_node("werift with a data channel", server, tmp_path, [])
