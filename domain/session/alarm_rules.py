"""Rules for sessions and tracks: when an alarm begins, when it ends, and what it says."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence

from domain.session.alarm_kinds import AlarmKind, AlarmLevel, AlarmThresholds, Latch
from domain.session.session import SessionState
from domain.session.status import SessionStatus, TrackStatus

CRITICAL_LOSS = 5.0
"""A loss of this many times the threshold is critical."""
FULL_CLOCK_S = 10.0
"""How long the clock has to be wrong: its first estimates may be."""
CLEAR_DB = 6.0
"""By how much sound has to be louder than the threshold to end an alarm."""
CLEAR_LOSS = 0.5
CLEAR_CLOCK = 0.8
"""How far beyond its threshold a value has to return before its alarm ends."""
SOUND_S, ARRIVING_S, STORAGE_CLEAR_S = 1.0, 2.0, 5.0
"""How long it has to be right before the alarm ends."""
LOSS_WINDOW_S, LOSS_STEP_S = 60.0, 5.0
LEAST_PACKETS = 50
"""Of the last minute; of fewer packets, no share is known."""


def nothing_arrives(
    latch: Latch, status: SessionStatus, limits: AlarmThresholds, *, now: float, step: float
) -> bool:
    """Watch whether a session that has a media path, or had one, receives packets.

    A session that connects has a deadline of its own.
    """
    silent_s = status.silent_s
    if (
        silent_s >= limits.nothing_s > 0
        and status.state is not SessionState.CONNECTING
        and status.state is not SessionState.ENDED
    ):
        return latch.wrong(
            f"nothing has arrived for {limits.nothing_s:g} s",
            now=now,
            step=step,
            began=now - silent_s,
            level=AlarmLevel.CRITICAL,
        )
    if latch.is_idle:
        return False
    return latch.right(step=step, after_s=ARRIVING_S)


class TrackRules:
    """The alarms of one track."""

    __slots__ = (
        "_channel", "_clipped", "_clipping", "_clips", "_clock", "_limits", "_loss", "_packets",
        "_packets_due", "_restoring", "_silence", "_stall", "_stalled_at", "_stalls", "_storage",
        "_wanted",
    )  # fmt: skip

    def __init__(self, limits: AlarmThresholds) -> None:
        self._limits = limits
        self._silence = Latch(AlarmKind.SILENCE)
        self._clipping = Latch(AlarmKind.CLIPPING)
        self._channel = Latch(AlarmKind.WRONG_CHANNEL)
        self._loss = Latch(AlarmKind.LOSS)
        self._stall = Latch(AlarmKind.STALL)
        self._clock = Latch(AlarmKind.CLOCK)
        self._restoring = Latch(AlarmKind.RESTORING)
        self._storage = Latch(AlarmKind.STORAGE)
        self._clips: deque[tuple[float, int]] = deque()
        self._clipped = 0
        self._packets: deque[tuple[int, int]] = deque(maxlen=int(LOSS_WINDOW_S / LOSS_STEP_S) + 1)
        """Lost and expected packets, every `LOSS_STEP_S` of the last minute."""
        self._packets_due = -math.inf
        self._stalls: int | None = None
        self._stalled_at = -math.inf
        self._wanted = 0

    def latches(self) -> Sequence[Latch]:
        return (
            self._silence, self._clipping, self._channel, self._loss, self._stall, self._clock,
            self._restoring, self._storage,
        )  # fmt: skip

    def observe(
        self, status: SessionStatus, track: TrackStatus, *, now: float, step: float
    ) -> Sequence[Latch]:
        """Return the latches that change."""
        changed: list[Latch] = []
        if status.state is SessionState.RECORDING:
            if track.levels:
                self._hear(track, changed, now=now, step=step)
        else:  # nothing is heard: `nothing_arrives` tells
            self._clips.clear()
            self._clipped = 0
            changed += (
                latch
                for latch in (self._silence, self._channel, self._clipping)
                if not latch.is_idle and latch.right(step=step)
            )
        if now >= self._packets_due:
            self._packets_due = now + LOSS_STEP_S
            self._count(track, changed, now=now)
        self._watch_sender(status, track, changed, now=now, step=step)
        if track.fault is not None:
            text = f"the recording cannot be written: {track.fault}"
            if self._storage.wrong(text, now=now, step=step, level=AlarmLevel.CRITICAL):
                changed.append(self._storage)
        elif not self._storage.is_idle and self._storage.right(step=step, after_s=STORAGE_CLEAR_S):
            changed.append(self._storage)
        return changed

    def _hear(self, track: TrackStatus, changed: list[Latch], *, now: float, step: float) -> None:
        """Watch the levels of the channels."""
        limits, levels = self._limits, track.levels
        loudest = quietest = levels[0].rms_dbfs
        clipped = levels[0].clipped
        for level in levels[1:]:
            rms = level.rms_dbfs
            loudest, quietest = max(loudest, rms), min(quietest, rms)
            clipped += level.clipped
        threshold = limits.silence_dbfs
        if loudest < threshold:
            text = f"no sound above {threshold:g} dBFS for {limits.silence_s:g} s"
            if limits.silence_s and self._silence.wrong(
                text, now=now, step=step, after_s=limits.silence_s
            ):
                changed.append(self._silence)
        elif (
            not self._silence.is_idle
            and (self._silence.level is None or loudest >= threshold + CLEAR_DB)
            and self._silence.right(step=step, after_s=SOUND_S)
        ):
            changed.append(self._silence)
        if len(levels) == 2 and limits.channel_s:
            if quietest < threshold:
                if loudest >= threshold + CLEAR_DB and self._channel.wrong(
                    _one_channel(track, limits), now=now, step=step, after_s=limits.channel_s
                ):
                    changed.append(self._channel)
            elif (
                not self._channel.is_idle
                and (self._channel.level is None or quietest >= threshold + CLEAR_DB)
                and self._channel.right(step=step, after_s=SOUND_S)
            ):
                changed.append(self._channel)
        elif not self._channel.is_idle and self._channel.right(step=step, after_s=SOUND_S):
            changed.append(self._channel)  # the format has changed
        if clipped or self._clips:
            self._clip(clipped, changed, now=now, step=step)

    def _clip(self, clipped: int, changed: list[Latch], *, now: float, step: float) -> None:
        """Watch how many samples were clipped; the alarm ends when none were in the window."""
        limits, clips = self._limits, self._clips
        if clipped:
            clips.append((now, clipped))
            self._clipped += clipped
        while clips and now - clips[0][0] >= limits.clipped_s:
            self._clipped -= clips.popleft()[1]
        if self._clipped > limits.clipped_samples > 0:
            text = f"more than {limits.clipped_samples} samples clipped in {limits.clipped_s:g} s"
            if self._clipping.wrong(text, now=now, step=step, began=clips[0][0]):
                changed.append(self._clipping)
        elif not clips and not self._clipping.is_idle and self._clipping.right(step=step):
            changed.append(self._clipping)

    def _count(self, track: TrackStatus, changed: list[Latch], *, now: float) -> None:
        """Watch the share of the packets of the last minute that are lost."""
        limits, packets = self._limits, self._packets
        if packets and (track.expected < packets[-1][1] or track.lost < packets[-1][0]):
            packets.clear()  # they are counted anew
        packets.append((track.lost, track.expected))
        expected = track.expected - packets[0][1]
        if not limits.loss_percent:
            return
        if expected >= LEAST_PACKETS:
            percent = 100.0 * (track.lost - packets[0][0]) / expected
        elif len(packets) == packets.maxlen:
            percent = 0.0
        else:
            return
        if percent >= limits.loss_percent:
            is_critical = percent >= limits.loss_percent * CRITICAL_LOSS
            if self._loss.wrong(
                f"{percent:.1f} % of the packets of the last minute are lost",
                now=now,
                step=0.0,
                level=AlarmLevel.CRITICAL if is_critical else AlarmLevel.WARNING,
            ):
                changed.append(self._loss)
        elif (
            percent < limits.loss_percent * CLEAR_LOSS
            and not self._loss.is_idle
            and self._loss.right(step=0.0)
        ):
            changed.append(self._loss)

    def _watch_sender(
        self,
        status: SessionStatus,
        track: TrackStatus,
        changed: list[Latch],
        *,
        now: float,
        step: float,
    ) -> None:
        """Watch what the client does: captures, counts, and sends what is still wanted."""
        limits = self._limits
        if track.stalls != self._stalls:
            if self._stalls is not None and track.stalls > self._stalls:
                self._stalled_at = now
            self._stalls = track.stalls
        if now - self._stalled_at < limits.stall_s:
            if self._stall.wrong("the sender captured nothing for a time", now=now, step=step):
                changed.append(self._stall)
        elif not self._stall.is_idle and self._stall.right(step=step):
            changed.append(self._stall)

        ppm = track.clock_ppm
        if ppm is not None and limits.clock_ppm:
            if abs(ppm) >= limits.clock_ppm:
                text = (
                    f"the sender's clock is {abs(ppm):.0f} ppm too {'fast' if ppm > 0 else 'slow'}"
                )
                if self._clock.wrong(text, now=now, step=step, after_s=FULL_CLOCK_S):
                    changed.append(self._clock)
            elif (
                not self._clock.is_idle
                and (self._clock.level is None or abs(ppm) < limits.clock_ppm * CLEAR_CLOCK)
                and self._clock.right(step=step, after_s=FULL_CLOCK_S)
            ):
                changed.append(self._clock)

        has_fallen = track.wanted < self._wanted
        self._wanted = track.wanted
        if not track.wanted or has_fallen:
            if not self._restoring.is_idle and self._restoring.right(step=step):
                changed.append(self._restoring)
        elif status.state is SessionState.RECORDING and limits.restoring_s:
            text = f"nothing of what is wanted was restored for {limits.restoring_s:g} s"
            if self._restoring.wrong(text, now=now, step=step, after_s=limits.restoring_s):
                changed.append(self._restoring)


def _one_channel(track: TrackStatus, limits: AlarmThresholds) -> str:
    left, right = track.levels
    name = "left" if left.rms_dbfs < right.rms_dbfs else "right"
    return f"the {name} channel has no sound above {limits.silence_dbfs:g} dBFS, the other one has"
