"""Where Gapless keeps what belongs to the user and not to a recording."""

from __future__ import annotations

import os
import pathlib

from domain.errors import SettingInvalid


def state_folder(setting: str) -> pathlib.Path:
    """Return the user's state folder for Gapless, by the XDG Base Directory Specification.

    Raises `SettingInvalid` for the setting that needs it, if the system knows of no home folder.
    """
    home = pathlib.Path(os.environ.get("XDG_STATE_HOME", ""))
    if not home.is_absolute():  # then it has to be ignored
        try:
            home = pathlib.Path.home() / ".local" / "state"
        except RuntimeError as error:
            raise SettingInvalid(
                setting, "this user has no home folder: set XDG_STATE_HOME"
            ) from error
    return home / "gapless"
