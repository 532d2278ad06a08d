"""Chooses the decoder for a negotiated codec."""

from __future__ import annotations

from adapters.codec.libopus import OpusDecoder
from adapters.codec.pyav import TelephoneDecoder
from domain.sound.decoding import Decoder
from domain.sound.detection import CodecParameters
from domain.sound.formats import AudioFormat


def make_decoder(codec: CodecParameters, audio_format: AudioFormat) -> Decoder:
    """Return a decoder that delivers `audio_format`; raises `CodecUnavailable`."""
    if codec.name == "opus":
        return OpusDecoder(audio_format)
    return TelephoneDecoder(codec.name, audio_format)
