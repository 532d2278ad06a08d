"""What a network loses is asked for again, within the hold, by NACKs (RFC 4585)."""

from __future__ import annotations

import asyncio
import json
import pathlib
import re

import numpy as np
import pytest
import soundfile
from playwright.async_api import Route

from tests.rigs.browser import CHROMIUM, PUBLISH, WAIT_UNTIL_SENT, browser_page
from tests.rigs.clients import local_server
from tests.rigs.fidelity import Outcome, through
from tests.rigs.outages import Client, only_recording, recording
from tests.rigs.relay import Relay, burst_loss, bursts_in_time, clean, random_loss
from tests.rigs.sound import SPEECH, encode, speech

SECONDS = 8
HALF_TRIP_S = 0.04


def lossy(share: float) -> Relay:
    """Loses packets, requests and retransmissions alike; a round trip takes 80 ms."""
    first, again, back = (random_loss(share, seed=seed) for seed in (1, 2, 3))
    return Relay(first, again=again, back=back, delay_s=HALF_TRIP_S)


def bursty(share: float) -> Relay:
    back = bursts_in_time(share, mean_s=0.1, seed=3)
    return Relay(burst_loss(share, mean_length=5.0), back=back, delay_s=HALF_TRIP_S)


def count(outcome: Outcome) -> int:
    events = outcome.stored.ledger["events"]
    return sum(event["count"] for event in events if event["type"] == "retransmitted")


async def test_lost_packets_are_received_all_the_same() -> None:
    packets = encode(speech(SECONDS))
    # well below what is measured in docs/fidelity.md: this machine may be busy
    least = {"5 %": 0.995, "20 %": 0.99, "40 %": 0.95, "20 % in bursts": 0.97}
    relays = [lossy(0.05), lossy(0.2), lossy(0.4), bursty(0.2)]
    connected = asyncio.Barrier(len(relays))
    async with local_server(reorder_hold_s=1.0) as server:
        outcomes = await asyncio.gather(
            *(through(server, packets, item, connected, answers_requests=True) for item in relays)
        )
        assert server.seen.failures == []
    for outcome, (name, share) in zip(outcomes, least.items(), strict=True):
        log = outcome.log
        assert outcome.length == outcome.expected_length, name
        assert outcome.share("received") >= share, name
        assert log.lost_at_first > 0.03 * len(packets), name
        # each is sent again about as often as it is lost, and not more
        assert log.repeated <= 2.5 * log.lost_at_first + 10, name
        assert count(outcome) >= 0.9 * (log.lost_at_first - len(log.dropped)), name
        assert not any(event["type"] == "stall" for event in outcome.stored.ledger["events"])
    # the same sound as without losses
    async with local_server(reorder_hold_s=1.0) as server:
        lossless = await through(server, packets, clean)
    np.testing.assert_array_equal(lossless.stored.samples, outcomes[0].stored.samples)


async def test_a_sender_that_does_not_answer_is_recorded_as_before() -> None:
    packets = encode(speech(4))
    relay = Relay(random_loss(0.2))
    async with local_server(reorder_hold_s=1.0) as server:
        outcome = await through(server, packets, relay)
    assert outcome.received == outcome.log.delivered
    assert relay.log.repeated == count(outcome) == 0


async def test_without_losses_nothing_is_asked_for() -> None:
    relay = Relay(clean, delay_s=HALF_TRIP_S)
    async with local_server(reorder_hold_s=1.0) as server:
        outcome = await through(server, encode(speech(3)), relay, answers_requests=True)
    assert outcome.share("received") == 1
    assert relay.log.repeated == 0
    assert {event["type"] for event in outcome.stored.ledger["events"]} <= {"anchor"}


async def test_a_short_outage_leaves_no_gap() -> None:
    """Our client, with its uplink: it is asked for what it sent while there was no path."""
    async with recording(reorder_hold_s=1.0) as (server, network, client):
        network.go_away(http=False)
        await asyncio.sleep(1.5)
        network.come_back()
        await asyncio.sleep(2.5)
        summary = await client.stop()
        stored = only_recording(server)
        assert network.log.lost_at_first >= 60
    assert len(stored.samples) == pytest.approx(summary.seconds * 48_000, abs=960)
    silent = sum(item["length"] for item in stored.ledger["spans"] if item["kind"] != "received")
    assert silent == 0


async def test_the_last_packets_are_not_lost() -> None:
    """The end of a stream waits for retransmissions."""
    async with recording(reorder_hold_s=1.0) as (server, network, client):
        await lose_the_last(client, network.relays[-1])
        summary = await client.stop()
        stored = only_recording(server)
    assert len(stored.samples) == pytest.approx(summary.seconds * 48_000, abs=960)
    assert {item["kind"] for item in stored.ledger["spans"]} == {"received"}


async def lose_the_last(client: Client, relay: Relay) -> None:
    """Lose every packet from now on, when it is sent for the first time."""
    relay._plan = lambda _index: []  # the client stops a moment later
    relay._again = clean
    await asyncio.sleep(0.1)
    assert client.running.done() is False


@pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed")
@pytest.mark.parametrize("is_offered", [True, False], ids=["negotiated", "not negotiated"])
async def test_chromium_sends_lost_packets_again(tmp_path: pathlib.Path, is_offered: bool) -> None:
    """A page may offer NACK for Opus. If it does not, Chromium answers all the same."""
    sound, rate = soundfile.read(SPEECH, dtype="int16")
    soundfile.write(tmp_path / "microphone.wav", sound, rate)
    network = lossy(0.1)

    async def through_the_network(route: Route) -> None:
        offer = route.request.post_data_json
        offer["sdp"] = re.sub(r"a=candidate:.*\r\n", "", offer["sdp"])
        # without RED, whose copies would make up for most losses
        offer["sdp"] = re.sub(r"a=(rtpmap:63 red|fmtp:63 ).*\r\n", "", offer["sdp"])
        if is_offered:
            offer["sdp"] = offer["sdp"].replace(
                "a=rtpmap:111 ", "a=rtcp-fb:111 nack\r\na=rtpmap:111 "
            )
        response = await route.fetch(post_data=json.dumps(offer))
        answer = await response.json()
        assert ("a=rtcp-fb:111 nack" in answer["sdp"]) is is_offered
        if is_offered:  # only the server is to believe that the page has offered it
            answer["sdp"] = answer["sdp"].replace("a=rtcp-fb:111 nack\r\n", "")
        answer["sdp"] = await network.intercept(answer["sdp"])
        await route.fulfill(response=response, json=answer)

    async with local_server(reorder_hold_s=1.0) as server:
        async with browser_page(tmp_path / "microphone.wav") as page:
            await page.route("**/offer", through_the_network)
            await page.route("**/ice-candidate", lambda route: route.fulfill(status=204))
            await page.goto(f"{server.url}/blank")
            session = await page.evaluate(PUBLISH, {"token": None})
            await page.evaluate(WAIT_UNTIL_SENT, 6 * 50)
            await asyncio.sleep(0.5)
            await page.evaluate("pc.close()")
            async with server.http.delete(f"{server.url}/sessions/{session}") as response:
                assert response.status == 204
        network.close()
        assert server.seen.failures == []
        (stored,) = server.container.store().recordings.values()
    outcome = Outcome(network.log, stored)
    assert network.log.lost_at_first >= 15
    assert count(outcome) >= 0.8 * network.log.lost_at_first
    assert outcome.share("received") >= 0.98
