"""Builds each component of the client from the settings (see also `spooling`)."""

from __future__ import annotations

import functools
import random
import secrets
import sys
import urllib.parse

from adapters.capture.paced import FileCapture, ToneCapture
from adapters.codec.libopus import OpusEncoder
from adapters.codec.pyav import PyAvResampler
from adapters.http.api_client import ApiClient
from adapters.http.client import HttpSignaling
from adapters.http.message_client import HttpMessages
from adapters.playback.files import RawOutput, WavOutput
from adapters.runtime.asyncio_runtime import BackgroundTasks, SystemClock
from adapters.transport.client import WebRtcClientTransport
from adapters.transport.ice.options import IceOptions
from domain.ports.capture import CaptureBackend, CaptureRequest
from domain.ports.events import EventPublisher
from domain.ports.playback import OutputOpener, SoundOutput
from domain.ports.spool import SpoolFolder
from domain.rtp.packetizer import RTP_RATE_HZ, Packetizer
from domain.services.client.message_listener import MessageListener
from domain.services.client.publisher import Publisher
from domain.services.client.uplink import Uplink
from domain.session.addresses import loopback_of
from domain.sound.formats import AudioFormat, SampleFormat
from entrypoints.client_settings import ClientSettings
from entrypoints.spooling import build_kept_sound, build_owed_spools


def build_capture(settings: ClientSettings) -> CaptureBackend:
    # PortAudio may be missing, so import its backends only when they are chosen
    match settings.capture:
        case "sounddevice":
            from adapters.capture.sounddevice_backend import SoundDeviceCapture

            return SoundDeviceCapture()
        case "pyaudio":
            from adapters.capture.pyaudio_backend import PyAudioCapture

            return PyAudioCapture()
        case "file":
            return FileCapture()
        case _:
            return ToneCapture()


def build_api_client(settings: ClientSettings) -> ApiClient:
    return ApiClient(settings.server, token=settings.token, fingerprint=settings.pinned)


def build_output(file: str | None) -> OutputOpener:
    """Return what opens an output: the loudspeaker, a WAV file, or ``-``, which is stdout."""

    async def open_output(audio_format: AudioFormat) -> SoundOutput:
        if file is None:
            # PortAudio may be missing, so import it only if it is needed
            from adapters.playback.loudspeaker import Loudspeaker

            return await Loudspeaker.open(audio_format)
        if file == "-":
            return RawOutput(sys.stdout.buffer, audio_format.channels)
        return await WavOutput.open(file, audio_format)

    return open_output


def build_client_transport(settings: ClientSettings, clock: SystemClock) -> WebRtcClientTransport:
    host = urllib.parse.urlsplit(settings.server).hostname or ""
    options = IceOptions(
        loopback=loopback_of(host),
        relay_only=settings.ice_policy == "relay",
    )
    return WebRtcClientTransport(
        options, ice_servers=settings.ice_servers, channels=_sent_channels(settings), clock=clock
    )


def build_signaling(settings: ClientSettings) -> HttpSignaling:
    return HttpSignaling(server=settings.server, token=settings.token, fingerprint=settings.pinned)


def build_capture_request(settings: ClientSettings) -> CaptureRequest:
    return CaptureRequest(
        sample_rate_hz=settings.rate,
        channels=settings.channels,
        sample_format=SampleFormat.S24 if settings.depth == 24 else SampleFormat.S16,
        device=settings.device,
        path=settings.input,
        queue_s=settings.queue_s,
    )


def build_encoder(settings: ClientSettings, channels: int) -> OpusEncoder:
    return OpusEncoder(
        channels=channels,
        bitrate=settings.bitrate,
        complexity=settings.complexity,
        fec=settings.fec,
        expected_loss_percent=settings.expected_loss,
        dtx=settings.dtx,
        application=settings.application,
    )


def build_packetizer() -> Packetizer:
    return Packetizer(
        ssrc=secrets.randbits(32),
        first_sequence=secrets.randbits(16),
        first_timestamp=secrets.randbits(32),
    )


def build_publisher(
    settings: ClientSettings,
    *,
    capture: CaptureBackend,
    transport: WebRtcClientTransport,
    spools: SpoolFolder | None,
    clock: SystemClock,
    spawner: BackgroundTasks,
    events: EventPublisher,
    progress_interval_s: float,
) -> Publisher:
    """Build a publisher for one session."""
    uplink = Uplink(
        transport=transport,
        signaling=build_signaling(settings),
        clock=clock,
        spawner=spawner,
        events=events,
        random=random.random,
        name=settings.name,
        room=settings.room,
    )
    channels = _sent_channels(settings)
    owed_spools = build_owed_spools(
        settings,
        transport=transport,
        clock=clock,
        spawner=spawner,
        events=events,
        path=lambda: uplink.path_report,
    )
    return Publisher(
        capture=capture,
        request=build_capture_request(settings),
        resampler=functools.partial(PyAvResampler, target=AudioFormat(RTP_RATE_HZ, channels)),
        encoder=build_encoder(settings, channels),
        packetizer=build_packetizer(),
        uplink=uplink,
        clock=clock,
        spawner=spawner,
        events=events,
        progress_interval_s=progress_interval_s,
        channels=channels,
        duration_s=settings.duration,
        kept=build_kept_sound(
            settings, spools, uplink=uplink, clock=clock, spawner=spawner, events=events
        ),
        send_owed=(
            None if spools is None else lambda paced: owed_spools.deliver_from(spools, paced=paced)
        ),
        messages=MessageListener(
            client=HttpMessages(settings.server, fingerprint=settings.pinned),
            clock=clock,
            spawner=spawner,
            events=events,
            random=random.random,
        ),
    )


def _sent_channels(settings: ClientSettings) -> int:
    """Return how many channels are streamed: Opus has two at most (RFC 7587)."""
    return min(settings.channels, 2)
