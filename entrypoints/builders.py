"""Builds each component of the server, and of the commands for recordings."""

from __future__ import annotations

import secrets
import socket
from collections.abc import Sequence
from dataclasses import dataclass

from adapters.codec.decoders import make_decoder
from adapters.codec.pyav import PyAvResampler
from adapters.http.access import Access
from adapters.http.api.document import DocumentHandlers
from adapters.http.api.hub import EventHub
from adapters.http.api.sign_in import SignInHandlers
from adapters.http.callers import Callers
from adapters.http.capture_events import CaptureHandlers
from adapters.http.health import HealthHandlers
from adapters.http.listener import listen
from adapters.http.nodes import NodeClient
from adapters.http.offers import OfferHandlers
from adapters.http.pages.handlers import PageHandlers
from adapters.http.pieces import PieceHandlers
from adapters.http.refusals import Refusals
from adapters.http.routes import Handlers
from adapters.http.server import ConnectionLimits, SignalingServer
from adapters.http.tls import PassphraseNeeded, TlsFiles
from adapters.http.whip import WhipHandlers
from adapters.placement.single import SingleNode
from adapters.placement.workers import WorkerPlacement
from adapters.runtime.asyncio_runtime import BackgroundTasks, SystemClock
from adapters.storage.folder.catalogue import FolderCatalogue
from adapters.storage.folder.inspection import FolderInspector
from adapters.storage.folder.part import PartOptions
from adapters.storage.folder.peaks import FolderPeaks
from adapters.storage.folder.recovery import FolderRecovery
from adapters.storage.folder.store import FolderStore
from adapters.storage.memory import MemoryStore
from adapters.storage.memory_catalogue import MemoryCatalogue
from adapters.storage.memory_peaks import MemoryPeaks
from adapters.storage.restoring.pieces import FolderPieces
from adapters.storage.restoring.rendering import RestoringRenderer
from adapters.storage.restoring.rewriting import FolderRewrite
from adapters.transport.ice.options import IceOptions
from adapters.transport.ice.public import PublicAddresses
from adapters.transport.sdp.codecs import OpusPreferences
from adapters.transport.server import WebRtcServerTransport
from adapters.transport.sockets.ports import UdpPorts
from domain.ports.catalogue import Catalogue
from domain.ports.events import EventPublisher
from domain.ports.maintenance import (
    RecordingInspector,
    RecordingRecovery,
    RecordingRenderer,
)
from domain.ports.peaks import Peaks
from domain.ports.placement import Placement
from domain.ports.restoring import PieceStore
from domain.ports.signaling import ServerTransport
from domain.ports.storage import RecordingStore
from domain.recording.ledger import RestoreMode
from domain.services.server.restoring import RestoreService
from domain.services.server.sessions import SessionService
from domain.services.server.tapping import Taps
from domain.services.server.tokens import TokenService
from domain.services.server.watching import StatusSource, WatchService
from domain.session.addresses import is_loopback, loopback_of
from domain.session.alarm_kinds import AlarmThresholds
from domain.session.limits import GB, SessionLimits
from domain.session.placement import Heartbeats, NodeId, SessionCounts
from domain.session.policy import SessionPolicy
from domain.session.roles import ALL_ROLES, SHARED_TOKEN_ROLES, Token
from domain.session.turn import IceServerList
from entrypoints import file_limit
from entrypoints.settings import ServerSettings
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


def folder_of(worker: WorkerSetup | None) -> str | None:
    """Return the folder that all workers share as long as they run; None for a single process."""
    return None if worker is None else worker.folder


@dataclass(frozen=True, slots=True)
class Storage:
    """A store and the catalogue of its recordings."""

    store: RecordingStore
    catalogue: Catalogue
    peaks: Peaks
    pieces: PieceStore | None = None
    """Keeps what is restored; None if nothing can be."""


def build_storage(settings: ServerSettings, node: NodeId) -> Storage:
    """Build a store and the catalogue of its recordings."""
    if settings.storage == "memory":
        memory = MemoryStore(
            limit_bytes=settings.memory_mb << 20, limit_bytes_each=settings.memory_each_mb << 20
        )
        memories = MemoryCatalogue(memory)
        return Storage(memory, memories, MemoryPeaks(memories))
    options = PartOptions(
        min_free_bytes=settings.min_free_mb << 20,
        rf64=settings.large_files == "rf64",
        rotate_s=settings.rotate_s,
        keeps_peaks=True,
    )
    catalogue = FolderCatalogue(settings.recordings, make_decoder)
    store = FolderStore(settings.recordings, options, owns=node.owns, catalogue=catalogue)
    rewrite = FolderRewrite(settings.recordings, catalogue, PyAvResampler, options)
    pieces = FolderPieces(
        settings.recordings,
        node.owns,
        rewrite,
        min_free_bytes=options.min_free_bytes,
        max_session_bytes=settings.max_session_gb * GB,
    )
    return Storage(store, catalogue, FolderPeaks(settings.recordings, catalogue), pieces)


def check_udp_ports(settings: ServerSettings) -> None:
    """Raise `PortInUse` if another program has one of a server's UDP ports."""
    ports = UdpPorts(settings.media_port)
    ports.open(_ice_options(settings, ports).host_addresses())
    ports.close()


def _ice_options(settings: ServerSettings, ports: UdpPorts) -> IceOptions:
    return IceOptions(
        loopback=loopback_of(settings.host),
        relay_only=settings.ice_policy == "relay",
        public_only=settings.ice_policy == "public",
        shared=ports,
        public=PublicAddresses(settings.public_address, settings.ice_servers),
        probe_private=settings.probe_private,
        max_candidates=settings.max_candidates,
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
            max_unproven=settings.max_unproven,
            offers_per_minute=settings.offers_per_minute,
            is_local=is_loopback(settings.host),
            connect_timeout_s=settings.connect_timeout_s,
            inactivity_timeout_s=settings.inactivity_timeout_s,
            reorder_hold_s=settings.reorder_hold_s,
            max_gap_s=settings.max_gap_s,
            keep_packets=settings.storage == "opus",
            limits=SessionLimits(
                max_burst_s=settings.max_burst_s,
                max_packets_per_s=settings.max_packets_per_s,
                max_session_h=settings.max_session_h,
                max_session_gb=settings.max_session_gb,
                max_day_gb=settings.max_day_gb,
            ),
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
        new_secret=lambda size: node.choose_secret(lambda: secrets.token_hex(size)),
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


def build_watching(
    settings: ServerSettings,
    node: NodeId,
    *,
    source: StatusSource,
    store: RecordingStore,
    clock: SystemClock,
    events: EventPublisher,
    hub: EventHub,
) -> WatchService:
    watching = WatchService(
        source,
        AlarmThresholds(
            silence_s=settings.alarm_silence_s,
            silence_dbfs=settings.alarm_silence_dbfs,
            clipped_samples=settings.alarm_clipped_samples,
            clipped_s=settings.alarm_clipped_s,
            channel_s=settings.alarm_channel_s,
            loss_percent=settings.alarm_loss_percent,
            nothing_s=settings.alarm_nothing_s,
            stall_s=settings.alarm_stall_s,
            clock_ppm=settings.alarm_clock_ppm,
            restoring_s=settings.alarm_restoring_s,
            disk_h=settings.alarm_disk_h,
        ),
        clock=clock,
        events=events,
        # the workers share the disk: one of them tells
        free_bytes=store.free_bytes if isinstance(store, FolderStore) and not node.number else None,
        kept_free_bytes=settings.min_free_mb << 20,
    )
    watching.on_statuses = hub.show
    return watching


def build_taps(settings: ServerSettings) -> Taps:
    return Taps(make_decoder, buffer_s=settings.tap_buffer_s, max_taps=settings.max_taps)


def build_placement(worker: WorkerSetup | None) -> Placement:
    if worker is None:
        return SingleNode()
    return WorkerPlacement(worker.node, worker.counts, worker.folder, worker.heartbeats)


def build_signaling_server(
    settings: ServerSettings,
    sessions: SessionService,
    restoring: RestoreService,
    tokens: TokenService,
    api: Sequence[Handlers],
    *,
    nodes: NodeClient,
    placement: Placement,
    worker: WorkerSetup | None,
    events: EventPublisher,
) -> SignalingServer:
    access = Access(
        host=settings.host,
        tokens=_tokens(settings),
        signed=tokens,
        needs_token=settings.needs_token,
        allow_anyone=settings.allow_anyone,
        pages=settings.cors_origins,
    )
    handlers: list[Handlers] = [
        OfferHandlers(sessions, tokens),
        WhipHandlers(sessions, tokens),
        PieceHandlers(restoring),
        CaptureHandlers(sessions),
        HealthHandlers(sessions, version=VERSION, placement=placement, nodes=nodes),
        PageHandlers(),
        SignInHandlers(access),
        *api,
    ]
    document = DocumentHandlers(route for group in handlers for route in group.routes())
    return SignalingServer(
        [*handlers, document],
        nodes,
        host=settings.host,
        port=settings.port,
        access=access,
        callers=Callers(settings.trusted_proxies),
        refusals=Refusals(events),
        limits=ConnectionLimits(
            total=file_limit.connections_of(settings, shares_requests=worker is not None),
            per_address=settings.max_connections_per_address,
        ),
        tls=_tls_files(settings),
        hsts=settings.hsts,
        placement=placement,
        listeners=() if worker is None else worker.listeners,
    )


def _tls_files(settings: ServerSettings) -> TlsFiles | None:
    if not settings.tls_cert or not settings.tls_key:
        return None
    return TlsFiles(settings.tls_cert, settings.tls_key, passphrase=settings.tls_passphrase)


def needs_passphrase(settings: ServerSettings) -> bool:
    """Return whether the key is encrypted, and the settings have no passphrase for it.

    Raises `SettingInvalid` if certificate and key cannot be used for another reason.
    """
    try:
        _tls_files(settings)
    except PassphraseNeeded:
        return True
    return False


def listen_for_workers(settings: ServerSettings) -> list[socket.socket]:
    """Listen on all addresses of the host. Raises `PortInUse` or `SettingInvalid`.

    The workers share one queue of connections. One that is frozen, or is being restarted, accepts
    none; with a socket of its own (SO_REUSEPORT) it would keep its share of them waiting.
    """
    return listen(settings.host, settings.port)


def _tokens(settings: ServerSettings) -> Sequence[Token]:
    """Return the tokens of a server; they are called what their settings are."""
    shared = ALL_ROLES if settings.admin_token is None else SHARED_TOKEN_ROLES
    tokens = (("token", settings.token, shared),
              ("admin_token", settings.admin_token, ALL_ROLES))  # fmt: skip
    return [Token(name, text, roles) for name, text, roles in tokens if text is not None]


# -- the commands for recordings ---------------------------------------------------------------


def build_inspector() -> RecordingInspector:
    return FolderInspector(PyAvResampler)


def build_recovery() -> RecordingRecovery:
    return FolderRecovery()


def build_renderer() -> RecordingRenderer:
    return RestoringRenderer(make_decoder, PyAvResampler)
