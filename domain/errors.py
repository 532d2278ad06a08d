"""All errors that Gapless raises on purpose; the class of an error says who is at fault.

Adapters map the class to an answer for the peer, entry points map it to an exit code.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence


class GaplessError(Exception):
    """An error whose message tells a user in one line what went wrong."""


# -- the person at this machine ---------------------------------------------------------------


class SettingInvalid(GaplessError):
    """The value of a setting is invalid.

    `name` is the setting; `origin` is where the value came from (a flag, a variable, a file).
    """

    def __init__(self, name: str, problem: str, *, origin: str | None = None) -> None:
        self.name, self.problem, self.origin = name, problem, origin
        super().__init__(f"{name}: {problem}" + (f" (from {origin})" if origin else ""))


# -- the microphone -----------------------------------------------------------------------------


class CaptureError(GaplessError):
    """The sound source cannot deliver."""


class BackendMissing(CaptureError):
    """The library behind a capture backend is not installed; the message says how to get it."""


class NoSuchDevice(CaptureError):
    """There is no input device of that name or number."""

    def __init__(self, wanted: str | None, available: Sequence[str]) -> None:
        what = f"no input device {wanted!r}" if wanted else "no default input device"
        listing = (
            "; there are: " + ", ".join(available) if available else "; no input devices were found"
        )
        super().__init__(what + listing)


class DeviceUnusable(CaptureError):
    """The device exists but cannot be opened: it is busy, or it refuses the format."""


class DeviceLost(CaptureError):
    """The device went away while it was recording."""


class DeviceUncertain(CaptureError):
    """There are devices that may or may not be the wanted one; none of them is opened."""


class DriverBusy(CaptureError):
    """A call into the audio driver has not returned; no other call is made before it does."""


class InputUnreadable(CaptureError):
    """The input file is missing or holds no audio."""


# -- the loudspeaker, or what takes its place ----------------------------------------------------


class PlaybackFailed(GaplessError):
    """Sound cannot be played or written where it should be."""


# -- sound --------------------------------------------------------------------------------------


class FrameUnsupported(GaplessError):
    """An audio frame has a layout for which there is no conversion; the message names it."""


class PayloadInvalid(GaplessError):
    """A codec refused a payload. It costs that payload only."""


class PacketInvalid(GaplessError):
    """The bytes are not a valid RTP packet."""


class CodecUnavailable(GaplessError):
    """The library that implements a codec cannot be loaded."""


# -- the peer -----------------------------------------------------------------------------------


class PeerError(GaplessError):
    """A peer's request cannot be served; the peer is told why."""


class OfferRejected(PeerError):
    """The offer cannot be answered: empty, malformed, without audio, fingerprint or codec."""


class CandidateRejected(PeerError):
    """The ICE candidate cannot be read."""


class Unauthorized(PeerError):
    """The bearer token is missing or wrong."""


class NotAllowed(PeerError):
    """The bearer token is right, but it lacks the role that the request needs."""


class GrantInvalid(PeerError):
    """A token cannot allow what it should: its claims are wrong, or exclude each other."""


class SessionUnknown(PeerError):
    """There is no such session, or it is over."""


class SessionCutOff(PeerError):
    """The session has passed a limit of the server, which has ended it; its recording is whole."""


class ServerFull(PeerError):
    """The server has as many sessions as it is allowed to have, or is going down."""


class TooManyRequests(PeerError):
    """The caller has reached a limit that others have not."""

    def __init__(self, message: str, *, retry_after_s: float = 1.0) -> None:
        """`retry_after_s` is when the same request may succeed."""
        self.retry_after_s = retry_after_s
        super().__init__(message)


class OfferRepeated(PeerError):
    """The offer was answered before, and its answer is not given again."""


class NodeUnavailable(PeerError):
    """The node of this server that has the session does not answer at the moment."""


class StorageFull(PeerError):
    """There is no room for another recording."""


class RecordingIncomplete(PeerError):
    """The session is over, but its recording could not be completed."""


class RecordingUnknown(PeerError):
    """There is no such recording."""


class RecordingLive(PeerError):
    """The recording is still being written, and cannot be removed."""


class PeaksPending(PeerError):
    """The peaks of a recording are being made; the same request will succeed."""


class PeaksUnavailable(PeerError):
    """The peaks of a recording cannot be made."""


class QueryInvalid(PeerError):
    """A query for recordings cannot be understood."""


class MessageInvalid(PeerError):
    """A message to a speaker cannot be shown as it is."""


class PieceInvalid(PeerError):
    """A piece of captured sound is not what it should be; nothing of it was kept."""


class CapturedInvalid(PeerError):
    """What a client says that it has captured cannot be true, or is not what it has sent."""


class NoRelay(PeerError):
    """Media has to go through a TURN server, but none can be used."""


class ServerUnreachable(GaplessError):
    """No server answers at the address."""


class WrongServer(ServerUnreachable):
    """Another server than Gapless answers at the address."""


class SessionOver(GaplessError):
    """The server has ended the session and told the client."""


class Refusal(enum.Enum):
    """Whether it makes sense to repeat a request that was refused."""

    FINAL = "final"
    """The server itself has refused, and would refuse again."""
    TEMPORARY = "temporary"
    """The server, or a gateway before it, is busy or full: the same request may work later."""
    UNCLEAR = "unclear"
    """The answer may come from another than the server, such as a captive portal."""


class ServerRefused(GaplessError):
    """A request was refused; the message has the reason that the server gave."""

    def __init__(
        self, refusal: Refusal, message: str, *, retry_after_s: float | None = None
    ) -> None:
        """`retry_after_s` is how long the server wants this client to wait, if it says so."""
        self.refusal = refusal
        self.retry_after_s = retry_after_s
        super().__init__(message)


class ConnectionFailed(GaplessError):
    """The media path could not be established."""


class NoMediaPath(ConnectionFailed):
    """The server answers, but no packet gets through to it."""

    def __init__(self, detail: str) -> None:
        """`detail` says which attempt failed."""
        super().__init__(
            f"no media path {detail}; where UDP is blocked, a TURN server over TCP or TLS is needed"
        )


class EndUnconfirmed(GaplessError):
    """The server could not be asked whether the recording is complete."""


class PortInUse(GaplessError):
    """Another program listens on the address."""


# -- the store ----------------------------------------------------------------------------------


class StorageFailed(GaplessError):
    """A recording cannot be written."""


class RecordingRemoved(StorageFailed):
    """A recording was removed, with all that was kept for it."""


class SoundKept(GaplessError):
    """The server does not have all that was captured; it is kept in the client's spool."""


class SpoolFailed(GaplessError):
    """Captured sound cannot be kept on the client's disk, or not be read from it."""
