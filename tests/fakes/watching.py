from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from domain.session.session import SessionState
from domain.session.status import ChannelLevel, SessionStatus, TrackStatus
from tests.fakes.time import EPOCH


class FakeStatuses:
    """Takes the place of what knows the sessions."""

    def __init__(self, *statuses: SessionStatus) -> None:
        self.of_sessions: Sequence[SessionStatus] = statuses
        self.asked: list[Mapping[str, SessionStatus]] = []

    def statuses(self, since: Mapping[str, SessionStatus] | None = None) -> Sequence[SessionStatus]:
        self.asked.append(since or {})
        return self.of_sessions


def status_of(session_id: str, *, rms_dbfs: float = -20.0, **known: Any) -> SessionStatus:
    """Return a session that records one track with one channel."""
    level = ChannelLevel(peak_dbfs=rms_dbfs if rms_dbfs == -math.inf else rms_dbfs + 10.0,
                         rms_dbfs=rms_dbfs)  # fmt: skip
    track = TrackStatus(number=1, recording=session_id, levels=(level,), length=48_000)
    values: dict[str, Any] = {
        "state": SessionState.RECORDING, "waits_for": None, "tracks": (track,),
    }  # fmt: skip
    return SessionStatus(id=session_id, name="Ana", opened_at=EPOCH, **(values | known))
