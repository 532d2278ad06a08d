"""Wires the objects of each command together. Tests override the providers that they replace."""

from __future__ import annotations

from dependency_injector import containers, providers

from adapters.http.api.hub import EventHub
from adapters.http.nodes import NodeClient
from adapters.runtime.asyncio_runtime import BackgroundTasks, BootTimeClock, SystemClock
from domain.ports.events import EventPublisher
from domain.services.server.tapped_store import TappedStore
from domain.session.placement import NodeId
from entrypoints import api_builders, builders, client_builders, spooling
from entrypoints.client_settings import ClientSettings
from entrypoints.settings import ServerSettings


class ServerContainer(containers.DeclarativeContainer):
    """The objects of `gapless serve`."""

    settings: providers.Dependency[ServerSettings] = providers.Dependency(ServerSettings)
    events: providers.Dependency[EventPublisher] = providers.Dependency()
    node = providers.Object(NodeId())
    """Which of a server's worker processes this is."""
    worker: providers.Object[builders.WorkerSetup | None] = providers.Object(None)
    """What this process shares with other workers; None for a server of one process."""
    folder = providers.Callable(builders.folder_of, worker)
    hub = providers.Singleton(EventHub)
    """A subscriber of `events`."""

    clock = providers.Singleton(SystemClock)
    spawner = providers.Singleton(BackgroundTasks)
    placement = providers.Singleton(builders.build_placement, worker)
    storage = providers.Singleton(builders.build_storage, settings, node)
    store = storage.provided.store
    catalogue = storage.provided.catalogue
    peaks = storage.provided.peaks
    taps = providers.Singleton(builders.build_taps, settings)
    tapped_store = providers.Singleton(TappedStore, store, taps)
    transport = providers.Singleton(builders.build_server_transport, settings, clock, spawner)
    restoring = providers.Singleton(
        builders.build_restoring, settings, storage, clock=clock, spawner=spawner, events=events
    )
    sessions = providers.Singleton(
        builders.build_sessions,
        settings,
        node,
        transport=transport,
        store=tapped_store,
        clock=clock,
        spawner=spawner,
        events=events,
        restoring=restoring,
    )
    tokens = providers.Singleton(api_builders.build_tokens, settings, clock, shared_folder=folder)
    watching = providers.Singleton(
        builders.build_watching,
        settings,
        node,
        source=sessions,
        store=store,
        clock=clock,
        events=events,
        hub=hub,
    )
    nodes = providers.Singleton(NodeClient)
    api = providers.Singleton(
        api_builders.build_api,
        settings,
        sessions=sessions,
        tokens=tokens,
        catalogue=catalogue,
        peaks=peaks,
        events=events,
        hub=hub,
        watching=watching,
        taps=taps,
        placement=placement,
        nodes=nodes,
        clock=clock,
    )
    signaling = providers.Singleton(
        builders.build_signaling_server,
        settings,
        sessions,
        restoring,
        tokens,
        api,
        nodes=nodes,
        placement=placement,
        worker=worker,
        events=events,
    )


class ClientContainer(containers.DeclarativeContainer):
    """The objects of `gapless stream`, `gapless spool` and `gapless devices`."""

    settings: providers.Dependency[ClientSettings] = providers.Dependency(ClientSettings)
    events: providers.Dependency[EventPublisher] = providers.Dependency()
    progress_interval_s = providers.Object(0.1)
    """Interval between two `SoundSent` events."""

    clock = providers.Singleton(BootTimeClock)
    spawner = providers.Singleton(BackgroundTasks)
    capture = providers.Factory(client_builders.build_capture, settings)
    spool_folder = providers.Callable(spooling.spool_folder, settings)
    spools = providers.Singleton(spooling.build_spools, settings)
    transport = providers.Factory(client_builders.build_client_transport, settings, clock)
    all_spools = providers.Singleton(spooling.build_spool_folder, settings)
    """The spools, also if the settings say that none are kept."""
    owed_spools = providers.Factory(
        spooling.build_owed_spools,
        settings,
        transport=transport,
        clock=clock,
        spawner=spawner,
        events=events,
    )
    capture_request = providers.Callable(client_builders.build_capture_request, settings)
    signaling = providers.Factory(client_builders.build_signaling, settings)
    api = providers.Factory(client_builders.build_api_client, settings)
    mono_encoder = providers.Factory(client_builders.build_encoder, settings, 1)
    packetizer = providers.Factory(client_builders.build_packetizer)
    publisher = providers.Factory(
        client_builders.build_publisher,
        settings,
        capture=capture,
        transport=transport,
        spools=spools,
        clock=clock,
        spawner=spawner,
        events=events,
        progress_interval_s=progress_interval_s,
    )


class ToolsContainer(containers.DeclarativeContainer):
    """The objects of `gapless verify`, `gapless recover` and `gapless render`."""

    inspector = providers.Singleton(builders.build_inspector)
    recovery = providers.Singleton(builders.build_recovery)
    renderer = providers.Singleton(builders.build_renderer)
