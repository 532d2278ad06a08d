"""Maps the error that ended a command to the exit code of the process."""

from __future__ import annotations

from domain.errors import (
    BackendMissing,
    DeviceUncertain,
    GaplessError,
    InputUnreadable,
    NoSuchDevice,
    SettingInvalid,
)

FAILED = 1
"""The command's work failed."""
WRONG_USAGE = 2
"""The command was called wrongly: a setting, a device or an input file is wrong."""

_WRONG_USAGE = (SettingInvalid, BackendMissing, NoSuchDevice, DeviceUncertain, InputUnreadable)


def exit_code_of(error: GaplessError) -> int:
    """Return the exit code for an error."""
    return WRONG_USAGE if isinstance(error, _WRONG_USAGE) else FAILED
