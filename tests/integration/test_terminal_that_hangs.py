"""A server whose output pipe is full and not read still records and ends."""

from __future__ import annotations

import json
import os
import pathlib
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request

import pytest

from tests.rigs.processes import environment, free_port, gapless, read

WAIT_S = 30.0


def full_pipe() -> tuple[int, int]:
    """A full pipe: nothing more can be written into it."""
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    for block in (b"x" * 4096, b"x"):
        try:
            while True:
                os.write(writing, block)
        except BlockingIOError:
            pass
    os.set_blocking(writing, True)
    return reading, writing


def wait_until_healthy(url: str) -> None:
    deadline = time.monotonic() + WAIT_S
    while True:
        try:
            with urllib.request.urlopen(f"{url}/health", timeout=1.0):
                return
        except (urllib.error.URLError, OSError):
            assert time.monotonic() < deadline, "the server does not answer"
            time.sleep(0.05)


def decline_a_track(url: str, *, number: int = 1) -> None:
    """Make an offer of which one audio m-line is declined; another `number` is another offer."""
    media = [
        *("m=audio 9 UDP/TLS/RTP/SAVPF 111", "c=IN IP4 0.0.0.0", "a=sendonly", "a=rtcp-mux"),
        *("a=rtpmap:111 opus/48000/2", "a=setup:actpass", "a=ice-ufrag:abcd"),
        *("a=ice-pwd:" + "x" * 22, "a=fingerprint:sha-256 " + ":".join(["AA"] * 32)),
    ]
    lines = ["v=0", f"o=- {number} 1 IN IP4 0.0.0.0", "s=-", "t=0 0"]
    sdp = "\r\n".join([*lines, *media, "a=mid:0", *media, "a=mid:1"]) + "\r\n"
    request = urllib.request.Request(
        f"{url}/offer",
        data=json.dumps({"sdp": sdp, "type": "offer"}).encode(),
        headers={"Content-Type": "application/json"},
    )
    deadline = time.monotonic() + WAIT_S
    while True:
        try:
            with urllib.request.urlopen(request, timeout=WAIT_S) as response:
                assert response.status == 200
                return
        except urllib.error.HTTPError as error:
            # another worker than the one that answers may still be starting
            if error.code != 503 or time.monotonic() > deadline:
                raise
            time.sleep(0.05)


@pytest.mark.parametrize("workers", [1, 2])
def test_a_server_whose_terminal_hangs_records_and_ends(
    tmp_path: pathlib.Path, workers: int
) -> None:
    reading, writing = full_pipe()
    port = free_port()
    server = subprocess.Popen(
        [
            *(sys.executable, "-W", "error", "-m", "entrypoints", "serve"),
            *("--port", str(port), "--recordings", str(tmp_path), "--workers", str(workers)),
        ],
        env=environment(),
        stdout=writing,
        stderr=writing,
    )
    try:
        os.close(writing)
        url = f"http://127.0.0.1:{port}"
        wait_until_healthy(url)
        decline_a_track(url)  # which is logged
        command = ("stream", "--server", url, "--capture", "tone", "--duration", "1")
        with gapless(*command) as client:
            assert client.end() == 0, client.errors
        (recording,) = tmp_path.glob("*.wav")
        samples, rate = read(recording)
        assert len(samples) / rate == pytest.approx(1.0, abs=0.05)
        server.send_signal(signal.SIGTERM)
        assert server.wait(WAIT_S) == 0
    finally:
        server.kill()
        server.wait()
        os.close(reading)
