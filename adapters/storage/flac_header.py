"""What a FLAC file says of itself at its beginning (RFC 9639 § 8.2)."""

from __future__ import annotations

from dataclasses import dataclass

from domain.sound.conversion import Bytes
from domain.sound.formats import AudioFormat

INFO_SIZE = 42
"""Bytes at the beginning of a file that `read_info` needs."""
_STREAMINFO = b"\0\0\0\x22"  # type 0, 34 bytes; the flag of the last block is masked out


@dataclass(frozen=True, slots=True)
class FlacInfo:
    """What the STREAMINFO block says."""

    sample_rate_hz: int
    channels: int
    bits: int
    length: int
    """Samples per channel; 0 if it is not told."""
    md5: bytes
    """Of the samples: signed, little-endian, interleaved, in whole bytes. Zeros if not told."""

    def fits(self, audio_format: AudioFormat) -> bool:
        return (self.sample_rate_hz, self.channels, self.bits) == (
            audio_format.sample_rate_hz, audio_format.channels, audio_format.sample_format.bits,
        )  # fmt: skip


def read_info(data: Bytes) -> FlacInfo | None:
    """Return what the first `INFO_SIZE` bytes of a FLAC file say; None if they are damaged."""
    head = bytes(data[:INFO_SIZE])
    first_block = bytes([head[4] & 0x7F]) + head[5:8] if len(head) == INFO_SIZE else b""
    if head[:4] != b"fLaC" or first_block != _STREAMINFO:
        return None
    fields = int.from_bytes(head[18:26], "big")  # 20 bits, 3, 5, and 36
    return FlacInfo(
        sample_rate_hz=fields >> 44,
        channels=(fields >> 41 & 0x7) + 1,
        bits=(fields >> 36 & 0x1F) + 1,
        length=fields & (1 << 36) - 1,
        md5=head[26:42],
    )
