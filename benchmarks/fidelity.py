"""Measures the fidelity of recordings over bad networks, compared with aiortc's `MediaRecorder`.

Streams the same speech with the same losses (same seed, packet by packet) into both at the same
time, and compares Gapless' ledger with the network's log. Then the same networks lose packets,
requests and retransmissions. Last, recordings are restored over the networks of the first table.
Writes docs/fidelity.md.
"""

from __future__ import annotations

import asyncio
import pathlib
import sys
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pystoi

from benchmarks.restored_fidelity import sweep_restored, table
from tests.rigs import relay
from tests.rigs.clients import local_server
from tests.rigs.fidelity import Outcome, media_recorder, through
from tests.rigs.relay import Plan, Relay
from tests.rigs.sound import FRAME, RATE, encode, speech

SECONDS = 10
RETRANSMITTED_SECONDS = 60
HOLD_S = 1.0
ROUND_TRIPS_S = (0.0, 0.08, 0.3)
AT_ONCE = 4
"""Concurrent streams. MediaRecorder decodes each in its own thread, on two cores."""
DOCUMENT = pathlib.Path(__file__).parents[1] / "docs" / "fidelity.md"


def networks() -> dict[str, Callable[[], Plan]]:
    """Return what makes the plan of each network; all plans of one are the same."""
    return {
        "clean": lambda: relay.clean,
        **{
            f"{share} % random": lambda share=share: relay.random_loss(share / 100)
            for share in (1, 5, 10, 20, 40, 60)
        },
        **{
            f"{share} % in bursts": lambda share=share: relay.burst_loss(share / 100)
            for share in (5, 10, 20, 40)
        },
        "reordered by up to 10": lambda: relay.reordering(10),
        "20 % duplicated": lambda: relay.duplicates(0.2),
        "500 ms jitter (hold 0.7 s)": lambda: relay.jitter(0.5),
    }


@dataclass(frozen=True)
class Row:
    network: str
    outcome: Outcome
    theirs_s: float
    stoi: float

    @property
    def exact(self) -> bool:
        """Whether the length is exact, and exactly the delivered packets are `received`."""
        return (
            self.outcome.length == self.outcome.expected_length
            and self.outcome.received == self.outcome.log.delivered
        )

    def __str__(self) -> str:
        share = self.outcome.share
        lost = len(self.outcome.log.dropped) / len(self.outcome.log.sent)
        cells = [
            self.network,
            f"{lost:.1%}",
            f"{self.theirs_s:.2f} s",
            f"{self.outcome.length / RATE:.2f} s",
            "yes" if self.exact else "NO",
            *(f"{share(kind):.1%}" for kind in ("received", "recovered", "concealed", "silence")),
            f"{self.stoi:.3f}",
        ]
        return "| " + " | ".join(cells) + " |"


def intelligibility(spoken: np.ndarray, outcome: Outcome) -> float:
    """Return STOI against the original speech, without the encoder's look-ahead."""
    start = outcome.log.delivered[0] * FRAME
    recorded = outcome.stored.samples[312:, 0]
    original = spoken[start : start + len(recorded), 0]
    length = min(len(original), len(recorded))
    return float(pystoi.stoi(original[:length], recorded[:length], RATE))


async def measure(name: str, plans: tuple[Plan, Plan], *, hold_s: float, fec: bool = True) -> Row:
    spoken = speech(SECONDS)
    packets = encode(spoken, fec=fec)
    async with local_server(reorder_hold_s=hold_s) as server:
        outcome, theirs_s = await asyncio.gather(
            through(server, packets, plans[0]), media_recorder(server, packets, plans[1])
        )
    return Row(name, outcome, theirs_s, intelligibility(spoken, outcome))


async def sweep() -> list[Row]:
    gate = asyncio.Semaphore(AT_ONCE)

    async def one(name: str, plans: tuple[Plan, Plan], *, fec: bool = True) -> Row:
        async with gate:
            print(f"  {name}", file=sys.stderr)
            return await measure(name, plans, hold_s=0.7 if "hold" in name else 0.2, fec=fec)

    without = (relay.random_loss(0.10), relay.random_loss(0.10))
    return await asyncio.gather(
        *(one(name, (make(), make())) for name, make in networks().items()),
        one("10 % random, sent without FEC", without, fec=False),
    )


@dataclass(frozen=True)
class RetransmissionRow:
    network: str
    round_trip_s: float
    outcome: Outcome

    @property
    def exact(self) -> bool:
        return self.outcome.length == self.outcome.expected_length

    def __str__(self) -> str:
        log = self.outcome.log
        cells = [
            self.network,
            f"{self.round_trip_s * 1000:.0f} ms",
            f"{log.lost_at_first / len(log.sent):.1%}",
            f"{log.repeated / len(log.sent):.1%}",
            "yes" if self.exact else "NO",
            f"{self.outcome.share('received'):.2%}",
        ]
        return "| " + " | ".join(cells) + " |"


def lossy_both_ways() -> dict[str, Callable[[float], Relay]]:
    """Relays for a round trip time; requests and retransmissions are lost like packets."""

    def random(share: float) -> Callable[[float], Relay]:
        first, again, back = (relay.random_loss(share, seed=seed) for seed in (1, 2, 3))
        return lambda trip_s: Relay(first, again=again, back=back, delay_s=trip_s / 2)

    def bursts(share: float, length: float) -> Callable[[float], Relay]:
        return lambda trip_s: Relay(
            relay.burst_loss(share, mean_length=length),
            back=relay.bursts_in_time(share, mean_s=length * 0.02, seed=3),
            delay_s=trip_s / 2,
        )

    return {
        "clean": lambda trip_s: Relay(relay.clean, delay_s=trip_s / 2),
        **{f"{share} % random": random(share / 100) for share in (5, 20, 40)},
        "20 % in bursts of 5": bursts(0.2, 5.0),
    }


async def sweep_retransmissions() -> list[RetransmissionRow]:
    gate = asyncio.Semaphore(AT_ONCE)
    packets = encode(speech(RETRANSMITTED_SECONDS))

    async def one(name: str, make: Callable[[float], Relay], trip_s: float) -> RetransmissionRow:
        async with gate, local_server(reorder_hold_s=HOLD_S) as server:
            print(f"  {name}, round trip {trip_s} s", file=sys.stderr)
            outcome = await through(server, packets, make(trip_s), answers_requests=True)
            return RetransmissionRow(name, trip_s, outcome)

    return await asyncio.gather(
        *(
            one(name, make, trip_s)
            for name, make in lossy_both_ways().items()
            for trip_s in ROUND_TRIPS_S
        )
    )


HEADER = f"""# Fidelity

Recordings of {SECONDS} s of speech (32 kbit/s mono Opus, 20 ms packets, in-band FEC) over bad
networks. Each row is one stream through a relay that impairs the media and keeps a log; aiortc's
`MediaRecorder` gets the same packets with the same losses. The sender of this table does not send
lost packets again. Generated by

```sh
make bench
```

*Exact* means that the recording lasts from the first delivered packet to the last, to the sample,
and that the spans of its ledger that are not `received` are exactly the packets that were lost.
STOI (intelligibility, 1 is best) is measured against the original speech.

"""
COLUMNS = (
    "network", "lost", "`MediaRecorder`", "Gapless", "exact", "received", "recovered", "concealed",
    "silence", "STOI",
)  # fmt: skip
TABLE_HEAD = "| " + " | ".join(COLUMNS) + " |\n" + "|---" * len(COLUMNS) + "|\n"


RETRANSMISSION_HEADER = f"""
## Lost packets are asked for again

{RETRANSMITTED_SECONDS} s of the same stream to a server that holds packets for {HOLD_S:g} s. Our
client sends again what the server asks for (NACK). The network loses requests and retransmissions
like all packets. *Again* counts the retransmissions, lost ones included, in percent of all packets.
At a round trip of 300 ms there is time for three requests.

"""
RETRANSMISSION_COLUMNS = ("network", "round trip", "lost at first", "again", "exact", "received")
RETRANSMISSION_HEAD = (
    "| "
    + " | ".join(RETRANSMISSION_COLUMNS)
    + " |\n"
    + "|---" * len(RETRANSMISSION_COLUMNS)
    + "|\n"
)


def main() -> None:
    rows = asyncio.run(sweep())
    again = asyncio.run(sweep_retransmissions())
    restored = sweep_restored(networks())
    text = HEADER + TABLE_HEAD + "\n".join(map(str, rows)) + "\n"
    text += RETRANSMISSION_HEADER + RETRANSMISSION_HEAD + "\n".join(map(str, again)) + "\n"
    text += table(restored)
    DOCUMENT.write_text(text)
    print(text)
    if not all(row.exact for row in (*rows, *again)):
        sys.exit("a recording is not exact")
    if not all(row.is_restored for row in restored):
        sys.exit("a recording is not what was captured")


if __name__ == "__main__":
    main()
