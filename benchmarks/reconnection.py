"""How long it takes a recording to go on once there is a way again, and how true it is then.

Each line is a number of recordings of a tone that lose their network, their server or their
address. Writes docs/reconnection.md.
"""

from __future__ import annotations

import asyncio
import pathlib
import statistics
import sys
import tempfile
from collections.abc import Awaitable, Callable

from tests.rigs import hosts
from tests.rigs.outages import Outcome, killed, moved, outage, rebinding

RUNS = 5
DOCUMENT = pathlib.Path(__file__).parents[1] / "docs" / "reconnection.md"
OUTAGES_S = (2, 10, 25, 29)
DOWN_S = (0, 1, 3, 8)
WORST_S, MEDIAN_S, TOLERANCE_MS = 8.0, 2.0, 40.0


async def networks() -> dict[str, list[Outcome]]:
    """What happens inside one event loop: all of it at the same time."""
    wanted: dict[str, Callable[[], Awaitable[Outcome]]] = {
        f"everything lost for {seconds} s": lambda seconds=seconds: outage(seconds)
        for seconds in OUTAGES_S
    }
    wanted["media lost for ever: ICE restart"] = lambda: outage(10, http=False)
    wanted["media lost for ever: new connection"] = lambda: outage(10, http=False, restarts=False)
    wanted["NAT rebinding, three times"] = rebinding
    results = await asyncio.gather(*(many(make) for make in wanted.values()))
    return dict(zip(wanted, results, strict=True))


async def many(make: Callable[[], Awaitable[Outcome]]) -> list[Outcome]:
    async def later(index: int) -> Outcome:
        await asyncio.sleep(index * 0.37)  # not all in one moment
        return await make()

    return list(await asyncio.gather(*(later(index) for index in range(RUNS))))


def processes() -> dict[str, list[Outcome]]:
    """What takes processes and hosts: one after the other."""
    results: dict[str, list[Outcome]] = {}
    for seconds in DOWN_S:
        name = f"server killed, back after {seconds} s"
        results[name] = [in_folder(lambda folder, down=seconds: killed(folder, down_s=down))]
    if (why := hosts.missing()) is None:
        results["client moved to another address"] = [in_folder(moved) for _ in range(RUNS)]
    else:
        print(f"no client that moves: {why}", file=sys.stderr)
    return results


def in_folder(measure: Callable[[pathlib.Path], Outcome]) -> Outcome:
    with tempfile.TemporaryDirectory() as folder:
        return measure(pathlib.Path(folder))


HEADER = """# Reconnection

How long it takes until a recording goes on once there is a way again, and how true it is: one
recording each, over whatever happened. Made by

```sh
make bench
```

*Recovery* is from the moment when there is a way again (the network is back, the new server
listens, the new address is there) to the first packet that takes it; where media is lost for ever,
from the loss. *Length* is the recording's against what the client sent, *hole* where its sound sets
in again against the first packet that got through; both are the worst of the runs. A process tells
its length in tenths of a second: what is within that counts as 0.

"""
COLUMNS = ("what happened", "runs", "recovery: median", "worst", "length", "hole")


def row(name: str, outcomes: list[Outcome]) -> str:
    recovery = [outcome.recovery_s for outcome in outcomes]
    cells = (
        name, str(len(outcomes)), f"{statistics.median(recovery):.2f} s", f"{max(recovery):.2f} s",
        f"{max(outcome.length_error_ms for outcome in outcomes):.1f} ms",
        f"{max(outcome.hole_error_ms for outcome in outcomes):.1f} ms",
    )  # fmt: skip
    return "| " + " | ".join(cells) + " |"


def main() -> None:
    results = asyncio.run(networks()) | processes()
    table = "| " + " | ".join(COLUMNS) + " |\n" + "|---" * len(COLUMNS) + "|\n"
    everything = [outcome for outcomes in results.values() for outcome in outcomes]
    recovery = [outcome.recovery_s for outcome in everything]
    table += "\n".join(row(name, outcomes) for name, outcomes in results.items())
    table += "\n" + row("**all**", everything) + "\n"
    DOCUMENT.write_text(HEADER + table)
    print(table)
    if (
        statistics.median(recovery) > MEDIAN_S
        or max(recovery) > WORST_S
        or max(outcome.length_error_ms for outcome in everything) > TOLERANCE_MS
        or max(outcome.hole_error_ms for outcome in everything) > TOLERANCE_MS
    ):
        sys.exit("a recording came back too late, or is not as long as reality")


if __name__ == "__main__":
    main()
