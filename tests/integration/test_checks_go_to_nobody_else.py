"""Whom a server checks when it is told, in every way there is, to check somebody else.

All of it runs in network namespaces without a way out, where the kernel counts what is sent.
"""

from __future__ import annotations

import pathlib
from collections.abc import Iterator, Sequence
from contextlib import ExitStack

import pytest

from tests.rigs import nat, turn, victims
from tests.rigs.hosts import SERVER, Hosts, hosts
from tests.rigs.nat import ports_in_use
from tests.rigs.processes import serving
from tests.rigs.tls import self_signed
from tests.rigs.turn import SECRET, turn_server_on
from tests.rigs.victims import NEVER, VICTIMS

pytestmark = [
    pytest.mark.skipif((why := nat.missing() or turn.missing()) is not None, reason=str(why)),
    pytest.mark.timeout(120),
]

SERVE = ("--host", SERVER, "--allow-anyone", "--port", "8080")


@pytest.fixture
def joined() -> Iterator[Hosts]:
    with hosts() as found:
        victims.prepare(found)
        yield found


def attacked(
    joined: Hosts, folder: pathlib.Path, *options: str, connect_s: float, is_lite: bool = False
) -> tuple[dict[str, int], int]:
    """Attack a server until it gives all sessions up; return what it sent, and what that took."""
    settings = ("--connect-timeout-s", str(connect_s), *options)
    with serving(folder, *SERVE, *settings, host=joined.server) as server:
        victims.count(joined.server)
        took = victims.run(joined.client, url=server.url, restarts=3, is_lite=is_lite)["bytes"]
        for _ in range(3):
            server.process.wait_for("session ended")
        assert not any(
            number == 5353 for _, number in ports_in_use(server.process.process.pid, "udp")
        )
        return victims.sent(joined.server), took


LENGTHS = [4.0, pytest.param(15.0, marks=pytest.mark.soak)]


@pytest.mark.parametrize("connect_s", LENGTHS)
def test_a_server_without_stun_and_turn_checks_nobody_who_does_not_check_it(
    tmp_path: pathlib.Path, joined: Hosts, connect_s: float
) -> None:
    sent, _ = attacked(joined, tmp_path / "recordings", connect_s=connect_s)
    assert sent == dict.fromkeys([*VICTIMS, "mdns"], 0)


@pytest.mark.parametrize("connect_s", LENGTHS)
@pytest.mark.parametrize("why", ["stun", "turn", "ice-lite"])
def test_a_server_that_has_to_check_stays_within_what_it_was_sent(
    tmp_path: pathlib.Path, joined: Hosts, why: str, connect_s: float
) -> None:
    certificate = self_signed(tmp_path, SERVER)
    with ExitStack() as running:
        options: Sequence[str] = ()
        if why != "ice-lite":
            relay = running.enter_context(
                turn_server_on(
                    joined.server, tmp_path / "turn", SERVER, certificate, shared_secret=True
                )
            )
            url = relay.stun_url if why == "stun" else relay.url
            options = ("--ice-servers", url, "--turn-secret", SECRET)
        sent, took = attacked(
            joined, tmp_path / "recordings", *options,
            connect_s=connect_s, is_lite=why == "ice-lite",
        )  # fmt: skip
        print(f"{why}: {took} bytes made it send {sent}")
        assert {kind for kind in NEVER if sent[kind]} == set()
        assert sent["private"] == sent["mdns"] == 0
        assert 0 < sent["public"] < took


def test_private_addresses_are_checked_if_that_is_wanted(
    tmp_path: pathlib.Path, joined: Hosts
) -> None:
    sent, took = attacked(
        joined, tmp_path / "recordings", "--probe-private", connect_s=4.0, is_lite=True
    )
    assert {kind for kind in NEVER if sent[kind]} == set()
    assert sent["private"] > 0
    assert sent["private"] + sent["public"] < took


@pytest.mark.parametrize("kind", ["metadata", "link_local", "public", "private"])
@pytest.mark.parametrize("amount", [{"ports": 1, "times": 500}, {"ports": 500, "times": 1}])
def test_an_answer_to_a_forged_check_goes_to_no_service_and_is_no_flood(
    tmp_path: pathlib.Path, joined: Hosts, kind: str, amount: dict[str, int]
) -> None:
    """Others than these the kernel does not let in."""
    options = (*SERVE, "--connect-timeout-s", "4")
    with serving(tmp_path / "recordings", *options, host=joined.server) as server:
        victims.count(joined.server)
        forged = [address for address in VICTIMS[kind] if ":" not in address]
        took = victims.run(joined.client, url=server.url, forged=forged, **amount)["bytes"]
        server.process.wait_for("session ended")
        sent = victims.sent(joined.server)
        print(f"{kind}: {took} bytes made it send {sent[kind]}")
        if kind in NEVER:
            assert sent[kind] == 0
        else:
            assert 0 < sent[kind] < took


def test_the_counters_count(tmp_path: pathlib.Path, joined: Hosts) -> None:
    """What is counted as nothing would be seen."""
    victims.count(joined.server)
    victims.send_to_all(joined.server)
    sent = victims.sent(joined.server)
    assert [kind for kind in VICTIMS if not sent[kind]] == []
