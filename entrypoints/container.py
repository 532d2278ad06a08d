"""The one module that names every adapter.

Swap an adapter by a word of configuration, or override a provider in a test.
"""

from __future__ import annotations

import random
import secrets
import urllib.parse

from dependency_injector import containers, providers

from adapters.capture.paced import FileCapture, ToneCapture
from adapters.codec.decoders import make_decoder
from adapters.codec.libopus import OpusEncoder
from adapters.codec.pyav import PyAvResampler
from adapters.http.client import HttpSignaling
from adapters.http.neighbours import Neighbours
from adapters.http.server import SignalingServer
from adapters.runtime.asyncio_runtime import BackgroundTasks, SystemClock
from adapters.storage.folder.inspection import inspect_recording
from adapters.storage.folder.parts import PartOptions
from adapters.storage.folder.recovery import recover
from adapters.storage.folder.renderer import render_recording
from adapters.storage.folder.store import FolderStore
from adapters.storage.memory import MemoryStore
from adapters.transport.client import WebRtcClientTransport
from adapters.transport.ice.agent import IceOptions
from adapters.transport.sdp.descriptions import OpusPreferences
from adapters.transport.server import WebRtcServerTransport
from domain.ports.capture import CaptureBackend, CaptureRequest
from domain.ports.events import EventPublisher
from domain.rtp.packetizer import RTP_RATE_HZ, Packetizer
from domain.services.client.publisher import Publisher
from domain.services.client.uplink import Uplink
from domain.services.server.sessions import SessionService
from domain.session.placement import Registrar, Share
from domain.settings import ClientSettings, ServerSettings, is_loopback
from domain.sound.formats import AudioFormat
from entrypoints.version import VERSION


def _sounddevice() -> CaptureBackend:
    # imported when chosen: it needs PortAudio, which is not everywhere
    from adapters.capture.sounddevice_backend import SoundDeviceCapture

    return SoundDeviceCapture()


def _pyaudio() -> CaptureBackend:
    from adapters.capture.pyaudio_backend import PyAudioCapture

    return PyAudioCapture()


def _megabytes(count: int) -> int:
    return count << 20


def _loopback_of(host: str) -> tuple[str, ...]:
    """The loopback address to find paths on, where a host is on this machine."""
    if not is_loopback(host):
        return ()
    return ("::1",) if ":" in host else ("127.0.0.1",)


def _host_of(server: str) -> str:
    """The host of a server's address."""
    return urllib.parse.urlsplit(server).hostname or ""


def _new_packetizer() -> Packetizer:
    return Packetizer(
        ssrc=secrets.randbits(32),
        first_sequence=secrets.randbits(16),
        first_timestamp=secrets.randbits(32),
    )


def _new_secret(share: Share, size: int) -> str:
    return share.mark(secrets.token_hex(size))


class ServerContainer(containers.DeclarativeContainer):
    """What `gapless serve` is made of."""

    settings: providers.Dependency[ServerSettings] = providers.Dependency(ServerSettings)
    events: providers.Dependency[EventPublisher] = providers.Dependency()
    share = providers.Object(Share())
    """Which part of the sessions is this process's, where several share them."""
    counts = providers.Object([0])
    """How many each of such processes has."""
    sockets: providers.Object[str | None] = providers.Object(None)
    """The folder in which such processes reach each other."""

    registrar = providers.Singleton(Registrar, share, counts)
    clock = providers.Singleton(SystemClock)
    spawner = providers.Singleton(BackgroundTasks)
    folder = providers.Singleton(
        FolderStore,
        settings.provided.recordings,
        providers.Factory(
            PartOptions,
            min_free_bytes=providers.Callable(_megabytes, settings.provided.min_free_mb),
            rf64=providers.Callable("rf64".__eq__, settings.provided.large_files),
            rotate_s=settings.provided.rotate_s,
        ),
        share,
    )
    store = providers.Selector(
        settings.provided.storage,
        wav=folder,
        opus=folder,
        memory=providers.Singleton(
            MemoryStore,
            limit_bytes=providers.Callable(_megabytes, settings.provided.memory_mb),
            limit_bytes_each=providers.Callable(_megabytes, settings.provided.memory_each_mb),
        ),
    )
    transport = providers.Singleton(
        WebRtcServerTransport,
        providers.Factory(
            IceOptions,
            loopback=providers.Callable(_loopback_of, settings.provided.host),
            relay_only=providers.Callable("relay".__eq__, settings.provided.ice_policy),
            ports=settings.provided.udp_ports,
        ),
        wishes=providers.Factory(
            OpusPreferences,
            fec=settings.provided.fec,
            dtx=settings.provided.dtx,
            bitrate=settings.provided.bitrate,
            stereo=settings.provided.stereo,
        ),
        clock=clock,
        spawner=spawner,
    )
    ingest = providers.Singleton(
        SessionService,
        settings=settings,
        transport=transport,
        decoders=providers.Object(make_decoder),
        store=store,
        clock=clock,
        spawner=spawner,
        events=events,
        new_secret=providers.Factory(_new_secret, share).provider,
    )
    signaling = providers.Singleton(
        SignalingServer,
        ingest,
        host=settings.provided.host,
        port=settings.provided.port,
        token=settings.provided.token,
        tls_cert=settings.provided.tls_cert,
        tls_key=settings.provided.tls_key,
        allow_anyone=settings.provided.allow_anyone,
        version=VERSION,
        neighbours=providers.Singleton(Neighbours, share, registrar, sockets),
    )


class ClientContainer(containers.DeclarativeContainer):
    """What `gapless stream` and `gapless devices` are made of."""

    settings: providers.Dependency[ClientSettings] = providers.Dependency(ClientSettings)
    events: providers.Dependency[EventPublisher] = providers.Dependency()
    progress_interval_s = providers.Object(0.1)
    """The time from one `SoundSent` to the next."""

    capture = providers.Selector(
        settings.provided.capture,
        sounddevice=providers.Callable(_sounddevice),
        pyaudio=providers.Callable(_pyaudio),
        file=providers.Factory(FileCapture),
        tone=providers.Factory(ToneCapture),
    )
    capture_request = providers.Factory(
        CaptureRequest,
        sample_rate_hz=settings.provided.rate,
        channels=settings.provided.channels,
        device=settings.provided.device,
        path=settings.provided.input,
        queue_s=settings.provided.queue_s,
    )
    encoded_format = providers.Factory(AudioFormat, RTP_RATE_HZ, settings.provided.channels)
    resampler = providers.Factory(PyAvResampler, target=encoded_format)
    encoder = providers.Factory(
        OpusEncoder,
        channels=settings.provided.channels,
        bitrate=settings.provided.bitrate,
        complexity=settings.provided.complexity,
        fec=settings.provided.fec,
        expected_loss_percent=settings.provided.expected_loss,
        dtx=settings.provided.dtx,
        application=settings.provided.application,
    )
    clock = providers.Singleton(SystemClock)
    spawner = providers.Singleton(BackgroundTasks)
    transport = providers.Factory(
        WebRtcClientTransport,
        providers.Factory(
            IceOptions,
            loopback=providers.Callable(
                _loopback_of, providers.Callable(_host_of, settings.provided.server)
            ),
            relay_only=providers.Callable("relay".__eq__, settings.provided.ice_policy),
            receives_media=False,
        ),
        ice_servers=settings.provided.ice_servers,
        channels=settings.provided.channels,
        clock=clock,
    )
    signaling = providers.Factory(
        HttpSignaling, server=settings.provided.server, token=settings.provided.token
    )
    uplink = providers.Factory(
        Uplink,
        transport=transport,
        signaling=signaling,
        clock=clock,
        spawner=spawner,
        events=events,
        random=providers.Object(random.random),
        name=settings.provided.name,
    )
    publisher = providers.Factory(
        Publisher,
        capture=capture,
        request=capture_request,
        resampler=resampler.provider,
        encoder=encoder,
        packetizer=providers.Factory(_new_packetizer),
        uplink=uplink,
        clock=clock,
        spawner=spawner,
        events=events,
        progress_interval_s=progress_interval_s,
        channels=settings.provided.channels,
        duration_s=settings.provided.duration,
    )


class ToolsContainer(containers.DeclarativeContainer):
    """What `gapless verify`, `gapless recover` and `gapless render` are made of."""

    inspect = providers.Object(inspect_recording)
    recover = providers.Object(recover)
    render = providers.Object(render_recording)
    decoders = providers.Object(make_decoder)
