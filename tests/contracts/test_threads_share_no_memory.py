"""Codecs and SRTP sessions in several threads at the same time do not disturb each other."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar, cast

import numpy as np
import pylibsrtp
import pytest

from adapters.codec.libopus import OpusDecoder
from adapters.transport.srtp import Protector, Unprotector
from domain.rtp.packets import RtpPacket, write_rtp
from domain.sound.formats import AudioFormat, Samples
from tests.rigs.sound import encode

RATE = 48_000
MONO, STEREO = AudioFormat(RATE, 1), AudioFormat(RATE, 2)
KEY = bytes(range(30))
T = TypeVar("T")


@pytest.fixture(autouse=True)
def threads_alternate_often() -> Iterator[None]:
    """Let threads take turns after nearly every bytecode instead of every 5 ms."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(interval)


def in_threads(*calls: Callable[[], T]) -> list[T]:
    """Run all calls at the same time, each in a thread of its own; return their results."""
    results: dict[int, T] = {}
    ready = threading.Barrier(len(calls))

    def run(index: int) -> None:
        ready.wait()
        results[index] = calls[index]()

    threads = [threading.Thread(target=run, args=(index,)) for index in range(len(calls))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return [results[index] for index in range(len(calls))]


def tone(hertz: float) -> list[bytes]:
    turns = np.arange(2 * RATE) * hertz / RATE
    return encode(np.rint(8000 * np.sin(2 * np.pi * turns)).astype("<i2").reshape(-1, 1))


def collect(decoder: OpusDecoder) -> list[Samples]:
    return cast("list[Samples]", decoder.collect())


def decoded(packets: list[bytes], audio_format: AudioFormat, *, together: int = 3) -> Samples:
    """Decode packets, and collect the sound after every few of them, as a server does."""
    decoder, sound = OpusDecoder(audio_format), []
    for number, packet in enumerate(packets, 1):
        decoder.decode(packet)
        if number % together == 0:
            sound += collect(decoder)
    return np.concatenate(sound + collect(decoder))


def test_each_thread_gets_the_sound_that_it_gets_alone() -> None:
    streams = [(tone(300), MONO), (tone(410), STEREO), (tone(530), MONO)]
    alone = [decoded(*stream) for stream in streams]
    together = in_threads(*[lambda stream=stream: decoded(*stream) for stream in streams])  # type: ignore[misc]
    for expected, got in zip(alone, together, strict=True):
        np.testing.assert_array_equal(got, expected)


def test_decoders_that_take_turns_in_each_thread_keep_their_sound_apart() -> None:
    streams = [tone(250 + 70 * n) for n in range(4)]

    def decode_in_turn(two: list[list[bytes]]) -> list[Samples]:
        decoders = [OpusDecoder(MONO) for _ in two]
        for packets in zip(*two, strict=True):
            for decoder, packet in zip(decoders, packets, strict=True):
                decoder.decode(packet)
        return [np.concatenate(collect(decoder)) for decoder in decoders]

    alone = [decoded(packets, MONO) for packets in streams]
    first, second = in_threads(
        lambda: decode_in_turn(streams[:2]), lambda: decode_in_turn(streams[2:])
    )
    for expected, got in zip(alone, first + second, strict=True):
        np.testing.assert_array_equal(got, expected)


def test_a_decoder_may_go_on_in_another_thread() -> None:
    moving, staying = tone(300), tone(700)
    mover, stayer = OpusDecoder(MONO), OpusDecoder(MONO)
    moved: list[Samples] = []
    with ThreadPoolExecutor(1) as here, ThreadPoolExecutor(1) as there:
        for one, two, three in zip(moving[::2], moving[1::2], staying[::2], strict=True):
            here.submit(mover.decode, one).result()
            # `here` takes its buffer for another decoder, while the sound in it moves to `there`
            stays, moves = here.submit(stayer.decode, three), there.submit(mover.decode, two)
            assert (stays.result(), moves.result()) == (960, 960)
            moved += there.submit(collect, mover).result()
        stayed = collect(stayer)
    np.testing.assert_array_equal(np.concatenate(moved), decoded(moving, MONO))
    alone = OpusDecoder(MONO)
    for packet in staying[::2]:
        alone.decode(packet)
    np.testing.assert_array_equal(np.concatenate(stayed), np.concatenate(collect(alone)))


def session(kind: int) -> pylibsrtp.Session:
    return pylibsrtp.Session(pylibsrtp.Policy(key=KEY, ssrc_type=kind))


def plain_packets(source: int) -> list[bytes]:
    return [
        write_rtp(RtpPacket(111, n, n * 960, source, bytes([source]) * (40 + n % 200)))
        for n in range(2000)
    ]


def test_sessions_unprotect_in_several_threads() -> None:
    plain = [plain_packets(source) for source in (1, 2)]
    protected = []
    for packets in plain:
        sender = session(pylibsrtp.Policy.SSRC_ANY_OUTBOUND)
        protected.append([sender.protect(packet) for packet in packets])

    def unprotect(packets: list[bytes]) -> list[bytes]:
        receiver = Unprotector(session(pylibsrtp.Policy.SSRC_ANY_INBOUND))
        return [receiver.rtp(packet) for packet in packets]

    got = in_threads(lambda: unprotect(protected[0]), lambda: unprotect(protected[1]))
    assert got == plain


def test_one_session_protects_for_several_threads() -> None:
    plain = [plain_packets(source) for source in (1, 2)]
    protector = Protector(session(pylibsrtp.Policy.SSRC_ANY_OUTBOUND))

    def protect(packets: list[bytes]) -> list[bytes]:
        return [protector.rtp(packet) for packet in packets]

    protected = in_threads(lambda: protect(plain[0]), lambda: protect(plain[1]))
    for packets, expected in zip(protected, plain, strict=True):
        receiver = session(pylibsrtp.Policy.SSRC_ANY_INBOUND)
        assert [receiver.unprotect(packet) for packet in packets] == expected
