"""Plays what is recorded of a session, or keeps it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import TypeAlias

from domain.ports.playback import OutputOpener, SoundOutput
from domain.ports.tap import Heard, Missed, TapEnded, TapItem, TapStart
from domain.recording.effects import EndReason
from domain.sound.conversion import mix_channels
from domain.sound.formats import AudioFormat, SampleFormat

Notice: TypeAlias = Callable[[TapStart | Missed], None]


async def play(
    sound: AsyncIterator[TapStart | TapItem], open_output: OutputOpener, *, notice: Notice
) -> EndReason | None:
    """Pass sound on to an output until it ends; return why the recording has ended.

    `notice` learns where the sound begins, and what is missed. The output has the channels with
    which it began. What is missed is a gap, so that the output is as long as reality was. Raises
    `PlaybackFailed`, `BackendMissing`, and what `sound` raises.
    """
    output: SoundOutput | None = None
    channels = 1
    try:
        async for item in sound:
            if isinstance(item, TapStart):
                notice(item)
                channels = item.channels
                output = await open_output(AudioFormat(item.sample_rate_hz, channels))
            elif isinstance(item, TapEnded):
                return item.reason
            elif output is not None:
                if isinstance(item, Missed):
                    notice(item)
                await _write(output, item, channels)
        return None
    finally:
        if output is not None:
            await output.close()


async def _write(output: SoundOutput, item: Heard | Missed, channels: int) -> None:
    if isinstance(item, Missed) or item.samples is None:
        await output.gap(item.length)
    else:
        await output.write(mix_channels(item.samples, SampleFormat.S16, channels))
