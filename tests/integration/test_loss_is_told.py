"""Loss, reordering, duplicates, jitter: length and ledger of the recording stay exact.

The log of the network is the reference. `make bench` tests more networks for docs/fidelity.md.
"""

from __future__ import annotations

import asyncio

import numpy as np
import pystoi
import pytest

from tests.rigs import relay
from tests.rigs.clients import local_server
from tests.rigs.fidelity import Outcome, media_recorder, through
from tests.rigs.relay import Plan
from tests.rigs.sound import RATE, encode, speech

SECONDS = 6

CASES: dict[str, Plan] = {
    "clean": relay.clean,
    "1 % random": relay.random_loss(0.01),
    "5 % random": relay.random_loss(0.05),
    "10 % random": relay.random_loss(0.10),
    "20 % random": relay.random_loss(0.20),
    "40 % random": relay.random_loss(0.40),
    "60 % random": relay.random_loss(0.60),
    "10 % in bursts": relay.burst_loss(0.10),
    "40 % in bursts": relay.burst_loss(0.40),
    "reordered by 10": relay.reordering(10),
    "20 % twice": relay.duplicates(0.20),
    "all of it": relay.both(relay.random_loss(0.1, seed=5), relay.reordering(5, seed=6)),
}


def assert_exact(outcome: Outcome) -> None:
    assert outcome.length == outcome.expected_length
    assert outcome.received == outcome.log.delivered
    assert outcome.stored.ledger["length_samples"] == outcome.length
    breaks = [e for e in outcome.stored.ledger["events"] if e["type"] == "discontinuity"]
    assert breaks == []


async def test_every_sample_is_accounted_for_whatever_the_network_does() -> None:
    packets = encode(speech(SECONDS))
    # each handshake delays this event loop, which also runs the networks
    connected = asyncio.Barrier(len(CASES))
    async with local_server() as server:
        outcomes = await asyncio.gather(
            *(through(server, packets, plan, connected) for plan in CASES.values())
        )
        assert server.seen.failures == []
    for outcome in outcomes:
        assert_exact(outcome)
    by_name = dict(zip(CASES, outcomes, strict=True))
    assert by_name["clean"].share("received") == 1
    # nothing is repeated: a clean stream's samples are those of a stream with duplicates
    np.testing.assert_array_equal(
        by_name["clean"].stored.samples, by_name["20 % twice"].stored.samples
    )


async def test_half_a_second_of_jitter_costs_nothing_when_the_recorder_waits_longer() -> None:
    async with local_server(reorder_hold_s=0.7) as server:
        assert_exact(await through(server, encode(speech(4)), relay.jitter(0.5)))


async def test_media_recorder_writes_a_shorter_file_from_the_same_packets() -> None:
    packets = encode(speech(SECONDS))
    async with local_server() as server:
        ours, theirs = await asyncio.gather(
            through(server, packets, relay.random_loss(0.10)),
            media_recorder(server, packets, relay.random_loss(0.10)),
        )
    assert ours.length / RATE == pytest.approx(SECONDS, abs=0.1)
    assert theirs < SECONDS * 0.8


async def test_single_losses_are_recovered_audibly() -> None:
    spoken = speech(SECONDS)
    async with local_server() as server:
        with_fec, without = await asyncio.gather(
            through(server, encode(spoken), relay.random_loss(0.10)),
            through(server, encode(spoken, fec=False), relay.random_loss(0.10)),
        )
    for outcome in (with_fec, without):
        assert_exact(outcome)
    lost = with_fec.log.dropped
    single = [at for at in lost if at + 1 not in lost and at < len(with_fec.log.sent) - 1]
    first = with_fec.log.delivered[0]
    recovered = [at for at in single if with_fec.kinds[at - first] == "recovered"]
    # the encoder sends no FEC in pauses of speech
    assert len(recovered) > 0.6 * len(single)
    assert without.share("recovered") == 0
    assert stoi(spoken, with_fec) > stoi(spoken, without)


def stoi(spoken: np.ndarray, outcome: Outcome) -> float:
    """Return STOI, with the recording moved back by the encoder's look-ahead."""
    start = outcome.log.delivered[0] * 960
    recorded = outcome.stored.samples[312:, 0]
    original = spoken[start : start + len(recorded), 0]
    length = min(len(original), len(recorded))
    score: float = pystoi.stoi(original[:length], recorded[:length], RATE)
    return score
