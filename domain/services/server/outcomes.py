"""The outcomes of sessions that have ended, kept for a while."""

from __future__ import annotations

from dataclasses import dataclass

from domain.errors import RecordingIncomplete, SessionCutOff

KEPT_S = 60.0
"""How long the outcome of a session is kept after its end."""


@dataclass(slots=True)
class Outcome:
    """The result of completing a session's recordings."""

    resume_digest: str
    seconds: float = 0.0
    """Length of the longest recording."""
    failure: Exception | None = None
    """The first failure."""
    limit: str | None = None
    """The limit of the server that ended the session, if one did."""
    until: float = 0.0
    """When the outcome is forgotten, in monotonic seconds."""


class Outcomes:
    """Outcomes by session id."""

    def __init__(self) -> None:
        self._outcomes: dict[str, Outcome] = {}

    def __contains__(self, session_id: str) -> bool:
        return session_id in self._outcomes

    def keep(self, session_id: str, outcome: Outcome, *, now: float) -> None:
        """Keep an outcome for `KEPT_S`."""
        outcome.until = now + KEPT_S
        self._outcomes[session_id] = outcome

    def seconds(self, session_id: str) -> float:
        """Return the length of a session's longest recording.

        Raises `RecordingIncomplete`, or `SessionCutOff` if a limit of the server ended the session.
        """
        outcome = self._outcomes[session_id]
        if outcome.failure is not None:
            raise RecordingIncomplete(f"the recording could not be completed: {outcome.failure}")
        if outcome.limit is not None:
            raise SessionCutOff(f"the server has ended the session: {outcome.limit}")
        return outcome.seconds

    def expire(self, *, now: float) -> list[str]:
        """Forget old outcomes; return the digests of their sessions' secrets."""
        old = [key for key, outcome in self._outcomes.items() if now >= outcome.until]
        return [self._outcomes.pop(key).resume_digest for key in old]
