"""The initial inputs of the fuzzer: valid data, made by the code that writes it."""

from __future__ import annotations

import datetime
import json
import os
import pathlib
import struct
import tempfile
from dataclasses import replace

import aioice.stun
from aiortc import RTCDtlsFingerprint

from adapters.http.digests import digest_of_content
from adapters.http.restore_json import write_captured, write_spool
from adapters.http.sdpfrag import Fragment, write_fragment
from adapters.storage.folder.index import INDEX, FolderIndex
from adapters.storage.folder.index_tables import PartRow, RecordingRow
from adapters.storage.folder.journal import Before, Journal
from adapters.storage.folder.peaks_file import PartPeaks
from adapters.storage.ogg.opus import OggOpusWriter
from adapters.storage.restoring.journal import RestoreJournal, parse_notes
from adapters.storage.spool.journal import SpoolJournal
from adapters.storage.wav.header import write_header, write_sizes
from adapters.transport.rtcp.reports import (
    ReportBlock,
    receiver_report,
    sender_report,
    source_description,
)
from adapters.transport.sdp.descriptions import LocalTransport
from adapters.transport.sdp.writing import write_offer
from domain.ports.restoring import Restored
from domain.recording.ledger import (
    Ledger,
    LedgerEvent,
    RecordingInfo,
    RestoreMode,
    SampleKind,
    document,
)
from domain.recording.ranges import Range
from domain.recording.restoring import Captured, SpoolInfo
from domain.rtp.packets import RtpPacket, write_rtp
from domain.rtp.reports import ReceptionReport
from domain.session.ice import IceDescription
from domain.sound.formats import AudioFormat, SampleFormat, silence
from domain.sound.peaks import BASE
from tests.fakes.pieces import flac_of, random_sound, restore_key
from tests.rigs.spooling import SESSION, description

_AT = datetime.datetime(2026, 1, 2, 3, 4, 5, tzinfo=datetime.UTC)
_CANDIDATES = (
    "1 1 udp 2130706431 192.0.2.1 50000 typ host",
    "2 1 udp 1694498815 203.0.113.7 50001 typ srflx raddr 192.0.2.1 rport 50000",
    "3 1 tcp 1518280447 2001:db8::1 9 typ host tcptype active",
)
_CAPTURED = Captured(10_000, "ab" * 32, (Range(0, 5), Range(9000, 1000)))
_SPOOL = SpoolInfo(5, AudioFormat(96_000, 8, SampleFormat.S24), RestoreMode.ALL, _AT)
_BROWSER = """v=0
o=- 4611731400430051336 2 IN IP4 127.0.0.1
s=-
t=0 0
a=group:BUNDLE 0 1
a=extmap-allow-mixed
a=msid-semantic: WMS stream
m=audio 9 UDP/TLS/RTP/SAVPF 111 63 9 0 8 13 110 126
c=IN IP4 0.0.0.0
a=rtcp:9 IN IP4 0.0.0.0
a=candidate:1 1 udp 2130706431 192.0.2.1 50000 typ host generation 0
a=ice-ufrag:4ZcD
a=ice-pwd:2/1muCWoOi3uLifh0NuRHlcd
a=ice-options:trickle
a=fingerprint:sha-256 {fingerprint}
a=setup:actpass
a=mid:0
a=extmap:4 urn:ietf:params:rtp-hdrext:sdes:mid
a=sendrecv
a=msid:stream track
a=rtcp-mux
a=rtpmap:111 opus/48000/2
a=rtcp-fb:111 transport-cc
a=fmtp:111 minptime=10;useinbandfec=1;stereo=1
a=rtpmap:63 red/48000/2
a=fmtp:63 111/111
a=rtpmap:9 G722/8000
a=rtpmap:0 PCMU/8000
a=rtpmap:8 PCMA/8000
a=rtpmap:13 CN/8000
a=rtpmap:110 telephone-event/48000
a=ssrc:123456 cname:a
m=video 0 UDP/TLS/RTP/SAVPF 96
c=IN IP4 0.0.0.0
a=mid:1
a=bundle-only
a=inactive
a=rtpmap:96 VP8/90000
"""
_SECOND_TRACK = """m=audio 9 UDP/TLS/RTP/SAVPF 111
c=IN IP4 0.0.0.0
a=mid:2
a=ice-ufrag:4ZcD
a=ice-pwd:2/1muCWoOi3uLifh0NuRHlcd
a=fingerprint:sha-256 {fingerprint}
a=setup:actpass
a=extmap:4 urn:ietf:params:rtp-hdrext:sdes:mid
a=sendonly
a=rtcp-mux
a=rtpmap:111 opus/48000/2
a=ssrc:77 cname:b
"""


def seeds() -> dict[str, list[bytes]]:
    """The seeds of each target."""
    return {
        "offer": _offers(),
        "answer": [item.replace(b"sendonly", b"recvonly") for item in _offers()],
        "fragment": _fragments(),
        "rtp": _rtp(),
        "red": _red(),
        "rtcp": _rtcp(),
        "stun": _stun(),
        "ogg": _ogg(),
        "journal": _journals(),
        "wav": _wavs(),
        "ledger": _ledgers(),
        "spool_journal": _spool_journals(),
        "swap": [b'{"renames":["a.wav","a.json"],"removals":["a_part002.wav"]}\n'],
        "index": _indexes(),
        "peaks": _peaks(),
        "growing_spans": _journals(),
        "piece": _flacs(),
        "pieces": _piece_journals(),
        "digests": [f'{digest_of_content(b"sound")}, md5=:AAAA:;a="b"'.encode()],
        "captured": [json.dumps(write_captured(_CAPTURED)).encode()],
        "spool": [
            json.dumps(write_spool(_SPOOL)).encode(),
            json.dumps(write_spool(replace(_SPOOL, rtp_timestamp=None, position=7))).encode(),
        ],
    }


def _offers() -> list[bytes]:
    value = ":".join(["AB"] * 32)
    fingerprint = RTCDtlsFingerprint("sha-256", value)
    local = LocalTransport("user", "password" * 3, fingerprint, _CANDIDATES, complete=True)
    ours = write_offer(local, channels=2)
    browser = _BROWSER.replace("BUNDLE 0 1", "BUNDLE 0 1 2") + _SECOND_TRACK
    theirs = [text.format(fingerprint=value).replace("\n", "\r\n") for text in (_BROWSER, browser)]
    return [text.encode() for text in (ours, *theirs)]


def _fragments() -> list[bytes]:
    ice = IceDescription("user", "password" * 3, _CANDIDATES, complete=True)
    return [write_fragment(Fragment(ice, "0")).encode()]


def _rtp() -> list[bytes]:
    packet = RtpPacket(111, 65_535, 2**32 - 1, 77, b"sound", marker=True)
    plain = write_rtp(packet)
    extended = bytes([plain[0] | 0x10]) + plain[1:12] + b"\xbe\xde\0\1\x10\xff\0\0" + plain[12:]
    padded = bytes([plain[0] | 0x20]) + plain[1:] + b"\0\0\3"
    sources = bytes([plain[0] | 2]) + plain[1:12] + bytes(8) + plain[12:]
    return [plain, extended, padded, sources]


def _red() -> list[bytes]:
    older = struct.pack("!BBH", 0x80 | 111, 1920 >> 6, (1920 & 0x3F) << 10 | 3)
    newer = struct.pack("!BBH", 0x80 | 111, 960 >> 6, (960 & 0x3F) << 10 | 4)
    payload = older + newer + bytes([111]) + b"old" + b"newr" + b"primary"
    return [write_rtp(RtpPacket(63, 1, 960, 7, item)) for item in (payload, b"\x6fonly")]


def _rtcp() -> list[bytes]:
    sent = sender_report(ssrc=1, cname="a", rtp_timestamp=5, packets=3, octets=9, at=_AT)
    description = source_description(2, "b")
    block = ReportBlock(ReceptionReport(1, 2, 3, 4, 5), lsr=6, dlsr=7)
    reported = receiver_report(ssrc=2, description=description, blocks=[block])
    received = receiver_report(ssrc=2, description=description, blocks=[])
    return [sent, received, reported, received + sent]


def _stun() -> list[bytes]:
    request = aioice.stun.Message(
        aioice.stun.Method.BINDING, aioice.stun.Class.REQUEST, transaction_id=b"123456789012"
    )
    request.attributes["USERNAME"] = "user:peer"
    request.attributes["PRIORITY"] = 12345
    request.attributes["ICE-CONTROLLING"] = 1
    request.attributes["XOR-MAPPED-ADDRESS"] = ("192.0.2.1", 50_000)
    request.add_message_integrity(b"key")
    datagrams = [bytes(request), write_rtp(RtpPacket(111, 1, 2, 3, b"x")), b"\x16\xfe\xfd", b""]
    framed = [struct.pack("!H", len(item)) + item for item in datagrams]
    return [framed[0], b"".join(framed)]


def _ogg() -> list[bytes]:
    made = []
    for channels in (1, 2):
        writer = OggOpusWriter(7)
        toc = 0xF8 | 4 * (channels == 2)
        data = writer.header(channels, tags={"TITLE": "seed"})
        data += writer.append([bytes([toc, n]) for n in range(3)])
        data += writer.silence(4 * 960) + writer.append([bytes([toc, 9])])
        made += [data, data + writer.end()]
    return made


def _journals() -> list[bytes]:
    info = RecordingInfo("id", "name", AudioFormat(48_000, 1), "opus", _AT, session_id="s")
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "journal"
        anchor = {"rtp_timestamp": 5, "ssrc": 7, "at": _AT.isoformat()}
        before = Before(samples=10, connections=2, anchor=LedgerEvent("anchor", 3, anchor))
        journal = Journal.create(path, info, data_offset=80, before=before)
        journal.span(0, SampleKind.RECEIVED)
        journal.event(LedgerEvent("anchor", 0, anchor))
        journal.span(960, SampleKind.SILENCE)
        journal.event(LedgerEvent("reconnected", 960, {"attempt": 2}))
        journal.span(4800, SampleKind.RECOVERED)
        journal.end("closed", _AT)
        journal.close()
        whole = path.read_bytes()
    return [whole, whole[:-20], whole + json.dumps({"reopened": 1000}).encode() + b"\n"]


def _ledgers() -> list[bytes]:
    read = Ledger()
    read.add(SampleKind.RECEIVED, 40_000)
    read.add(SampleKind.SILENCE, 8000)
    for position, second in ((0, 0), (40_000, 1)):
        at = (_AT + datetime.timedelta(seconds=second)).isoformat()
        details = {"at": at, "rtp_timestamp": 5, "ssrc": 7, "skew_ppm": 1.5, "delay_s": 0.1}
        read.note(LedgerEvent("anchor", position, details))
    described = RecordingInfo(
        id="a0", name="a", format=AudioFormat(48_000, 1), codec="opus", started_at=_AT,
        session_id="a0", restore=RestoreMode.LOST, title="مريم 🎙️",
    )  # fmt: skip
    entry = document(described, read, ended_at=_AT, end_reason="closed", sha256="ab" * 32)
    return [json.dumps(entry).encode()]


def _spool_journals() -> list[bytes]:
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "journal"
        journal = SpoolJournal.create(path, description())
        journal.note_hole(5, 100)
        journal.note_session(SESSION)
        journal.close()
        return [path.read_bytes()]


def _indexes() -> list[bytes]:
    with tempfile.TemporaryDirectory() as made:
        folder = pathlib.Path(made)
        index = FolderIndex(folder)
        parts = (PartRow(1, "wav", is_live=False, length=10, ended_at=_AT.isoformat()),)
        index.add([RecordingRow("a", "a0", 1, False, None, parts=parts)])
        index.close()
        return [(folder / INDEX).read_bytes()]


def _peaks() -> list[bytes]:
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "a.peaks"
        made = PartPeaks(path, AudioFormat(48_000, 1))
        sound = random_sound(20 * BASE + 5, AudioFormat(48_000, 1))
        made.add(sound)
        growing = path.read_bytes()
        made.complete(len(sound), "ab" * 32)
        return [growing, path.read_bytes(), growing[:64]]


def _wavs() -> list[bytes]:
    made = []
    for sample_format, offset, large in (
        (SampleFormat.S16, 44, False),
        (SampleFormat.F32, 60, False),
        (SampleFormat.S16, 100, True),
    ):
        descriptor = os.memfd_create("seed")
        header = write_header(
            descriptor, AudioFormat(48_000, 2, sample_format), offset, large=large
        )
        size = 10 * header.format.bytes_per_frame
        os.pwrite(descriptor, bytes(size), offset)
        write_sizes(descriptor, header, size)
        made.append(os.pread(descriptor, 1000, 0))
        os.close(descriptor)
    return made


def _flacs() -> list[bytes]:
    audio_format = AudioFormat(8000, 2, SampleFormat.S24)
    sounds = [random_sound(50, audio_format), silence(audio_format, 9000)]
    files = [flac_of(sound, audio_format) for sound in sounds]
    return files + [file[:26] + bytes(16) + file[42:] for file in files]  # without a hash


def _piece_journals() -> list[bytes]:
    key = restore_key("a0", AudioFormat(48_000, 2, SampleFormat.S24))
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "a0.restore"
        journal = RestoreJournal.create(path, key)
        journal.note_held([Range(5, 10), Range(20, 5)], boot="b")
        journal.note_captured(Captured(100, "ab" * 32, (Range(1, 2),)))
        journal.note_end(_AT)
        journal.note_outcome(Restored("ab" * 32, 100, 15, 48_000))
        written = path.read_bytes()
        notes = parse_notes(written, boot="b")
        journal.write_anew(notes)
        return [written, path.read_bytes()]
