"""The client's side of signaling over HTTP."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import aiohttp
from aiohttp import hdrs

from adapters.http import headers, sdpfrag
from adapters.http.errors import refusal_of
from domain.errors import (
    CandidateRejected,
    Refusal,
    ServerRefused,
    ServerUnreachable,
    SettingInvalid,
    WrongServer,
)
from domain.ports.signaling import Answer
from domain.session.ice import IceCandidate, IceDescription, IceServer

REQUEST_S = 10.0


@dataclass(frozen=True, slots=True)
class _Response:
    status: int
    reason: str | None
    headers: Mapping[str, str]
    text: str


class HttpSignaling:
    """Calls a Gapless server; a `SignalingClient`."""

    def __init__(self, *, server: str, token: str | None) -> None:
        self._server = server.rstrip("/")
        self._headers = {hdrs.AUTHORIZATION: f"Bearer {token}"} if token else {}
        self._session: aiohttp.ClientSession | None = None

    async def offer(self, sdp: str, *, name: str, resume: str | None = None) -> Answer:
        offer = {"sdp": sdp, "type": "offer", "name": name}
        if resume is not None:
            await self._drop_connections()
            offer["resume"] = resume
        response = _checked(await self._call("POST", "/offer", json=offer))
        try:
            body = json.loads(response.text)
            return Answer(
                sdp=body["sdp"],
                session_id=body["id"],
                resume=body["resume"],
                ice_servers=tuple(
                    IceServer(item["urls"], item.get("username"), item.get("credential"))
                    for item in body["iceServers"]
                ),
            )
        except (ValueError, KeyError, TypeError, AttributeError, SettingInvalid) as error:
            raise WrongServer(f"{self._server} is not a Gapless server") from error

    async def send_candidate(self, session_id: str, candidate: IceCandidate) -> None:
        body = {
            "id": session_id,
            "candidate": candidate.candidate,
            "sdpMid": candidate.sdp_mid,
            "sdpMLineIndex": candidate.sdp_mline_index,
        }
        _checked(await self._call("POST", "/ice-candidate", json=body))

    async def restart_ice(
        self, resume: str, local: IceDescription, *, ice_tag: str
    ) -> IceDescription:
        await self._drop_connections()
        response = await self._call(
            "PATCH",
            f"/whip/{resume}",
            data=sdpfrag.write_fragment(sdpfrag.Fragment(local, mid="0")),
            headers={hdrs.CONTENT_TYPE: sdpfrag.CONTENT_TYPE, hdrs.IF_MATCH: f'"{ice_tag}"'},
        )
        try:
            return sdpfrag.parse_fragment(_checked(response).text).ice
        except CandidateRejected as error:
            raise WrongServer(f"{self._server} is not a Gapless server: {error}") from error

    async def delete(self, session_id: str) -> float | None:
        response = await self._call("DELETE", f"/sessions/{session_id}")
        if response.status == 404:
            return None
        if response.status == 500:  # the server itself says that the recording has failed
            raise _refused(response, Refusal.FINAL)
        try:
            return float(_checked(response).headers[headers.SECONDS])
        except (KeyError, ValueError):
            return None

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def _drop_connections(self) -> None:
        """Close the HTTP connections: after an outage they may belong to a network that is gone."""
        await self.close()

    async def _call(self, method: str, path: str, **request: Any) -> _Response:
        """Send a request, with the arguments of aiohttp; return the response, whatever its status.

        Raises `ServerUnreachable` or `WrongServer`.
        """
        if self._session is None:
            self._session = aiohttp.ClientSession(
                headers=self._headers, timeout=aiohttp.ClientTimeout(total=REQUEST_S)
            )
        try:
            async with self._session.request(
                method, self._server + path, allow_redirects=False, **request
            ) as response:
                text = await response.text(errors="replace")
                return _Response(response.status, response.reason, response.headers, text)
        except TimeoutError as error:
            raise ServerUnreachable(
                f"no answer from {self._server} within {REQUEST_S:g} s"
            ) from error
        except aiohttp.ClientConnectorCertificateError as error:
            raise WrongServer(
                f"the certificate of {self._server} is not trusted: {error.certificate_error}"
            ) from error
        except aiohttp.ClientConnectorError as error:
            raise ServerUnreachable(
                f"no server at {self._server}: {error.os_error.strerror or error.os_error}"
            ) from error
        except aiohttp.ClientError as error:
            raise ServerUnreachable(f"cannot talk to {self._server}: {error}") from error


def _checked(response: _Response) -> _Response:
    """Return a successful response. Raises `ServerRefused` for any other."""
    if response.status >= 300:
        raise _refused(response, refusal_of(response.status))
    return response


def _refused(response: _Response, refusal: Refusal) -> ServerRefused:
    try:
        reason = str(json.loads(response.text)["error"])
    except (ValueError, KeyError, TypeError):  # not a Gapless server's answer
        reason = response.reason or "no reason given"
    return ServerRefused(refusal, f"the server refused ({response.status}): {reason}")
