"""The one place that reaches behind the soundfile package's public face.

Held by `tests/contracts/test_private_names.py`.
"""

from __future__ import annotations

import soundfile

_SFC_SET_UPDATE_HEADER_AUTO = 0x1061


def update_header_with_every_write(file: soundfile.SoundFile) -> None:
    """Keep the header true at all times: what a killed process leaves behind can be played.

    Without it sox and Python's wave module see an empty file (5 µs a write, measured).
    """
    soundfile._snd.sf_command(
        file._file, _SFC_SET_UPDATE_HEADER_AUTO, soundfile._ffi.NULL, soundfile._snd.SF_TRUE
    )
