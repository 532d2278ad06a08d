"""The secured path of one connection: ICE with DTLS on top, the same for both ends."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Sequence

import aioice
import pylibsrtp
from aiortc import RTCCertificate, RTCDtlsFingerprint, RTCDtlsParameters

from adapters.transport.dtls.close_alert import CloseAlert
from adapters.transport.dtls.handshake import DtlsSession
from adapters.transport.ice.options import IceOptions
from adapters.transport.ice.transport import IceTransport
from adapters.transport.srtp import Protector, Unprotector
from domain.errors import ConnectionFailed

_CLOSE_S = 2.0


class DtlsTransport:
    """ICE, DTLS and SRTP of one connection.

    OpenSSL is released after the handshake where a `CloseAlert` can replace it.
    """

    def __init__(
        self, options: IceOptions, *, controlling: bool, certificate: RTCCertificate
    ) -> None:
        self.ice = IceTransport(options, controlling=controlling)
        self.fingerprint: RTCDtlsFingerprint = certificate.getFingerprints()[0]
        """Of this end's certificate."""
        self.unprotector: Unprotector | None = None
        """Unprotects packets of the peer; None until the handshake is done."""
        self.on_closed: Callable[[], None] | None = None
        """Called once when the peer closes; neither after `close`, nor for a lost path."""
        self._certificate = certificate
        self._dtls: DtlsSession | None = None  # since there is a path
        self._is_secure = False  # from the handshake until one end closes
        self._has_path = False
        self._failure: str | None = None
        self._close_alert: CloseAlert | None = None  # replaces `_dtls`, until one end closes
        self._protector: Protector | None = None
        self._closing: asyncio.Task[None] | None = None

    @property
    def is_open(self) -> bool:
        return self._is_secure and not self.ice.is_lost

    @property
    def has_path(self) -> bool:
        """Whether ICE has found a network path."""
        return self._has_path

    @property
    def obstacle(self) -> str | None:
        """Why the connection is not established (yet); None once it is."""
        if self._failure is not None or self._protector is not None:
            return self._failure
        if self._dtls is None:
            return "no network path has been found"
        if self._dtls.has_heard:
            return "the DTLS handshake is not complete"
        return "the DTLS handshake is not complete: the peer has sent nothing"

    async def connect(
        self,
        remote: RTCDtlsParameters,
        *,
        role: str,
        candidates: Sequence[aioice.Candidate],
        candidates_complete: bool,
    ) -> None:
        """Find a path and do the DTLS handshake on it, in the DTLS role ``client`` or ``server``.

        Host candidates must have been gathered before, and the peer's ICE credentials set. There
        is no time-out: cancel the call, or close the transport. Raises `ConnectionFailed`.
        """
        for candidate in (*candidates, *([None] if candidates_complete else [])):
            await self.ice.add_remote_candidate(candidate)
        try:
            dtls = await self._shake_hands(remote, role)
            inbound, outbound = dtls.srtp_sessions()
        except ConnectionFailed as error:
            self._failure = str(error)
            raise
        self.unprotector, self._protector = Unprotector(inbound), Protector(outbound)
        self._is_secure = True
        self._close_alert = CloseAlert.from_openssl(dtls.openssl, role=role)
        if self._close_alert is not None:
            self._dtls = None
        self.ice.deliver_dtls_to(self._dtls_received)

    async def _shake_hands(self, remote: RTCDtlsParameters, role: str) -> DtlsSession:
        try:
            await self.ice.connect()
        except Exception as error:
            # ConnectionError without a path; malformed checks make aioice raise other ones
            raise ConnectionFailed(f"no network path was found: {error}") from error
        self._has_path = True
        dtls = self._dtls = DtlsSession(self._certificate, role=role)
        await dtls.handshake(self.ice, remote.fingerprints)
        if self._closing is not None:  # its last flight was there already
            raise ConnectionFailed("the connection was closed amid the DTLS handshake")
        return dtls

    def send(self, packet: bytes) -> None:
        """Protect and send an RTP packet at once, in one thread at a time.

        A packet that cannot be sent is lost, as on any network.
        """
        if self._protector is not None and self.is_open:
            try:  # noqa: SIM105 - `suppress` would be three calls more for each packet
                self.ice.send(self._protector.rtp(packet))
            except (pylibsrtp.Error, ValueError):
                pass

    def send_reports(self, packet: bytes) -> None:
        """Send an RTCP compound packet; never while another thread is in `send`."""
        if self._protector is not None and self.is_open:
            with contextlib.suppress(pylibsrtp.Error, ValueError):
                self.ice.send(self._protector.rtcp(packet))

    async def close(self, *, tell_peer: bool = True) -> None:
        """Send a ``close_notify`` alert if `tell_peer`, and release everything, in `_CLOSE_S`.

        May be called twice.
        """
        self.on_closed = None
        if self._closing is None:
            self._closing = asyncio.create_task(self._close(tell_peer), name="close connection")
        # in a task: if the caller is cancelled, sockets and tasks are released all the same
        await asyncio.wait({self._closing}, timeout=_CLOSE_S)

    async def _close(self, tell_peer: bool) -> None:
        self._is_secure = False
        if tell_peer:
            if self._close_alert is not None:
                self.ice.send(self._close_alert.encode())
            elif self._dtls is not None and self._failure is None:
                self._dtls.shut_down(self.ice)
        self._close_alert = self._dtls = None
        await self.ice.close()

    def _dtls_received(self, data: bytes) -> None:
        if self._close_alert is not None:
            is_closed = self._close_alert.is_in(data)
        else:
            is_closed = self._dtls is not None and self._dtls.received(data, self.ice)
        if is_closed:
            self._closed_by_peer()

    def _closed_by_peer(self) -> None:
        self._is_secure = False
        self._close_alert = self._dtls = None
        if (on_closed := self.on_closed) is not None:
            self.on_closed = None
            on_closed()
