"""The client: streams a source of sound to the server."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any

from domain.errors import CaptureError, GaplessError
from domain.events.client import (
    CaptureStarted,
    SoundCaptured,
    SoundSent,
    SourceEnded,
    SpoolDelivered,
    StreamEnded,
)
from domain.ports.capture import CaptureBackend, CaptureRequest
from domain.ports.clock import Clock, Spawner, Work
from domain.ports.codec import Encoder, Resampler
from domain.ports.events import EventPublisher
from domain.recording.ledger import RestoreState
from domain.recording.restoring import LOOK_AHEAD
from domain.rtp.packetizer import RTP_RATE_HZ, Packetizer
from domain.services.client.captured_sound import CapturedSound
from domain.services.client.kept_sound import KeptSound
from domain.services.client.lasting_source import LastingSource
from domain.services.client.live_sound import LiveSound
from domain.services.client.message_listener import MessageListener
from domain.services.client.uplink import Uplink
from domain.sound.formats import AudioFormat

LAST_CHANCE_S = 10.0
"""How long a source that has ended waits for a first connection."""
POLL_S = 0.1
"""How often a condition is checked while waiting for it."""


@dataclass(frozen=True, slots=True)
class StreamSummary:
    """What was sent."""

    session_id: str
    seconds: float
    lost_s: float
    """Sound lost before it could be sent."""
    safe_s: float | None
    """Length of the completed recording, if the server reported it."""


class Publisher:
    """Streams one source in one session, from the first block to a clean end.

    The source's positions become RTP timestamps, so sound lost before encoding leaves a gap on
    the recording's timeline and does not shorten it. This also holds while a device is unplugged.

    With a spool (`kept`), sound is captured from the start and for as long as the user wants,
    whether or not there is a server: each block is kept, and then sent if there is a connection.
    Without one, the source is closed while there is no server.
    """

    def __init__(
        self,
        *,
        capture: CaptureBackend,
        request: CaptureRequest,
        resampler: Callable[[AudioFormat], Resampler],
        encoder: Encoder,
        packetizer: Packetizer,
        uplink: Uplink,
        clock: Clock,
        spawner: Spawner,
        events: EventPublisher,
        progress_interval_s: float,
        channels: int,
        duration_s: float | None,
        kept: KeptSound | None = None,
        send_owed: Callable[[bool], Coroutine[Any, Any, None]] | None = None,
        messages: MessageListener | None = None,
    ) -> None:
        """`send_owed` sends the server what earlier runs have left.

        If its argument is true, it leaves the path to the live stream. `messages` listens for
        messages to the speaker while there is a session.
        """
        self._encoder = encoder
        self._packetizer = packetizer
        self._uplink = uplink
        self._clock = clock
        self._spawner = spawner
        self._events = events
        self._progress_interval_s = progress_interval_s
        self._kept = kept
        self._send_owed = send_owed
        self._messages = messages
        uplink.on_session = self._session_opened
        self._owing: Work | None = None
        limit = None if duration_s is None else round(duration_s * RTP_RATE_HZ)
        self._live = LiveSound(
            resampler=resampler,
            encoder=encoder,
            packetizer=packetizer,
            uplink=uplink,
            channels=channels,
            limit=limit,
        )
        self._sound = CapturedSound(
            live=self._live, uplink=uplink, clock=clock, events=events, limit=limit
        )
        self._source = LastingSource(
            capture=capture,
            request=request,
            outlet=self._sound,
            clock=clock,
            spawner=spawner,
            events=events,
            limit=limit,
        )
        self.is_delivered = False
        """Whether the server has everything of this stream; `run` may still send what is owed."""
        self._connecting: Work | None = None
        self._has_waited = False  # for a server that was not available

    @property
    def streaming(self) -> bool:
        """Whether the client has connected, and sends sound."""
        return self._sound.is_connected

    @property
    def kept_s(self) -> float | None:
        """How much sound is kept in the spool after `run`; None if nothing has to be sent."""
        return None if self._kept is None else self._kept.kept_s

    def stop(self) -> None:
        """End the source; captured sound is still sent, then `run` returns."""
        self._source.stop()

    async def run(self) -> StreamSummary:
        """Connect, stream until the source ends or `stop` is called, and end the session.

        Waits for a server that is not available. Raises what the ports raise, and releases
        everything in any case, including the source. What the server lacks then stays in the spool.
        """
        try:
            # report a wrong device before connecting to the server
            await self._source.open()
            await self._begin_spool()
            self._events.publish(CaptureStarted())
            gone: CaptureError | None = None
            if self._kept is None:
                gone = await self._wait_for_server()
            else:
                self._connecting = self._spawner.spawn(self._connect(), name="connect")
            failure = await self._stream(gone)
            await self._source.close()
            if self._sound.refusal is None:
                self._events.publish(SourceEnded())
            await self._take_last_chance()
            await self._end_owed()
            safe_s = await self._uplink.close()
            seconds, lost_s = self._sound.sent_s, self._source.lost_s
            if failure is None:
                self._events.publish(StreamEnded(seconds, lost_s, safe_s))
            try:
                await self._deliver()
            except GaplessError:
                if failure is None:  # which came first, and is told
                    raise
            else:
                self.is_delivered = failure is None
                if self._send_owed is not None:
                    await self._send_owed(False)
        finally:
            async with contextlib.AsyncExitStack() as releasing:  # release all, even if one fails
                releasing.push_async_callback(self._end_spool)
                releasing.push_async_callback(self._uplink.abandon)
                releasing.push_async_callback(self._source.close)
                releasing.push_async_callback(self._end_owed)
                releasing.push_async_callback(self._end_connecting)
                if self._messages is not None:
                    releasing.push_async_callback(self._messages.close)
        if failure is not None:
            raise failure
        return StreamSummary(self._uplink.session_id, seconds, lost_s, safe_s)

    async def _stream(self, gone: CaptureError | None) -> GaplessError | None:
        """Keep and send until the source ends; return the failure that ended it, or None."""
        metering = self._spawner.spawn(self._meter(), name="meter")
        try:
            failure = await self._source.deliver(gone)
        finally:
            await metering.cancel()
        self._end_sound()
        if self._uplink.failure is not None and not self._sound.is_keeping:
            return self._uplink.failure
        return failure

    def _end_sound(self) -> None:
        self._sound.pause()
        self._tell_progress()

    async def _meter(self) -> None:
        while True:
            await self._clock.sleep(self._progress_interval_s)
            self._tell_progress()

    def _tell_progress(self) -> None:
        """Report progress, and the levels of the sound since the last report."""
        lost_s = self._source.lost_s
        if (levels := self._live.levels()) is not None:
            self._events.publish(SoundSent(self._live.end / RTP_RATE_HZ, levels, lost_s))
        if (levels := self._sound.levels_of_unsent()) is not None:
            self._events.publish(SoundCaptured(self._source.read_s, levels, lost_s))

    def _session_opened(self, session_id: str, secret: str) -> None:
        if self._kept is not None:
            self._kept.session_opened(session_id, secret)
        if self._messages is not None:
            self._messages.begin(session_id, secret)

    # -- the server ----------------------------------------------------------------------------

    async def _wait_for_server(self) -> CaptureError | None:
        """Connect, with the source closed while there is no server.

        Returns why the device could not be opened again, if it could not.
        """
        while not await self._uplink.open():
            # release the microphone until the server is available
            await self._source.close()
        if self._source.is_outdated:
            await self._source.close()
        gone: CaptureError | None = None
        if not self._source.is_open:
            gone = await self._source.reopen()  # if it is gone, it is waited for
            self._source.forget_lost()  # sound from before the connection does not count
        self._sound.is_connected = True
        return gone

    async def _connect(self) -> None:
        """Connect while sound is captured; a refusal ends the source."""
        try:
            while not await self._uplink.open():
                self._has_waited = True
            self._sound.is_connected = True
            if self._send_owed is not None:
                self._owing = self._spawner.spawn(self._send_owed(True), name="send owed spools")
        except GaplessError as error:
            self._sound.refusal = error
            self._source.stop()

    async def _take_last_chance(self) -> None:
        """Wait a little for a connection that is not made yet, though the source has ended."""
        if (connecting := self._connecting) is None:
            return
        until = self._clock.monotonic() + LAST_CHANCE_S
        while not connecting.done and self._clock.monotonic() < until:
            await self._clock.sleep(POLL_S)
        await connecting.cancel()
        if self._sound.refusal is not None:
            raise self._sound.refusal
        self._end_sound()

    async def _end_connecting(self) -> None:
        if self._connecting is not None:
            await self._connecting.cancel()

    async def _end_owed(self) -> None:
        if self._owing is not None:
            await self._owing.cancel()

    # -- the spool -----------------------------------------------------------------------------

    async def _begin_spool(self) -> None:
        if self._kept is None:
            return
        # the server takes a fixed look-ahead off the positions of what it decodes
        timestamp = self._packetizer.timestamp_of(self._encoder.look_ahead - LOOK_AHEAD)
        info = await self._kept.begin(self._source.format, rtp_timestamp=timestamp)
        if info is None:
            self._kept = None
            return
        self._sound.kept = self._kept
        self._uplink.spool = info

    async def _deliver(self) -> None:
        """Bring to the server what it lacks."""
        if self._kept is None:
            return
        delivery = await self._kept.deliver(is_confirmed=self._uplink.failure is None)
        if delivery is not None:
            self._events.publish(
                SpoolDelivered(
                    captured_s=delivery.captured_s,
                    state=RestoreState(delivery.state),
                    sha256=delivery.sha256 if delivery.is_same else None,
                    is_all=self._kept.is_keeping,
                )
            )

    async def _end_spool(self) -> None:
        if self._kept is not None:
            # sound whose server has refused it at once is not worth keeping
            is_unwanted = self._sound.refusal is not None and not self._has_waited
            await self._kept.close(discard=is_unwanted)
