"""Opus in Ogg (RFC 7845): writes a stream page by page, and reads its intact pages.

Samples are counted at 48 kHz, whatever was recorded, pre-skip included (§ 4).
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
"""Samples of the shortest frame: 2.5 ms."""
_STEREO = 0x04
_FULLBAND_20_MS = 31 << 3


class OggOpusWriter:
    """Makes the pages of one stream, in the order of the calls; the caller writes them.

    `serial` is any 32-bit number. The other arguments continue a stream, see `read_file`. A call
    that raises an error leaves the writer unchanged.
    """

    def __init__(
        self, serial: int, *, number: int = 0, granule: int = 0, owed: int = 0,
        toc: int = _FULLBAND_20_MS,
    ) -> None:  # fmt: skip
        self.serial = serial
        self.number = number
        """The sequence number of the next page."""
        self.granule = granule
        """Samples in the pages made so far."""
        self.owed = owed
        """Samples of silence that no packet could express yet; see `silence`."""
        self._toc = toc

    @property
    def position(self) -> int:
        """Samples since the beginning, silence included."""
        return self.granule + self.owed

    def copy(self) -> OggOpusWriter:
        """A writer that continues from here."""
        return OggOpusWriter(
            self.serial, number=self.number, granule=self.granule, owed=self.owed, toc=self._toc
        )

    def header(
        self, channels: int, *, pre_skip: int = 0, tags: Mapping[str, str] | None = None
    ) -> bytes:
        """OpusHead and OpusTags, each on its own page (§ 3, § 5).

        With a pre-skip of 0, sample 0 is the first that a decoder returns, the encoder's look-ahead
        included: positions are the same as in a WAV of the decoded packets.
        Raises `ValueError` unless there are 1 or 2 channels, and for tags that cannot be written:
        names have to be printable ASCII without "=", and all tags together at most 64 kB.
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
        """The pages of packets that directly follow the stream so far.

        `granule` grows by the duration of the packets; nothing else may change it (§ 4.1). Raises
        `PayloadInvalid` for a packet without a valid duration, and `ValueError` for one larger
        than `pages.MAX_PACKET_SIZE`.
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
        """The pages of a gap; `b""` when it is too short for a packet.

        Their packets have frames without data, which a decoder conceals (§ 4.1): within half a
        second the sound fades to the decoder's estimate of the background noise (measured: -60 dBFS
        or less with libopus, almost nothing with FFmpeg).
        They last a multiple of 120 samples, and the rest is `owed`: the sound after the gap comes
        up to 119 samples (2.5 ms) early, until the next gap or `end` makes up for it. If it came
        late instead, the end of the sound would be cut off with the end of the file.
        Raises `ValueError` for a negative number.
        """
        if samples < 0:
            raise ValueError(f"a gap cannot have {samples} samples")
        owed, toc = self.owed + samples, self._toc
        pages = self.append(_gap_packets(owed - owed % SHORTEST, toc))
        self.owed, self._toc = owed % SHORTEST, toc  # two gaps in a row count as one
        return pages

    def end(self) -> bytes:
        """The closing page, which makes the stream exactly `position` samples long.

        It holds one more gap, which the granule position trims to what is owed, even to nothing
        (§ 4.4). An empty page could close a stream as well (RFC 3533 § 4), but only a page on which
        a packet ends may have a granule position; opusinfo complains otherwise.
        """
        gap = _gap_packets((self.owed // SHORTEST + 1) * SHORTEST, self._toc)
        closing = page(gap, serial=self.serial, number=self.number, granule=self.position,
                       last=True)  # fmt: skip
        self.number, self.granule, self.owed = self.number + 1, self.position, 0
        return closing


class AudioPacket(NamedTuple):
    """An Opus packet and its place in the stream."""

    position: int
    samples: int
    payload: bytes

    @property
    def is_gap(self) -> bool:
        """Whether `OggOpusWriter` made it for a gap; a packet of DTX is not one."""
        return opus.is_filler(self.payload)


@dataclass(frozen=True, slots=True)
class OggOpusFile:
    """The intact pages of a file."""

    channels: int
    pre_skip: int
    size: int
    """Bytes up to the end of the last intact page; the rest is damaged."""
    length: int
    """Samples in the intact pages."""
    ended: bool
    """Whether there is a closing page."""
    open_size: int
    """Bytes before the closing page, or `size`: truncated to it, the file can be continued."""
    writer: OggOpusWriter
    """Continues there, at the position `length`: the duration of the closing page is owed."""


def read_file(descriptor: int) -> OggOpusFile | None:
    """Find the intact pages of a file; None without an intact header of mono or stereo Opus.

    A page counts as damaged if its packets are not Opus or do not last until its granule position,
    and where `pages.read_pages` stops.
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
    """The audio packets of the intact pages, except those that are trimmed entirely."""
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
    """Return the fewest packets without data that last `samples`, a multiple of 120 (§ 4.1).

    As many frames as possible are like those before; then follow shorter ones of the same mode,
    then the shortest of CELT in the same bandwidth (wideband instead of medium band, which CELT
    does not have). `opus.is_filler` tells them from DTX.
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
    """Channels, pre-skip, and the last page of the header (§ 5)."""
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
    """The pages after the header, with their positions and the durations of their packets."""
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
