"""Messages to the speaker of a session: text that its client shows."""

from __future__ import annotations

import datetime
import unicodedata
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from domain.errors import MessageInvalid

MAX_CHARACTERS = 500
MAX_KEPT = 20
"""Messages that are kept for a client that is away."""
MAX_LISTENERS = 2
"""A client that comes back may do so before it is clear that it was gone."""
_CONTROLS = {"Cc", "Cs", "Zl", "Zp"}
"""Control characters, halves of surrogate pairs, separators of lines and paragraphs."""


@dataclass(frozen=True, slots=True)
class Message:
    """One message."""

    number: int
    """Later messages have larger ones, also after the server was restarted."""
    text: str
    at: datetime.datetime
    """UTC, when it was sent."""


class Listener:
    """Waits for messages."""

    def __init__(self, wake: Callable[[], None]) -> None:
        """`wake` is called when there may be a message, or when the listener `is_over`."""
        self.wake = wake
        self.is_over = False
        """Whether no messages come any more: the session is over, or others listen instead."""


class Mailbox:
    """The latest messages of a session, and who listens to them."""

    def __init__(self) -> None:
        self._messages: deque[Message] = deque(maxlen=MAX_KEPT)
        self._listeners: list[Listener] = []  # oldest first
        self._is_closed = False

    @property
    def listeners(self) -> int:
        """How many listen now."""
        return len(self._listeners)

    def put(self, text: str, *, at: datetime.datetime) -> Message:
        """Add a message, for those who listen, and for those who come later.

        Raises `MessageInvalid` if it is empty, too long, or has control characters.
        """
        check_text(text)
        number = round(at.timestamp() * 1000)
        if self._messages:
            number = max(number, self._messages[-1].number + 1)
        message = Message(number, text, at)
        self._messages.append(message)
        for listener in self._listeners:
            listener.wake()
        return message

    def after(self, number: int) -> Sequence[Message]:
        """Return the messages that are kept and have a larger number, in order."""
        return [message for message in self._messages if message.number > number]

    def listen(self, wake: Callable[[], None]) -> Listener:
        """Add a listener. If there are too many, the oldest one is over."""
        listener = Listener(wake)
        listener.is_over = self._is_closed
        if not self._is_closed:
            self._listeners.append(listener)
        for earlier in self._listeners[:-MAX_LISTENERS]:
            self._end(earlier)
        return listener

    def leave(self, listener: Listener) -> None:
        """Remove a listener; one that is over is ignored."""
        if listener in self._listeners:
            self._listeners.remove(listener)

    def close(self) -> None:
        """End all listeners: the session is over."""
        self._is_closed = True
        for listener in list(self._listeners):
            self._end(listener)

    def _end(self, listener: Listener) -> None:
        self._listeners.remove(listener)
        listener.is_over = True
        listener.wake()


def in_one_line(text: str) -> str:
    """Return a text with spaces in place of control characters and line breaks, and no others
    than single ones between words.
    """
    shown = (" " if unicodedata.category(sign) in _CONTROLS else sign for sign in text)
    return " ".join("".join(shown).split())


def check_text(text: str) -> None:
    """Raise `MessageInvalid` unless a text can be a message."""
    if not text.strip():
        raise MessageInvalid("a message needs some text")
    if len(text) > MAX_CHARACTERS:
        raise MessageInvalid(f"a message has at most {MAX_CHARACTERS} characters")
    if any(unicodedata.category(character) in _CONTROLS for character in text):
        raise MessageInvalid("a message is one line, without control characters")
