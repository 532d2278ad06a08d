"""How true recordings are behind bad networks, beside aiortc's `MediaRecorder`.

Streams the same speech through the same losses (same seed, packet by packet) into both, at the
same time, and holds Gapless' ledger against the network's log. Writes docs/fidelity.md.
"""

from __future__ import annotations

import asyncio
import pathlib
import sys
from dataclasses import dataclass

import numpy as np
import pystoi

from tests.rigs import relay
from tests.rigs.clients import local_server
from tests.rigs.fidelity import Outcome, media_recorder, through
from tests.rigs.relay import Plan
from tests.rigs.sound import FRAME, RATE, encode, speech

SECONDS = 10
AT_ONCE = 4
"""Streams at a time: MediaRecorder decodes each in a thread of its own, on two cores."""
DOCUMENT = pathlib.Path(__file__).parents[1] / "docs" / "fidelity.md"


def networks() -> dict[str, tuple[Plan, Plan]]:
    """Two plans of the same fate for each network: one for each recorder."""
    makers = {
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
    return {name: (make(), make()) for name, make in makers.items()}


@dataclass(frozen=True)
class Row:
    network: str
    outcome: Outcome
    theirs_s: float
    stoi: float

    @property
    def exact(self) -> bool:
        """Length exact to the packet, and not received exactly what never came."""
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
    """STOI against what was spoken, the encoder's look-ahead taken off."""
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
        *(one(name, plans) for name, plans in networks().items()),
        one("10 % random, sent without FEC", without, fec=False),
    )


HEADER = f"""# Fidelity

What becomes of {SECONDS} s of speech (32 kbit/s mono Opus, 20 ms packets, in-band FEC) behind bad
networks. Each line is one stream through a relay that impairs the media and keeps a log; beside it
aiortc's `MediaRecorder` gets the same packets. Made by

```sh
make bench
```

*Exact* means: the recording is as long as from the first packet that came to the last, to the
sample, and the spans of its ledger that are not `received` are exactly the packets that never came.
STOI (intelligibility, 1 is best) is against what was spoken.

"""
COLUMNS = (
    "network", "lost", "`MediaRecorder`", "Gapless", "exact", "received", "recovered", "concealed",
    "silence", "STOI",
)  # fmt: skip
TABLE_HEAD = "| " + " | ".join(COLUMNS) + " |\n" + "|---" * len(COLUMNS) + "|\n"


def main() -> None:
    rows = asyncio.run(sweep())
    text = HEADER + TABLE_HEAD + "\n".join(map(str, rows)) + "\n"
    DOCUMENT.write_text(text)
    print(text)
    if not all(row.exact for row in rows):
        sys.exit("a recording is not exact")


if __name__ == "__main__":
    main()
