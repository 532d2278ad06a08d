"""The server's side of HTTP: makes the application, and listens."""

from __future__ import annotations

import asyncio
import errno
import socket
import ssl
from collections.abc import Sequence
from typing import Any

from aiohttp import web

from adapters.http.access import Access
from adapters.http.bodies import MAX_BODY_BYTES
from adapters.http.callers import Callers
from adapters.http.connections import HttpConnection
from adapters.http.cors import allow_pages
from adapters.http.errors import answer_errors
from adapters.http.forwarding import Forwarder
from adapters.http.health import HealthHandlers
from adapters.http.nodes import NodeClient, is_from_node
from adapters.http.offers import OfferHandlers
from adapters.http.pieces import PieceHandlers
from adapters.http.refusals import Refusals
from adapters.http.routes import Handler, add_routes
from adapters.http.whip import WhipHandlers
from domain.errors import PortInUse, SettingInvalid
from domain.ports.placement import Placement
from domain.services.server.restoring import RestoreService
from domain.services.server.sessions import SessionService

KEEP_ALIVE_S = 30.0


class SignalingServer:
    """Serves the sessions on one address."""

    def __init__(
        self,
        service: SessionService,
        restoring: RestoreService,
        *,
        host: str,
        port: int,
        access: Access,
        callers: Callers,
        refusals: Refusals,
        tls_cert: str | None,
        tls_key: str | None,
        version: str,
        placement: Placement,
        listeners: Sequence[socket.socket] = (),
    ) -> None:
        """Prepare; `listeners` are sockets that listen already, in place of `host` and `port`."""
        self._host = host
        self._port = port
        self._access = access
        self._callers = callers
        self._refusals = refusals
        self._placement = placement
        self._listeners = listeners
        self._nodes = NodeClient()
        self._forwarder = Forwarder(placement, self._nodes)
        self._tls = _tls_context(tls_cert, tls_key) if tls_cert and tls_key else None
        self._open = asyncio.Event()
        self._handlers = (
            OfferHandlers(service),
            WhipHandlers(service),
            PieceHandlers(restoring),
            HealthHandlers(service, version=version, placement=placement, nodes=self._nodes),
        )
        self._runner: web.AppRunner | None = None
        self._servers: list[asyncio.Server] = []
        self._address = ""

    def make_application(self) -> web.Application:
        """Make the application with all routes; the first of its middlewares is the outermost."""
        app = web.Application(
            middlewares=[
                self._wait_until_open,
                self._close_connection,
                allow_pages(self._access.allows_page),
                self._refusals.watch,
                answer_errors,
                self._callers.identify,
                self._access.check,
                self._forwarder.forward,
            ],
            client_max_size=MAX_BODY_BYTES,
        )
        add_routes(app, (route for group in self._handlers for route in group.routes()))
        return app

    async def bind(self) -> str:
        """Listen, and return the server's URL; requests wait until `start`.

        Raises `PortInUse` or `SettingInvalid`.
        """
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
        try:
            addresses: list[dict[str, Any]] = [{"sock": item} for item in self._listeners]
            for address in addresses or [{"host": self._host, "port": self._port}]:
                server = await loop.create_server(
                    lambda: HttpConnection(manager, loop=loop, **options), ssl=self._tls, **address
                )
                self._servers.append(server)
            if here := self._placement.here:
                await web.UnixSite(self._runner, here.address).start()
        except OSError as error:
            await self.stop()
            if error.errno == errno.EADDRINUSE:
                raise PortInUse(
                    f"{self._host}:{self._port} is in use by another program"
                ) from error
            raise SettingInvalid("host", f"cannot listen on {self._host}:{self._port}: "
                                 f"{error.strerror}") from error  # fmt: skip
        port = self._servers[0].sockets[0].getsockname()[1]
        host = f"[{self._host}]" if ":" in self._host else self._host
        self._address = f"{'https' if self._tls else 'http'}://{host}:{port}"
        return self._address

    async def start(self) -> str:
        """Begin to answer requests; call `bind` if that was not done. Return the server's URL."""
        if not self._servers:
            await self.bind()
        self._open.set()
        return self._address

    async def stop(self) -> None:
        """Stop listening; requests under way have a second to end."""
        while self._servers:
            self._servers.pop().close()
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


def _tls_context(certificate: str, key: str) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    try:
        context.load_cert_chain(certificate, key)
    except OSError as error:  # ssl.SSLError is one
        reason = error.strerror or str(error)
        raise SettingInvalid(
            "tls_cert", f"cannot use {certificate} with {key}: {reason}"
        ) from error
    return context
