"""Decides how many channels a recording has where only its sound can tell."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from domain.recording.effects import Appended, Effect, Finished, GapFilled, Opened, channels_changed
from domain.recording.ledger import Container, SampleKind
from domain.sound.channels import SOON_SAMPLES, StereoDetector
from domain.sound.conversion import mix_channels
from domain.sound.detection import CodecParameters, Stereo
from domain.sound.formats import SampleFormat
from domain.sound.pieces import EncodedSound, Sound

HOLD_S = 1.0
"""How long sound is held back at most while it is open whether it has one channel or two."""
_DOUBT_SAMPLES = 2 * SOON_SAMPLES
"""Audible samples that are held back at most once a recording has begun as mono."""


def is_judged_by_sound(codec: CodecParameters, container: Container) -> bool:
    """Return whether only the sound can tell how many channels there are.

    Packets that are stored undecoded keep all they have.
    """
    return codec.stereo is Stereo.UNCERTAIN and container is not Container.OGG


class ChannelJudge:
    """Gives the effects of a recording the number of channels that its sound has.

    The sender sends two channels, and nobody knows whether they are one sound twice
    (`Stereo.UNCERTAIN`). The effects at the beginning are held back until a `StereoDetector` has
    found out, for `HOLD_S` at most. Without a verdict the recording begins as mono. Mono is the
    average of both channels.

    A second channel may come later. Sound whose channels differ much is then held back for about
    0.1 s, until it is clear whether they really differ, and the change is placed before it.
    """

    def __init__(self, *, sample_rate_hz: int, position: int = 0, is_open: bool = False) -> None:
        """`is_open` says that a mono recording of `position` samples exists already."""
        self._longest_hold = round(HOLD_S * sample_rate_hz)
        self._detector = StereoDetector()
        self._position = position  # behind the effects that were returned
        self._is_open = is_open
        self._channels = 1
        self._is_holding = not is_open
        self._held: list[Effect] = []
        self._held_length = 0  # samples per channel
        self._held_since: float | None = None  # when the first sound in it arrived
        self._heard_before = 0  # audible samples before the sound that is held

    def judge(self, effects: Sequence[Effect]) -> list[Effect]:
        """Return what is to be carried out now."""
        judged: list[Effect] = []
        for effect in effects:
            if isinstance(effect, Appended):
                judged += self._listen(effect)
            elif isinstance(effect, Finished):
                judged += self.release()
            if self._is_holding:
                judged += self._hold(effect)
            else:
                judged.append(self._in_channels(effect))
        return judged

    def poll(self, *, now: float) -> list[Effect]:
        """Return what was held back for too long, because no sound arrives."""
        if self._held_since is None or now - self._held_since < HOLD_S:
            return []
        return self.release()

    def release(self) -> list[Effect]:
        """Return what is held back, with the channels that are known by now."""
        held, self._held = self._held, []
        self._is_open, self._is_holding = True, False
        self._held_length, self._held_since = 0, None
        return [self._in_channels(effect) for effect in held]

    def _listen(self, sound: Appended) -> list[Effect]:
        """Judge the next sound; return what this makes certain."""
        detector = self._detector
        heard_before = detector.heard
        is_wide = False
        if self._channels == 1 and sound.kind is SampleKind.RECEIVED:
            for piece in sound.pieces:
                if not isinstance(piece, EncodedSound) and piece.shape[1] == 2:
                    detector.add(piece)
                    is_wide |= detector.is_wide
        if self._channels == 1 and detector.is_stereo:
            self._channels = 2
            arrived = sound.arrived if self._held_since is None else self._held_since
            change = channels_changed(2, self._position, arrived) if self._is_open else []
            return change + self.release()
        if not self._is_open and detector.is_stereo is False:
            return self.release()
        if is_wide and not self._is_holding:
            self._is_holding, self._heard_before = True, heard_before
        return []

    def _hold(self, effect: Effect) -> list[Effect]:
        self._held.append(effect)
        self._held_length += _length(effect)
        if self._held_since is None and isinstance(effect, Appended):
            self._held_since = effect.arrived
        is_doubt_over = self._is_open and (
            self._detector.heard - self._heard_before >= _DOUBT_SAMPLES
        )
        return self.release() if is_doubt_over or self._held_length >= self._longest_hold else []

    def _in_channels(self, effect: Effect) -> Effect:
        """Give an effect that is carried out now the channels of the recording."""
        self._position += _length(effect)
        match effect:
            case Opened(audio_format):
                return Opened(replace(audio_format, channels=self._channels))
            case Appended(pieces, kind, arrived):
                return Appended([self._mixed(piece) for piece in pieces], kind, arrived)
        return effect

    def _mixed(self, piece: Sound) -> Sound:
        if isinstance(piece, EncodedSound):
            return piece
        return mix_channels(piece, SampleFormat.S16, self._channels)


def _length(effect: Effect) -> int:
    """Return how many samples per channel an effect adds to a recording."""
    match effect:
        case Appended(pieces):
            return sum(map(len, pieces))
        case GapFilled(length):
            return length
    return 0
