"""Clients that stream a tone from a host until they are interrupted."""

from __future__ import annotations

import json
import pathlib
import signal
from collections.abc import Mapping
from contextlib import AbstractContextManager

import pytest

from tests.rigs.processes import Process, gapless


def streaming(
    host: str, url: str, *options: str, env: Mapping[str, str] | None = None
) -> AbstractContextManager[Process]:
    """Run a client in a network namespace."""
    command = ("stream", "--server", url, "--capture", "tone", *options)
    return gapless(*command, env=env, host=host)


def session_of(client: Process) -> str:
    """Wait until a client streams; return the id of its session."""
    words = client.wait_for("connected, session ").split("session ")[1]
    return words.partition(";")[0]


def interrupt(*clients: Process) -> None:
    """Press Ctrl-C at all clients, and wait until each has ended its recording."""
    for client in clients:
        client.process.send_signal(signal.SIGINT)
    for client in clients:
        assert client.end() == 0, client.errors
        assert client.errors == []


def assert_all_received(folder: pathlib.Path, *clients: Process, least_s: float = 1.0) -> None:
    """Check that each client has one recording, of all that it streamed, with nothing lost."""
    ledgers = [json.loads(path.read_text()) for path in sorted(folder.glob("*.json"))]
    assert len(ledgers) == len(clients)
    for ledger in ledgers:
        assert {span["kind"] for span in ledger["spans"]} == {"received"}, ledger["spans"]
    lengths = sorted(ledger["length_samples"] / 48_000 for ledger in ledgers)
    # a client prints its length rounded to tenths of a second
    streamed = sorted(float(client.lines[-1].split()[1].split(":")[-1]) for client in clients)
    assert lengths == pytest.approx(streamed, abs=0.07)
    assert lengths[0] >= least_s
