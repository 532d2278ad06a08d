"""The ICE transport of a connection, which lives through ICE restarts.

It delivers media packets without a queue, and drops datagrams from strangers that would break the
DTLS handshake.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections import deque
from collections.abc import Awaitable, Callable, Sequence

import aioice
from aioice.turn import TurnTransport

from adapters.transport.ice.agent import IceAgent
from adapters.transport.ice.candidates import parse_candidate
from adapters.transport.ice.guard import NOBODY
from adapters.transport.ice.options import IceOptions
from adapters.transport.sockets.datagrams import Datagram
from domain.errors import ConnectionFailed
from domain.session.checks import CheckBudget
from domain.session.ice import IceDescription, IceServer

RESTART_S = 30.0
"""Time-out of an ICE restart that the peer began. If it fails, the old path stays in use."""
OWN_RESTART_S = 2.0
"""Time-out of an ICE restart that this end began; a new connection can be made after that."""
LINGER_S = 1.0
"""How long the old path stays open after a restart: the peer may still send on it."""
_MAX_QUEUED = 64
MAX_SOURCES = 64
"""SSRCs of one connection that are remembered. If a peer has more, the oldest are forgotten, and
are received from checked addresses only."""


class IceTransport:
    """The ICE agents of one connection: the one in use, and one that a restart is to bring in."""

    def __init__(self, options: IceOptions, *, controlling: bool) -> None:
        self._options = options
        self._loop: asyncio.AbstractEventLoop | None = None  # since `connect`, with its thread
        self._thread = 0
        self._queue: asyncio.Queue[bytes | None] | None = asyncio.Queue()  # for `receive_dtls`
        self._on_dtls: Callable[[bytes], None] | None = None  # replaces the queue
        self.budget = CheckBudget(
            options.limits, max_candidates=options.max_candidates, is_server=options.is_server
        )
        """Limits checks; it is not renewed by ICE restarts."""
        self._agent = IceAgent(self, options, self.budget, ice_controlling=controlling)
        self._next: IceAgent | None = None
        self._restarting: asyncio.Task[bool] | None = None
        self._restart_lock = asyncio.Lock()
        self._retired: set[asyncio.Task[None]] = set()
        self._ssrcs: deque[int] = deque()  # of packets that were authenticated
        self._was_lost_meanwhile = False  # whether the old path was lost during a restart
        self._closing = asyncio.Event()
        self.is_lost = False
        """Whether the path was lost: consent has expired, or the socket is gone."""
        self.on_media: Callable[[Sequence[Datagram]], None] = NOBODY.on_media
        """Called with the SRTP and SRTCP packets that have arrived; it must not raise."""

    @property
    def username(self) -> str:
        return self._latest.local_username

    @property
    def password(self) -> str:
        return self._latest.local_password

    @property
    def remote(self) -> IceDescription:
        """The peer's credentials; none before `set_remote`."""
        latest = self._latest
        return IceDescription(latest.remote_username or "", latest.remote_password or "")

    @property
    def round_trip_s(self) -> float | None:
        """By the latest consent check of the path in use; None before the first one."""
        return self._agent.round_trip_s

    @property
    def path_kinds(self) -> tuple[str, str] | None:
        """The types of the candidates, local and remote, of the path in use; None without one."""
        pair = self._agent.selected
        if pair is None or pair.local_candidate is None:
            return None
        return pair.local_candidate.type, pair.remote_candidate.type

    @property
    def problems(self) -> Sequence[str]:
        """The reasons why addresses and servers gave no candidates."""
        return self._latest.problems

    def set_remote(self, username: str, password: str, *, is_lite: bool = False) -> None:
        """Set the peer's credentials, and whether it is an ICE-lite agent (RFC 8445 § 2.5).

        An ICE-lite agent sends no checks, so that this end has to be the controlling one.
        """
        self._agent.remote_username = username
        self._agent.remote_password = password
        self._agent.remote_is_lite = is_lite

    def gather_host(self, on_candidate: Callable[[str], None]) -> None:
        """Gather the candidates of this machine's addresses; `connect` can begin with them.

        `on_candidate` is called with each, as SDP writes it after ``a=candidate:``.
        """
        self._agent.gather_host(on_candidate)

    async def gather_from(
        self, servers: Sequence[IceServer], on_candidate: Callable[[str], None]
    ) -> None:
        """Gather the candidates that STUN and TURN servers give, within `GATHER_S`."""
        await self._agent.gather_from(servers, on_candidate)

    async def gather(self, servers: Sequence[IceServer]) -> list[str]:
        """Gather all local candidates."""
        return await self._agent.gather(servers)

    async def add_remote_candidate(
        self, candidate: aioice.Candidate | None, *, username: str | None = None
    ) -> None:
        """Add a remote candidate; None says that no more follow.

        Ignored are candidates of another ICE session than `username` names, candidates beyond
        `IceOptions.max_candidates` or after the end, those for RTCP on a port of its own, and those
        that must not be probed, or need not be (see `IceAgent.add_remote`).
        """
        agent = self._latest
        if username is not None and agent.remote_username != username:
            return
        if not self._closing.is_set():
            await agent.add_remote(candidate)

    async def connect(self) -> None:
        """Check candidate pairs until one works; raises `ConnectionError` when none does."""
        self._loop, self._thread = asyncio.get_running_loop(), threading.get_ident()
        try:
            await self._agent.connect()
        except ConnectionError:
            # a restart that is going on may still find a path
            while self._agent.selected is None:
                async with self._restart_lock:
                    restarting = self._restarting
                if restarting is None or restarting.done():
                    raise
                await asyncio.wait({restarting})

    async def answer_restart(
        self, remote: IceDescription, servers: Sequence[IceServer]
    ) -> IceDescription:
        """Answer an ICE restart of the peer (RFC 8445 § 9); return this end's description.

        The new ICE session connects in the background. The old path is used until then, and stays
        in use if the new session finds none. A restart that is still going on is cancelled. Raises
        `ConnectionFailed` or `CandidateRejected`; the old ICE session stays then.
        """

        async def exchange(_local: IceDescription) -> IceDescription:
            return remote

        async with self._restart_lock:
            local, _ = await self._restart(servers, exchange)
        return local

    async def restart(
        self,
        servers: Sequence[IceServer],
        exchange: Callable[[IceDescription], Awaitable[IceDescription]],
    ) -> None:
        """Restart ICE; return when the new path is in use.

        `exchange` sends this end's description to the peer and returns the peer's. Raises
        `ConnectionFailed`, `CandidateRejected` and what `exchange` raises; the old ICE session
        stays then.
        """
        async with self._restart_lock:
            _, switching = await self._restart(servers, exchange)
        try:
            await asyncio.wait({switching}, timeout=OWN_RESTART_S)
        finally:
            async with self._restart_lock:
                if switching is self._restarting:
                    await self._cancel_restart()
                    self._restart_failed()
        if switching.cancelled() or not switching.result():
            raise ConnectionFailed("the ICE restart found no path")

    def deliver_dtls_to(self, receive: Callable[[bytes], None]) -> None:
        """From now on call `receive` with datagrams that may be DTLS, instead of queuing them.

        Queued datagrams are delivered in the next iteration of the event loop.
        """
        self._on_dtls = receive
        queue, self._queue = self._queue, None
        while queue is not None and not queue.empty():
            if (data := queue.get_nowait()) is not None:
                asyncio.get_running_loop().call_soon(receive, data)

    def send(self, data: bytes) -> bool:
        """Send a packet at once, from any thread; return False when there is no path."""
        pair = self._agent.selected
        if pair is None:
            return False
        transport, address = pair.protocol.transport, pair.remote_addr
        if isinstance(transport, TurnTransport) and threading.get_ident() != self._thread:
            assert self._loop is not None  # set by `connect`, which has selected the pair
            # aioice's TURN client belongs to the event loop
            self._loop.call_soon_threadsafe(transport.sendto, data, address)
        else:
            transport.sendto(data, address)
        return True

    def read_pending(self) -> bool:
        """Read what waits at the ports; return whether more may wait.

        Not to be called while datagrams are being delivered.
        """
        return self._agent.read_pending()

    def add_source(self, ssrc: int) -> None:
        """Receive what comes with an SSRC, from whatever address: a packet was authenticated."""
        shared = self._options.shared
        if shared is None or ssrc in self._ssrcs or self._closing.is_set():
            return
        if len(self._ssrcs) >= MAX_SOURCES:
            shared.sources.remove(self._ssrcs.popleft(), self)
        self._ssrcs.append(ssrc)
        shared.sources.add(ssrc, self)

    async def close(self) -> None:
        """Stop, close the sockets and wake `receive_dtls`."""
        if not self._closing.is_set():
            self._closing.set()
            self.on_media, self._on_dtls = NOBODY.on_media, None
            if (shared := self._options.shared) is not None:
                for ssrc in self._ssrcs:
                    shared.sources.remove(ssrc, self)
            async with self._restart_lock:
                await self._cancel_restart()
            await self._agent.close()
            if self._retired:
                await asyncio.wait(self._retired)

    # -- for the DTLS handshake ----------------------------------------------------------------

    async def receive_dtls(self) -> bytes:
        """Wait for the next datagram that may be DTLS; raises `ConnectionError` without a path."""
        queue = self._queue
        assert queue is not None
        data = await queue.get()
        if data is None:
            queue.put_nowait(None)  # for the next call
            raise ConnectionError("the ICE transport is closed")
        return data

    # -- called by the agents ------------------------------------------------------------------

    def dtls_received(self, data: bytes) -> None:
        if self._on_dtls is not None:
            self._on_dtls(data)
        elif self._queue is not None and self._queue.qsize() < _MAX_QUEUED:
            self._queue.put_nowait(data)

    def path_lost(self, agent: aioice.Connection) -> None:
        if agent is not self._agent:
            return
        if self._next is not None and not self._closing.is_set():
            self._was_lost_meanwhile = True  # the restart may find another path
        else:
            self.is_lost = not self._closing.is_set()
            if self._queue is not None:
                self._queue.put_nowait(None)

    # -- restarts ------------------------------------------------------------------------------

    @property
    def _latest(self) -> IceAgent:
        return self._next or self._agent

    async def _restart(
        self,
        servers: Sequence[IceServer],
        exchange: Callable[[IceDescription], Awaitable[IceDescription]],
    ) -> tuple[IceDescription, asyncio.Task[bool]]:
        """Begin an ICE session; return its local description, and a task that switches to it.

        The task's result says whether it has.
        """
        await self._cancel_restart()
        agent = IceAgent(
            self, self._options, self.budget, ice_controlling=self._agent.ice_controlling
        )
        agent.remote_is_lite = self._agent.remote_is_lite
        try:
            found = await agent.gather(servers)
            if not found:
                raise ConnectionFailed("there is no address to restart ICE from")
            local = IceDescription(agent.local_username, agent.local_password, found, complete=True)
            remote = await exchange(local)
            candidates = [parse_candidate(item) for item in remote.candidates]
            if self._closing.is_set() or self.is_lost:
                raise ConnectionFailed("the connection was closed meanwhile")
        except BaseException:
            self._retire(agent)
            self._restart_failed()
            raise
        self.budget.earn(sum(map(len, remote.candidates)))
        agent.remote_username, agent.remote_password = remote.username, remote.password
        self._next = agent
        self._restarting = asyncio.create_task(
            self._switch(agent, candidates, complete=remote.complete), name="restart ICE"
        )
        return local, self._restarting

    async def _switch(
        self, agent: IceAgent, candidates: Sequence[aioice.Candidate | None], *, complete: bool
    ) -> bool:
        try:
            async with asyncio.timeout(RESTART_S):
                for candidate in candidates:
                    if candidate is not None:
                        await agent.add_remote(candidate)
                if complete:
                    await agent.add_remote(None)
                await agent.connect()
        except Exception:
            # ConnectionError or TimeoutError; malformed checks make aioice raise other ones
            self._next = None
            self._retire(agent)
            self._restart_failed()
            return False
        old, self._agent, self._next = self._agent, agent, None
        self._was_lost_meanwhile = False
        self._retire(old, after_s=LINGER_S)
        return True

    def _restart_failed(self) -> None:
        """Report the old path as lost if it was lost while the restart was going on."""
        if self._was_lost_meanwhile:
            self.path_lost(self._agent)

    async def _cancel_restart(self) -> None:
        task, self._restarting = self._restarting, None
        if task is not None:
            task.cancel()
            await asyncio.wait({task})
        agent, self._next = self._next, None
        if agent is not None:
            self._retire(agent)

    def _retire(self, agent: IceAgent, *, after_s: float = 0.0) -> None:
        """Close an agent in the background after a delay, or at once when the transport closes."""

        async def close() -> None:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(after_s):
                    await self._closing.wait()
            await agent.close()

        task = asyncio.create_task(close(), name="close ICE session")
        self._retired.add(task)
        task.add_done_callback(self._retired.discard)
