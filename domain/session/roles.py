"""Roles: what the bearer of a token may do."""

from __future__ import annotations

import enum
from collections.abc import Set
from dataclasses import dataclass, field


class Role(enum.Enum):
    """One kind of permission."""

    PUBLISH = "publish"
    """Open sessions, and change and end those whose secret the bearer has."""
    WATCH = "watch"
    """See sessions and recordings."""
    ADMIN = "admin"
    """Everything, including to end any session: administrators need no other role."""


ALL_ROLES = frozenset(Role)
SHARED_TOKEN_ROLES = ALL_ROLES - {Role.ADMIN}
"""The roles of the token that all clients of a server share."""


@dataclass(frozen=True, slots=True)
class Token:
    """What a bearer shows to have roles."""

    name: str
    """What events and logs call it."""
    text: str = field(repr=False)
    roles: frozenset[Role]


def is_allowed(roles: Set[Role], needed: Role) -> bool:
    """Return whether these roles include the needed one."""
    return needed in roles or Role.ADMIN in roles
