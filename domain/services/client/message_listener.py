"""Listens for messages to the speaker, beside the stream and without an effect on it."""

from __future__ import annotations

from collections.abc import Callable

from domain.errors import Refusal, ServerRefused, ServerUnreachable
from domain.events.client import MessageReceived
from domain.ports.clock import Clock, Spawner, Work
from domain.ports.events import EventPublisher
from domain.ports.messages import MessageClient
from domain.services.client.retrying import delay_s
from domain.session.backoff import Backoff


class MessageListener:
    """Listens while there is a session, and publishes each message once.

    When it is cut off, it tries again after a while. It ends when the server refuses: the session
    is over, or the server is too old to have messages.
    """

    def __init__(
        self,
        *,
        client: MessageClient,
        clock: Clock,
        spawner: Spawner,
        events: EventPublisher,
        random: Callable[[], float],
    ) -> None:
        self._client = client
        self._clock = clock
        self._spawner = spawner
        self._events = events
        self._backoff = Backoff(random)
        self._listening: Work | None = None

    def begin(self, session_id: str, secret: str) -> None:
        """Listen in the background; `secret` opens the session."""
        earlier = self._listening
        self._listening = self._spawner.spawn(
            self._listen(session_id, secret, earlier), name="listen for messages"
        )

    async def close(self) -> None:
        """Listen no more."""
        if self._listening is not None:
            await self._listening.cancel()
        await self._client.close()

    async def _listen(self, session_id: str, secret: str, earlier: Work | None) -> None:
        if earlier is not None:
            await earlier.cancel()
        latest = ""
        while True:
            delay = None
            try:
                async for message in self._client.listen(session_id, secret, after=latest):
                    latest = message.id
                    self._backoff.reset()
                    self._events.publish(MessageReceived(message.text))
            except (ServerUnreachable, ServerRefused) as error:
                if isinstance(error, ServerRefused) and error.refusal is Refusal.FINAL:
                    return
                delay = delay_s(error, self._backoff)
            await self._clock.sleep(self._backoff.next_delay_s() if delay is None else delay)
