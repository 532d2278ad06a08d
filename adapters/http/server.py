"""The server's side of HTTP: makes the application, and listens."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from aiohttp import web

from adapters.http.access import Access
from adapters.http.bodies import MAX_BODY_BYTES
from adapters.http.callers import Callers
from adapters.http.connections import HttpConnection
from adapters.http.cors import allowing_pages
from adapters.http.errors import answer_errors
from adapters.http.forwarding import Forwarder
from adapters.http.listener import Listener, listen
from adapters.http.nodes import NodeClient, is_from_node
from adapters.http.protection import protecting
from adapters.http.refusals import Refusals
from adapters.http.routes import Handler, Handlers, add_routes
from adapters.http.tls import TlsFiles
from domain.errors import SettingInvalid
from domain.ports.placement import Placement
from domain.session.addresses import is_loopback
from domain.session.connection_places import Stage

KEEP_ALIVE_S = 30.0


@dataclass(frozen=True, slots=True)
class ConnectionLimits:
    """How many connections a server may have at once."""

    total: int = 1000
    per_address: int = 50
    """Of no effect on a loopback address, where all clients have the same one."""


class SignalingServer:
    """Serves the sessions on one address."""

    def __init__(
        self,
        handlers: Sequence[Handlers],
        nodes: NodeClient,
        *,
        host: str,
        port: int,
        access: Access,
        callers: Callers,
        refusals: Refusals,
        limits: ConnectionLimits,
        tls: TlsFiles | None,
        hsts: bool = False,
        placement: Placement,
        listeners: Sequence[socket.socket] = (),
    ) -> None:
        """Prepare; `stop` closes `nodes`.

        `listeners` are sockets that listen already, in place of `host` and `port`.
        """
        self._host = host
        self._port = port
        self._access = access
        self._callers = callers
        self._refusals = refusals
        self._placement = placement
        self._listeners = listeners
        self._nodes = nodes
        self._forwarder = Forwarder(placement, nodes)
        self._limits = limits
        self._tls = tls
        self._hsts = hsts
        self._open = asyncio.Event()
        self._handlers = handlers
        self._runner: web.AppRunner | None = None
        self._listener: Listener | None = None
        self._address = ""

    def make_application(self) -> web.Application:
        """Make the application with all routes; the first of its middlewares is the outermost."""
        app = web.Application(
            middlewares=[
                self._wait_until_open,
                self._close_connection,
                self._refusals.watch,
                answer_errors,
                self._callers.identify,
                self._access.check,
                self._forwarder.forward,
            ],
            client_max_size=MAX_BODY_BYTES,
        )
        app.on_response_prepare.append(allowing_pages(self._access.allows_page))
        app.on_response_prepare.append(protecting(hsts=self._hsts))
        add_routes(app, (route for group in self._handlers for route in group.routes()))
        return app

    async def bind(self) -> str:
        """Listen, and return the server's URL; requests wait until `start`.

        Raises `PortInUse` or `SettingInvalid`.
        """
        listeners = self._listeners or listen(self._host, self._port)
        options: dict[str, Any] = {
            "keepalive_timeout": KEEP_ALIVE_S,
            "access_log": None,
            # `read_body` decompresses, with a limit
            "auto_decompress": False,
        }
        self._runner = web.AppRunner(self.make_application(), shutdown_timeout=1.0, **options)
        await self._runner.setup()
        manager, loop = self._runner.server, asyncio.get_running_loop()
        assert manager is not None

        def make_connection(changed: Callable[[Stage | None], None]) -> HttpConnection:
            return HttpConnection(manager, loop=loop, changed=changed, **options)

        self._listener = Listener(
            listeners,
            make_connection,
            max_connections=self._limits.total,
            max_per_address=None if is_loopback(self._host) else self._limits.per_address,
            is_exempt=self._callers.is_trusted,
            tls=self._tls,
        )
        port = listeners[0].getsockname()[1]
        try:
            if here := self._placement.here:
                await web.UnixSite(self._runner, here.address).start()
        except OSError as error:
            await self.stop()
            raise SettingInvalid(
                "host", f"cannot listen on {self._host}:{port}: {error.strerror}"
            ) from error
        self._listener.open()
        host = f"[{self._host}]" if ":" in self._host else self._host
        self._address = f"{'https' if self._tls else 'http'}://{host}:{port}"
        return self._address

    async def start(self) -> str:
        """Begin to answer requests; call `bind` if that was not done. Return the server's URL."""
        if self._listener is None:
            await self.bind()
        self._open.set()
        return self._address

    async def stop(self) -> None:
        """Stop listening; requests under way have a second to end."""
        if self._listener is not None:
            self._listener.close()
            self._listener = None
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None
        await self._nodes.close()
        self._refusals.close()

    @web.middleware
    async def _wait_until_open(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        await self._open.wait()
        return await handler(request)

    @web.middleware
    async def _close_connection(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Close a client's connection after each answer if there are other nodes.

        The next connection goes to a node that accepts it; a node that is frozen by then would keep
        this one waiting.
        """
        response = await handler(request)
        if self._placement.here is not None and not is_from_node(request):
            response.force_close()
        return response
