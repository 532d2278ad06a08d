"""The exit code says who is at fault: 1 for work that failed, 2 for wrong usage."""

from __future__ import annotations

import pytest

import domain.errors
from domain.errors import GaplessError
from entrypoints.exit_codes import exit_code_of

WRONG_USAGE = {
    "SettingInvalid",
    "BackendMissing",
    "NoSuchDevice",
    "DeviceUncertain",
    "InputUnreadable",
}
ERRORS = [
    found
    for found in vars(domain.errors).values()
    if isinstance(found, type) and issubclass(found, GaplessError)
]


@pytest.mark.parametrize("kind", ERRORS)
def test_every_error_has_its_exit_code(kind: type[GaplessError]) -> None:
    error = kind.__new__(kind)
    assert exit_code_of(error) == (2 if kind.__name__ in WRONG_USAGE else 1)


def test_the_errors_of_wrong_usage_are_there() -> None:
    assert {kind.__name__ for kind in ERRORS} >= WRONG_USAGE
