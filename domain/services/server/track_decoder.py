"""Decodes the packets of one recording: to one channel until a packet has two."""

from __future__ import annotations

import contextlib
from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import replace

from domain.errors import PayloadInvalid
from domain.ports.codec import DecoderFactory
from domain.recording.passthrough import PassthroughDecoder
from domain.recording.reconstruction import Reconstructor, Run
from domain.rtp.order import Slot
from domain.sound import opus
from domain.sound.decoding import Decoder
from domain.sound.detection import CodecParameters
from domain.sound.formats import AudioFormat

PRIMING_PACKETS = 20
"""How many of the packets before a change of channels the new decoder decodes first.

Its sound then continues theirs: after 0.4 s of packets, the result differs by 0.1 % of full scale
from that of a decoder that has decoded everything (measured)."""


class TrackDecoder:
    """A `Reconstructor` whose decoder is replaced when the sender begins to send two channels."""

    def __init__(
        self,
        codec: CodecParameters,
        audio_format: AudioFormat,
        *,
        decoders: DecoderFactory,
        max_gap_s: float,
        keeps_packets: bool,
    ) -> None:
        """Decode to `audio_format`; with `keeps_packets`, pass packets on undecoded."""
        self._codec = codec
        self._format = audio_format
        self._decoders = decoders
        self._keeps_packets = keeps_packets
        self._reconstructor = Reconstructor(
            self._new_decoder(),
            clock_rate_hz=codec.clock_rate_hz,
            sample_rate_hz=audio_format.sample_rate_hz,
            max_gap_s=max_gap_s,
        )
        is_mono = codec.name == "opus" and audio_format.channels == 1
        self.mono_payloads: deque[bytes] | None = deque(maxlen=PRIMING_PACKETS) if is_mono else None
        """The latest payloads, while Opus is decoded to mono. The caller adds each payload here, or
        calls `begin_stereo` if it has two channels."""

    @property
    def rejected(self) -> Counter[str]:
        """Numbers of packets that could not be decoded, by reason."""
        return self._reconstructor.rejected

    def restart(self) -> None:
        """Expect a stream unrelated to the previous one; a gap in between is a loss, not DTX."""
        self._reconstructor.restart()

    def corrected(self, timestamp: int) -> int:
        """Return a packet's timestamp, corrected as that of a run would be."""
        return self._reconstructor.corrected(timestamp)

    def process(self, slots: Sequence[Slot]) -> list[Run]:
        """Return the runs of the slots."""
        return self._reconstructor.process(slots) if slots else []

    def begin_stereo(self, payload: bytes, *, is_judged: bool) -> bool:
        """Decode to two channels from this payload on, which is the first that has two.

        The next run says that the recording has two channels from there on, unless its sound
        `is_judged`. Returns False if the payload is not an Opus packet.
        """
        assert self.mono_payloads is not None
        try:
            opus.packet_samples(payload)
        except PayloadInvalid:
            return False
        self._format = replace(self._format, channels=2)
        decoder = self._new_decoder()
        for earlier in self.mono_payloads:
            with contextlib.suppress(PayloadInvalid):
                decoder.decode(earlier)
        decoder.collect()
        self.mono_payloads = None
        self._reconstructor.change_decoder(decoder, channels=None if is_judged else 2)
        return True

    def _new_decoder(self) -> Decoder:
        if self._keeps_packets:
            return PassthroughDecoder()
        return self._decoders(self._codec, self._format)
