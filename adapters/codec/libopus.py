"""Encodes and decodes Opus with libopus, bound by ctypes.

FFmpeg's wrapper can neither conceal, nor decode FEC, nor enable DTX. PyAV's wheels contain
libopus, so there is nothing to install; otherwise the system's library is used.
"""

from __future__ import annotations

import ctypes
import ctypes.util
import functools
import pathlib
import threading
import weakref
from typing import Any

import av
import numpy as np

from domain.errors import CodecUnavailable, PayloadInvalid
from domain.sound import opus
from domain.sound.formats import AudioFormat, AudioFrame, Samples
from domain.sound.pieces import Sound

SAMPLE_RATE_HZ = 48_000
_WIDTH = 2  # bytes per sample
_SCRATCH_SAMPLES = 60_000
_SCRATCH_FULL = _SCRATCH_SAMPLES - 2 * opus.MAX_PACKET_SAMPLES  # beyond it a packet may not fit
_CONCEAL_STEP = 120  # opus_decode conceals multiples of 2.5 ms
_MAX_PAYLOAD_BYTES = 1275  # largest packet with one frame, RFC 6716 § 3.4
_NOTHING_TO_SEND = 2  # opus_encode: a packet of at most 2 bytes need not be transmitted

_APPLICATIONS = {"voip": 2048, "audio": 2049, "lowdelay": 2051}
_SET_BITRATE = 4002
_SET_COMPLEXITY = 4010
_SET_INBAND_FEC = 4012
_SET_PACKET_LOSS_PERC = 4014
_SET_DTX = 4016
_GET_LOOKAHEAD = 4027
_RESET_STATE = 4028


class OpusEncoder:
    """Encodes s16 frames at 48 kHz, each into one packet."""

    def __init__(
        self,
        *,
        channels: int,
        bitrate: int,
        complexity: int,
        fec: bool,
        expected_loss_percent: int,
        dtx: bool,
        application: str,
    ) -> None:
        self._library = _library()
        error = ctypes.c_int()
        state = self._library.opus_encoder_create(
            SAMPLE_RATE_HZ, channels, _APPLICATIONS[application], ctypes.byref(error)
        )
        _check(self._library, error.value)
        weakref.finalize(self, self._library.opus_encoder_destroy, state)
        self._state = ctypes.c_void_p(state)
        self._packet: Any = ctypes.create_string_buffer(_MAX_PAYLOAD_BYTES)
        self._opus_encode = self._library.opus_encode
        self._width = _WIDTH * channels
        self._dtx = dtx
        self._control(_SET_BITRATE, bitrate)
        self._control(_SET_COMPLEXITY, complexity)
        self._control(_SET_INBAND_FEC, int(fec))
        self._control(_SET_PACKET_LOSS_PERC, expected_loss_percent if fec else 0)
        self._control(_SET_DTX, int(dtx))
        self.look_ahead = self._query(_GET_LOOKAHEAD)

    def encode(self, frame: AudioFrame, *, last: bool = False) -> bytes | None:
        samples = frame.samples.tobytes()  # getting numpy's data address costs more than this copy
        length = len(frame.samples)
        assert len(samples) == length * self._width  # libopus reads this many bytes
        size = self._opus_encode(self._state, samples, length, self._packet, _MAX_PAYLOAD_BYTES)
        if size < 0:
            _check(self._library, size)
        if self._dtx and size <= _NOTHING_TO_SEND and not last:
            return None
        packet: bytes = self._packet[:size]
        return packet

    def reset(self) -> None:
        self._control(_RESET_STATE, 0)  # this request ignores the value

    def _control(self, request: int, value: int) -> None:
        result = self._library.opus_encoder_ctl(self._state, request, ctypes.c_int(value))
        _check(self._library, result)

    def _query(self, request: int) -> int:
        value = ctypes.c_int32()
        _check(
            self._library,
            self._library.opus_encoder_ctl(self._state, request, ctypes.byref(value)),
        )
        return value.value


class _Scratch:
    """A buffer into which the decoders of one thread write; it holds sound of one at a time.

    All packets reuse the same memory, which therefore stays in the processor's cache.
    """

    def __init__(self) -> None:
        self.samples = np.empty(_SCRATCH_SAMPLES, dtype="<i2")
        self._start: int = self.samples.ctypes.data
        self.end = ctypes.c_void_p(self._start)
        """The address after the last sample."""
        self.filled = 0
        """Samples in the buffer, counting each channel."""
        self.user: OpusDecoder | None = None
        """The decoder that wrote the samples."""

    def empty(self) -> Samples:
        """Return a copy of the samples and empty the buffer."""
        copied = self.samples[: self.filled].copy()
        self.end.value, self.filled, self.user = self._start, 0, None
        return copied


class _PerThread(threading.local):
    """Gives each thread a buffer of its own."""

    def __init__(self) -> None:
        self.scratch = _Scratch()


_THREAD = _PerThread()
_HANDOVER = threading.Lock()
"""Held to empty a buffer that another decoder filled, or that belongs to another thread.

No lock is needed for a buffer that holds nothing, or sound of the decoder that is being called:
no other thread touches it. So the usual way, `decode` and then `collect`, takes no lock.
"""


class OpusDecoder:
    """Decodes packets of one stream to s16, shape (n, channels).

    Several threads may use decoders at the same time, but no two threads the same decoder. A
    decoder may move from one thread to another, even between `decode` and `collect`.
    """

    def __init__(self, audio_format: AudioFormat) -> None:
        self._library = _library()
        self._channels = audio_format.channels
        error = ctypes.c_int()
        state = self._library.opus_decoder_create(
            audio_format.sample_rate_hz, audio_format.channels, ctypes.byref(error)
        )
        _check(self._library, error.value)
        weakref.finalize(self, self._library.opus_decoder_destroy, state)
        self._state = ctypes.c_void_p(state)
        self._opus_decode = self._library.opus_decode
        self._scratch: _Scratch | None = None  # the buffer with this decoder's latest sound
        self._gathered: list[Sound] = []  # sound older than that

    def decode(self, payload: bytes) -> int:
        if not payload:
            # libopus would take a null payload for a lost packet
            raise PayloadInvalid("the Opus packet is empty")
        return self._decode(payload, opus.MAX_PACKET_SAMPLES)

    def recoverable(self, payload: bytes) -> int:
        return opus.fec_samples(payload)

    def recover(self, payload: bytes) -> int:
        return self._decode(payload, opus.fec_samples(payload), fec=1)

    def conceal(self, length: int) -> int:
        whole = length - length % _CONCEAL_STEP
        return self._decode(None, min(whole, opus.MAX_PACKET_SAMPLES)) if whole else 0

    def collect(self) -> list[Sound]:
        if (scratch := self._scratch) is not None:
            if scratch is _THREAD.scratch and scratch.user is self:
                self._set_aside(scratch)
            else:
                self._leave(scratch)
        gathered, self._gathered = self._gathered, []
        return gathered

    def _decode(self, payload: bytes | None, room: int, fec: int = 0) -> int:
        scratch = _THREAD.scratch
        if scratch.user is not self or scratch.filled > _SCRATCH_FULL:
            if scratch.user is not None or self._scratch is not None:
                self._make_room(scratch)
            self._scratch, scratch.user = scratch, self
        size = len(payload) if payload else 0
        length: int = self._opus_decode(self._state, payload, size, scratch.end, room, fec)
        if length < 0:
            raise PayloadInvalid(_message(self._library, length))
        added = length * self._channels
        scratch.filled += added
        scratch.end.value += added * _WIDTH  # type: ignore[operator]  # it is not null
        return length

    def _make_room(self, scratch: _Scratch) -> None:
        """Empty this thread's buffer, and the one that holds this decoder's latest sound."""
        if (former := self._scratch) is not None:
            self._leave(former)
        if (user := scratch.user) is not None:
            user._leave(scratch)

    def _leave(self, scratch: _Scratch) -> None:
        """Set this decoder's samples aside, unless another thread has already done so."""
        with _HANDOVER:
            if scratch.user is self:
                self._set_aside(scratch)

    def _set_aside(self, scratch: _Scratch) -> None:
        """Move this decoder's samples out of the buffer, so that another decoder can use it."""
        if len(samples := scratch.empty()):
            self._gathered.append(samples.reshape(-1, self._channels))
        self._scratch = None  # last, because `collect` may read it in another thread


@functools.cache
def _library() -> Any:
    """Load libopus once. Raises `CodecUnavailable` with what to install."""
    beside_av = pathlib.Path(av.__file__).parent.parent / "av.libs"
    candidates = [str(path) for path in sorted(beside_av.glob("libopus*.so*"))]
    candidates += [name for name in (ctypes.util.find_library("opus"),) if name]
    for candidate in candidates:
        try:
            # PyDLL keeps the GIL: while other threads wait for it, releasing and reacquiring it
            # costs more than a packet's whole time budget
            return _declare(ctypes.PyDLL(candidate))
        except (OSError, AttributeError):
            continue
    raise CodecUnavailable("libopus was not found; install it (Debian: apt install libopus0)")


def _declare(library: ctypes.CDLL) -> ctypes.CDLL:
    pointer, integer, integer32 = ctypes.c_void_p, ctypes.c_int, ctypes.c_int32
    library.opus_encoder_create.restype = pointer
    library.opus_encoder_create.argtypes = [integer32, integer, integer, pointer]
    library.opus_encoder_destroy.argtypes = [pointer]
    library.opus_encoder_ctl.argtypes = [pointer, integer]  # variadic
    library.opus_decoder_create.restype = pointer
    library.opus_decoder_create.argtypes = [integer32, integer, pointer]
    library.opus_decoder_destroy.argtypes = [pointer]
    # no argtypes for per-packet calls: checking them takes longer than the rest of a call
    library.opus_encode.restype = library.opus_decode.restype = integer32
    library.opus_strerror.restype = ctypes.c_char_p
    return library


def _message(library: Any, code: int) -> str:
    return str(library.opus_strerror(code).decode())


def _check(library: Any, code: int) -> None:
    if code < 0:
        raise CodecUnavailable(f"libopus: {_message(library, code)}")
