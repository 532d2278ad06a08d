"""Grants: what a signed token allows its bearer."""

from __future__ import annotations

from collections.abc import Set
from dataclasses import dataclass

from domain.errors import GrantInvalid, NotAllowed
from domain.session.roles import Role
from domain.session.rooms import read_room, room_key

MAX_TEXT_CHARACTERS = 200
"""Of a name, and of what logs call the bearer."""
MAX_ID_CHARACTERS = 64
MAX_EXPIRES_S = 10 * 366 * 86_400.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Grant:
    """What one token allows. Its times are in seconds since 1970.

    A token that is limited to a name, to a room or to one session may publish and nothing else:
    another role would not know these limits.
    """

    roles: frozenset[Role]
    id: str = ""
    """By which it is revoked; empty if its issuer has given it none."""
    subject: str = ""
    """What logs call its bearer."""
    name: str | None = None
    """The only name that its sessions may have."""
    room: str | None = None
    """The only room that its sessions may be in."""
    once: bool = False
    """Whether it opens one session only. That one may be resumed by its own secret."""
    issued_at: float | None = None
    begins_at: float | None = None
    expires_at: float | None = None

    def __post_init__(self) -> None:
        """Raises `GrantInvalid`."""
        if not self.roles:
            raise GrantInvalid("a token needs a role")
        if self.roles != {Role.PUBLISH} and (self.is_limited or self.once):
            raise GrantInvalid("only a token with the role 'publish' has a name, a room, or once")
        if self.once and not self.id:
            raise GrantInvalid("a token that opens one session only needs an id")
        _check_text("id", self.id, MAX_ID_CHARACTERS)
        _check_text("sub", self.subject)
        _check_text("name", self.name)
        # a room that nobody could name in an offer could not be read back from a journal, either
        try:
            read_room(self.room)
        except ValueError as error:
            raise GrantInvalid(str(error)) from error
        if self.name == "" or self.room == "":
            raise GrantInvalid("name and room must not be empty")

    @property
    def is_limited(self) -> bool:
        """Whether its sessions are limited to a name or a room."""
        return self.name is not None or self.room is not None

    @property
    def label(self) -> str:
        """What events and logs call the token; no two tokens with an id share it."""
        return f"{self.subject} ({self.id or 'no id'})".lstrip()

    def is_valid(self, *, now: float) -> bool:
        """Return whether it has begun, and has not expired."""
        has_begun = self.begins_at is None or now >= self.begins_at
        return has_begun and (self.expires_at is None or now < self.expires_at)

    def name_for(self, given: str) -> str:
        """Return the name of a session, given the one asked for. Raises `NotAllowed`."""
        return _one_of("name", given, self.name)

    def room_for(self, given: str) -> str:
        """Return the room of a session, given the one asked for. Raises `NotAllowed`."""
        if self.room is not None and room_key(given) == room_key(self.room):
            return self.room
        return _one_of("room", given, self.room)


def roles_named(names: Set[str]) -> frozenset[Role]:
    """Return roles by their names. Raises `GrantInvalid`."""
    try:
        return frozenset(Role(name) for name in names)
    except ValueError as error:
        known = ", ".join(role.value for role in Role)
        raise GrantInvalid(f"the roles are {known}") from error


def _one_of(what: str, given: str, allowed: str | None) -> str:
    if allowed is None:
        return given
    if given not in ("", allowed):
        raise NotAllowed(f"this token is for another {what}")
    return allowed


def _check_text(what: str, text: str | None, longest: int = MAX_TEXT_CHARACTERS) -> None:
    if text is None:
        return
    try:
        text.encode()
    except UnicodeEncodeError:
        raise GrantInvalid(f"{what} has to be Unicode") from None
    if len(text) > longest:
        raise GrantInvalid(f"{what} has at most {longest} characters")
