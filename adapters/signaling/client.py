"""Signaling over HTTP, the client's side."""

from __future__ import annotations

import json
from typing import Any

import aiohttp

from domain.errors import ServerRefused, ServerUnreachable
from domain.ports.signaling import Answer
from domain.ports.transport import IceCandidate

REQUEST_S = 10.0


class HttpSignaling:
    """Calls a Gapless server."""

    def __init__(self, *, server: str, token: str | None) -> None:
        self._server = server.rstrip("/")
        self._headers = {"Authorization": f"Bearer {token}"} if token else {}
        self._session: aiohttp.ClientSession | None = None

    async def offer(self, sdp: str, *, name: str) -> Answer:
        body = await self._call("POST", "/offer", {"sdp": sdp, "type": "offer", "name": name})
        try:
            return Answer(sdp=body["sdp"], session_id=body["id"], resume=body["resume"])
        except (KeyError, TypeError) as error:
            raise ServerUnreachable(f"{self._server} is no Gapless server") from error

    async def send_candidate(self, session_id: str, candidate: IceCandidate) -> None:
        await self._call(
            "POST",
            "/ice-candidate",
            {
                "id": session_id,
                "candidate": candidate.candidate,
                "sdpMid": candidate.sdp_mid,
                "sdpMLineIndex": candidate.sdp_mline_index,
            },
        )

    async def delete(self, session_id: str) -> None:
        try:
            await self._call("DELETE", f"/sessions/{session_id}", None)
        except ServerRefused as error:
            if error.status != 404:
                raise

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def _call(self, method: str, path: str, body: dict[str, Any] | None) -> Any:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                headers=self._headers, timeout=aiohttp.ClientTimeout(total=REQUEST_S)
            )
        try:
            async with self._session.request(
                method, self._server + path, json=body, allow_redirects=False
            ) as response:
                text = await response.text(errors="replace")
                if response.status >= 300:
                    raise ServerRefused(response.status, _reason(text, response.reason))
                return _parse(text)
        except TimeoutError as error:
            raise ServerUnreachable(
                f"no answer from {self._server} within {REQUEST_S:g} s"
            ) from error
        except aiohttp.ClientConnectorCertificateError as error:
            raise ServerUnreachable(
                f"the certificate of {self._server} is not trusted: {error.certificate_error}"
            ) from error
        except aiohttp.ClientConnectorError as error:
            raise ServerUnreachable(
                f"no server at {self._server}: {error.os_error.strerror or error.os_error}"
            ) from error
        except (aiohttp.ClientError, ValueError) as error:
            raise ServerUnreachable(f"cannot talk to {self._server}: {error}") from error


def _parse(text: str) -> Any:
    return json.loads(text) if text else None


def _reason(text: str, fallback: str | None) -> str:
    """The server's own words, if it is a Gapless server that speaks."""
    try:
        return str(json.loads(text)["error"])
    except (ValueError, KeyError, TypeError):
        return fallback or "no reason given"
