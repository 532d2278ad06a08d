"""The log stays readable and small, however often somebody makes the same thing happen."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable

from entrypoints.log_limit import MAX_LINES, MAX_TRACEBACKS, LogLimit


class Log(logging.Handler):
    """Takes records from a logger, under a limit that time is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.limit = LogLimit(lambda: self.now)
        self.written: list[logging.LogRecord] = []
        self.counted: list[str] = []
        self.logger = logging.Logger("tested")
        self.logger.addHandler(self)

    def emit(self, record: logging.LogRecord) -> None:
        self.counted += self.limit.end()
        if self.limit.admit(record):
            self.written.append(record)

    def wait(self) -> None:
        wait_s = self.limit.wait_s
        assert wait_s is not None
        self.now += wait_s
        self.counted += self.limit.end()


def test_lines_of_one_place_are_counted_whatever_they_say() -> None:
    log = Log()
    for number in range(1000):
        log.logger.warning("from %s" % number)  # noqa: G002, UP031 (as asyncio does)
    assert [record.getMessage() for record in log.written] == [f"from {n}" for n in range(10)]
    log.logger.warning("another place")
    assert len(log.written) == MAX_LINES + 1
    log.wait()
    assert log.now == 60.0
    assert log.counted == ["990 more of: from 9"]
    log.logger.warning("from somewhere")
    assert log.written[-1].getMessage() == "from somewhere"


def test_a_traceback_of_a_kind_is_shown_once_a_minute() -> None:
    log = Log()

    def fail(error: Exception) -> None:
        raise error

    def fail_elsewhere(error: Exception) -> None:
        raise error

    def report(how: Callable[[Exception], None], error: Exception) -> None:
        try:
            how(error)
        except Exception:
            log.logger.exception("failed")

    for number in range(100):
        report(fail, ValueError(str(number)))
        report(fail, KeyError(str(number)))
        report(fail_elsewhere, ValueError("x"))
    assert len(log.written) == 3 * MAX_TRACEBACKS
    log.wait()
    assert log.counted == [f"{100 - MAX_TRACEBACKS} more of: failed"] * 3
    assert log.limit.wait_s is None
    report(fail, ValueError("again"))
    assert len(log.written) == 3 * MAX_TRACEBACKS + 1


def test_an_error_without_a_traceback_is_a_line() -> None:
    log = Log()
    log.logger.error("failed", exc_info=ValueError("never raised"))
    log.logger.error("failed", exc_info=True)
    assert len(log.written) == 2
    assert sys.exc_info()[0] is None


def test_memory_is_bounded_by_the_number_of_places() -> None:
    log = Log()
    for number in range(5000):
        record = log.logger.makeRecord("x", 30, f"/file{number}", 1, "%s", ("y" * 10_000,), None)
        log.logger.handle(record)
    assert len(log.written) == 100 + MAX_LINES
    assert sum(map(len, log.limit._examples.values())) <= 200 * 200
    log.wait()
    assert log.counted == [f"{5000 - len(log.written)} more of: others"]
    assert log.limit._examples == {}


def test_the_end_tells_what_was_counted() -> None:
    log = Log()
    for _ in range(MAX_LINES + 3):
        log.logger.warning("again")
    assert log.limit.end() == []
    assert log.limit.end(at_once=True) == ["3 more of: again"]
