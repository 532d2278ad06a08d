"""Opus in Ogg (RFC 7845): a stream written page by page, and what is whole of it read again.

Samples are those of 48 kHz, whatever was recorded, and pre-skip is among them (§ 4).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from adapters.storage.ogg.pages import Page, page, paginate, read_pages
from domain.errors import PayloadInvalid
from domain.sound import opus

SHORTEST = 120
"""Samples of the shortest frame, 2.5 ms."""
_STEREO = 0x04
_FULLBAND_20_MS = 31 << 3


class OggOpusWriter:
    """Makes the pages of one stream, in the order of the calls; to write them is the caller's.

    `serial` is any 32-bit number; the other arguments are for a stream that is gone on with, as
    `read_file` does it. A call that raises an error leaves the writer as it was.
    """

    def __init__(
        self, serial: int, *, number: int = 0, granule: int = 0, owed: int = 0,
        toc: int = _FULLBAND_20_MS,
    ) -> None:  # fmt: skip
        self.serial = serial
        self.number = number
        """Of the next page."""
        self.granule = granule
        """Samples in the pages so far."""
        self.owed = owed
        """Samples of silence that no packet could express yet, see `silence`."""
        self._toc = toc

    @property
    def position(self) -> int:
        """Samples since the beginning: all that was appended, and all silence."""
        return self.granule + self.owed

    def copy(self) -> OggOpusWriter:
        """Another one that goes on from here."""
        return OggOpusWriter(
            self.serial, number=self.number, granule=self.granule, owed=self.owed, toc=self._toc
        )

    def header(
        self, channels: int, *, pre_skip: int = 0, tags: Mapping[str, str] | None = None
    ) -> bytes:
        """OpusHead and OpusTags, each on a page of its own (§ 3, § 5).

        With a pre-skip of 0, sample 0 is the first that a decoder gives, the encoder's look-ahead
        included: positions are those in a WAV of what was decoded as it came.
        Raises `ValueError` for other than 1 or 2 channels, and for tags that cannot be written:
        a name with a "=" or with other than printable ASCII, or more than 64 kB in all.
        """
        if channels not in (1, 2):
            raise ValueError(f"{channels} channels; channel mapping family 0 has 1 or 2")
        comments = []
        for name, value in (tags or {}).items():
            if not name or not all(" " <= char <= "}" and char != "=" for char in name):
                raise ValueError(f"{name!r} cannot be the name of a tag")
            comments.append(f"{name}={value}".encode())
        head = struct.pack("<8sBBHIhB", b"OpusHead", 1, channels, pre_skip, 48_000, 0, 0)
        texts = b"".join(struct.pack("<I", len(text)) + text for text in comments)
        comment = struct.pack("<8sI7sI", b"OpusTags", 7, b"Gapless", len(comments)) + texts
        pages = page([head], serial=self.serial, number=0, granule=0, first=True)
        pages += page([comment], serial=self.serial, number=1, granule=0)
        self.number = 2
        self._toc |= _STEREO * (channels == 2)
        return pages

    def append(self, packets: Sequence[bytes]) -> bytes:
        """The page, or pages, of packets that follow directly on what is there.

        `granule` grows by what the packets last; nothing else may move it (§ 4.1). Raises
        `PayloadInvalid` when a packet does not say how long it lasts, and `ValueError` when it is
        larger than `ogg.MAX_PACKET_SIZE`.
        """
        durations = list(map(opus.packet_samples, packets))
        pages, number, granule = [], self.number, self.granule
        for start, stop in paginate(packets):
            granule += sum(durations[start:stop])
            pages.append(page(packets[start:stop], serial=self.serial, number=number,
                              granule=granule))  # fmt: skip
            number += 1
        self.number, self.granule = number, granule
        self._toc = packets[-1][0] if packets else self._toc
        return b"".join(pages)

    def silence(self, samples: int) -> bytes:
        """The pages of a time without sound; `b""` when it is too short for a packet.

        The packets have frames without data, for which a decoder conceals (§ 4.1): within half a
        second the sound fades to what it takes for the noise of the background (measured: -60 dBFS
        and less with libopus, next to nothing with FFmpeg).
        They last a multiple of 120 samples, and what is over is `owed`: the sound behind the gap
        comes up to 119 samples (2.5 ms) early, until the next gap, or `end`, makes up for it. If
        it came late instead, the end of the sound would be cut off with that of the file.
        Raises `ValueError` for less than 0 samples.
        """
        if samples < 0:
            raise ValueError(f"a gap of {samples} samples")
        owed, toc = self.owed + samples, self._toc
        pages = self.append(_gap_packets(owed - owed % SHORTEST, toc))
        self.owed, self._toc = owed % SHORTEST, toc  # two gaps in a row are like one
        return pages

    def end(self) -> bytes:
        """The closing page, with which the file lasts `position` samples exactly.

        It holds one more gap, which the granule position trims to what is owed, be it nothing
        (§ 4.4). An empty page could close a stream as well (RFC 3533 § 4), but a granule position
        is only for pages on which a packet ends, and opusinfo says so.
        """
        gap = _gap_packets((self.owed // SHORTEST + 1) * SHORTEST, self._toc)
        closing = page(gap, serial=self.serial, number=self.number, granule=self.position,
                       last=True)  # fmt: skip
        self.number, self.granule, self.owed = self.number + 1, self.position, 0
        return closing


class AudioPacket(NamedTuple):
    """An Opus packet, and the samples of the stream that it fills."""

    position: int
    samples: int
    payload: bytes

    @property
    def is_gap(self) -> bool:
        """Whether `OggOpusWriter` made it for a gap; what a sender leaves out by DTX is none."""
        return opus.is_filler(self.payload)


@dataclass(frozen=True, slots=True)
class OggOpusFile:
    """What is whole of a file."""

    channels: int
    pre_skip: int
    size: int
    """Bytes up to the end of the last whole page; what follows is damaged."""
    length: int
    """Samples in the whole pages."""
    ended: bool
    """Whether there is a closing page."""
    open_size: int
    """Bytes before the closing page, or `size`; cut off to it, the file can be gone on with."""
    writer: OggOpusWriter
    """Goes on there, at the `length` that the file had: what the closing page lasts is owed."""


def read_file(descriptor: int) -> OggOpusFile | None:
    """What is whole of a file; None when its header is not, or is none of a mono or stereo Opus.

    A page with other than Opus packets, or with a granule position that is not what they last,
    counts as damaged, like those at which `ogg.read_pages` stops.
    """
    pages = read_pages(descriptor)
    header = _read_header(pages)
    if header is None:
        return None
    channels, pre_skip, open_end = header
    last, toc = open_end, _FULLBAND_20_MS | _STEREO * (channels == 2)
    for last, _, _ in _audio_pages(pages):
        if not last.last:
            open_end, toc = last, last.packets[-1][0] if last.packets else toc
    writer = OggOpusWriter(last.serial, number=open_end.number + 1, granule=open_end.granule,
                           owed=last.granule - open_end.granule, toc=toc)  # fmt: skip
    return OggOpusFile(channels, pre_skip, last.offset + last.size, last.granule, last.last,
                       open_end.offset + open_end.size, writer)  # fmt: skip


def read_packets(descriptor: int) -> Iterator[AudioPacket]:
    """The audio packets of what `read_file` finds whole, but for what is trimmed entirely."""
    pages = read_pages(descriptor)
    if _read_header(pages) is None:
        return
    for found, position, durations in _audio_pages(pages):
        for payload, duration in zip(found.packets, durations, strict=True):
            samples = min(duration, found.granule - position)  # § 4.4
            if samples:
                yield AudioPacket(position, samples, payload)
            position += samples


def _gap_packets(samples: int, toc: int) -> list[bytes]:
    """The fewest packets without data that last a multiple of 120 samples (§ 4.1).

    Their frames are like those before for as long as possible, then shorter ones of the same mode,
    then the shortest of CELT in the same bandwidth (in wideband for medium band, which CELT does
    not have). `opus.is_filler` tells them from DTX.
    """
    config, packets = toc >> 3, []
    if config < 12:  # SILK (RFC 6716 § 3.1, table 2)
        configs = [config, config & ~3, 16 if config < 4 else 20]
    elif config < 16:  # hybrid
        configs = [config, config & ~1, 24 if config < 14 else 28]
    else:
        configs = [config, config & ~3]
    for each in configs:
        code_3 = each << 3 | toc & _STEREO | 3
        frame = opus.frame_samples(bytes((code_3,)))
        most = opus.MAX_PACKET_SAMPLES // frame
        full, over = divmod(samples // frame, most)
        packets += [bytes((code_3, opus.PADDED | most, 0))] * full
        packets += [bytes((code_3, opus.PADDED | over, 0))] * (over > 0)
        samples %= frame
    return packets


def _read_header(pages: Iterator[Page]) -> tuple[int, int, Page] | None:
    """Channels, pre-skip, and the page with which the header ends (§ 5)."""
    head, tags = next(pages, None), next(pages, None)
    if head is None or tags is None or not len(head.packets) == len(tags.packets) == 1:
        return None
    packet = head.packets[0]
    if len(packet) < 19 or packet[:8] != b"OpusHead" or tags.packets[0][:8] != b"OpusTags":
        return None
    version, channels, pre_skip, _, _, family = struct.unpack_from("<BBHIhB", packet, 8)
    if version > 15 or channels not in (1, 2) or family != 0 or tags.granule or tags.last:
        return None
    return channels, pre_skip, tags


def _audio_pages(pages: Iterator[Page]) -> Iterator[tuple[Page, int, list[int]]]:
    """The pages behind the header, the position of each, and what its packets last."""
    position = 0
    for found in pages:
        try:
            durations = list(map(opus.packet_samples, found.packets))
        except PayloadInvalid:
            return
        end = position + sum(durations)
        if not (found.granule == end or (found.last and position <= found.granule <= end)):
            return
        yield found, position, durations
        position = found.granule
