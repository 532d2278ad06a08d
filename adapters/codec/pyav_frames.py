"""PyAV's audio frames as ours: each layout read in the way that its memory is laid out."""

from __future__ import annotations

import av

from domain.sound.conversion import unpack
from domain.sound.detection import detect_layout
from domain.sound.formats import AudioFormat, AudioFrame


def from_av(frame: av.AudioFrame, *, position: int = 0) -> AudioFrame:
    """Any frame that PyAV hands over; raises `FrameUnsupported` naming a layout not known."""
    sample_format, planar = detect_layout(frame.format.name)
    audio_format = AudioFormat(frame.sample_rate, frame.layout.nb_channels, sample_format)
    # planes are padded for alignment: what counts is samples, not the size of the buffer
    if planar:
        size = frame.samples * sample_format.bytes_per_sample
        data = b"".join(bytes(plane)[:size] for plane in frame.planes)
    else:
        data = bytes(frame.planes[0])[: frame.samples * audio_format.bytes_per_frame]
    return AudioFrame(audio_format, unpack(data, audio_format, planar=planar), position)
