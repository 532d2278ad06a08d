"""The audit log has one JSON object a line, whatever clients send and whoever moves the file."""

from __future__ import annotations

import json
import logging
import multiprocessing
import os
import pathlib
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from adapters.events import audit
from adapters.events.audit import AuditLog
from domain.errors import SettingInvalid
from domain.events import EventsDropped
from domain.events.server import (
    ConnectionAdded,
    RecordingDeleted,
    RequestRefused,
    ServerStarted,
    SessionDeleted,
    SessionEnded,
    SessionOpened,
    ShutdownStarted,
    StorageWritable,
    WorkerDied,
)
from domain.recording.effects import EndReason
from domain.session.caller import Caller

CALLER = Caller("192.0.2.1", "token")
OPENED = SessionOpened("ab", "kitchen", CALLER)


def read(path: pathlib.Path) -> list[dict[str, Any]]:
    text = path.read_bytes()
    assert text.endswith(b"\n")
    assert all(32 <= byte < 127 or byte == 10 for byte in text)
    return [json.loads(line) for line in text.splitlines()]


@pytest.fixture
def path(tmp_path: pathlib.Path) -> pathlib.Path:
    return tmp_path / "audit.log"


@contextmanager
def opened(path: pathlib.Path, **options: Any) -> Iterator[AuditLog]:
    log = AuditLog(str(path), **options)
    yield log
    log.close()


def test_what_outsiders_cause_is_logged(path: pathlib.Path) -> None:
    events = {
        "session opened": OPENED,
        "connection added": ConnectionAdded("ab", CALLER),
        "session deleted": SessionDeleted("ab", CALLER),
        "session ended": SessionEnded("ab", EndReason.DELETED),
        "recording deleted": RecordingDeleted("ab", "20260102T030405678Z-ab", CALLER),
        "refused": RequestRefused(CALLER, "GET /whip", 401, "why", 5),
        "server started": ServerStarted("http://a", 2),
        "server stopping": ShutdownStarted(),
        "worker died": WorkerDied(1, "killed"),
        "events dropped": EventsDropped(7),
    }
    with opened(path) as log:
        for event in events.values():
            log.handle(event)
        log.handle(StorageWritable(1.0))  # no business of an audit
    assert path.stat().st_mode & 0o777 == 0o600
    entries = read(path)
    assert [entry["event"] for entry in entries] == [*events]
    for entry in entries:
        assert entry.pop("pid") == os.getpid()
        assert entry.pop("time").endswith("Z")
    by = {"address": "192.0.2.1", "token": "token"}
    assert entries[0] == by | {"event": "session opened", "session": "ab", "name": "kitchen"}
    assert entries[5] == by | {
        "event": "refused", "request": "GET /whip", "status": 401, "count": 5, "reason": "why"
    }  # fmt: skip


@pytest.mark.parametrize("name", ["a\nb", "\x1b[2J\x7f\x9b", "\u2028\u202e", "\ud800", '"}{', "ü"])
def test_what_a_client_says_begins_no_line_and_paints_nothing(
    path: pathlib.Path, name: str
) -> None:
    with opened(path) as log:
        log.handle(SessionOpened("ab", name, CALLER))
    (entry,) = read(path)
    assert entry["name"] == name


def descriptors() -> int:
    return len([*pathlib.Path(f"/proc/{os.getpid()}/fd").iterdir()])


def test_a_log_that_is_renamed_begins_anew(path: pathlib.Path) -> None:
    with opened(path) as log:
        log.handle(OPENED)
        before = descriptors()
        path.rename(path.with_suffix(".1"))
        log.handle(SessionDeleted("ab", CALLER))
        path.unlink()
        log.handle(ShutdownStarted())
        assert [entry["event"] for entry in read(path)] == ["server stopping"]
        assert descriptors() == before
    assert [entry["event"] for entry in read(path.with_suffix(".1"))] == ["session opened"]


def test_a_log_that_is_truncated_goes_on_at_its_beginning(path: pathlib.Path) -> None:
    with opened(path) as log:
        for _ in range(3):
            log.handle(OPENED)
        os.truncate(path, 0)
        log.handle(ShutdownStarted())
    assert [entry["event"] for entry in read(path)] == ["server stopping"]


def test_an_earlier_log_is_continued(path: pathlib.Path) -> None:
    path.write_text("{}\n")
    with opened(path) as log:
        log.handle(OPENED)
    assert len(read(path)) == 2


def test_only_a_regular_file_is_written(path: pathlib.Path) -> None:
    target = path.with_name("target")
    target.write_text("")
    for make, reason in (
        (lambda: path.symlink_to(target), "symbolic links"),
        (lambda: os.mkfifo(path), "No such device|not a regular file"),
        (path.mkdir, "Is a directory"),
    ):
        make()
        with pytest.raises(SettingInvalid, match=f"audit_log: cannot write .*({reason})"):
            AuditLog(str(path))
        path.rmdir() if path.is_dir() and not path.is_symlink() else path.unlink()
    with pytest.raises(SettingInvalid, match="No such file"):
        AuditLog(str(path / "no" / "folder"))
    with opened(path) as log:
        path.unlink()
        path.symlink_to(target)
        log.handle(OPENED)  # lost
    assert target.read_text() == ""


def test_what_could_not_be_written_is_counted(
    path: pathlib.Path, caplog: pytest.LogCaptureFixture
) -> None:
    with opened(path) as log:
        log.handle(OPENED)
        moved = path.parent.rename(path.parent.with_name("moved"))
        for _ in range(3):
            log.handle(OPENED)
        assert {record.levelno for record in caplog.records} == {logging.WARNING}
        moved.rename(path.parent)
        log.handle(ShutdownStarted())
    entries = read(path)
    assert [entry["event"] for entry in entries] == [
        "session opened", "lines lost", "server stopping"
    ]  # fmt: skip
    assert entries[1]["count"] == 3


def test_a_line_that_was_cut_off_spoils_no_other(path: pathlib.Path) -> None:
    context = multiprocessing.get_context("spawn")
    process = context.Process(target=fill, args=(str(path),))
    process.start()
    process.join()
    assert process.exitcode == 0
    lines = path.read_bytes().splitlines()
    assert [json.loads(line)["event"] for line in (lines[0], *lines[2:])] == [
        "session opened", "lines lost", "server stopping"
    ]  # fmt: skip
    with pytest.raises(ValueError, match="."):
        json.loads(lines[1])


def fill(path: str) -> None:
    """Write until a file may not become longer, and again when it may."""
    log = AuditLog(path)
    log.handle(OPENED)
    size = pathlib.Path(path).stat().st_size
    _, most = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size + 50, most))
    log.handle(OPENED)
    resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))
    log.handle(ShutdownStarted())


def test_a_flood_of_events_becomes_a_line_with_its_count(path: pathlib.Path) -> None:
    now = 0.0
    with opened(path, monotonic=lambda: now) as log:
        for _ in range(audit.MAX_LINES + 500):
            log.handle(OPENED)
        log.handle(SessionDeleted("ab", CALLER))  # other events are not affected
        now = 61.0
        log.handle(ShutdownStarted())
    entries = read(path)
    assert len(entries) == audit.MAX_LINES + 3
    assert [entry["event"] for entry in entries[-3:]] == [
        "session deleted", "session opened", "server stopping"
    ]  # fmt: skip
    assert entries[-2]["count"] == 500


def test_several_processes_write_whole_lines(path: pathlib.Path) -> None:
    context = multiprocessing.get_context("spawn")
    writers = [context.Process(target=write_many, args=(str(path), n)) for n in range(3)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    entries = read(path)
    assert len(entries) == 3 * 500
    assert len({entry["pid"] for entry in entries}) == 3


def write_many(path: str, number: int) -> None:
    log = AuditLog(path)
    for _ in range(500):
        log.handle(SessionOpened("ab", f"{number}" * 200, CALLER))
