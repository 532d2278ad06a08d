"""The cases, by what is wrong with their senders."""

from __future__ import annotations

from benchmarks.senders.case import Case
from benchmarks.senders.cases.clocks import CLOCKS
from benchmarks.senders.cases.codecs import CODECS
from benchmarks.senders.cases.combinations import COMBINATIONS
from benchmarks.senders.cases.networks import NETWORKS
from benchmarks.senders.cases.reports import REPORTS
from benchmarks.senders.cases.stalls import STALLS
from benchmarks.senders.cases.timestamps import TIMESTAMPS

GROUPS: dict[str, list[Case]] = {
    "Senders that stall": STALLS,
    "Networks that hold packets": NETWORKS,
    "Sender reports that are wrong": REPORTS,
    "Timestamps that count wrong": TIMESTAMPS,
    "Clocks that are wrong": CLOCKS,
    "Combinations": COMBINATIONS,
    "Codecs and channels": CODECS,
}
CASES: dict[str, Case] = {case.name: case for group in GROUPS.values() for case in group}
assert len(CASES) == sum(map(len, GROUPS.values()))
