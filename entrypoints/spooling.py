"""Builds what keeps a client's sound on its disk, and sends it."""

from __future__ import annotations

import pathlib
import random
import secrets
from collections.abc import Callable

from adapters.http.client import HttpSignaling
from adapters.http.restoring import HttpRestoring
from adapters.runtime.asyncio_runtime import BackgroundTasks, SystemClock
from adapters.storage.spool.folder import DiskSpoolFolder
from adapters.storage.spool.room import SpoolOptions
from domain.ports.events import EventPublisher
from domain.ports.media import PathReport
from domain.ports.signaling import ClientTransport
from domain.ports.spool import Spool, SpoolFolder
from domain.recording.ledger import RestoreMode
from domain.services.client.kept_sound import KeptSound
from domain.services.client.owed_spools import OwedSpools
from domain.services.client.spool_sender import SpoolSender
from domain.services.client.uplink import Uplink
from entrypoints.client_settings import ClientSettings
from entrypoints.state_folder import state_folder

_GB = 1e9


def spool_folder(settings: ClientSettings) -> str:
    """Return the folder of a client's spools; that of the user by default."""
    if settings.spool:
        return str(pathlib.Path(settings.spool).expanduser())
    return str(state_folder("spool") / "spool")


def build_spools(settings: ClientSettings) -> SpoolFolder | None:
    """Build the folder of a client's spools; None if it keeps none."""
    if settings.spool is None or settings.restore == RestoreMode.OFF.value:
        return None
    return build_spool_folder(settings)


def build_spool_folder(settings: ClientSettings) -> SpoolFolder:
    """Build the folder of a client's spools, whether or not it keeps any."""
    options = SpoolOptions(max_bytes=round(settings.spool_max_gb * _GB))
    return DiskSpoolFolder(spool_folder(settings), options)


def build_owed_spools(
    settings: ClientSettings,
    *,
    transport: ClientTransport,
    clock: SystemClock,
    spawner: BackgroundTasks,
    events: EventPublisher,
    path: Callable[[], PathReport | None] | None = None,
) -> OwedSpools:
    """Build what delivers spools to the server; `path` is that of a live stream beside it."""
    return OwedSpools(
        server=settings.server,
        transport=transport,
        signaling=HttpSignaling(
            server=settings.server, token=settings.token, fingerprint=settings.pinned
        ),
        client=HttpRestoring(settings.server, fingerprint=settings.pinned),
        clock=clock,
        spawner=spawner,
        events=events,
        random=random.random,
        path=path,
    )


def build_kept_sound(
    settings: ClientSettings,
    spools: SpoolFolder | None,
    *,
    uplink: Uplink,
    clock: SystemClock,
    spawner: BackgroundTasks,
    events: EventPublisher,
) -> KeptSound | None:
    """Build what keeps the sound of one stream, if there is a folder for it."""
    if spools is None:
        return None
    client = HttpRestoring(settings.server, fingerprint=settings.pinned)

    def sender(spool: Spool) -> SpoolSender:
        return SpoolSender(
            spool=spool,
            client=client,
            clock=clock,
            spawner=spawner,
            events=events,
            random=random.random,
            path=lambda: uplink.path_report,
        )

    return KeptSound(
        spools=spools,
        client=client,
        sender=sender,
        clock=clock,
        spawner=spawner,
        events=events,
        random_hex=secrets.token_hex,
        name=settings.name,
        room=settings.room,
        server=settings.server,
        mode=RestoreMode(settings.restore),
    )
