"""Reads channels, duration and FEC of an Opus packet without decoding it (RFC 6716 § 3, § 4.2)."""

from __future__ import annotations

from domain.errors import PayloadInvalid

MAX_PACKET_SAMPLES = 5760
"""120 ms, the longest possible packet (§ 3.2.5)."""
PADDED = 0x40
"""The padding flag in the second byte of a packet of code 3 (§ 3.2.5)."""

STEREO = 0x04
"""The stereo bit of the TOC byte (§ 3.1)."""

_SILK_AND_HYBRID_CONFIGS = 16
_SILK_FRAME_SAMPLES = 960
_FRAME_SAMPLES = (
    *(480, 960, 1920, 2880) * 3,  # SILK: 10, 20, 40, 60 ms
    *(480, 960) * 2,  # hybrid: 10, 20 ms
    *(120, 240, 480, 960) * 4,  # CELT: 2.5, 5, 10, 20 ms
)


_PACKET_SAMPLES = tuple((1, 2, 2, 0)[toc & 0x03] * _FRAME_SAMPLES[toc >> 3] for toc in range(256))
"""Samples of a packet by its TOC byte; 0 if the second byte holds the number of frames."""


def channels(payload: bytes) -> int:
    """Return 1 or 2, from the stereo bit of the TOC byte (§ 3.1)."""
    return 2 if _toc(payload) & STEREO else 1


def frame_samples(payload: bytes) -> int:
    """Return the samples at 48 kHz of each frame in the packet (§ 3.1, table 2)."""
    return _FRAME_SAMPLES[_toc(payload) >> 3]


def packet_samples(payload: bytes) -> int:
    """Return the samples at 48 kHz of the whole packet (§ 3.2).

    Raises `PayloadInvalid` if the frame count is missing or impossible.
    """
    if samples := _PACKET_SAMPLES[_toc(payload)]:
        return samples
    if len(payload) < 2:
        raise PayloadInvalid("the Opus packet has no frame count")
    samples = (payload[1] & 0x3F) * frame_samples(payload)
    if not 0 < samples <= MAX_PACKET_SAMPLES:
        raise PayloadInvalid(f"the Opus packet claims {samples} samples")
    return samples


def is_filler(payload: bytes) -> bool:
    """Whether the packet stands for a gap in an Ogg Opus file (RFC 7845 § 4.1).

    Its frames carry no data, as in DTX, and it has zero bytes of padding, which no encoder
    produces.
    """
    return (
        len(payload) == 3 and payload[0] & 3 == 3 and payload[1] & 0xC0 == PADDED and not payload[2]
    )


def fec_samples(payload: bytes) -> int:
    """Return how many samples directly before this packet its in-band FEC can rebuild.

    The usual values are 0 and 960. Reads the LBRR flag of the first frame (§ 4.2.3), which
    follows a VAD bit for each SILK frame.
    """
    if _toc(payload) >> 3 >= _SILK_AND_HYBRID_CONFIGS:
        return 0
    start = _first_frame(payload)
    if start is None or start >= len(payload):
        return 0
    samples = frame_samples(payload)
    silk_frames = max(1, samples // _SILK_FRAME_SAMPLES)
    flags = payload[start]
    mono = flags >> (7 - silk_frames) & 1
    side = channels(payload) == 2 and flags >> (6 - 2 * silk_frames) & 1 if silk_frames < 3 else 0
    return samples if mono or side else 0


def _toc(payload: bytes) -> int:
    if not payload:
        raise PayloadInvalid("the Opus packet is empty")
    return payload[0]


def _first_frame(payload: bytes) -> int | None:
    """Return where the first frame's data begin (§ 3.2); None if the packet is truncated."""
    code = payload[0] & 0x03
    if code < 2:
        return 1
    if code == 2:
        return None if len(payload) < 2 else 2 + (payload[1] >= 252)
    if len(payload) < 2:
        return None
    position = 2
    if payload[1] & PADDED:  # the length of the padding takes one or more bytes
        while position < len(payload) and payload[position] == 255:
            position += 1
        position += 1
    if payload[1] & 0x80:  # VBR: the lengths of all frames but the last follow
        for _ in range((payload[1] & 0x3F) - 1):
            if position >= len(payload):
                return None
            position += 1 + (payload[position] >= 252)
    return position
