"""Signaling over HTTP, the client's side."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import aiohttp
from aiohttp import hdrs

from adapters.http import sdpfrag
from adapters.http.offers import SECONDS_HEADER
from domain.errors import (
    CandidateRejected,
    ServerRefused,
    ServerUnreachable,
    SettingInvalid,
    WrongServer,
)
from domain.ports.signaling import Answer
from domain.session.ice import IceCandidate, IceDescription, IceServer

REQUEST_S = 10.0


class HttpSignaling:
    """Calls a Gapless server."""

    def __init__(self, *, server: str, token: str | None) -> None:
        self._server = server.rstrip("/")
        self._headers = {"Authorization": f"Bearer {token}"} if token else {}
        self._session: aiohttp.ClientSession | None = None

    async def offer(self, sdp: str, *, name: str, resume: str | None = None) -> Answer:
        if resume is not None:
            await self.close()  # its connections may be those of a network that is gone
        offer = {"sdp": sdp, "type": "offer", "name": name}
        if resume is not None:
            offer["resume"] = resume
        text, _ = await self._call("POST", "/offer", json=offer)
        try:
            body = json.loads(text)
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
            raise WrongServer(f"{self._server} is no Gapless server") from error

    async def send_candidate(self, session_id: str, candidate: IceCandidate) -> None:
        await self._call(
            "POST",
            "/ice-candidate",
            json={
                "id": session_id,
                "candidate": candidate.candidate,
                "sdpMid": candidate.sdp_mid,
                "sdpMLineIndex": candidate.sdp_mline_index,
            },
        )

    async def restart_ice(
        self, resume: str, local: IceDescription, *, ice_tag: str
    ) -> IceDescription:
        await self.close()  # as above
        text, _ = await self._call(
            "PATCH",
            f"/whip/{resume}",
            data=sdpfrag.write_fragment(sdpfrag.Fragment(local, mid="0")),
            headers={hdrs.CONTENT_TYPE: sdpfrag.CONTENT_TYPE, hdrs.IF_MATCH: f'"{ice_tag}"'},
        )
        try:
            return sdpfrag.parse_fragment(text).ice
        except CandidateRejected as error:
            raise WrongServer(f"{self._server} is no Gapless server: {error}") from error

    async def delete(self, session_id: str) -> float | None:
        try:
            _, headers = await self._call("DELETE", f"/sessions/{session_id}")
            return float(headers[SECONDS_HEADER])
        except ServerRefused as error:
            if error.status != 404:
                raise
        except (KeyError, ValueError):
            pass  # a server that does not say
        return None

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def _call(self, method: str, path: str, **request: Any) -> tuple[str, Mapping[str, str]]:
        """The body and the headers of the answer to a request, as aiohttp takes it."""
        if self._session is None:
            self._session = aiohttp.ClientSession(
                headers=self._headers, timeout=aiohttp.ClientTimeout(total=REQUEST_S)
            )
        try:
            async with self._session.request(
                method, self._server + path, allow_redirects=False, **request
            ) as response:
                text = await response.text(errors="replace")
                if response.status >= 300:
                    raise ServerRefused(response.status, _reason(text, response.reason))
                return text, response.headers
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


def _reason(text: str, fallback: str | None) -> str:
    """The server's own words, if it is a Gapless server that speaks."""
    try:
        return str(json.loads(text)["error"])
    except (ValueError, KeyError, TypeError):
        return fallback or "no reason given"
