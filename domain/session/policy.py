"""Limits and deadlines of sessions."""

from __future__ import annotations

from dataclasses import dataclass, field

from domain.session.limits import SessionLimits


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionPolicy:
    """Limits and deadlines of a server's sessions."""

    max_sessions: int = 500
    max_unproven: int = 40
    """Sessions of one address that have no media path yet; thirty people behind one router may
    begin at the same moment."""
    offers_per_minute: int = 60
    """Sessions that one address may open in a minute, all of them at once."""
    is_local: bool = False
    """Whether only this machine reaches the server: its own address is not limited then."""
    connect_timeout_s: float = 15.0
    """A session without a media path is dropped after this."""
    inactivity_timeout_s: float = 30.0
    """A session without packets ends after this."""
    reorder_hold_s: float = 1.0
    """How long packets wait for the ones before them. Nobody listens to a recording while it is
    written, so that packets which are late or sent again have time to come."""
    max_gap_s: float = 60.0
    """The longest silence that is filled in when timestamps jump."""
    max_fill_s: float = 86_400.0
    """The longest silence that is filled in when only the clock tells how long it was.

    A track may be silent for hours while another one keeps its session alive.
    """
    limits: SessionLimits = field(default_factory=SessionLimits)
    keep_packets: bool = False
    """Whether Opus packets are stored as they arrive instead of being decoded."""

    @property
    def longest_gap_s(self) -> float:
        """The longest silence in a recording.

        A session may be without packets for the inactivity time-out; that silence is real.
        """
        return self.max_gap_s + self.inactivity_timeout_s
