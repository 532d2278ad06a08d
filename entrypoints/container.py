"""The one module that names every adapter.

Swap an adapter by a word of configuration, or override a provider in a test.
"""

from __future__ import annotations

import secrets

from dependency_injector import containers, providers

from adapters.capture.paced import FileCapture, ToneCapture
from adapters.codec.decoders import make_decoder
from adapters.codec.libopus import OpusEncoder
from adapters.codec.pyav import PyAvResampler
from adapters.runtime.asyncio_runtime import BackgroundTasks, SystemClock
from adapters.signaling.client import HttpSignaling
from adapters.signaling.server import SignalingServer
from adapters.storage.inspection import inspect_recording
from adapters.storage.memory import MemoryStore
from adapters.storage.recovery import recover
from adapters.storage.wav import WavStore
from adapters.storage.wav_parts import WavOptions
from adapters.transport.ingest import AiortcIngest
from adapters.transport.publisher import AiortcPublisher
from domain.audio import AudioFormat
from domain.ports.capture import CaptureBackend, CaptureRequest
from domain.ports.observers import ServerObserver, StreamObserver
from domain.services.ingest import Ingest
from domain.services.publish import RTP_RATE_HZ, Publisher
from domain.settings import ClientSettings, ServerSettings, is_loopback
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


def _is_local(server: str) -> bool:
    """Whether a server's address is on this machine."""
    host = server.partition("://")[2].partition("/")[0]
    name = host[1:].partition("]")[0] if host.startswith("[") else host.partition(":")[0]
    return is_loopback(name)


class ServerContainer(containers.DeclarativeContainer):
    """What `gapless serve` is made of."""

    settings: providers.Dependency[ServerSettings] = providers.Dependency(ServerSettings)
    observer: providers.Dependency[ServerObserver] = providers.Dependency()

    clock = providers.Singleton(SystemClock)
    spawner = providers.Singleton(BackgroundTasks)
    store = providers.Selector(
        settings.provided.storage,
        wav=providers.Singleton(
            WavStore,
            settings.provided.recordings,
            providers.Factory(
                WavOptions,
                min_free_bytes=providers.Callable(_megabytes, settings.provided.min_free_mb),
                rf64=providers.Callable("rf64".__eq__, settings.provided.large_files),
                rotate_s=settings.provided.rotate_s,
            ),
        ),
        memory=providers.Singleton(
            MemoryStore,
            limit_bytes=providers.Callable(_megabytes, settings.provided.memory_mb),
            limit_bytes_each=providers.Callable(_megabytes, settings.provided.memory_each_mb),
        ),
    )
    transport = providers.Singleton(
        AiortcIngest,
        ice_servers=settings.provided.ice_servers,
        loopback=providers.Callable(is_loopback, settings.provided.host),
        clock=clock,
        spawner=spawner,
    )
    ingest = providers.Singleton(
        Ingest,
        settings=settings,
        transport=transport,
        decoders=providers.Object(make_decoder),
        store=store,
        clock=clock,
        spawner=spawner,
        observer=observer,
        new_secret=providers.Object(secrets.token_hex),
    )
    signaling = providers.Singleton(
        SignalingServer,
        ingest,
        host=settings.provided.host,
        port=settings.provided.port,
        token=settings.provided.token,
        tls_cert=settings.provided.tls_cert,
        tls_key=settings.provided.tls_key,
        ice_servers=settings.provided.ice_servers,
        version=VERSION,
    )


class ClientContainer(containers.DeclarativeContainer):
    """What `gapless stream` and `gapless devices` are made of."""

    settings: providers.Dependency[ClientSettings] = providers.Dependency(ClientSettings)
    observer: providers.Dependency[StreamObserver] = providers.Dependency()

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
        fec=settings.provided.fec,
        expected_loss_percent=settings.provided.expected_loss,
        dtx=settings.provided.dtx,
        application=settings.provided.application,
    )
    transport = providers.Factory(
        AiortcPublisher,
        ice_servers=settings.provided.ice_servers,
        loopback=providers.Callable(_is_local, settings.provided.server),
        channels=settings.provided.channels,
    )
    signaling = providers.Factory(
        HttpSignaling, server=settings.provided.server, token=settings.provided.token
    )
    publisher = providers.Factory(
        Publisher,
        encoder=encoder,
        transport=transport,
        signaling=signaling,
        observer=observer,
        channels=settings.provided.channels,
        name=settings.provided.name,
        duration_s=settings.provided.duration,
    )


class ToolsContainer(containers.DeclarativeContainer):
    """What `gapless verify` and `gapless recover` are made of."""

    inspect = providers.Object(inspect_recording)
    recover = providers.Object(recover)
