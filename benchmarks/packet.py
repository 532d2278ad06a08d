"""Measures each step of processing a packet by itself, for a hundred streams in turn.

Times are CPU time in µs, the best of several runs: the cost of an undisturbed step. The rest of
the server's time per packet is the event loop, reports and consent.
"""

from __future__ import annotations

import asyncio
import datetime
import os
import pathlib
import socket
import tempfile
import time
from collections.abc import Callable, Sequence
from typing import TypeVar

import numpy as np
import pylibsrtp

from adapters.codec.libopus import OpusDecoder
from adapters.storage.folder.disk import WRITE_INTERVAL_S, SyncThread
from adapters.storage.folder.part import PartOptions
from adapters.storage.folder.parts import RecordingParts
from adapters.transport.sockets.datagrams import Datagram
from adapters.transport.sockets.ports import UdpPorts
from adapters.transport.srtp import Unprotector
from domain.recording.ledger import RecordingInfo, SampleKind
from domain.recording.reconstruction import Run
from domain.recording.recording import Recording
from domain.rtp.order import ReorderBuffer
from domain.rtp.packets import RtpPacket, parse_rtp, write_rtp
from domain.rtp.reports import ReceptionStatistics
from domain.rtp.sources import SourceGate
from domain.sound.formats import AudioFormat
from tests.rigs.sound import encode, speech

STREAMS = 100
PACKETS = 100
STORED = 600
"""Packets stored per stream; enough that files are hashed and metered several times."""
RUNS = 5
MONO = AudioFormat(48_000, 1)
T = TypeVar("T")


def measure() -> dict[str, float]:
    """Return the µs that each step takes per packet, in processing order."""
    payloads = encode(speech(PACKETS * 0.02))[:PACKETS]
    packets = [
        RtpPacket(111, n, n * 960, 7, payload, arrived=n * 0.02)
        for n, payload in enumerate(payloads)
    ]
    plain = [write_rtp(packet) for packet in packets]
    steps: dict[str, Callable[[], float]] = {
        "receive (a system call for all)": lambda: asyncio.run(_receive(plain)),
        "unprotect (SRTP)": lambda: _unprotect(plain),
        "parse": lambda: _each([parse_rtp] * STREAMS, plain),
        "admit, count, put in order": lambda: _order(packets),
        "decode (libopus)": lambda: _decode(payloads),
        "place on the timeline": lambda: _place(packets),
        "store (file, ledger, hash)": _store,
    }
    return {name: min(step() for _ in range(RUNS)) for name, step in steps.items()}


def _streams() -> range:
    return range(STREAMS)


def _each(streams: Sequence[Callable[[T], object]], items: Sequence[T]) -> float:
    """Return the µs per call; every stream processes an item before any processes the next."""
    began = time.thread_time()
    for item in items:
        for process in streams:
            process(item)
    return (time.thread_time() - began) / (len(streams) * len(items)) * 1e6


class _Connection:
    """Ignores what it receives."""

    def on_media(self, datagrams: Sequence[Datagram]) -> None: ...

    def dtls_received(self, data: bytes) -> None: ...


async def _receive(datagrams: list[bytes]) -> float:
    ports = UdpPorts()
    port = ports.at("127.0.0.1")
    for ssrc in _streams():
        ports.sources.add(ssrc, _Connection())
    spent = 0.0
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        for data in datagrams:
            for ssrc in _streams():
                sender.sendto(data[:8] + ssrc.to_bytes(4, "big") + data[12:], port.address)
            began = time.thread_time()
            port.read()
            spent += time.thread_time() - began
    ports.close()
    return spent / (STREAMS * len(datagrams)) * 1e6


def _unprotect(datagrams: list[bytes]) -> float:
    profile = pylibsrtp.Policy.SRTP_PROFILE_AEAD_AES_256_GCM
    spent = 0.0
    pairs = []
    for _ in _streams():
        key = os.urandom(44)
        ends = (pylibsrtp.Policy.SSRC_ANY_OUTBOUND, pylibsrtp.Policy.SSRC_ANY_INBOUND)
        pairs.append([
            pylibsrtp.Session(pylibsrtp.Policy(key=key, ssrc_type=end, srtp_profile=profile))
            for end in ends
        ])  # fmt: skip
    receivers = [Unprotector(receiver).rtp for _, receiver in pairs]
    for datagram in datagrams:
        protected = [sender.protect(datagram) for sender, _ in pairs]
        began = time.thread_time()
        for unprotect, data in zip(receivers, protected, strict=True):
            unprotect(data)
        spent += time.thread_time() - began
    return spent / (STREAMS * len(datagrams)) * 1e6


def _order(packets: list[RtpPacket]) -> float:
    def new_stream() -> Callable[[RtpPacket], None]:
        gate, buffer = SourceGate(), ReorderBuffer(hold_s=0.0)
        statistics = ReceptionStatistics(7, clock_rate_hz=48_000)

        def process(packet: RtpPacket) -> None:
            for admitted in gate.admit(packet):
                statistics.received([admitted])
                buffer.push(admitted)

        return process

    return _each([new_stream() for _ in _streams()], packets)


def _decode(payloads: list[bytes]) -> float:
    def new_stream(ahead: int) -> Callable[[int], None]:
        decoder = OpusDecoder(MONO)

        def process(index: int) -> None:
            decoder.decode(payloads[(index + ahead) % len(payloads)])
            decoder.collect()

        return process

    # Streams are out of step: decoding the same packet a hundred times in a row trains the branch
    # predictor and takes a fifth less time than in reality.
    return _each([new_stream(stream) for stream in _streams()], range(len(payloads)))


def _place(packets: list[RtpPacket]) -> float:
    samples = np.zeros((960, 1), "<i2")

    def new_stream() -> Callable[[RtpPacket], None]:
        recording = Recording(max_gap_s=60)
        recording.open(MONO, clock_rate_hz=48_000)

        def process(packet: RtpPacket) -> None:
            kind = SampleKind.RECEIVED
            at = packet.sequence * 0.02
            recording.add(Run(packet.timestamp, [samples] * 2, 1920, kind, kind, at, at))

        return process

    return _each([new_stream() for _ in _streams()], packets[::2]) / 2


def _store() -> float:
    """Return the µs per packet of the disk thread, which writes packets in batches."""
    together = round(WRITE_INTERVAL_S / 0.02)
    samples = (np.random.default_rng(1).normal(0, 3000, (together * 960, 1))).astype("<i2")
    now = datetime.datetime.now(datetime.UTC)
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        sync = SyncThread(folder)
        infos = [
            RecordingInfo(str(n), str(n), MONO, "opus", now, session_id=str(n)) for n in _streams()
        ]
        recordings = [RecordingParts(folder, info, PartOptions(), sync) for info in infos]
        for recording in recordings:
            recording.open()
        began = time.thread_time()
        for _ in range(STORED // together):
            for recording in recordings:
                recording.write([samples], SampleKind.RECEIVED)
        took = time.thread_time() - began
        for recording in recordings:
            recording.finish("closed", now)
        sync.close()
    return took / (STREAMS * (STORED // together) * together) * 1e6
