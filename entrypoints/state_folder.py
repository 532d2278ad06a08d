"""Where Gapless keeps what belongs to the user and not to a recording."""

from __future__ import annotations

import os
import pathlib


def state_folder() -> pathlib.Path:
    """Return the user's state folder for Gapless, by the XDG Base Directory Specification."""
    home = pathlib.Path(os.environ.get("XDG_STATE_HOME", ""))
    if not home.is_absolute():  # then it has to be ignored
        home = pathlib.Path.home() / ".local" / "state"
    return home / "gapless"
