"""Builds each component from the settings, and names the adapters (see also `spooling`)."""

from __future__ import annotations

import functools
import random
import secrets
import socket
import urllib.parse
from collections.abc import Sequence
from dataclasses import dataclass

from adapters.capture.paced import FileCapture, ToneCapture
from adapters.codec.decoders import make_decoder
from adapters.codec.libopus import OpusEncoder
from adapters.codec.pyav import PyAvResampler
from adapters.http.access import Access
from adapters.http.client import HttpSignaling
from adapters.http.server import SignalingServer
from adapters.placement.single import SingleNode
from adapters.placement.workers import WorkerPlacement
from adapters.runtime.asyncio_runtime import BackgroundTasks, SystemClock
from adapters.storage.folder.catalogue import FolderCatalogue
from adapters.storage.folder.inspection import FolderInspector
from adapters.storage.folder.part import PartOptions
from adapters.storage.folder.recovery import FolderRecovery
from adapters.storage.folder.store import FolderStore
from adapters.storage.memory import MemoryStore
from adapters.storage.memory_catalogue import MemoryCatalogue
from adapters.storage.restoring.pieces import FolderPieces
from adapters.storage.restoring.rendering import RestoringRenderer
from adapters.storage.restoring.rewriting import FolderRewrite
from adapters.transport.client import WebRtcClientTransport
from adapters.transport.ice.options import IceOptions
from adapters.transport.ice.public import PublicAddresses
from adapters.transport.sdp.codecs import OpusPreferences
from adapters.transport.server import WebRtcServerTransport
from adapters.transport.sockets.ports import UdpPorts
from domain.ports.capture import CaptureBackend, CaptureRequest
from domain.ports.catalogue import Catalogue
from domain.ports.events import EventPublisher
from domain.ports.maintenance import (
    RecordingInspector,
    RecordingRecovery,
    RecordingRenderer,
)
from domain.ports.placement import Placement
from domain.ports.restoring import PieceStore
from domain.ports.signaling import ServerTransport
from domain.ports.spool import SpoolFolder
from domain.ports.storage import RecordingStore
from domain.recording.ledger import RestoreMode
from domain.rtp.packetizer import RTP_RATE_HZ, Packetizer
from domain.services.client.publisher import Publisher
from domain.services.client.uplink import Uplink
from domain.services.server.restoring import RestoreService
from domain.services.server.sessions import SessionService
from domain.session.addresses import is_loopback
from domain.session.placement import Heartbeats, NodeId, SessionCounts
from domain.session.policy import SessionPolicy
from domain.session.roles import ALL_ROLES, SHARED_TOKEN_ROLES, Role
from domain.session.turn import IceServerList
from domain.sound.formats import AudioFormat, SampleFormat
from entrypoints.settings import ClientSettings, ServerSettings
from entrypoints.spooling import build_kept_sound, build_owed_spools
from entrypoints.version import VERSION

# -- the server --------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class WorkerSetup:
    """What one of several worker processes gets from the process that runs them."""

    node: NodeId
    counts: SessionCounts
    heartbeats: Heartbeats
    folder: str
    """Folder of the Unix sockets through which workers reach each other."""
    listeners: Sequence[socket.socket]
    """The sockets on which all workers accept connections."""


@dataclass(frozen=True, slots=True)
class Storage:
    """A store and the catalogue of its recordings."""

    store: RecordingStore
    catalogue: Catalogue
    pieces: PieceStore | None = None
    """Keeps what is restored; None if nothing can be."""


def build_storage(settings: ServerSettings, node: NodeId) -> Storage:
    """Build a store and the catalogue of its recordings."""
    if settings.storage == "memory":
        memory = MemoryStore(
            limit_bytes=settings.memory_mb << 20, limit_bytes_each=settings.memory_each_mb << 20
        )
        return Storage(memory, MemoryCatalogue(memory))
    options = PartOptions(
        min_free_bytes=settings.min_free_mb << 20,
        rf64=settings.large_files == "rf64",
        rotate_s=settings.rotate_s,
    )
    catalogue = FolderCatalogue(settings.recordings, make_decoder)
    store = FolderStore(settings.recordings, options, owns=node.owns, catalogue=catalogue)
    rewrite = FolderRewrite(settings.recordings, catalogue, PyAvResampler, options)
    pieces = FolderPieces(
        settings.recordings, node.owns, rewrite, min_free_bytes=options.min_free_bytes
    )
    return Storage(store, catalogue, pieces)


def check_udp_ports(settings: ServerSettings) -> None:
    """Raise `PortInUse` if another program has one of a server's UDP ports."""
    ports = UdpPorts(settings.media_port)
    ports.open(_ice_options(settings, ports).host_addresses())
    ports.close()


def _ice_options(settings: ServerSettings, ports: UdpPorts) -> IceOptions:
    return IceOptions(
        loopback=_loopback_of(settings.host),
        relay_only=settings.ice_policy == "relay",
        public_only=settings.ice_policy == "public",
        shared=ports,
        public=PublicAddresses(settings.public_address, settings.ice_servers),
    )


def build_server_transport(
    settings: ServerSettings, clock: SystemClock, spawner: BackgroundTasks
) -> WebRtcServerTransport:
    options = _ice_options(settings, UdpPorts(settings.media_port))
    preferences = OpusPreferences(
        fec=settings.fec, dtx=settings.dtx, bitrate=settings.bitrate, stereo=settings.stereo
    )
    return WebRtcServerTransport(options, preferences=preferences, clock=clock, spawner=spawner)


def build_sessions(
    settings: ServerSettings,
    node: NodeId,
    *,
    transport: ServerTransport,
    store: RecordingStore,
    clock: SystemClock,
    spawner: BackgroundTasks,
    events: EventPublisher,
    restoring: RestoreService,
) -> SessionService:
    return SessionService(
        policy=SessionPolicy(
            max_sessions=settings.max_sessions,
            connect_timeout_s=settings.connect_timeout_s,
            inactivity_timeout_s=settings.inactivity_timeout_s,
            reorder_hold_s=settings.reorder_hold_s,
            max_gap_s=settings.max_gap_s,
            keep_packets=settings.storage == "opus",
        ),
        ice_servers=IceServerList(
            servers=settings.ice_servers,
            turn_secret=settings.turn_secret,
            turn_ttl_s=settings.turn_ttl_s,
        ),
        transport=transport,
        decoders=make_decoder,
        store=store,
        clock=clock,
        spawner=spawner,
        events=events,
        new_secret=lambda size: node.mark(secrets.token_hex(size)),
        restoring=restoring,
    )


def build_restoring(
    settings: ServerSettings,
    storage: Storage,
    *,
    clock: SystemClock,
    spawner: BackgroundTasks,
    events: EventPublisher,
) -> RestoreService:
    return RestoreService(
        mode=RestoreMode(settings.restore),
        window_s=settings.restore_window_h * 3600,
        store=storage.pieces,
        clock=clock,
        spawner=spawner,
        events=events,
    )


def build_placement(worker: WorkerSetup | None) -> Placement:
    if worker is None:
        return SingleNode()
    return WorkerPlacement(worker.node, worker.counts, worker.folder, worker.heartbeats)


def build_signaling_server(
    settings: ServerSettings,
    sessions: SessionService,
    restoring: RestoreService,
    placement: Placement,
    worker: WorkerSetup | None,
) -> SignalingServer:
    return SignalingServer(
        sessions,
        restoring,
        host=settings.host,
        port=settings.port,
        access=Access(
            host=settings.host,
            tokens=_tokens(settings),
            allow_anyone=settings.allow_anyone,
        ),
        tls_cert=settings.tls_cert,
        tls_key=settings.tls_key,
        version=VERSION,
        placement=placement,
        listeners=() if worker is None else worker.listeners,
    )


def _tokens(settings: ServerSettings) -> dict[str, frozenset[Role]]:
    tokens = {}
    if settings.token is not None:
        tokens[settings.token] = SHARED_TOKEN_ROLES
    if settings.admin_token is not None:
        tokens[settings.admin_token] = ALL_ROLES
    return tokens


# -- the client --------------------------------------------------------------------------------


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


def build_client_transport(settings: ClientSettings, clock: SystemClock) -> WebRtcClientTransport:
    host = urllib.parse.urlsplit(settings.server).hostname or ""
    options = IceOptions(
        loopback=_loopback_of(host),
        relay_only=settings.ice_policy == "relay",
    )
    return WebRtcClientTransport(
        options, ice_servers=settings.ice_servers, channels=_sent_channels(settings), clock=clock
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
        signaling=HttpSignaling(server=settings.server, token=settings.token),
        clock=clock,
        spawner=spawner,
        events=events,
        random=random.random,
        name=settings.name,
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
    encoder = OpusEncoder(
        channels=channels,
        bitrate=settings.bitrate,
        complexity=settings.complexity,
        fec=settings.fec,
        expected_loss_percent=settings.expected_loss,
        dtx=settings.dtx,
        application=settings.application,
    )
    packetizer = Packetizer(
        ssrc=secrets.randbits(32),
        first_sequence=secrets.randbits(16),
        first_timestamp=secrets.randbits(32),
    )
    return Publisher(
        capture=capture,
        request=CaptureRequest(
            sample_rate_hz=settings.rate,
            channels=settings.channels,
            sample_format=SampleFormat.S24 if settings.depth == 24 else SampleFormat.S16,
            device=settings.device,
            path=settings.input,
            queue_s=settings.queue_s,
        ),
        resampler=functools.partial(PyAvResampler, target=AudioFormat(RTP_RATE_HZ, channels)),
        encoder=encoder,
        packetizer=packetizer,
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
    )


def _sent_channels(settings: ClientSettings) -> int:
    """Return how many channels are streamed: Opus has two at most (RFC 7587)."""
    return min(settings.channels, 2)


# -- the commands for recordings ---------------------------------------------------------------


def build_inspector() -> RecordingInspector:
    return FolderInspector(PyAvResampler)


def build_recovery() -> RecordingRecovery:
    return FolderRecovery()


def build_renderer() -> RecordingRenderer:
    return RestoringRenderer(make_decoder, PyAvResampler)


# -- shared ------------------------------------------------------------------------------------


def _loopback_of(host: str) -> tuple[str, ...]:
    """Return the loopback address to gather candidates on, if the host is this machine."""
    if not is_loopback(host):
        return ()
    return ("::1",) if ":" in host else ("127.0.0.1",)
