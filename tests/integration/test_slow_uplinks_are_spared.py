"""Over an up-link of 64 kbit/s, restoring gives way to a live stream, which loses nothing."""

from __future__ import annotations

import json
import pathlib

import pytest
import soundfile

from tests.rigs import uplink
from tests.rigs.hosts import SERVER
from tests.rigs.processes import gapless, serving
from tests.rigs.sound import speech

RESTORED_BYTES = 12_000
"""So much is waited for: what is left of such an up-link carries it in five seconds."""
LONGEST_WAIT_S = 0.5
"""Half of the queue before the up-link, and of the time for which a recorder waits."""

pytestmark = [
    pytest.mark.skipif(uplink.missing() is not None, reason=str(uplink.missing())),
    pytest.mark.timeout(120),
]


def test_live_packets_go_first(tmp_path: pathlib.Path) -> None:
    soundfile.write(str(tmp_path / "source.wav"), speech(120), 48_000, subtype="PCM_16")
    settings = ("--host", SERVER, "--allow-anyone", "--inactivity-timeout-s", "2")  # fmt: skip
    recordings = tmp_path / "recordings"
    with (
        uplink.slow_uplink() as link,
        serving(recordings, *settings, host=link.server) as server,
    ):
        command = (
            "stream", "--server", server.url, "--bitrate", "24000", "--capture", "file",
            "--input", str(tmp_path / "source.wav"), "--spool", str(tmp_path / "spool"),
            "--restore", "all",
        )  # fmt: skip
        with gapless(*command, host=link.client) as client:
            client.wait_for("connected")
            link.watch(lambda: link.other_bytes > RESTORED_BYTES)
            client.kill()
        assert link.packets > 250
        assert link.dropped == 0
        assert max(link.delays) < LONGEST_WAIT_S
        server.process.wait_for("session ended")
    (path,) = recordings.glob("*.json")
    ledger = json.loads(path.read_text())
    assert {span["kind"] for span in ledger["spans"]} == {"received"}
    assert ledger["restore"]["state"] == "waiting"
