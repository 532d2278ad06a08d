"""Watches which requests are refused: delays who guesses secrets, and tells who was refused."""

from __future__ import annotations

import asyncio
import json
import math
import re
from collections.abc import Iterable
from typing import TypeAlias

from aiohttp import hdrs, web

from adapters.http.access import WRONG
from adapters.http.callers import CALLER
from adapters.http.errors import answer_refusal
from adapters.http.nodes import is_from_node
from adapters.http.routes import SECRET, Handler, Route, route_of
from domain.events.server import RequestRefused
from domain.ports.events import EventPublisher
from domain.session.addresses import network_of
from domain.session.caller import UNKNOWN, Caller
from domain.session.guesses import Guesses
from domain.session.tally import Tally

FREE_TOKENS = 10
"""Wrong tokens of a network that are answered at once."""
FREE_SECRETS = 1000
"""Wrong secrets of sessions. Nobody guesses 256 bits, and all clients behind one address have
outdated ones after a restart of the server."""
TOLD_KINDS = 20
"""Kinds of refused requests that are told with their address within a minute."""
_TOLD = (401, 403, 404, 429, 503, 507)
_SECRET = re.compile("[0-9a-f]{64}")

_Kind: TypeAlias = tuple[int, str, Caller]
"""Status, method and route, and who sent the request: its network in place of its address."""


class Refusals:
    """Watches the answers of a server. What other nodes ask has been watched by those.

    A right token or secret is always let in: the one who guesses may share its address with others.
    So this does not make a weak token strong. It keeps guessing from costing much, and from going
    unnoticed.
    """

    def __init__(self, events: EventPublisher) -> None:
        self._events = events
        self._tokens = Guesses(free=FREE_TOKENS)
        self._secrets = Guesses(free=FREE_SECRETS)
        self._tally: Tally[_Kind] = Tally(told=1, kinds=TOLD_KINDS)
        self._timer: asyncio.TimerHandle | None = None

    @web.middleware
    async def watch(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        response = await handler(request)
        if is_from_node(request):
            return response
        route, now = route_of(request), asyncio.get_running_loop().time()
        caller = request.get(CALLER, UNKNOWN)
        guesses = self._guesses_of(request, route, response.status)
        wait_s = 0.0 if guesses is None else guesses.failed(network_of(caller.address), now=now)
        if wait_s and response.status >= 400:
            response = _too_many(request, wait_s)
        status = response.status if response.status >= 400 or guesses is None else 401
        is_of_session = route is not None and route.session_key is not None
        if status in _TOLD and (status != 404 or is_of_session):
            self._refused(caller, route, status, response, now=now)
        return response

    def close(self) -> None:
        """Tell what has not been told yet."""
        self._publish(self._tally.end(now=math.inf))
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _guesses_of(self, request: web.Request, route: Route | None, status: int) -> Guesses | None:
        """Return the count to which a request with a wrong secret belongs."""
        wrong = request.get(WRONG) or (request.get(SECRET) if status == 401 else None)
        if wrong:
            is_of_session = _SECRET.fullmatch(wrong) or (route is not None and route.secret_only)
            return self._secrets if is_of_session else self._tokens
        if status != 404 or route is None or route.session_key is None:
            return None
        # who has a token for any session guesses none
        return None if route.allows_secret and request.get(CALLER, UNKNOWN).token else self._secrets

    def _refused(
        self,
        caller: Caller,
        route: Route | None,
        status: int,
        response: web.StreamResponse,
        *,
        now: float,
    ) -> None:
        # neither a path nor a method that does not exist is shown: it may say anything
        what = "another request" if route is None else f"{route.method} {route.path}"
        kind = (status, what, Caller(network_of(caller.address), caller.token))
        self._publish(self._tally.end(now=now))
        if self._tally.note(kind, instead=(status, what, UNKNOWN), now=now):
            reason = _reason_of(response) if response.status >= 400 else "a wrong token"
            self._events.publish(RequestRefused(caller, what, status, reason))
        if self._timer is None:
            self._wait()

    def _publish(self, counted: Iterable[tuple[_Kind, int]]) -> None:
        for (status, what, caller), count in counted:
            self._events.publish(RequestRefused(caller, what, status, "", count))

    def _wait(self) -> None:
        """Tell of further requests when their minute is over."""
        ends = self._tally.next_end
        self._timer = None
        if ends is not None:
            self._timer = asyncio.get_running_loop().call_at(ends, self._minute_over)

    def _minute_over(self) -> None:
        self._publish(self._tally.end(now=asyncio.get_running_loop().time()))
        self._wait()


def _too_many(request: web.Request, wait_s: float) -> web.Response:
    seconds = math.ceil(wait_s)
    text = f"too many wrong tokens came from this address; try again in {seconds} s"
    return answer_refusal(request, 429, text, {hdrs.RETRY_AFTER: str(seconds)})


def _reason_of(response: web.StreamResponse) -> str:
    """Return the reason in an answer of this server or of another node."""
    body = response.body if isinstance(response, web.Response) else None
    try:
        found = json.loads(body) if isinstance(body, bytes) else {}
        return str(found.get("error") or found.get("detail") or "")
    except (ValueError, AttributeError):
        return ""
