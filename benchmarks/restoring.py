"""Measures what it costs to restore recordings, compared with a plain upload of the same sound.

An hour that lost every fifth packet; many sessions that are restored at once beside live ones; and
an up-link that carries little more than the live stream. ``python -m benchmarks.restoring --write``
writes docs/restoring.md.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import soundfile

from benchmarks import slow_uplink
from benchmarks.processes import ROOT, Running, generating, running
from benchmarks.tables import heading, row
from domain.recording.ledger import RestoreMode
from domain.services.client.live_sound import FRAME_SAMPLES
from tests.rigs import hosts, uplink
from tests.rigs.owed import RATE, Owed, captured, make_owed
from tests.rigs.priority import ahead_of_others
from tests.rigs.processes import environment

DOCUMENT = ROOT / "docs" / "restoring.md"
HOUR_S = 3600
LOST = 0.2
PATHS = {"10 Mbit/s": 10, "loopback": None}
MANY, MANY_S = 50, 30
LIVE, LIVE_S = 100, 60.0
WARM_UP_S, ALONE_S = 8.0, 8.0
MB = 1e6
UPLOAD = "plain upload"


# -- an hour -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class HourRun:
    """What it took to deliver an hour."""

    what: str
    path: str
    took_s: float
    """From the start of the client to its end: the server then has everything, synced."""
    sent: float
    """Bytes in both directions, with all headers."""
    client_cpu_s: float
    server_cpu_s: float
    client_mb: float
    server_mb: float


@contextlib.contextmanager
def loopback(mbits: int | None) -> Iterator[str]:
    """Set up a network namespace with nothing but a loopback interface, which counts.

    It carries `mbits` of each direction and the other one together; None for no limit.
    """
    name = f"bench{os.getpid()}"
    _run("ip", "netns", "add", name)
    try:
        _run("ip", "-n", name, "link", "set", "lo", "mtu", "1500", "up")
        if mbits is not None:
            _run(
                "tc", "-n", name, "qdisc", "add", "dev", "lo", "root", "tbf",
                "rate", f"{mbits}mbit", "burst", "15000", "limit", "125000",
            )  # fmt: skip
        yield name
    finally:
        _run("ip", "netns", "del", name)


def _run(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def sent_over(host: str) -> int:
    path = "/sys/class/net/lo/statistics/tx_bytes"
    return int(_run("ip", "netns", "exec", host, "cat", path))


def delivered(what: str, path: str, host: str, server: Running, *command: str) -> HourRun:
    """Run a client to its end, and measure it and its server."""
    before, used_s, began = sent_over(host), sum(server.cpus_s), time.monotonic()
    client = subprocess.Popen(
        ["ip", "netns", "exec", host, sys.executable, *command],
        cwd=ROOT, env=environment(), stdout=subprocess.DEVNULL,
    )  # fmt: skip
    _, status, usage = os.wait4(client.pid, 0)
    took_s = time.monotonic() - began
    if os.waitstatus_to_exitcode(status) != 0:
        sys.exit(f"{what}: the client has failed")
    return HourRun(
        what, path, took_s, sent_over(host) - before,
        usage.ru_utime + usage.ru_stime, sum(server.cpus_s) - used_s,
        usage.ru_maxrss / 1024, server.peak_mb,
    )  # fmt: skip


def restored_hour(folder: pathlib.Path, path: str, host: str, mode: RestoreMode) -> HourRun:
    recordings, spools = folder / "recordings", folder / "spools"
    owed = asyncio.run(make_owed(recordings, spools, seconds=HOUR_S, mode=mode, lost=LOST))
    serve = ("-m", "entrypoints", "serve", "--port", "0", "--recordings", str(recordings))
    with running(*serve, host=host) as server:
        command = ("-m", "entrypoints", "spool", "send", "--spool", str(spools), "--server")
        run = delivered(f"`--restore {mode.value}`", path, host, server, *command, server.url())
    check(owed)
    return run


def uploaded_hour(folder: pathlib.Path, path: str, host: str) -> HourRun:
    source = folder / "hour.flac"
    with soundfile.SoundFile(str(source), "w", RATE, 1, "PCM_16") as file:
        for block in captured(HOUR_S, 1):
            file.write(block)
    peer = "benchmarks.peers.plain_upload"
    with running("-m", peer, "serve", str(folder), host=host) as server:
        url = server.url()
        return delivered(UPLOAD, path, host, server, "-m", peer, "send", url, str(source))


def check(owed: Owed) -> None:
    """Exit unless a recording is restored."""
    ledger = json.loads(owed.recording.with_suffix(".json").read_text())
    kinds = {span["kind"] for span in ledger["spans"]}
    is_exact = owed.mode is RestoreMode.LOST or ledger["sha256"] == owed.sha256
    if ledger["restore"]["state"] != "complete" or kinds - {"received", "restored"} or not is_exact:
        sys.exit(f"{owed.recording.name} is not restored, so the figures do not count")


def hours() -> list[HourRun]:
    found = []
    for path, mbits in PATHS.items():
        with loopback(mbits) as host:
            for mode in (RestoreMode.LOST, RestoreMode.ALL):
                print(f"  an hour, {path}, --restore {mode.value}", file=sys.stderr)
                with tempfile.TemporaryDirectory() as folder:
                    found.append(restored_hour(pathlib.Path(folder), path, host, mode))
            print(f"  an hour, {path}, plain upload", file=sys.stderr)
            with tempfile.TemporaryDirectory() as folder:
                found.append(uploaded_hour(pathlib.Path(folder), path, host))
    return found


# -- beside live sessions ----------------------------------------------------------------------


@dataclass(frozen=True)
class Crowd:
    """Live sessions, and others that were restored meanwhile."""

    alone: float
    """CPU of the server with the live sessions only, as a share of a core."""
    beside: float
    """The same while the others are restored."""
    took_s: float
    """From the first request to the last recording that is complete."""
    is_whole: bool
    """Whether each live recording has each packet as `received`, in time."""
    resident_mb: float
    delivered: int
    behind_s: float
    """How late the generator of live packets was at worst."""


def crowd() -> Crowd:
    with tempfile.TemporaryDirectory() as name:
        folder, spools = pathlib.Path(name, "recordings"), pathlib.Path(name, "spools")
        owed = [asyncio.run(_one_of_many(folder, spools, index)) for index in range(MANY)]
        serve = ("-m", "entrypoints", "serve", "--port", "0", "--recordings", str(folder))
        env = {"GAPLESS_MAX_SESSIONS": "1000"}
        with running(*serve, env=env) as server:
            url = server.url()
            with contextlib.ExitStack() as loads:
                with ahead_of_others():  # its packets have to be in time
                    generator = loads.enter_context(generating(url, LIVE, LIVE_S))
                load = ("-m", "benchmarks.spool_load", url, str(spools))
                senders = loads.enter_context(running(*load))
                senders.line("ready")
                generator.connect()
                generator.go()
                time.sleep(WARM_UP_S)
                alone = _cpu(server, ALONE_S)
                used_s, began = sum(server.cpus_s), time.monotonic()
                senders.go()
                result = senders.read_json("delivered")
                beside = (sum(server.cpus_s) - used_s) / (time.monotonic() - began)
                resident = server.peak_mb
                sent = generator.read_json("sent")
                generator.line("ended")
            server.terminate()
        for one in owed:
            check(one)
        return Crowd(
            alone, beside, result["took_s"], _are_whole(folder, owed, sent["sent"]), resident,
            result["delivered"], sent["behind_s"],
        )  # fmt: skip


async def _one_of_many(folder: pathlib.Path, spools: pathlib.Path, index: int) -> Owed:
    mode = RestoreMode.ALL if index % 2 else RestoreMode.LOST
    return await make_owed(folder, spools, seconds=MANY_S, mode=mode, lost=LOST, seed=index)


def _cpu(server: Running, seconds: float) -> float:
    began, used_s = time.monotonic(), sum(server.cpus_s)
    time.sleep(seconds)
    return (sum(server.cpus_s) - used_s) / (time.monotonic() - began)


def _are_whole(folder: pathlib.Path, owed: list[Owed], packets: int) -> bool:
    """Whether each packet is in its recording, in time; the generator itself may stall."""
    others = {one.recording.with_suffix(".json") for one in owed}
    live = [json.loads(path.read_text()) for path in set(folder.glob("*.json")) - others]
    expected = packets * FRAME_SAMPLES
    return len(live) == LIVE and all(_received(ledger) == expected for ledger in live)


def _received(ledger: dict[str, Any]) -> int:
    return sum(span["length"] for span in ledger["spans"] if span["kind"] == "received")


# -- the page ----------------------------------------------------------------------------------


def hour_table(runs: list[HourRun]) -> str:
    pcm = HOUR_S * RATE * 2
    uploads = {run.path: run for run in runs if run.what == UPLOAD}
    text = heading("path", "what", "time", "against the upload", "sent", "of the PCM",
               "of the lost PCM", "CPU: client", "server", "peak memory: client", "server",
    )  # fmt: skip
    for run in runs:
        text += row(
            run.path, run.what, f"{run.took_s:.1f} s",
            f"{run.took_s / uploads[run.path].took_s:.2f}×",
            f"{run.sent / MB:.0f} MB", f"{run.sent / pcm:.0%}", f"{run.sent / pcm / LOST:.2f}×",
            f"{run.client_cpu_s:.1f} s", f"{run.server_cpu_s:.1f} s",
            f"{run.client_mb:.0f} MB", f"{run.server_mb:.0f} MB",
        )  # fmt: skip
    return text


def crowd_table(found: Crowd) -> str:
    text = heading("server", "CPU", "live recordings", "restored", "time", "peak memory")
    text += row(f"{LIVE} live sessions", f"{found.alone:.0%}", "", "", "", "")
    return text + row(
        f"and {MANY} that are restored at once", f"{found.beside:.0%}",
        "100 % received" if found.is_whole else "**not whole**",
        found.delivered, f"{found.took_s:.1f} s", f"{found.resident_mb:.0f} MB",
    )  # fmt: skip


HEADER = f"""# Restoring

What it costs to put what was captured where it was not received. Generated by

```sh
make bench
```

## An hour that lost every fifth packet

{HOUR_S // 60} minutes of speech, mono, 48 kHz and 16 bit. The live recording lacks {LOST:.0%}
of its packets, each by itself; nothing was sent again, and FEC has recovered four fifths of them.
The client's process is started when the session has ended, and ends when the server has said that
the recording is complete; its start is in the time. *Sent* are all bytes in both directions, with
headers. The peer sends the whole hour as FLAC in one request, to a server that writes it down and
decodes nothing. Between two lost packets, the client sends the sound along if that is faster than
another request. All processes share {os.cpu_count()} cores.

"""
CROWD_HEADER = f"""
## Beside live sessions

{MANY} sessions of {MANY_S} s, half of them with `--restore all`, are restored at the same time,
while {LIVE} others are live. Those lose nothing: their ledgers have each packet as received.

"""


def main() -> None:
    text = HEADER + hour_table(hours())
    found = crowd()
    text += CROWD_HEADER + crowd_table(found)
    links: list[slow_uplink.Beside] = []
    if (why := uplink.missing()) is None:
        links = slow_uplink.measure()
        text += slow_uplink.HEADER + slow_uplink.table(links)
    else:
        print(f"slow up-links are not measured: {why}", file=sys.stderr)
    if "--write" in sys.argv[1:]:
        DOCUMENT.write_text(text)
    print(text)
    if not found.is_whole or found.delivered != MANY or any(one.dropped for one in links[:2]):
        sys.exit("a live stream has lost something, or a recording is not restored")


if __name__ == "__main__":
    if (reason := hosts.missing()) is not None:
        sys.exit(f"restoring is measured in network namespaces: {reason}")
    main()
