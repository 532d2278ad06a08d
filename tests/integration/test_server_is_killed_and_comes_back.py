"""The server is killed during a stream: the next process continues the same recording."""

from __future__ import annotations

import json
import pathlib
import signal
import time
from typing import Any

import numpy as np
import pytest

from tests.rigs.processes import Server, gapless, read, serving

TONE = ("--capture", "tone")


def port_of(server: Server) -> str:
    return server.url.rpartition(":")[2]


def ledger_of(path: pathlib.Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(path.with_suffix(".json").read_text())
    return found


def kill(server: Server) -> None:
    server.process.process.kill()
    server.process.process.wait()


TONES = (262, 294, 330, 349, 392, 440, 494, 523)
"""Pitches that the tone source plays, one second each."""


def pitch(samples: Any, rate: int) -> float:
    spectrum = np.abs(np.fft.rfft(samples * np.hanning(len(samples))))
    return float(np.argmax(spectrum) * rate / len(samples))


@pytest.mark.parametrize("down_s", [0, 3])
def test_the_recording_continues_in_the_same_file(tmp_path: pathlib.Path, down_s: float) -> None:
    with serving(tmp_path) as first:
        port = port_of(first)
        with gapless("stream", "--server", first.url, *TONE, "--name", "tone") as client:
            client.wait_for("connected")
            first.process.wait_for("recording,")
            time.sleep(2)  # two seconds of sound
            kill(first)
            (part,) = tmp_path.glob("*.wav.part")
            time.sleep(down_s)
            with serving(tmp_path, "--port", port) as second:
                assert any(line.startswith("waiting for") for line in second.process.lines)
                client.wait_for("back after")
                second.process.wait_for("the client is back, with connection 2")
                time.sleep(2)  # and two more seconds
                client.process.send_signal(signal.SIGINT)
                assert client.end() == 0, client.errors
                path = second.recording()
    assert path.name == part.name.removesuffix(".part")
    streamed, _, safe = client.lines[-1].partition(", ")
    recorded, rate = read(path)
    # the client prints tenths, and the tail may add 16.5 ms
    assert len(recorded) / rate == pytest.approx(float(streamed.split(":")[-1].split()[0]), abs=0.1)
    assert float(safe.split()[0].split(":")[-1]) == pytest.approx(len(recorded) / rate, abs=0.051)
    ledger = ledger_of(path)
    assert ledger["end_reason"] in ("closed", "deleted")
    kinds = [span["kind"] for span in ledger["spans"] if span["length"] > 0.2 * rate]
    assert kinds == ["received", "silence", "received"]
    events = [event["type"] for event in ledger["events"]]
    assert {"process restarted", "reconnected", "outage"} <= set(events)
    with gapless("verify", str(path)) as verifying:
        assert verifying.end() == 0, verifying.lines
    # the tone changes every second, so it shows whether sound and silence are at their place
    hole = next(span for span in ledger["spans"] if span["length"] > 0.2 * rate
                and span["kind"] == "silence")  # fmt: skip
    for start, end in ((0, hole["start"]), (hole["start"] + hole["length"], len(recorded))):
        for second_of in range(start // rate + 1, end // rate):
            piece = recorded[second_of * rate + 4800 : (second_of + 1) * rate - 4800]
            assert pitch(piece, rate) == pytest.approx(TONES[second_of % 8], rel=0.02)


def test_killed_twice_and_rotated_it_is_still_one_recording(tmp_path: pathlib.Path) -> None:
    rotated = ("--rotate-s", "2")
    with serving(tmp_path, *rotated) as server:
        port = port_of(server)
        with gapless("stream", "--server", server.url, *TONE) as client:
            server.process.wait_for("recording,")
            time.sleep(2.5)  # into the second part
            kill(server)
            for last in (False, True):
                with serving(tmp_path, "--port", port, *rotated) as again:
                    client.wait_for("back after")
                    time.sleep(1)
                    if last:
                        client.process.send_signal(signal.SIGINT)
                        assert client.end() == 0, client.errors
                        again.process.wait_for("session ended")
                    else:
                        kill(again)
    recordings = sorted(tmp_path.glob("*.wav"))
    assert not list(tmp_path.glob("*.part"))
    lengths = [len(read(path)[0]) for path in recordings]
    assert lengths[:-1] == [96_000] * (len(recordings) - 1)
    streamed = float(client.lines[-1].split()[1].split(":")[-1])
    assert sum(lengths) / 48_000 == pytest.approx(streamed, abs=0.1)
    assert len({ledger_of(path)["id"] for path in recordings}) == 1
    with gapless("verify", *map(str, recordings)) as verifying:
        assert verifying.end() == 0, verifying.lines
