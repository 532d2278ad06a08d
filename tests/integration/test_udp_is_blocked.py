"""A firewall between two hosts lets no UDP through: what the client says, and what helps."""

from __future__ import annotations

import pathlib
import time
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from tests.rigs import nat, turn
from tests.rigs.hosts import SERVER, Hosts, hosts
from tests.rigs.nat import Router
from tests.rigs.processes import Process, serving
from tests.rigs.streams import assert_all_received, interrupt, session_of, streaming
from tests.rigs.tls import self_signed
from tests.rigs.turn import PASSWORD, SECRET, USER, turn_server_on

pytestmark = [
    pytest.mark.skipif((why := nat.missing() or turn.missing()) is not None, reason=str(why)),
    pytest.mark.timeout(120),
]

PORT = 8080
ANY_HOST = ("--host", SERVER, "--allow-anyone")
HELP = "where UDP is blocked, a TURN server over TCP or TLS is needed"


@pytest.fixture
def joined() -> Iterator[Hosts]:
    with hosts() as found:
        Router(tcp=(PORT, PORT + 1, turn.PORT, turn.TLS_PORT)).apply(found)
        yield found


def test_the_client_says_what_helps_and_turn_over_tcp_and_tls_does(
    tmp_path: pathlib.Path, joined: Hosts
) -> None:
    certificate = self_signed(tmp_path, SERVER)
    folder, untouched = tmp_path / "recordings", tmp_path / "untouched"
    with (
        turn_server_on(joined.server, tmp_path / "turn", SERVER, certificate) as relay,
        serving(untouched, *ANY_HOST, "--port", str(PORT + 1), host=joined.server) as other,
        streaming(joined.client, other.url) as blocked,
        serving(folder, *ANY_HOST, "--port", str(PORT), host=joined.server) as server,
        ExitStack() as running,
    ):
        clients: list[Process] = []
        for url in (f"{relay.url}?transport=tcp", relay.tls_url):
            config = tmp_path / f"{len(clients)}.toml"
            user = f'username = "{USER}", credential = "{PASSWORD}"'
            config.write_text(f'ice_servers = [{{ urls = "{url}", {user} }}]\n')
            trusted = {"SSL_CERT_FILE": certificate[0]}
            options = ("--config", str(config))
            client = streaming(joined.client, server.url, *options, env=trusted)
            clients.append(running.enter_context(client))
        for started in clients:
            session_of(started)
        time.sleep(1.5)  # some sound
        interrupt(*clients)
        told = blocked.wait_for("trying again")
        assert f"no media path to the server; {HELP}" in told
        assert not any("connected" in line for line in blocked.lines)
    assert_all_received(folder, *clients)
    assert list(untouched.glob("*.wav")) == []


def test_the_server_recommends_the_turn_server_that_helps(
    tmp_path: pathlib.Path, joined: Hosts
) -> None:
    certificate = self_signed(tmp_path, SERVER)
    trusted = {"SSL_CERT_FILE": certificate[0]}
    folder = tmp_path / "recordings"
    with turn_server_on(
        joined.server, tmp_path / "turn", SERVER, certificate, shared_secret=True
    ) as relay:
        urls = f"{relay.url}?transport=tcp,{relay.tls_url}"
        options = ("--port", str(PORT), "--ice-servers", urls, "--turn-secret", SECRET)
        with (
            serving(folder, *ANY_HOST, *options, env=trusted, host=joined.server) as server,
            streaming(joined.client, server.url, env=trusted) as client,
        ):
            session_of(client)
            time.sleep(1.5)  # some sound
            interrupt(client)
    assert_all_received(folder, client)
