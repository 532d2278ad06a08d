"""Accepts connections, as many as a server may have.

asyncio's own server accepts whatever comes, and allocates a quarter of a megabyte for each TLS
connection before anything of it is known. Here a connection is a socket, and nothing else, until
its first bytes are there.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import socket
from collections.abc import Callable, Sequence
from http import HTTPStatus

from adapters.http.connections import HttpConnection, bare_answer
from adapters.http.tls import TlsFiles
from domain.errors import PortInUse, SettingInvalid
from domain.session.connection_places import ConnectionPlaces, Stage

BACKLOG = 1024
"""Connections that wait to be accepted; the system may allow less."""
ACCEPTS = 16
"""Connections accepted in one step of the event loop, which takes a millisecond or two."""
FIRST_BYTE_S = 10.0
"""How long a connection may send nothing at all; a browser opens some that it may need."""
HANDSHAKE_S = 5.0
"""How long a TLS handshake may take from its first byte on."""
SWEEP_S = 1.0
"""How often deadlines are checked."""
PAUSE_S = 0.5
"""How long nothing is accepted after the system had no descriptor or memory for a connection."""
LOG_S = 60.0
"""How often the log says that connections give way or are refused."""
MAX_REFUSALS = 32
"""Connections that wait for the answer that they are refused; others are just closed."""
REFUSAL_S = 1.0
RETRY_AFTER_S = 5
_EXHAUSTED = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}
_log = logging.getLogger("gapless")


def listen(host: str, port: int) -> list[socket.socket]:
    """Listen on all addresses of a host. Raises `PortInUse` or `SettingInvalid`."""
    listeners: list[socket.socket] = []
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        for family, kind, protocol, _, address in dict.fromkeys(found):
            listener = socket.socket(family, kind, protocol)
            listeners.append(listener)
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            # with port 0, all addresses get the port that the first one gets
            taken = listeners[0].getsockname()[1] if len(listeners) > 1 else port
            listener.bind((address[0], taken, *address[2:]))
            listener.listen(BACKLOG)
    except OSError as error:
        for listener in listeners:
            listener.close()
        if error.errno == errno.EADDRINUSE:
            raise PortInUse(f"{host}:{port} is in use by another program") from error
        reason = error.strerror or error
        raise SettingInvalid("host", f"cannot listen on {host}:{port}: {reason}") from error
    return listeners


class _Guest:
    """A connection that was accepted."""

    __slots__ = ("connection", "deadline", "has_begun", "is_set_up", "socket", "task")

    def __init__(self, accepted: socket.socket, deadline: float) -> None:
        self.socket = accepted
        self.deadline = deadline
        """When it is closed if it has sent nothing; a time of the event loop."""
        self.task: asyncio.Task[None] | None = None
        """Sets up TLS and HTTP, once there is something to read."""
        self.is_set_up = False
        self.has_begun = False
        """Whether the task has begun, and the socket belongs to a transport."""
        self.connection: HttpConnection | None = None

    @property
    def is_silent(self) -> bool:
        return self.task is None and not self.is_set_up


class Listener:
    """Accepts connections for `make_connection`, and closes those that are too slow."""

    def __init__(
        self,
        listeners: Sequence[socket.socket],
        make_connection: Callable[[Callable[[Stage | None], None]], HttpConnection],
        *,
        max_connections: int,
        max_per_address: int | None,
        is_exempt: Callable[[str], bool],
        tls: TlsFiles | None,
    ) -> None:
        """Prepare; `is_exempt` tells for which addresses there is no limit by address."""
        self._listeners = listeners
        self._make_connection = make_connection
        self._max_connections = max_connections
        self._places: ConnectionPlaces[_Guest] = ConnectionPlaces(
            max_connections=max_connections, max_per_address=max_per_address
        )
        self._is_exempt = is_exempt
        self._tls = tls
        self._loop = asyncio.get_running_loop()
        self._guests: set[_Guest] = set()
        self._refused: set[_Guest] = set()
        self._paused: dict[socket.socket, asyncio.TimerHandle] = {}
        self._sweeping: asyncio.TimerHandle | None = None
        self._displaced = self._turned_away = self._exhausted = 0
        self._next_line = 0.0

    def open(self) -> None:
        """Begin to accept connections."""
        for listener in self._listeners:
            listener.setblocking(False)
            self._loop.add_reader(listener, self._accept, listener)
        self._sweep()

    def close(self) -> None:
        """Accept nothing more; connections with a request stay, for the one who made them."""
        for handle in self._paused.values():
            handle.cancel()
        self._paused.clear()
        if self._sweeping is not None:
            self._sweeping.cancel()
        for listener in self._listeners:
            self._loop.remove_reader(listener)
            listener.close()
        for guest in list(self._refused):
            self._end_refusal(guest)
        for guest in list(self._guests):
            if not guest.is_set_up:
                self._close(guest)

    # -- accepting -----------------------------------------------------------------------------

    def _accept(self, listener: socket.socket) -> None:
        for _ in range(ACCEPTS):
            try:
                accepted, peer = listener.accept()
            except OSError as error:
                # others tell that there is none, or that it is gone already (accept(2))
                if error.errno in _EXHAUSTED:
                    self._pause(listener)
                return
            accepted.setblocking(False)
            self._admit(accepted, peer[0])

    def _pause(self, listener: socket.socket) -> None:
        """Accept nothing for a while; what does nothing gives way, for whoever needs descriptors.

        The connection stays in the listener's queue, which would wake up the event loop at once.
        """
        self._exhausted += 1
        victim = self._places.give_way()
        if victim is not None:
            self._close(victim)
        self._loop.remove_reader(listener)
        self._paused[listener] = self._loop.call_later(PAUSE_S, self._resume, listener)

    def _resume(self, listener: socket.socket) -> None:
        del self._paused[listener]
        self._loop.add_reader(listener, self._accept, listener)

    def _admit(self, accepted: socket.socket, address: str) -> None:
        guest = _Guest(accepted, self._loop.time() + FIRST_BYTE_S)
        decision = self._places.admit(guest, address, is_exempt=self._is_exempt(address))
        if not decision.is_admitted:
            self._refuse(guest)
            return
        if decision.gives_way is not None:
            self._displaced += 1
            self._close(decision.gives_way)
        self._guests.add(guest)
        self._loop.add_reader(accepted, self._begin, guest)

    def _begin(self, guest: _Guest) -> None:
        """Set up TLS and HTTP: there is something to read."""
        self._loop.remove_reader(guest.socket)
        guest.task = self._loop.create_task(self._set_up(guest), name="set up a connection")
        guest.task.add_done_callback(lambda _: self._end_set_up(guest))

    async def _set_up(self, guest: _Guest) -> None:
        guest.has_begun = True
        guest.connection = connection = self._make_connection(
            lambda stage: self._change(guest, stage)
        )
        tls = self._tls
        try:
            await self._loop.connect_accepted_socket(
                lambda: connection,
                guest.socket,
                ssl=None if tls is None else tls.context,
                ssl_handshake_timeout=None if tls is None else HANDSHAKE_S,
                ssl_shutdown_timeout=None if tls is None else HANDSHAKE_S,
            )
        except (OSError, asyncio.CancelledError) as error:
            # the handshake failed, or the connection had to give way meanwhile
            _log.debug("a connection was dropped: %r", error)
            # its frames would keep 50 kB until the garbage collector comes
            error.__traceback__ = None
            connection.drop()

    def _end_set_up(self, guest: _Guest) -> None:
        guest.is_set_up, guest.task = True, None
        if not guest.has_begun:  # it was cancelled before
            guest.socket.close()
            self._forget(guest)

    def _change(self, guest: _Guest, stage: Stage | None) -> None:
        if stage is None:
            self._forget(guest)
        else:
            self._places.change(guest, stage)

    def _forget(self, guest: _Guest) -> None:
        self._guests.discard(guest)
        self._places.leave(guest)
        guest.connection = None  # which has the guest

    def _close(self, guest: _Guest) -> None:
        """Close a connection at once, whatever it is doing."""
        self._places.leave(guest)
        if guest.is_silent:
            self._loop.remove_reader(guest.socket)
            guest.socket.close()
            self._guests.discard(guest)
        elif guest.task is not None:
            guest.task.cancel()
        elif guest.connection is not None:
            guest.connection.abort()

    # -- refusing ------------------------------------------------------------------------------

    def _refuse(self, guest: _Guest) -> None:
        """Answer 503, once there is a request to answer; without TLS only, which costs time."""
        self._turned_away += 1
        if self._tls is not None or len(self._refused) >= MAX_REFUSALS:
            guest.socket.close()
            return
        guest.deadline = self._loop.time() + REFUSAL_S
        self._refused.add(guest)
        self._loop.add_reader(guest.socket, self._end_refusal, guest)

    def _end_refusal(self, guest: _Guest) -> None:
        self._loop.remove_reader(guest.socket)
        self._refused.discard(guest)
        answer = bare_answer(
            HTTPStatus.SERVICE_UNAVAILABLE,
            "the server has as many connections as it may have",
            Retry_After=str(RETRY_AFTER_S),
        )
        try:
            guest.socket.recv(64 * 1024)  # closing with data unread would discard the answer
            guest.socket.send(answer)
            guest.socket.shutdown(socket.SHUT_WR)
        except OSError:  # it has sent nothing, or has gone
            pass
        finally:
            guest.socket.close()

    # -- deadlines -----------------------------------------------------------------------------

    def _sweep(self) -> None:
        """Close what is too slow, and say how many connections were closed for others."""
        now = self._loop.time()
        self._sweeping = self._loop.call_at(now + SWEEP_S, self._sweep)
        if self._tls is not None:
            self._tls.refresh(now)
        for guest in [guest for guest in self._refused if guest.deadline <= now]:
            self._end_refusal(guest)
        for guest in list(self._guests):
            if guest.is_silent:
                if guest.deadline <= now:
                    self._close(guest)
            elif guest.connection is not None:
                guest.connection.check_deadlines(now)
        if now >= self._next_line and (self._displaced or self._turned_away or self._exhausted):
            self._next_line = now + LOG_S
            _log.warning(
                "%d of %d connections are open: %d were closed for newer ones, %d were refused, "
                "and %d times no descriptor was left",
                len(self._places), self._max_connections,
                self._displaced, self._turned_away, self._exhausted,
            )  # fmt: skip
            self._displaced = self._turned_away = self._exhausted = 0
