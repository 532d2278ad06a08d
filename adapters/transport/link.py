"""One connection's secured path: ICE, and DTLS on top of it, the same for both ends."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Sequence

import pylibsrtp
from aiortc import RTCCertificate, RTCDtlsFingerprint, RTCDtlsTransport

from adapters.transport.ice import IceTransport
from adapters.transport.ice_agent import IceOptions
from adapters.transport.sdp import LocalTransport, RemoteAudio
from domain.errors import ConnectionFailed
from domain.rtp import is_rtcp

_CLOSE_S = 2.0


class SecureLink:
    """ICE and DTLS from new to closed.

    aiortc's `RTCDtlsTransport` does the handshake and holds the SRTP keys. `on_closed` is called
    once when the peer closes, not for one's own `close`, nor for a path that is lost.
    """

    def __init__(self, options: IceOptions, *, controlling: bool) -> None:
        self.ice = IceTransport(options, controlling=controlling)
        # a certificate for each connection: nobody can link two of them by it
        certificate = RTCCertificate.generateCertificate()
        self._fingerprint = certificate.getFingerprints()[0]
        self.dtls = RTCDtlsTransport(self.ice, [certificate])  # type: ignore[arg-type]
        self.dtls.on("statechange", self._state_changed)
        self.on_closed: Callable[[], None] | None = None
        # names are resolved one beside the other, each may take a second
        self._adding: list[asyncio.Task[None]] = []
        self._closing: asyncio.Task[None] | None = None

    @property
    def is_open(self) -> bool:
        return self.dtls.state == "connected"

    @property
    def receive_keys(self) -> pylibsrtp.Session | None:
        """Unprotects what the peer sends; None until the handshake is done."""
        return self.dtls._rx_srtp

    def describe(self, *, candidates: Sequence[str] = (), complete: bool = False) -> LocalTransport:
        """What an offer or an answer tells of this end."""
        return LocalTransport(
            username=self.ice.username,
            password=self.ice.password,
            fingerprint=RTCDtlsFingerprint(
                algorithm=self._fingerprint.algorithm, value=self._fingerprint.value
            ),
            candidates=candidates,
            complete=complete,
        )

    async def connect(self, remote: RemoteAudio, *, dtls_role: str) -> None:
        """Find a path and make it secure.

        This machine's candidates have to be gathered, and the peer's credentials set, before.
        Raises `ConnectionFailed`. There is no time-out in here: cancel it, or close the link.
        """
        self._adding = [
            asyncio.create_task(self.ice.add_remote_candidate(candidate), name="add candidate")
            for candidate in (*remote.candidates, *([None] if remote.candidates_complete else []))
        ]
        await asyncio.sleep(0)  # plain addresses are added at once
        self.dtls._set_role(dtls_role)
        try:
            await self.ice.connect()
            await self.dtls.start(remote.dtls)
        except Exception as error:
            # ConnectionError when there is no path; others over what a peer sends in checks
            raise ConnectionFailed(f"no network path was found: {error}") from error
        if not self.is_open:
            raise ConnectionFailed("the DTLS handshake failed")

    def send(self, packet: bytes) -> None:
        """Protect and send an RTP packet or an RTCP compound packet at once.

        One that cannot be sent is lost, as on any network.
        """
        keys = self.dtls._tx_srtp
        if self.is_open and keys is not None:
            with contextlib.suppress(pylibsrtp.Error):
                self.ice.send(
                    keys.protect_rtcp(packet) if is_rtcp(packet) else keys.protect(packet)
                )

    async def close(self, *, goodbye: bool = True) -> None:
        """Say goodbye and release everything, within `_CLOSE_S`. May be called twice."""
        self.on_closed = None
        if self._closing is None:
            self._closing = asyncio.create_task(self._close(goodbye), name="close link")
        # a close that is cancelled half-way would leave sockets and tasks behind
        await asyncio.wait({self._closing}, timeout=_CLOSE_S)

    async def _close(self, goodbye: bool) -> None:
        for task in self._adding:
            task.cancel()
        if goodbye:
            with contextlib.suppress(ConnectionError):
                await self.dtls.stop()
        await self.ice.close()
        self.dtls.remove_all_listeners()

    def _state_changed(self) -> None:
        closed_by_peer = self.dtls.state == "closed" and not self.ice.is_lost
        if closed_by_peer and (on_closed := self.on_closed) is not None:
            self.on_closed = None
            on_closed()
