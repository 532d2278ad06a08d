"""Builds the handlers of the API."""

from __future__ import annotations

import secrets
from collections.abc import Sequence

from adapters.codec.pyav import PyAvResampler
from adapters.http.api.alarms import AlarmHandlers
from adapters.http.api.audio import AudioHandlers
from adapters.http.api.events import EventHandlers
from adapters.http.api.hub import EventHub
from adapters.http.api.messages import MessageHandlers
from adapters.http.api.peaks import PeaksHandlers
from adapters.http.api.recordings import RecordingHandlers
from adapters.http.api.sessions import SessionHandlers
from adapters.http.api.storage import StorageHandlers
from adapters.http.api.tap import TapHandlers
from adapters.http.api.tokens import TokenHandlers
from adapters.http.api.verdicts import VerdictHandlers
from adapters.http.nodes import NodeClient
from adapters.http.routes import Handlers
from adapters.runtime.asyncio_runtime import SystemClock
from adapters.storage.converting import begin_file
from adapters.storage.folder.inspection import FolderInspector
from adapters.tokens.key_set import KeySet
from adapters.tokens.register import FileTokens
from adapters.tokens.signing import JwtSigner
from domain.ports.catalogue import Catalogue
from domain.ports.clock import Clock
from domain.ports.events import EventPublisher
from domain.ports.maintenance import RecordingInspector
from domain.ports.peaks import Peaks
from domain.ports.placement import Placement
from domain.ports.tap import SoundTaps
from domain.services.server.sessions import SessionService
from domain.services.server.tokens import TokenService
from domain.services.server.watching import WatchService
from entrypoints.settings import ServerSettings

_ID_BYTES = 8


def build_api(
    settings: ServerSettings,
    *,
    sessions: SessionService,
    tokens: TokenService,
    catalogue: Catalogue,
    peaks: Peaks,
    events: EventPublisher,
    hub: EventHub,
    watching: WatchService,
    taps: SoundTaps,
    placement: Placement,
    nodes: NodeClient,
    clock: Clock,
) -> Sequence[Handlers]:
    """Build the handlers of the API, without the one of its document."""
    return [
        RecordingHandlers(catalogue, events),
        AudioHandlers(catalogue, begin_file, max_conversions=settings.max_conversions),
        PeaksHandlers(peaks),
        VerdictHandlers(catalogue, _inspector(settings)),
        SessionHandlers(sessions, placement=placement, nodes=nodes),
        MessageHandlers(sessions, utc=clock.utc),
        TapHandlers(taps),
        EventHandlers(hub, placement=placement, nodes=nodes, max_watchers=settings.max_watchers),
        AlarmHandlers(watching, placement=placement, nodes=nodes),
        StorageHandlers(watching, placement=placement, nodes=nodes),
        TokenHandlers(tokens),
    ]


def build_tokens(
    settings: ServerSettings, clock: SystemClock, *, shared_folder: str | None
) -> TokenService:
    """Build the service for signed tokens. Raises `SettingInvalid`.

    Its register is in the folder for the recordings. That belongs to one server, is the same for
    all of its workers, is still there after a restart, and is the one folder that a sandboxed
    server can write to. Without such a folder nothing outlives the server: then the register is in
    the `shared_folder` of the workers, or in memory.
    """
    in_memory = settings.storage == "memory"
    secret = settings.token_secret
    return TokenService(
        JwtSigner(KeySet(settings.token_keys) if settings.token_keys else None),
        FileTokens(shared_folder if in_memory else settings.recordings),
        clock,
        new_id=lambda: secrets.token_hex(_ID_BYTES),
        secret=secret.encode() if secret is not None else None,
    )


def _inspector(settings: ServerSettings) -> RecordingInspector | None:
    return None if settings.storage == "memory" else FolderInspector(PyAvResampler)
