"""Two hosts with addresses of their own; the client's changes in mid-stream."""

from __future__ import annotations

import json
import pathlib
import signal
import time

import pytest

from tests.rigs.hosts import SERVER, hosts, missing
from tests.rigs.processes import gapless, read, serving

pytestmark = pytest.mark.skipif((why := missing()) is not None, reason=str(why))


def test_a_client_with_another_address_goes_on_in_the_same_recording(
    tmp_path: pathlib.Path,
) -> None:
    settings = ("--host", SERVER, "--allow-anyone", "--udp-ports", "50000-50099")
    with hosts() as joined, serving(tmp_path, *settings, host=joined.server) as server:
        command = ("stream", "--server", server.url, "--capture", "tone")
        with gapless(*command, host=joined.client) as client:
            server.process.wait_for("recording,")
            time.sleep(1)  # a second of sound
            joined.move_client()
            moved_at = time.monotonic()
            client.wait_for("back after")
            assert time.monotonic() - moved_at < 8
            time.sleep(1)  # and another
            client.process.send_signal(signal.SIGINT)
            assert client.end() == 0, client.errors
        path = server.recording()
    recorded, rate = read(path)
    streamed = float(client.lines[-1].split()[1].split(":")[-1])
    assert len(recorded) / rate == pytest.approx(streamed, abs=0.1)
    spans = json.loads(path.with_suffix(".json").read_text())["spans"]
    kinds = [span["kind"] for span in spans if span["length"] > 0.2 * rate]
    assert kinds == ["received", "silence", "received"]
