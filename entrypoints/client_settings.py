"""Declares every setting of the client once, as `settings` does for the server."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import parse_qs

from domain.errors import SettingInvalid
from domain.session.fingerprints import parse_fingerprint
from domain.session.ice import IceServer
from domain.session.rooms import read_room
from entrypoints.declaring import OptionalFolder, check_limits, check_turn_credentials, setting

USERS_STATE = OptionalFolder()
"""Stands for a folder in the user's state folder."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientSettings:
    """Settings of `gapless stream`."""

    server: str = setting(
        "http://127.0.0.1:8080", "Address of the server, or the link of an invitation."
    )
    capture: str = setting(
        "sounddevice",
        "Where the sound comes from.",
        choices=("sounddevice", "pyaudio", "file", "tone"),
    )
    device: str | None = setting(None, "Name or number of the input device; see `gapless devices`.")
    input: str | None = setting(None, "File to stream with --capture file.")
    rate: int = setting(48_000, "Sample rate of the capture in Hz.", low=8_000, high=384_000)
    depth: int = setting(16, "Bits per sample of the capture.", choices=(16, 24))
    channels: int = setting(
        1,
        "Channels to capture; the live stream has the first two at most.",
        low=1,
        high=8,
    )
    duration: float | None = setting(None, "Stop after this many seconds.", low=0.02)
    name: str = setting("", "Name of the recording.")
    room: str = setting("", "Room: a name that streams share that belong together.")
    token: str | None = setting(None, "Token to send to the server.", is_secret=True)
    fingerprint: str | None = setting(
        None,
        "SHA-256 fingerprint of the server's certificate, as AA:BB:…; then that certificate is "
        "accepted, and no other.",
    )
    bitrate: int = setting(64_000, "Opus bit rate in bit/s.", low=6_000, high=510_000)
    complexity: int = setting(
        6, "Opus complexity, from 0 (least CPU) to 10 (best quality).", low=0, high=10
    )
    fec: bool = setting(True, "Repeat each frame in the next packet at lower quality (Opus FEC).")
    expected_loss: int = setting(
        10, "Packet loss that FEC should cope with, in percent.", low=0, high=100
    )
    dtx: bool = setting(False, "Send almost nothing during silence (DTX).")
    application: str = setting(
        "voip", "What Opus is tuned for.", choices=("voip", "audio", "lowdelay")
    )
    queue_s: float = setting(
        30.0, "How much captured sound may wait for the encoder.", low=0.1, high=60
    )
    spool: OptionalFolder | None = setting(  # noqa: RUF009 (it is a dataclass field)
        USERS_STATE,
        "Folder in which captured sound is kept until the server has it; by default in the user's "
        "state folder.",
    )
    spool_max_gb: float = setting(
        20.0, "Keep no more captured sound than this in the folder.", low=0.001, high=1_000_000
    )
    restore: str = setting(
        "lost",
        "What the server gets of the captured sound when the stream has lost it, or all of it.",
        choices=("lost", "all", "off"),
    )
    ice_servers: tuple[IceServer, ...] = setting(
        (), "STUN and TURN servers; by default those that the server recommends.", is_secret=True
    )
    ice_policy: str = setting(
        "all", "relay: media goes through TURN servers only.", choices=("all", "relay")
    )
    quiet: bool = setting(False, "Print only what is wrong: warnings and errors.")

    def __post_init__(self) -> None:
        check_limits(self)
        check_turn_credentials(self.ice_servers)
        self._take_token_of_link()
        if not self.server.startswith(("http://", "https://")):
            raise SettingInvalid("server", f"{self.server!r} is not an http:// or https:// address")
        try:
            read_room(self.room)
        except ValueError as error:
            raise SettingInvalid("room", str(error).removeprefix("room ")) from error
        if self.fingerprint is not None:
            try:
                parse_fingerprint(self.fingerprint)
            except ValueError as error:
                raise SettingInvalid("fingerprint", str(error)) from None
            if not self.server.startswith("https://"):
                raise SettingInvalid("fingerprint", f"{self.server} has no certificate: use https")
        if self.capture == "file" and not self.input:
            raise SettingInvalid("input", "--capture file needs a file to stream")

    def _take_token_of_link(self) -> None:
        """Take the token out of an invitation, ``https://SERVER/#token=…``, in place of a URL."""
        address, _, fragment = self.server.partition("#")
        if not fragment:
            return
        tokens = parse_qs(fragment).get("token", [])
        if len(tokens) != 1:
            raise SettingInvalid(
                "server", "has no token behind the #, as the link of an invitation"
            )
        if self.token not in (None, tokens[0]):
            raise SettingInvalid("server", "has a token in its link, and --token is another one")
        object.__setattr__(self, "server", address)
        object.__setattr__(self, "token", tokens[0])

    @property
    def pinned(self) -> bytes | None:
        """The SHA-256 digest of the only certificate that is accepted."""
        return None if self.fingerprint is None else parse_fingerprint(self.fingerprint)
