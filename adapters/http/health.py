"""``/health``: whether the server serves, and how many sessions it has."""

from __future__ import annotations

from collections.abc import Sequence

from aiohttp import web

from adapters.http.routes import Route
from domain.services.server.sessions import SessionService


class HealthDoor:
    """Answers everybody, also without a token: load balancers and monitors ask."""

    def __init__(self, service: SessionService, *, version: str) -> None:
        self._service = service
        self._version = version

    def routes(self) -> Sequence[Route]:
        return [Route("GET", "/health", self._health, role=None)]

    async def _health(self, _request: web.Request) -> web.StreamResponse:
        return web.json_response(
            {
                "status": "ok",
                "version": self._version,
                "sessions": self._service.session_count,
                "states": self._service.states(),
            }
        )
