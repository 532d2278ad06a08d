"""The exit code that a command ends with, by the error that ended it."""

from __future__ import annotations

from domain.errors import (
    BackendMissing,
    GaplessError,
    InputUnreadable,
    NoSuchDevice,
    SettingInvalid,
)

FAILED = 1
"""The command's work failed."""
WRONG_USAGE = 2
"""The command cannot work as it was called: a setting, a device or an input file is wrong."""

_WRONG_USAGE = (SettingInvalid, BackendMissing, NoSuchDevice, InputUnreadable)


def exit_code_of(error: GaplessError) -> int:
    """Return the exit code for an error."""
    return WRONG_USAGE if isinstance(error, _WRONG_USAGE) else FAILED
