"""Fuzz one target until the time is over or it crashes. libFuzzer then exits the process."""

from __future__ import annotations

import sys

import atheris

with atheris.instrument_imports(include=["adapters", "domain", "aiortc.sdp", "aioice"]):
    from tests.fuzz.targets import TARGETS


def main() -> None:
    name, *arguments = sys.argv[1:]
    atheris.Setup([sys.argv[0], *arguments], TARGETS[name])
    atheris.Fuzz()


if __name__ == "__main__":
    main()
