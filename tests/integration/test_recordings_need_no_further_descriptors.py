"""A process whose descriptors are all taken goes on with its recordings, and completes them."""

from __future__ import annotations

import contextlib
import json
import os
import pathlib
import resource
import subprocess
import sys

import pytest

from adapters.descriptors import DescriptorReserve
from adapters.storage.folder.inspection import inspect_recording
from domain.recording.verification import Limits, verify
from tests.rigs.descriptors import RECORDINGS


def test_recordings_rotate_and_are_completed_when_no_descriptor_is_free(
    tmp_path: pathlib.Path,
) -> None:
    command = [sys.executable, "-m", "tests.rigs.descriptors", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=50)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    found = json.loads(done.stdout)
    assert found["taken"] > 20
    assert found["reasons"] == ["closed"] * RECORDINGS
    assert [len(parts) for parts in found["parts"]] == [5] * RECORDINGS  # 4.5 s
    for parts in found["parts"]:
        for part in parts:
            facts = inspect_recording(part["location"])
            assert verify(facts, Limits()).problems == []
            assert isinstance(facts.ledger, dict)
            assert {event["type"] for event in facts.ledger["events"]} <= {"continues"}
    assert not list(tmp_path.glob("*.part")) and not list(tmp_path.glob("*.journal"))


def test_what_is_given_up_is_kept_again() -> None:
    reserve = DescriptorReserve()
    assert reserve.keep(3)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    taken: list[int] = []
    resource.setrlimit(
        resource.RLIMIT_NOFILE, (len(list(pathlib.Path("/proc/self/fd").iterdir())) + 20, hard)
    )
    try:
        with contextlib.suppress(OSError):
            while True:
                taken.append(os.open(os.devnull, os.O_RDONLY))
        assert not reserve.keep(1)
        mine = [reserve.open(lambda: os.open(os.devnull, os.O_RDONLY)) for _ in range(2)]
        with pytest.raises(OSError, match="Too many open files"):
            reserve.open(lambda: os.open(os.devnull, os.O_RDONLY))
        for descriptor in mine:
            reserve.close(descriptor)
        with pytest.raises(OSError, match="Too many open files"):
            os.open(os.devnull, os.O_RDONLY)
        assert reserve.open(lambda: os.open(os.devnull, os.O_RDONLY)) in mine
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        for descriptor in taken:
            os.close(descriptor)
        reserve.give_back(4)
