"""The ICE session of a connection, over restarts, as the transport under aiortc's DTLS.

`RTCDtlsTransport` asks its ICE object for no more than `role`, `_recv()` and `_send()`, so this
one stands in for `RTCIceTransport`: it hands media packets over without a queue, it drops what
would bring the stock stack down, and it can restart.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Awaitable, Callable, Sequence

import aioice
from aioice.turn import TurnTransport

from adapters.transport.ice.agent import IceAgent, IceOptions, parse_candidate
from adapters.transport.sockets.datagrams import Datagram
from domain.errors import ConnectionFailed
from domain.session.ice import IceDescription, IceServer

RESTART_S = 30.0
"""An ICE restart that has found no path by then is given up; the old path is still there."""
OWN_RESTART_S = 2.0
"""The same for a restart of one's own, which is a way out among others."""
LINGER_S = 1.0
"""After a restart the peer may still send on the old path: it changes over in its own time."""
_MAX_WAITING = 64


class IceTransport:
    """The ICE session of one connection, over restarts, and the path that it has found."""

    def __init__(self, options: IceOptions, *, controlling: bool) -> None:
        self._options = options
        self._loop: asyncio.AbstractEventLoop | None = None  # that of `connect`, and its thread
        self._thread = 0
        self._waiting: asyncio.Queue[bytes | None] | None = asyncio.Queue()
        self._on_dtls: Callable[[bytes], None] | None = None
        self._agent = IceAgent(self, options, ice_controlling=controlling)
        self._next: IceAgent | None = None
        self._restarting: asyncio.Task[bool] | None = None
        self._restart_lock = asyncio.Lock()
        self._retired: set[asyncio.Task[None]] = set()
        self._was_lost_meanwhile = False
        self._carries_media = False
        self._closing = asyncio.Event()
        self.is_lost = False
        """Whether the path went away by itself: consent to send expired, or the socket is gone."""
        self.on_media: Callable[[Sequence[Datagram]], None] = self._wait_in_line
        """Called with the SRTP and SRTCP packets that have arrived; at first they wait in line
        for `_recv`. It must not raise."""

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
    def problems(self) -> Sequence[str]:
        """Why STUN and TURN servers have given no candidates, where they have not."""
        return self._latest.problems

    def set_remote(self, username: str, password: str) -> None:
        """The peer's credentials."""
        self._agent.remote_username = username
        self._agent.remote_password = password

    def gather_own(self, found: Callable[[str], None]) -> None:
        """Find the candidates of this machine; `connect` may begin with them.

        `found` is called with each, as it is written in SDP behind ``a=candidate:``.
        """
        self._agent.gather_own(found)

    async def ask(self, servers: Sequence[IceServer], found: Callable[[str], None]) -> None:
        """Find those that STUN and TURN servers give, within `GATHER_S`."""
        await self._agent.ask(servers, found)

    async def gather(self, servers: Sequence[IceServer]) -> list[str]:
        """Find all local candidates."""
        return await self._agent.gather(servers)

    async def add_remote_candidate(
        self, candidate: aioice.Candidate | None, *, username: str | None = None
    ) -> None:
        """Take a remote candidate, or None for the end of them.

        Those of another ICE session than `username` names, beyond `MAX_REMOTE_CANDIDATES`,
        behind the end, or for RTCP on a port of its own are ignored.
        """
        agent = self._latest
        if username is not None and agent.remote_username != username:
            return
        if not self._closing.is_set():
            await agent.take(candidate)

    async def connect(self) -> None:
        """Check the candidates until a pair works; raises `ConnectionError` when none does."""
        self._loop, self._thread = asyncio.get_running_loop(), threading.get_ident()
        try:
            await self._agent.connect()
        except ConnectionError:
            # an ICE session after it may find one
            while self._agent.selected is None:
                async with self._restart_lock:
                    restarting = self._restarting
                if restarting is None or restarting.done():
                    raise
                await asyncio.wait({restarting})

    async def answer_restart(
        self, remote: IceDescription, servers: Sequence[IceServer]
    ) -> IceDescription:
        """Begin a new ICE session with a peer that has (RFC 8445 § 9); return this end of it.

        In the background it finds a path and takes over; until then, and if it finds none, the
        old path serves. A restart that is still under way is given up for this one. Raises
        `ConnectionFailed` or `CandidateRejected`; the old ICE session stays then.
        """

        async def know(_local: IceDescription) -> IceDescription:
            return remote

        async with self._restart_lock:
            local, _ = await self._restart(servers, know)
        return local

    async def restart(
        self,
        servers: Sequence[IceServer],
        exchange: Callable[[IceDescription], Awaitable[IceDescription]],
    ) -> None:
        """Begin a new ICE session; returns when it has taken over.

        `exchange` brings this end of it to the peer, and the peer's back. Raises
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
                    await self._drop_restart()
                    self._restart_failed()
        if switching.cancelled() or not switching.result():
            raise ConnectionFailed("the ICE restart found no path")

    def hand_over(self, take: Callable[[bytes], None]) -> None:
        """From now on call `take` with what may be DTLS; nobody asks with `_recv` any more."""
        self._on_dtls = take
        waiting, self._waiting = self._waiting, None
        while waiting is not None and not waiting.empty():
            if (data := waiting.get_nowait()) is not None:
                asyncio.get_running_loop().call_soon(take, data)

    def send(self, data: bytes) -> bool:
        """Send a packet at once, in any thread; False when there is no path."""
        pair = self._agent.selected
        if pair is None:
            return False
        transport, address = pair.protocol.transport, pair.remote_addr
        if isinstance(transport, TurnTransport) and threading.get_ident() != self._thread:
            assert self._loop is not None  # there is a pair, so that it has connected
            self._loop.call_soon_threadsafe(transport.sendto, data, address)  # it works there
        else:
            transport.sendto(data, address)
        return True

    def carry_media(self) -> None:
        """The handshakes are over: packets come by the many from now on, on whatever path."""
        self._carries_media = True
        self._agent.carry_media()

    def receive(self) -> None:
        """Read what has come, once; it may be called while another socket is being read."""
        self._agent.receive()

    def receive_at_once(self) -> None:
        """Read what has come, and what still comes, without waiting for more of it."""
        self._agent.receive_at_once()

    async def close(self) -> None:
        """Stop, close the sockets and wake whoever waits."""
        if not self._closing.is_set():
            self._closing.set()
            self.on_media = self._wait_in_line
            async with self._restart_lock:
                await self._drop_restart()
            await self._agent.close()
            if self._retired:
                await asyncio.wait(self._retired)

    # -- what RTCDtlsTransport sees ------------------------------------------------------------

    @property
    def role(self) -> str:
        return "controlling" if self._agent.ice_controlling else "controlled"

    @property
    def state(self) -> str:
        return "closed" if self._closing.is_set() else "completed"

    async def _recv(self) -> bytes:
        waiting = self._waiting
        assert waiting is not None
        data = await waiting.get()
        if data is None:
            waiting.put_nowait(None)  # whoever asks again hears the same
            raise ConnectionError("the ICE transport is closed")
        return data

    async def _send(self, data: bytes) -> None:
        if not self.send(data):
            raise ConnectionError("there is no path")

    # -- what the agents report ----------------------------------------------------------------

    def dtls_received(self, data: bytes) -> None:
        """For whoever asks with `_recv`, or has been handed over to."""
        if self._on_dtls is not None:
            self._on_dtls(data)
        elif self._waiting is not None and self._waiting.qsize() < _MAX_WAITING:
            self._waiting.put_nowait(data)

    def _wait_in_line(self, datagrams: Sequence[Datagram]) -> None:
        for data, _ in datagrams:
            self.dtls_received(data)

    def path_lost(self, agent: IceAgent) -> None:
        """An agent has closed, or its selected socket is gone."""
        if agent is not self._agent:
            return
        if self._next is not None and not self._closing.is_set():
            self._was_lost_meanwhile = True  # what comes of the restart decides
        else:
            self.is_lost = not self._closing.is_set()
            if self._waiting is not None:
                self._waiting.put_nowait(None)

    # -- restarts ------------------------------------------------------------------------------

    @property
    def _latest(self) -> IceAgent:
        return self._next or self._agent

    async def _restart(
        self,
        servers: Sequence[IceServer],
        exchange: Callable[[IceDescription], Awaitable[IceDescription]],
    ) -> tuple[IceDescription, asyncio.Task[bool]]:
        """Begin an ICE session; its local end, and whether it will have taken over."""
        await self._drop_restart()
        agent = IceAgent(self, self._options, ice_controlling=self._agent.ice_controlling)
        try:
            found = await agent.gather(servers)
            if not found:
                raise ConnectionFailed("there is no address to restart ICE from")
            local = IceDescription(agent.local_username, agent.local_password, found, complete=True)
            remote = await exchange(local)
            candidates = [parse_candidate(item) for item in remote.candidates]
            if self._closing.is_set() or self.is_lost:
                raise ConnectionFailed("the connection has gone meanwhile")
        except BaseException:
            self._retire(agent)
            self._restart_failed()
            raise
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
                usable = [candidate for candidate in candidates if candidate is not None]
                await asyncio.gather(*(agent.take(candidate) for candidate in usable))
                if complete:
                    await agent.take(None)
                await agent.connect()
        except Exception:
            # ConnectionError, TimeoutError; others over what a peer sends in checks
            self._next = None
            self._retire(agent)
            self._restart_failed()
            return False
        old, self._agent, self._next = self._agent, agent, None
        self._was_lost_meanwhile = False
        if self._carries_media:
            agent.carry_media()
        old.receive_at_once()  # before what comes by the new path
        self._retire(old, after_s=LINGER_S)
        return True

    def _restart_failed(self) -> None:
        """The old path serves on, unless it has gone meanwhile."""
        if self._was_lost_meanwhile:
            self.path_lost(self._agent)

    async def _drop_restart(self) -> None:
        """A restart under way has been overtaken."""
        task, self._restarting = self._restarting, None
        if task is not None:
            task.cancel()
            await asyncio.wait({task})
        agent, self._next = self._next, None
        if agent is not None:
            self._retire(agent)

    def _retire(self, agent: IceAgent, *, after_s: float = 0.0) -> None:
        """Close an agent in the background, soon; `close` waits for it."""

        async def close() -> None:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(after_s):
                    await self._closing.wait()
            await agent.close()

        task = asyncio.create_task(close(), name="close ICE session")
        self._retired.add(task)
        task.add_done_callback(self._retired.discard)
