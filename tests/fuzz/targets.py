"""The parsers of bytes from outside, each with the errors that it may raise."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import pathlib
import socket
import struct
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from types import SimpleNamespace

import numpy as np
from aiohttp.web import HTTPBadRequest
from aiortc import RTCDtlsFingerprint

from adapters.http.bodies import parse_object
from adapters.http.digests import has_digests, parse_digests
from adapters.http.restore_json import read_captured, read_spool, write_captured, write_spool
from adapters.http.sdpfrag import parse_fragment, write_fragment
from adapters.storage.documents import parse
from adapters.storage.folder.index import INDEX, FolderIndex
from adapters.storage.folder.index_tables import RowQuery
from adapters.storage.folder.journal import parse_journal, read_info
from adapters.storage.folder.ledgers import read_ledger
from adapters.storage.folder.part_spans import GrowingSpans
from adapters.storage.folder.peaks_file import OpenedPeaks, PeaksDamaged
from adapters.storage.folder.swap import read_steps
from adapters.storage.ogg.opus import read_file, read_packets
from adapters.storage.ogg.pages import crc
from adapters.storage.restoring.flac import decode_piece
from adapters.storage.restoring.journal import parse_notes
from adapters.storage.spool.journal import parse_spool_journal
from adapters.storage.wav.header import frames_in, read_header, write_sizes
from adapters.transport.ice.guard import GuardedProtocol
from adapters.transport.rtcp.reports import sender_reports
from adapters.transport.sdp.codecs import OpusPreferences
from adapters.transport.sdp.descriptions import LocalTransport
from adapters.transport.sdp.parsing import parse_answer, parse_offer
from adapters.transport.sdp.writing import write_answer
from adapters.transport.sockets.datagrams import encode_address
from adapters.transport.sockets.port import UdpPort
from adapters.transport.sockets.sources import Sources
from adapters.transport.sockets.stun_requests import username_of
from domain.errors import (
    CandidateRejected,
    CapturedInvalid,
    OfferRejected,
    PacketInvalid,
    PayloadInvalid,
    PieceInvalid,
)
from domain.ports.spool import MAX_PIECE_SAMPLES
from domain.recording.reading import MAX_SAMPLES
from domain.recording.verification import FileFacts, Limits, verify
from domain.rtp.packets import header_extension, parse_rtp, write_rtp
from domain.rtp.redundancy import split_red
from domain.session.titles import title_of
from domain.sound.formats import AudioFormat, SampleFormat
from domain.sound.peaks import WaveformBuilder, stretches


@dataclass(frozen=True)
class Target:
    """A parser, called with arbitrary bytes."""

    run: Callable[[bytes], None]
    allowed: tuple[type[Exception], ...] = ()
    """The documented errors. Any other exception is a crash."""

    def __call__(self, data: bytes) -> None:
        with suppress(*self.allowed):
            self.run(data)


def offer(data: bytes) -> None:
    read = parse_offer(data.decode(errors="replace"))
    local = LocalTransport("user", "password" * 3, RTCDtlsFingerprint("sha-256", "AB"))
    assert write_answer(read, local, OpusPreferences())


def answer(data: bytes) -> None:
    parse_answer(data.decode(errors="replace"))


def fragment(data: bytes) -> None:
    read = parse_fragment(data.decode(errors="replace"))
    again = parse_fragment(write_fragment(read))
    assert again.mid == read.mid
    assert again.ice.username == read.ice.username


def rtp(data: bytes) -> None:
    packet = parse_rtp(data)
    assert len(packet.payload) <= len(data) - 12
    assert parse_rtp(write_rtp(packet)) == packet
    for identifier in (1, 14, 255):
        assert len(header_extension(data, identifier) or b"") <= 255


def red(data: bytes) -> None:
    packet = split_red(parse_rtp(data))
    assert len(packet.payload) + sum(len(copy.payload) for copy in packet.copies) < len(data)


def rtcp(data: bytes) -> None:
    list(sender_reports(data, 0.0))


_BEGINNING = struct.Struct("BB2x4s4s")


def _source(number: int) -> bytes:
    return encode_address(("192.0.2.1", 1000 + number))


def stun(data: bytes) -> None:
    """Datagrams, each with its length in two bytes before it. None may raise an error."""
    datagrams = []
    while data:
        length = int.from_bytes(data[:2], "big")
        datagrams.append((data[2 : 2 + length], 0.0))
        data = data[2 + length :]
    heard: list[object] = []
    owner = SimpleNamespace(on_media=heard.extend, dtls_received=heard.append)
    receiver = SimpleNamespace(
        owner=owner,
        is_checked=lambda _address: True,
        may_answer=lambda *_request: True,
        request_received=lambda *request: heard.append(request),
        data_received=lambda *stray: None,
        local_password="password",
    )
    heads = [
        (index, _BEGINNING.unpack(data[:12].ljust(12, b"\0")), _source(index))
        for index, (data, _) in enumerate(datagrams)
    ]
    waiting = [heads]
    reader = SimpleNamespace(
        read=lambda _descriptor: waiting.pop() if waiting else [],
        datagram=datagrams.__getitem__,
    )

    async def feed() -> None:
        guard = GuardedProtocol(receiver)  # type: ignore[arg-type]
        guard.local_candidate = SimpleNamespace(component=1)  # type: ignore[assignment]
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as bound:
            port = UdpPort(bound, reader, Sources())  # type: ignore[arg-type]
            for name in {username_of(data).decode(errors="replace") for data, _ in datagrams}:
                port.attach(guard, name)
            port.read()
            port.close()
        for index, (datagram, _) in enumerate(datagrams):  # as a TURN server relays them
            guard.datagram_received(datagram, ("192.0.2.1", 1000 + index))

    errors: list[BaseException] = []
    with asyncio.Runner() as runner:
        runner.get_loop().set_exception_handler(
            lambda _, context: errors.append(context["exception"])
        )
        runner.run(feed())
    if errors:
        raise errors[0]
    assert len(heard) <= 2 * len(datagrams)


def ogg(data: bytes) -> None:
    for candidate in (data, _with_checksums(data)):
        with _file(candidate) as descriptor:
            found = read_file(descriptor)
            position = 0
            for packet in read_packets(descriptor):
                assert packet.position == position
                assert packet.samples > 0
                position += packet.samples
            if found is not None:
                assert found.open_size <= found.size <= len(candidate)
                assert found.length == position
                # a writer can append to a damaged file
                found.writer.silence(4800)
                found.writer.end()


def journal(data: bytes) -> None:
    found = parse_journal(data)
    assert found.connections is not None
    found.last_sample_at(48_000)
    found.position(sound=1000, length=48_000)
    ledger = found.ledger(48_000)
    assert ledger.length == 48_000
    assert sum(span.length for span in ledger.spans()) == 48_000
    found.forget_behind(1000)


def ledger(data: bytes) -> None:
    entry = parse(data)
    facts = FileFacts("a.wav", AudioFormat(48_000, 1), 48_000, "ab" * 32, entry)
    verdict = verify(facts, Limits())
    assert all(len(problem) < 1000 and problem.isprintable() for problem in verdict.problems)
    json.dumps(verdict.as_json())
    if isinstance(entry, dict):
        read = read_ledger(entry)
        assert read.length == sum(span.length for span in read.spans()) <= MAX_SAMPLES
        info = read_info(entry)
        assert "/" not in info.name + info.id + info.session_id
        assert title_of(info.title) == info.title


def spool_journal(data: bytes) -> None:
    found = parse_spool_journal(data, "a")
    assert 0 <= found.holes.total <= found.holes.end <= MAX_SAMPLES
    if found.description is not None:
        assert found.description.format.bytes_per_frame > 0


def swap(data: bytes) -> None:
    steps = read_steps(data, "a")
    if steps is not None:
        assert not any("/" in name for name in (*steps.renames, *steps.removals))


def index(data: bytes) -> None:
    """An index is read, or replaced."""
    with tempfile.TemporaryDirectory() as made:
        folder = pathlib.Path(made)
        (folder / INDEX).write_bytes(data)
        with contextlib.closing(FolderIndex(folder)) as found:
            rows = found.page(RowQuery(limit=10))
            assert not any("/" in row.name + row.id for row in rows)
            assert not any("/" in name for name, _ in found.parts())
            assert found.is_complete in (True, False)
            found.drop_part("a", 1)


def peaks(data: bytes) -> None:
    """A file of peaks; what it does not have cannot be read."""
    with _file(data) as descriptor:
        found = OpenedPeaks(descriptor)
        channels = found.header.channels
        assert found.count * channels * 6 <= len(data)
        points = 100
        drawing = WaveformBuilder(start=0, stop=found.length, points=points, channels=channels)
        for item in stretches(drawing.level or 0, found.count, start=0, stop=found.length):
            entries = found.read(item.level, item.first, item.stop)
            assert len(entries) == item.stop - item.first
            drawing.add(entries, level=item.level, first=item.first)
        drawn = drawing.result()
        assert len(drawn.low) <= points
        assert (abs(drawn.low) <= 1 << 15).all()
        assert (abs(drawn.high) <= 1 << 15).all()
        assert ((drawn.rms >= 0) & (drawn.rms < 1 << 15)).all()


def growing_spans(data: bytes) -> None:
    """The spans of a journal that is being written, which comes in two steps."""
    growing = GrowingSpans()
    cut = data.rfind(b"\n", 0, len(data) // 2) + 1
    for part in (data[:cut], data[cut:]):
        growing.read(part)
    bounds = np.arange(11) * 4800
    lengths = growing.as_map().lengths(bounds)
    assert (sum(lengths.values(), np.zeros(10)) <= 4800).all()


def wav(data: bytes) -> None:
    with _file(data) as descriptor:
        header = read_header(descriptor)
        if header is None:
            return
        assert 12 < header.data_offset <= len(data)
        frames = frames_in(descriptor, header.format, header.data_offset)
        assert 0 <= frames * header.format.bytes_per_frame <= len(data)
        write_sizes(descriptor, header, frames * header.format.bytes_per_frame)
        again = read_header(descriptor)
        assert again is not None
        assert again.format == header.format


PIECES = AudioFormat(8000, 2, SampleFormat.S24)


def piece(data: bytes) -> None:
    sound = decode_piece(data, PIECES)
    assert 0 < len(sound) <= MAX_PIECE_SAMPLES * PIECES.bytes_per_frame
    assert len(sound) % PIECES.bytes_per_frame == 0


def pieces(data: bytes) -> None:
    """The journal of the pieces of a spool, of a machine that was booted as "b"."""
    notes = parse_notes(data, boot="b")
    assert notes.held.total == sum(item.length for item in notes.held)
    assert notes.captured is None or notes.captured.length >= 0
    assert notes.outcome is None or notes.outcome.length >= 0


def digests(data: bytes) -> None:
    found = parse_digests(data.decode(errors="replace"))
    assert not has_digests(data, found)


def captured(data: bytes) -> None:
    read = read_captured(parse_object(data))
    assert read_captured(write_captured(read)) == read


def spool(data: bytes) -> None:
    read = read_spool(parse_object(data))
    assert read_spool(write_spool(read)) == read


TARGETS = {
    "offer": Target(offer, (OfferRejected,)),
    "answer": Target(answer, (OfferRejected,)),
    "fragment": Target(fragment, (CandidateRejected,)),
    "rtp": Target(rtp, (PacketInvalid,)),
    "red": Target(red, (PacketInvalid, PayloadInvalid)),
    "rtcp": Target(rtcp, (ValueError,)),
    "stun": Target(stun),
    "ogg": Target(ogg),
    "journal": Target(journal),
    "wav": Target(wav),
    "ledger": Target(ledger, (ValueError, KeyError, TypeError, AttributeError)),
    "spool_journal": Target(spool_journal),
    "swap": Target(swap, (ValueError,)),
    "index": Target(index),
    "peaks": Target(peaks, (PeaksDamaged,)),
    "growing_spans": Target(growing_spans),
    "piece": Target(piece, (PieceInvalid,)),
    "pieces": Target(pieces, (ValueError,)),
    "digests": Target(digests, (ValueError,)),
    "captured": Target(captured, (ValueError, CapturedInvalid, HTTPBadRequest)),
    "spool": Target(spool, (ValueError, HTTPBadRequest)),
}


@contextmanager
def _file(data: bytes) -> Iterator[int]:
    descriptor = os.memfd_create("fuzz")
    try:
        os.write(descriptor, data)
        yield descriptor
    finally:
        os.close(descriptor)


def _with_checksums(data: bytes) -> bytes:
    """The data with correct page checksums, which a fuzzer cannot guess."""
    fixed, at = bytearray(data), 0
    while (at := data.find(b"OggS", at)) >= 0 and at + 27 <= len(data):
        lacing_end = at + 27 + data[at + 26]
        end = lacing_end + sum(data[at + 27 : lacing_end])
        whole = data[at : at + 22] + bytes(4) + data[at + 26 : end]
        fixed[at + 22 : at + 26] = crc(whole).to_bytes(4, "little")
        at += 4
    return bytes(fixed)
