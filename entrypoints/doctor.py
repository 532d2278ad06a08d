"""Examines a client's microphone, and its way to a server, for `gapless doctor`."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections.abc import AsyncIterator, Iterator
from typing import Any, Protocol
from urllib.parse import quote, urlsplit

import numpy as np

from domain.errors import (
    BackendMissing,
    CaptureError,
    ConnectionFailed,
    DeviceLost,
    GaplessError,
    ServerRefused,
    ServerUnreachable,
)
from domain.ports.capture import CaptureBackend, CaptureRequest
from domain.ports.clock import Clock
from domain.ports.codec import Encoder
from domain.ports.signaling import Answer, ClientConnection, ClientTransport, SignalingClient
from domain.rtp.packetizer import RTP_RATE_HZ, Packetizer
from domain.services.client.diagnosis import (
    Finding,
    Level,
    Listener,
    PathMeasured,
    judge_length,
    judge_path,
    judge_sound,
    ok,
    problem,
    warning,
)
from domain.session.addresses import is_loopback
from domain.sound.formats import AudioFormat, AudioFrame
from entrypoints.client_settings import ClientSettings
from entrypoints.version import VERSION

SECONDS = 5.0
NAME = "gapless-doctor"
"""Begins the names of test recordings."""
START_S = 5.0
"""How long a device may take until it delivers."""
_FRAME = 960
_TONE_HZ = 450
"""It has whole periods in a frame, so that one frame can follow the other."""
_DRAIN_S = 2.0
_POLL_S = 0.05
_TOKEN = "use the server's token (--token-file)"  # noqa: S105
_PUBLISH = (
    "use the server's token (--token-file); one for a single name, such as an invitation, works "
    "with `gapless stream` only"
)
_UNREACHABLE = "start the server, or correct its address (--server); check firewalls between"


class Api(Protocol):
    """The requests to the server's API that are needed here."""

    async def get(self, path: str, **query: object) -> Any: ...

    async def delete(self, path: str) -> None: ...


async def examine_device(
    backend: CaptureBackend, request: CaptureRequest, clock: Clock, *, seconds: float = SECONDS
) -> AsyncIterator[Finding]:
    """Capture for some seconds, and judge that."""
    try:
        source = await backend.open(request)
    except BackendMissing as error:
        yield problem("device", str(error), "install what is missing, or use another --capture")
        return
    except CaptureError as error:
        advice = "choose a device and a rate that `gapless devices` lists (--device, --rate)"
        yield problem("device", str(error), advice)
        return
    listener = Listener(source.format, seconds=seconds)
    try:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds + START_S):
                await source.deliver(lambda block: listener.add(block, now=clock.monotonic()))
    except DeviceLost as error:
        yield problem("device", str(error), "check the plug, the cable and the hub")
        return
    except CaptureError as error:
        yield problem("device", str(error), "choose another device (--device)")
        return
    finally:
        await source.close()
    name = source.device.name if source.device is not None else "no device: a stand-in for one"
    yield ok("device", f"{name}, {source.format}")
    heard = listener.heard(overrun_samples=source.overrun_samples)
    for finding in judge_sound(source.format, heard):
        yield finding


class ServerExamination:
    """Examines a server: asks it, streams a tone to it, and removes what it has recorded."""

    def __init__(
        self,
        settings: ClientSettings,
        *,
        api: Api,
        signaling: SignalingClient,
        transport: ClientTransport,
        encoder: Encoder,
        packetizer: Packetizer,
        clock: Clock,
        seconds: float = SECONDS,
    ) -> None:
        """`encoder` encodes mono."""
        self._settings = settings
        self._api = api
        self._signaling = signaling
        self._transport = transport
        self._encoder = encoder
        self._packetizer = packetizer
        self._clock = clock
        self._seconds = seconds
        self._name = f"{NAME}-{secrets.token_hex(4)}"

    async def run(self) -> AsyncIterator[Finding]:
        try:
            health = await self._api.get("/health")
        except ServerUnreachable as error:
            is_default = self._settings.server == ClientSettings().server
            if is_default:
                yield warning("server", str(error), "name a server (--server)")
            else:
                yield problem("server", str(error), _UNREACHABLE)
            return
        except ServerRefused as error:
            yield problem("server", str(error), "wait a minute, and look at the server's log")
            return
        for finding in self._judge_health(health):
            yield finding
        try:
            async for finding in self._stream():
                yield finding
        except ServerRefused as error:
            yield problem("token", f"opens no test session: {error}", _PUBLISH)
        except ConnectionFailed as error:
            yield problem(
                "path",
                str(error),
                "let UDP pass to the port of the server, or name a TURN server (--ice-servers)",
            )
        except ServerUnreachable as error:
            yield problem("server", str(error), _UNREACHABLE)

    def _judge_health(self, health: Any) -> Iterator[Finding]:
        server, settings = urlsplit(self._settings.server), self._settings
        version = health.get("version") if isinstance(health, dict) else None
        yield ok("server", f"{settings.server} answers")
        if server.scheme == "https":
            yield ok("tls", "HTTPS, by its fingerprint" if settings.fingerprint else "HTTPS")
        elif is_loopback(server.hostname or ""):
            yield ok("tls", "HTTP, on this machine only")
        else:
            yield warning(
                "tls",
                "HTTP: whoever is between can read the token",
                "start the server with --tls self-signed, and use --fingerprint here",
            )
        if version is None:
            told = "the server tells its version only to those who have its token"
            yield warning("version", told, _TOKEN)
        elif version != VERSION:
            yield warning(
                "version",
                f"the server has {version}, this is {VERSION}",
                "use the same on both ends",
            )
        else:
            yield ok("version", f"{version} on both ends")

    async def _stream(self) -> AsyncIterator[Finding]:
        connection = self._transport.open()
        answer = await self._signaling.offer(connection.offer_sdp, name=self._name)
        recorded_s: float | None = None
        is_deleted = False
        try:
            await connection.connect(
                answer.sdp,
                ice_servers=answer.ice_servers,
                send_candidate=lambda item: self._signaling.send_candidate(answer.session_id, item),
            )
            path = await self._send(connection)
            recorded_s = await self._signaling.delete(answer.session_id)
            is_deleted = True
        finally:
            if not is_deleted:
                with contextlib.suppress(GaplessError):
                    await self._signaling.delete(answer.session_id)
            await connection.close(tell_server=False)
        for finding in judge_path(path):
            yield finding
        yield judge_length(self._seconds, recorded_s)
        async for finding in self._clean_up(answer):
            yield finding

    async def _send(self, connection: ClientConnection) -> PathMeasured:
        """Send a quiet tone in real time; return what the server's reports say of the path."""
        began, frames = self._clock.monotonic(), round(self._seconds * RTP_RATE_HZ / _FRAME)
        trips: list[float] = []
        losses: dict[float, float] = {}
        kinds = connection.path_kinds
        last = 0
        tone = 3000 * np.sin(2 * np.pi * _TONE_HZ * np.arange(_FRAME) / RTP_RATE_HZ)
        frame = AudioFrame(
            AudioFormat(RTP_RATE_HZ, 1),
            np.rint(tone).astype(np.int16).reshape(-1, 1),
        )

        def look() -> None:
            report = connection.path_report
            if report is not None and report.at not in losses:
                losses[report.at] = report.fraction_lost
                if report.round_trip_s is not None:
                    trips.append(report.round_trip_s)

        for number in range(frames):
            payload = self._encoder.encode(frame, last=True)
            packet = self._packetizer.packet(payload or b"", number * _FRAME)
            connection.send(packet)
            last = packet.sequence
            look()
            left = began + (number + 1) * _FRAME / RTP_RATE_HZ - self._clock.monotonic()
            await self._clock.sleep(max(0.0, left))
        deadline = self._clock.monotonic() + _DRAIN_S
        while connection.highest_reported != last and self._clock.monotonic() < deadline:
            await self._clock.sleep(_POLL_S)
        look()
        return PathMeasured(kinds, trips, [*losses.values()])

    async def _clean_up(self, answer: Answer) -> AsyncIterator[Finding]:
        """Check the recording by the API, and remove it; say what this token may do."""
        stays = f"the recording {self._name} of {self._seconds:g} s stays on the server"
        advice = "remove it with an administrator's token: gapless recordings delete"
        try:
            page = await self._api.get("/api/recordings", name=self._name)
            (entry,) = (one for one in page["recordings"] if one["session"] == answer.session_id)
            recording_id, listed_s = str(entry["id"]), float(entry["seconds"])
        except (ServerRefused, ServerUnreachable) as error:
            yield ok("token", f"may publish; recordings are not shown to it: {error}")
            yield warning("removal", stays, advice)
            return
        except (KeyError, TypeError, ValueError):
            yield warning("recording", "the server does not list it", "look at its log")
            yield warning("removal", stays, advice)
            return
        listed = judge_length(self._seconds, listed_s)
        if listed.level is not Level.OK:  # the answer to the end of the session was another one
            yield listed
        try:
            await self._api.delete(f"/api/recordings/{quote(recording_id, safe='')}")
        except (ServerRefused, ServerUnreachable) as error:
            yield ok("token", "may publish, and see recordings")
            yield warning("removal", f"{stays}: {error}", f"{advice} {recording_id}")
            return
        yield ok("token", "may publish, see recordings and delete them")
        yield ok("removal", "the test recording is gone")
