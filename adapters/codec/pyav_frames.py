"""Converts PyAV's audio frames to ours, according to their memory layout."""

from __future__ import annotations

import av

from domain.sound.conversion import unpack
from domain.sound.detection import detect_layout
from domain.sound.formats import AudioFormat, AudioFrame


def from_av(frame: av.AudioFrame, *, position: int = 0) -> AudioFrame:
    """Convert a PyAV frame; raises `FrameUnsupported` if its layout is unknown."""
    sample_format, planar = detect_layout(frame.format.name)
    audio_format = AudioFormat(frame.sample_rate, frame.layout.nb_channels, sample_format)
    # planes are padded for alignment, so take the size from the samples, not from the buffer
    if planar:
        size = frame.samples * sample_format.bytes_per_sample
        data = b"".join(bytes(plane)[:size] for plane in frame.planes)
    else:
        data = bytes(frame.planes[0])[: frame.samples * audio_format.bytes_per_frame]
    return AudioFrame(audio_format, unpack(data, audio_format, planar=planar), position)
