"""Tells stereo sound from one sound that is sent as two equal channels.

An encoder in stereo mode does not keep equal channels exactly equal. Measured with libopus 1.6 and
with Firefox, at 24 to 128 kbit/s: the side of a mono source is at least 40 dB below the sound, over
half a second of speech; over a tenth of a second, 31 dB. Channels that differ in level by 1 dB have
a side of -28 dB, two microphones one of -15 dB and more.
"""

from __future__ import annotations

import numpy as np

from domain.sound.formats import Samples

SURE_SAMPLES = 24_000
"""Audible samples, at 48 kHz, after which the verdict is certain: 0.5 s."""
SOON_SAMPLES = 4_800
"""Audible samples after which a wide side is enough for a verdict: 0.1 s."""
_SIDE = 10**-3.4
"""Energy of the side, relative to the sound, from which on there are two channels: -34 dB."""
_WIDE_SIDE = 10**-2.0
_AUDIBLE = 16.0**2
"""Mean square from which on a piece counts: -66 dBFS. Below it, rounding hides the side."""


class StereoDetector:
    """Finds out whether the two channels of decoded sound differ.

    Each `SURE_SAMPLES` of audible sound are judged anew, since a second channel may come later.
    Once it has come, the verdict stays.
    """

    __slots__ = ("_length", "_side", "_sound", "heard", "is_stereo", "is_wide")

    def __init__(self) -> None:
        self.is_stereo: bool | None = None
        """Whether the channels differ; None as long as too little sound was audible."""
        self.is_wide = False
        """Whether the channels of the latest audible samples differ much."""
        self.heard = 0
        """How many audible samples there were, per channel."""
        self._length = 0
        self._side = self._sound = 0.0

    def add(self, samples: Samples) -> bool | None:
        """Add s16 samples (n, 2) of received packets; return the verdict.

        Do not add what was concealed: its noise differs between the channels.
        """
        if self.is_stereo or not len(samples):
            return self.is_stereo
        left, right = samples[:, 0].astype(np.float32), samples[:, 1].astype(np.float32)
        sound = float(np.dot(left, left) + np.dot(right, right))
        if sound < 2 * _AUDIBLE * len(samples):
            return self.is_stereo
        difference = left - right
        side = float(np.dot(difference, difference)) / 2
        self.is_wide = side > _WIDE_SIDE * sound
        self.heard += len(samples)
        self._length += len(samples)
        self._sound += sound
        self._side += side
        if self._length >= SURE_SAMPLES:
            self.is_stereo = self._side > _SIDE * self._sound
            self._length, self._side, self._sound = 0, 0.0, 0.0
        elif self._length >= SOON_SAMPLES and self._side > _WIDE_SIDE * self._sound:
            self.is_stereo = True
        return self.is_stereo
