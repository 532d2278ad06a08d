"""Messages to the speaker of a session: who sends them, and how its client gets them."""

from __future__ import annotations

import asyncio
import datetime
import json
from collections.abc import Callable, Sequence

from aiohttp import web

from adapters.http.bodies import JSON, read_json
from adapters.http.connections import HttpConnection
from adapters.http.operations import Content, Operation, Schema
from adapters.http.routes import SECRET, Route, key_in_path
from adapters.http.sse import HEADERS, HEARTBEAT, HEARTBEAT_S, LAST_EVENT_ID, encode
from domain.errors import MessageInvalid, SessionUnknown, Unauthorized
from domain.services.server.sessions import SessionService
from domain.session.messages import MAX_CHARACTERS, Mailbox
from domain.session.roles import Role

EVENT = "message"
MESSAGE: Schema = {
    "title": "Message",
    "type": "object",
    "properties": {
        "text": {
            "type": "string",
            "minLength": 1,
            "maxLength": MAX_CHARACTERS,
            "description": "One line, without control characters.",
        }
    },
    "required": ["text"],
    "additionalProperties": False,
}
SENT_MESSAGE: Schema = {
    "title": "SentMessage",
    "type": "object",
    "properties": {
        "id": {"type": "string"},
        "listeners": {
            "type": "integer",
            "minimum": 0,
            "description": "How many clients get it now. A client that comes later gets it, too, "
            "while the session lasts.",
        },
    },
    "required": ["id", "listeners"],
    "additionalProperties": False,
}


class MessageHandlers:
    """Takes messages from administrators, and streams them to the session's client."""

    def __init__(self, service: SessionService, *, utc: Callable[[], datetime.datetime]) -> None:
        self._service = service
        self._utc = utc

    def routes(self) -> Sequence[Route]:
        send = Operation(
            name="sendMessage",
            tag="sessions",
            summary="Show the speaker of a session a message",
            body=Content(schema=MESSAGE),
            answers={202: Content(text="The message waits for its client.", schema=SENT_MESSAGE)},
            problems=[400, 404, 415],
        )
        return [
            Route(
                "POST", "/api/sessions/{id}/messages", self._send, Role.ADMIN, JSON,
                session_key=key_in_path, operation=send,
            ),
            Route(
                "GET", "/sessions/{id}/messages", self._stream, None,
                session_key=key_in_path, secret_only=True, is_streamed=True,
            ),
        ]  # fmt: skip

    async def _send(self, request: web.Request) -> web.StreamResponse:
        text = (await read_json(request)).get("text")
        if not isinstance(text, str):
            raise MessageInvalid('a message is {"text": "…"}')
        mailbox = self._service.mailbox_of(request.match_info["id"])
        message = mailbox.put(text, at=self._utc())
        body = {"id": str(message.number), "listeners": mailbox.listeners}
        return web.json_response(body, status=202)

    async def _stream(self, request: web.Request) -> web.StreamResponse:
        """Stream the messages behind the one that the client has got last, until the end."""
        mailbox = self._mailbox_opened_by(request)
        latest = request.headers.get(LAST_EVENT_ID, "")
        after = int(latest) if latest.isascii() and latest.isdigit() and len(latest) < 20 else 0
        response = web.StreamResponse(headers=HEADERS)
        await response.prepare(request)
        if request.method != "GET":
            return response
        woken = asyncio.Event()
        listener = mailbox.listen(woken.set)
        try:
            await response.write(HEARTBEAT)
            while True:
                woken.clear()
                for message in mailbox.after(after):
                    after = message.number
                    data = json.dumps({"text": message.text, "at": message.at.isoformat()})
                    await response.write(encode(EVENT, data, str(message.number)))
                if listener.is_over:
                    return response
                if isinstance(request.protocol, HttpConnection):
                    request.protocol.may_give_way()
                try:
                    async with asyncio.timeout(HEARTBEAT_S):
                        await woken.wait()
                except TimeoutError:
                    await response.write(HEARTBEAT)
        except ConnectionError:  # the client has gone
            return response
        finally:
            mailbox.leave(listener)

    def _mailbox_opened_by(self, request: web.Request) -> Mailbox:
        """Return the messages of the session whose secret a request has; raise for strangers."""
        session_id = request.match_info["id"]
        try:
            if self._service.session_of(request[SECRET]) == session_id:
                return self._service.mailbox_of(session_id)
        except SessionUnknown:
            pass
        raise Unauthorized(
            "the bearer token is not the secret of this session, or the session is over"
        )
