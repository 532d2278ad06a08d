"""Laws of the judge that decides how many channels a recording has by its sound."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from domain.recording.channels import HOLD_S, ChannelJudge
from domain.recording.effects import (
    Appended,
    ChannelsChanged,
    Effect,
    EndReason,
    Finished,
    GapFilled,
    Noted,
    Opened,
)
from domain.recording.ledger import LedgerEvent, SampleKind
from domain.sound.conversion import mix_channels
from domain.sound.formats import AudioFormat, SampleFormat, Samples
from domain.sound.pieces import EncodedSound

RATE = 48_000
STEREO = AudioFormat(RATE, 2)
FRAME = 960
NOISE = np.random.default_rng(5).normal(0, 3000, (FRAME, 2)).astype("<i2")
SOUNDS = {
    "equal": NOISE[:, [0, 0]],
    "different": NOISE,
    "opposite": np.stack([NOISE[:, 0], -NOISE[:, 0]], axis=1),
    "quiet": np.zeros((FRAME, 2), "<i2"),
    "mono": NOISE[:, :1],
}
steps = st.lists(
    st.tuples(
        st.sampled_from([*SOUNDS, "gap", "note", "release"]),
        st.integers(1, 40),
        st.sampled_from([SampleKind.RECEIVED, SampleKind.RECEIVED, SampleKind.CONCEALED]),
    ),
    max_size=12,
)


def effects_of(script: list[tuple[str, int, SampleKind]]) -> list[tuple[Effect, str]]:
    found: list[tuple[Effect, str]] = []
    position = 0
    for name, count, kind in script:
        for _ in range(count if name in SOUNDS else 1):
            effect: Effect = Noted(LedgerEvent("seen", position), 0.0)
            if name in SOUNDS:
                effect = Appended([SOUNDS[name]], kind, position / RATE)
                position += FRAME
            elif name == "gap":
                effect = GapFilled(100 * count, SampleKind.SILENCE)
                position += 100 * count
            found.append((effect, name))
    return found


def length_of(effects: list[Effect]) -> int:
    sound = sum(len(piece) for e in effects if isinstance(e, Appended) for piece in e.pieces)
    return sound + sum(e.length for e in effects if isinstance(e, GapFilled))


def samples_of(effect: Effect) -> Samples:
    assert isinstance(effect, Appended)
    (piece,) = effect.pieces
    assert not isinstance(piece, EncodedSound)
    return piece


@given(script=steps, is_open=st.booleans())
def test_everything_comes_out_in_order_with_the_channels_of_its_part(
    script: list[tuple[str, int, SampleKind]], is_open: bool
) -> None:
    judge = ChannelJudge(sample_rate_hz=RATE, position=0, is_open=is_open)
    given_effects: list[Effect] = [] if is_open else [Opened(STEREO)]
    out: list[Effect] = judge.judge(given_effects)
    for effect, name in effects_of(script):
        if name == "release":
            out += judge.release()
            continue
        given_effects.append(effect)
        out += judge.judge([effect])
        held = length_of(given_effects) - length_of(out)
        assert held <= HOLD_S * RATE + FRAME
    given_effects.append(Finished(EndReason.CLOSED))
    out += judge.judge(given_effects[-1:])

    channels, position, changes = 1, 0, 0
    expected = iter(given_effects)
    for effect in out:
        match effect:
            case ChannelsChanged(count):
                channels, changes = count, changes + 1
            case Noted(LedgerEvent("channels", at, details), _):
                assert (at, details["channels"]) == (position, channels)
            case Opened(audio_format):
                assert next(expected) == Opened(STEREO)
                channels = audio_format.channels
            case Appended(_, kind, _):
                source = next(expected)
                assert isinstance(source, Appended) and source.kind is kind
                mixed = mix_channels(samples_of(source), SampleFormat.S16, channels)
                np.testing.assert_array_equal(samples_of(effect), mixed)
            case _:
                assert effect == next(expected)
        position += length_of([effect])
    assert next(expected, None) is None
    assert changes <= 1


@given(script=steps)
def test_equal_channels_stay_mono_and_different_ones_are_kept(
    script: list[tuple[str, int, SampleKind]],
) -> None:
    script = [step for step in script if step[0] in ("equal", "quiet", "gap", "mono")]
    judge = ChannelJudge(sample_rate_hz=RATE)
    out = judge.judge([Opened(STEREO), *(effect for effect, _ in effects_of(script))])
    out += judge.release()
    assert Opened(AudioFormat(RATE, 1)) in out
    assert not any(isinstance(effect, ChannelsChanged) for effect in out)
    later = effects_of([("opposite", 60, SampleKind.RECEIVED)])
    out = judge.judge([effect for effect, _ in later])
    assert ChannelsChanged(2) in out
    assert out[0] == ChannelsChanged(2)


def test_silence_is_held_back_for_a_second() -> None:
    for sound in (Appended([SOUNDS["quiet"]], SampleKind.RECEIVED),
                  GapFilled(FRAME, SampleKind.DTX)):  # fmt: skip
        judge = ChannelJudge(sample_rate_hz=RATE)
        assert judge.judge([Opened(STEREO), *[sound] * 49]) == []
        assert length_of(judge.judge([sound])) == 50 * FRAME
        assert length_of(judge.judge([sound])) == FRAME


def test_sound_is_released_when_nothing_follows_it() -> None:
    judge = ChannelJudge(sample_rate_hz=RATE)
    sound = Appended([SOUNDS["equal"]], SampleKind.RECEIVED, arrived=10.0)
    assert judge.poll(now=100.0) == []
    assert judge.judge([Opened(STEREO), sound]) == []
    assert judge.poll(now=10.9) == []
    opened, first = judge.poll(now=11.0)
    assert opened == Opened(AudioFormat(RATE, 1))
    assert samples_of(first).shape == (FRAME, 1)
    assert judge.poll(now=20.0) == []
