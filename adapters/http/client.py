"""The client's side of signaling over HTTP."""

from __future__ import annotations

from typing import Any

from aiohttp import hdrs

from adapters.http import headers, sdpfrag
from adapters.http.calls import ServerCalls, bearer, checked, refused
from adapters.http.errors import STATUSES
from adapters.http.restore_json import write_spool
from domain.errors import CandidateRejected, Refusal, SessionCutOff, SettingInvalid, WrongServer
from domain.ports.signaling import Answer
from domain.recording.restoring import SpoolInfo
from domain.session.ice import IceCandidate, IceDescription, IceServer

_CUT_OFF = STATUSES[SessionCutOff]


class HttpSignaling:
    """Calls a Gapless server; a `SignalingClient`."""

    def __init__(self, *, server: str, token: str | None, fingerprint: bytes | None = None) -> None:
        self._calls = ServerCalls(server, token=token, fingerprint=fingerprint)
        self._secrets: dict[str, str] = {}  # of the sessions that were opened, by id

    async def offer(
        self,
        sdp: str,
        *,
        name: str,
        room: str = "",
        resume: str | None = None,
        spool: SpoolInfo | None = None,
    ) -> Answer:
        offer: dict[str, Any] = {"sdp": sdp, "type": "offer", "name": name}
        if room:
            offer["room"] = room
        if spool is not None:
            offer["spool"] = write_spool(spool)
        if resume is not None:
            await self._drop_connections()
            offer["resume"] = resume
        response = checked(await self._calls.call("POST", "/offer", json=offer))
        try:
            body = response.json()
            answer = Answer(
                sdp=body["sdp"],
                session_id=body["id"],
                resume=body["resume"],
                ice_servers=tuple(
                    IceServer(item["urls"], item.get("username"), item.get("credential"))
                    for item in body["iceServers"]
                ),
            )
        except (ValueError, KeyError, TypeError, AttributeError, SettingInvalid) as error:
            raise WrongServer(f"{self._calls.server} is not a Gapless server") from error
        self._secrets[answer.session_id] = answer.resume
        return answer

    async def send_candidate(self, session_id: str, candidate: IceCandidate) -> None:
        body = {
            "id": session_id,
            "candidate": candidate.candidate,
            "sdpMid": candidate.sdp_mid,
            "sdpMLineIndex": candidate.sdp_mline_index,
        }
        checked(
            await self._calls.call(
                "POST", "/ice-candidate", json=body, headers=self._secret_of(session_id)
            )
        )

    async def restart_ice(
        self, resume: str, local: IceDescription, *, ice_tag: str
    ) -> IceDescription:
        await self._drop_connections()
        response = await self._calls.call(
            "PATCH",
            f"/whip/{resume}",
            data=sdpfrag.write_fragment(sdpfrag.Fragment(local, mid="0")),
            headers={hdrs.CONTENT_TYPE: sdpfrag.CONTENT_TYPE, hdrs.IF_MATCH: f'"{ice_tag}"'},
        )
        try:
            return sdpfrag.parse_fragment(checked(response).text).ice
        except CandidateRejected as error:
            raise WrongServer(f"{self._calls.server} is not a Gapless server: {error}") from error

    async def delete(self, session_id: str, *, resume: str | None = None) -> float | None:
        secret = self._secret_of(session_id) if resume is None else bearer(resume)
        response = await self._calls.call("DELETE", f"/sessions/{session_id}", headers=secret)
        if response.status == 404 or response.is_secret_unknown:
            return None
        if response.status == 500:  # the server itself says that the recording has failed
            raise refused(response, Refusal.FINAL)
        try:
            return float(checked(response).headers[headers.SECONDS])
        except (KeyError, ValueError):
            return None

    async def reason_of_end(self, session_id: str) -> str | None:
        # it is over: nothing is deleted, and its outcome told
        secret = self._secret_of(session_id)
        response = await self._calls.call("DELETE", f"/sessions/{session_id}", headers=secret)
        return response.error if response.status == _CUT_OFF else None

    async def close(self) -> None:
        await self._calls.close()

    def _secret_of(self, session_id: str) -> dict[str, str]:
        """Return the header that shows the server that this client owns the session."""
        secret = self._secrets.get(session_id)
        return {} if secret is None else bearer(secret)

    async def _drop_connections(self) -> None:
        """Close the HTTP connections: after an outage they may belong to a network that is gone."""
        await self._calls.close()
