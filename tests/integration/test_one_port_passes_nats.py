"""Two hosts with NATs and firewalls between them: a server has one UDP port for all sessions."""

from __future__ import annotations

import asyncio
import json
import pathlib
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack

import aiohttp
import pytest

from tests.rigs import turn
from tests.rigs.clients import Remote
from tests.rigs.hosts import CLIENT, SERVER, Hosts, hosts
from tests.rigs.nat import (
    FIRST_PORTS,
    OTHER_PORTS,
    PUBLIC,
    Router,
    count_packets,
    counted_packets,
    missing,
    ports_in_use,
    wait_until_counted,
)
from tests.rigs.processes import Process, Server, gapless, serving, worker_of
from tests.rigs.streams import assert_all_received, interrupt, session_of, streaming
from tests.rigs.tls import self_signed
from tests.rigs.turn import turn_server_on

needs_namespaces = pytest.mark.skipif((why := missing()) is not None, reason=str(why))

PORT = 8080
ANY_HOST = ("--host", SERVER, "--allow-anyone")
SOUND = 50
"""Packets: a second of sound."""


@pytest.fixture
def joined() -> Iterator[Hosts]:
    with hosts() as found:
        yield found


@needs_namespaces
@pytest.mark.timeout(120)
def test_a_nat_may_change_the_ports_of_all_clients_in_mid_stream(
    tmp_path: pathlib.Path, joined: Hosts
) -> None:
    Router(tcp=(PORT,), udp=(PORT,)).apply(joined)
    count_packets(
        joined.server,
        first="udp sport {}-{}".format(*FIRST_PORTS),
        other="udp sport {}-{}".format(*OTHER_PORTS),
    )
    folder = tmp_path / "recordings"
    with (
        serving(folder, *ANY_HOST, "--port", str(PORT), host=joined.server) as server,
        ExitStack() as running,
    ):
        pid = server.process.process.pid
        assert ports_in_use(pid, "udp") == {(SERVER, PORT)}
        clients = [running.enter_context(streaming(joined.client, server.url)) for _ in range(2)]
        sessions = {session_of(client) for client in clients}
        assert len(sessions) == 2
        wait_until_counted(joined.server, "first", 2 * SOUND)
        assert ports_in_use(pid, "udp") == {(SERVER, PORT)}
        assert counted_packets(joined.server, "other") == 0
        Router(tcp=(PORT,), udp=(PORT,), ports=OTHER_PORTS).restart(joined)
        before = counted_packets(joined.server, "first")
        wait_until_counted(joined.server, "other", 8 * SOUND)
        assert counted_packets(joined.server, "first") == before
        assert ports_in_use(pid, "udp") == {(SERVER, PORT)}
        for client in clients:
            # the server's reports go to the new port once the client has told it
            client.wait_for("back after")
        interrupt(*clients)
        assert not any("the client is back" in line for line in server.process.lines)
    assert_all_received(folder, *clients, least_s=3.0)
    for path in folder.glob("*.json"):
        # the server has taken the packets from the new ports before it was told of them
        events = json.loads(path.read_text())["events"]
        assert "retransmitted" not in {event["type"] for event in events}


@needs_namespaces
@pytest.mark.timeout(120)
def test_a_server_behind_a_nat_is_reached_if_it_is_told_its_public_address(
    tmp_path: pathlib.Path, joined: Hosts
) -> None:
    Router(tcp=(PORT, PORT + 1), udp=(PORT, PORT + 1), is_one_to_one=True).apply(joined)
    joined.name(joined.server, "recorder.example", PUBLIC)
    url, untold = f"http://{PUBLIC}:{PORT}", tmp_path / "untold"
    with (
        serving(untold, *ANY_HOST, "--port", str(PORT + 1), host=joined.server),
        streaming(joined.client, f"http://{PUBLIC}:{PORT + 1}") as lost,
    ):
        for number, (options, announced) in enumerate(
            (
                (("--public-address", PUBLIC), [SERVER, PUBLIC]),
                (
                    ("--public-address", "recorder.example", "--ice-policy", "public"),
                    [PUBLIC],
                ),
            )
        ):
            folder = tmp_path / str(number)
            count_packets(joined.server, media=f"udp dport {PORT}")
            with (
                serving(folder, *ANY_HOST, "--port", str(PORT), *options, host=joined.server),
                streaming(joined.client, url) as client,
            ):
                session_of(client)
                answer = answer_to_an_offer(joined.client, url)
                found = re.findall(r"a=candidate:\S+ 1 udp \d+ (\S+) (\d+) typ host", answer)
                assert found == [(address, str(PORT)) for address in announced]
                assert (SERVER in answer) is (SERVER in announced)
                wait_until_counted(joined.server, "media", 2 * SOUND)
                interrupt(client)
            assert_all_received(folder, client)
        # in the same network, a server that is not told its public address
        assert "no media path to the server; where UDP is blocked" in lost.wait_for("trying again")
        assert not any("connected" in line for line in lost.lines)
    assert list(untold.glob("*.wav")) == []


@needs_namespaces
@pytest.mark.skipif((why_not := turn.missing()) is not None, reason=str(why_not))
@pytest.mark.timeout(120)
def test_a_server_that_needs_a_stun_server_opens_its_firewall_by_checks(
    tmp_path: pathlib.Path, joined: Hosts
) -> None:
    """Nothing comes in from an address to which nothing has gone out."""
    Router(tcp=(PORT,), may_server_begin=True).apply(joined)
    certificate = self_signed(tmp_path, CLIENT)
    folder = tmp_path / "recordings"
    with turn_server_on(joined.client, tmp_path / "turn", CLIENT, certificate) as stun:
        options = ("--port", str(PORT), "--ice-servers", stun.stun_url, "--probe-private")
        with (
            serving(folder, *ANY_HOST, *options, host=joined.server) as server,
            streaming(joined.client, server.url) as client,
        ):
            session_of(client)
            time.sleep(1.5)  # some sound
            interrupt(client)
    assert_all_received(folder, client)


def answer_to_an_offer(host: str, url: str) -> str:
    """Send a real offer from a host; return the SDP of the answer."""
    return str(json.loads(fetch(host, f"{url}/offer", asyncio.run(new_offer())))["sdp"])


async def new_offer() -> bytes:
    async with aiohttp.ClientSession() as http:
        connection = Remote("http://127.0.0.1", http).open_connection()
        try:
            return json.dumps({"sdp": connection.offer_sdp, "type": "offer"}).encode()
        finally:
            await connection.close()


def fetch(host: str, url: str, body: bytes) -> bytes:
    """POST JSON from a host; return the body of the response."""
    script = (
        "import sys, urllib.request as r\n"
        "q = r.Request(sys.argv[1], sys.stdin.buffer.read(), {'Content-Type': 'application/json'})"
        "\nsys.stdout.buffer.write(r.urlopen(q, timeout=20).read())"
    )
    command = ["ip", "netns", "exec", host, sys.executable, "-c", script, url]
    return subprocess.run(command, input=body, check=True, stdout=subprocess.PIPE).stdout


@needs_namespaces
@pytest.mark.timeout(120)
def test_a_second_worker_has_the_port_that_follows(tmp_path: pathlib.Path, joined: Hosts) -> None:
    media = 9000
    Router(tcp=(PORT,), udp=(media, media + 1)).apply(joined)
    options = ("--port", str(PORT), "--udp-port", str(media), "--workers", "2")
    folder = tmp_path / "recordings"
    with gapless(
        "serve", *ANY_HOST, "--recordings", str(folder), *options, host=joined.server
    ) as process:
        server = Server(process, folder)
        assert ports_in_use(process.process.pid, "udp") == {(SERVER, media), (SERVER, media + 1)}
        with ExitStack() as running:
            clients: list[Process] = []
            owners: set[int] = set()
            while len(owners) < 2:
                clients.append(running.enter_context(streaming(joined.client, server.url)))
                owners.add(worker_of(session_of(clients[-1]), process.process.pid))
            time.sleep(1)  # some sound
            interrupt(*clients)
        assert process.stop() == 0, process.errors
    assert owners == {0, 1}
    assert_all_received(folder, *clients, least_s=0.5)


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_udp_port_of_another_program_ends_the_server_at_once(
    tmp_path: pathlib.Path, workers: str
) -> None:
    folder = tmp_path / "recordings"
    folder.mkdir()
    left = folder / "20260102-030405-left.wav.part"
    left.write_bytes(b"a recording to resume")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind(("127.0.0.1", 0))
        number = taken.getsockname()[1]
        port = free_tcp_port()
        options = ("--port", str(port), "--udp-port", str(number), "--workers", workers)
        with gapless("serve", "--recordings", str(folder), *options) as process:
            assert process.end() == 1
            assert not any("listening" in line for line in process.lines)
            assert len(process.errors) == 1, process.errors
            (error,) = process.errors
            assert f"UDP port {number} of 127.0.0.1 is in use by another program" in error
            assert "--udp-port" in error
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.bind(("127.0.0.1", port))
    assert [path.name for path in folder.iterdir()] == [left.name]
    assert left.read_bytes() == b"a recording to resume"


def free_tcp_port() -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
