"""One connection's secured path: ICE, and DTLS on top of it, the same for both ends."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Sequence

import pylibsrtp
from aiortc import RTCCertificate, RTCDtlsFingerprint, RTCDtlsTransport

from adapters.transport.dtls.close_alert import CloseAlert
from adapters.transport.ice.agent import IceOptions
from adapters.transport.ice.transport import IceTransport
from adapters.transport.sdp.descriptions import LocalTransport, RemoteAudio
from adapters.transport.srtp import Protector, Unprotector
from domain.errors import ConnectionFailed

_CLOSE_S = 2.0


class DtlsTransport:
    """ICE and DTLS from new to closed.

    aiortc's `RTCDtlsTransport` does the handshake. It is kept no longer than that where a
    `CloseAlert` can stand in for it. `on_closed` is called once when the peer closes, not for one's
    own `close`, nor for a path that is lost.
    """

    def __init__(
        self, options: IceOptions, *, controlling: bool, certificate: RTCCertificate
    ) -> None:
        self.ice = IceTransport(options, controlling=controlling)
        self._fingerprint = certificate.getFingerprints()[0]
        self._dtls: RTCDtlsTransport | None = RTCDtlsTransport(self.ice, [certificate])  # type: ignore[arg-type]
        self._dtls.on("statechange", self._state_changed)
        self._is_secure = False  # from the handshake until one end closes
        self._goodbye: CloseAlert | None = None  # once it stands in, as long as nobody has said it
        self.unprotector: Unprotector | None = None
        """Unprotects what the peer sends; None until the handshake is done."""
        self._protector: Protector | None = None  # the same
        self.on_closed: Callable[[], None] | None = None
        # names are resolved one beside the other, each may take a second
        self._adding: list[asyncio.Task[None]] = []
        self._closing: asyncio.Task[None] | None = None

    @property
    def is_open(self) -> bool:
        return self._is_secure and not self.ice.is_lost

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
        dtls = self._dtls
        assert dtls is not None
        dtls._set_role(dtls_role)
        try:
            await self.ice.connect()
            await dtls.start(remote.dtls)
        except Exception as error:
            # ConnectionError when there is no path; others over what a peer sends in checks
            raise ConnectionFailed(f"no network path was found: {error}") from error
        if dtls.state != "connected":
            raise ConnectionFailed("the DTLS handshake failed")
        assert dtls._rx_srtp is not None
        assert dtls._tx_srtp is not None
        self.unprotector, self._protector = Unprotector(dtls._rx_srtp), Protector(dtls._tx_srtp)
        self._is_secure = True
        self.ice.carry_media()
        self._adding = [task for task in self._adding if not task.done()]
        if (goodbye := CloseAlert.of(dtls)) is not None:
            self._stand_in(goodbye, dtls)

    def send(self, packet: bytes) -> None:
        """Protect and send an RTP packet at once, in any one thread at a time.

        One that cannot be sent is lost, as on any network.
        """
        if self._protector is not None and self.is_open:
            try:  # noqa: SIM105 - `suppress` would be three calls more for each packet
                self.ice.send(self._protector.rtp(packet))
            except (pylibsrtp.Error, ValueError):
                pass

    def send_reports(self, packet: bytes) -> None:
        """The same for an RTCP compound packet; never while another thread is in `send`."""
        if self._protector is not None and self.is_open:
            with contextlib.suppress(pylibsrtp.Error, ValueError):
                self.ice.send(self._protector.rtcp(packet))

    async def close(self, *, goodbye: bool = True) -> None:
        """Say goodbye and release everything, within `_CLOSE_S`. May be called twice."""
        self.on_closed = None
        if self._closing is None:
            self._closing = asyncio.create_task(self._close(goodbye), name="close link")
        # a close that is cancelled half-way would leave sockets and tasks behind
        await asyncio.wait({self._closing}, timeout=_CLOSE_S)

    async def _close(self, goodbye: bool) -> None:
        self._is_secure = False
        for task in self._adding:
            task.cancel()
        if goodbye:
            if self._goodbye is not None:
                self.ice.send(self._goodbye.say())
            elif self._dtls is not None:
                with contextlib.suppress(ConnectionError):
                    await self._dtls.stop()
        self._goodbye = None
        await self.ice.close()
        if self._dtls is not None:
            self._dtls.remove_all_listeners()

    def _stand_in(self, goodbye: CloseAlert, dtls: RTCDtlsTransport) -> None:
        """Let go of what was needed for the handshake only."""
        dtls.remove_all_listeners()
        assert dtls._task is not None
        dtls._task.cancel()  # it has not begun to run
        dtls._task = None  # nor waits for the garbage collector
        self._goodbye, self._dtls = goodbye, None
        self.ice.hand_over(self._dtls_received)

    def _dtls_received(self, data: bytes) -> None:
        if self._goodbye is not None and self._goodbye.is_in(data):
            self._goodbye = None
            self._closed_by_peer()

    def _state_changed(self) -> None:
        if self._dtls is not None and self._dtls.state == "closed" and not self.ice.is_lost:
            self._closed_by_peer()

    def _closed_by_peer(self) -> None:
        self._is_secure = False
        if (on_closed := self.on_closed) is not None:
            self.on_closed = None
            on_closed()
