"""Everything that can be set: names, defaults, help and limits, each in one place.

A settings object that exists is valid: the constructors raise `SettingInvalid`. Where values come
from (flags, environment, file) is not this module's business.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, fields
from typing import Any

from domain.errors import SettingInvalid
from domain.session.addresses import PortRange, is_loopback
from domain.session.ice import IceServer
from domain.session.placement import MAX_NODES


def _check_turn_credentials(servers: tuple[IceServer, ...]) -> None:
    for server in servers:
        if server.is_turn and server.username is None:
            raise SettingInvalid("ice_servers", f"{server.url} needs a username and a credential")


def _setting(
    default: Any,
    text: str,
    *,
    choices: tuple[str, ...] = (),
    low: float = -math.inf,
    high: float = math.inf,
    is_secret: bool = False,
) -> Any:
    """A field with what the command line, the documentation and the validation need.

    The `repr` of the settings leaves a secret out.
    """
    return field(
        default=default,
        repr=not is_secret,
        metadata={"help": text, "choices": choices, "low": low, "high": high},
    )


def _check_limits(settings: Any) -> None:
    for item in fields(settings):
        value, meta = getattr(settings, item.name), item.metadata
        if value is None:
            continue
        if meta["choices"] and value not in meta["choices"]:
            raise SettingInvalid(item.name, f"{value!r} is none of {', '.join(meta['choices'])}")
        if isinstance(value, int | float) and not meta["low"] <= value <= meta["high"]:
            limits = f"between {meta['low']:g} and {meta['high']:g}"
            if meta["high"] == math.inf:
                limits = f"at least {meta['low']:g}"
            raise SettingInvalid(item.name, f"{value:g} is not {limits}")


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerSettings:
    """Settings of `gapless serve`."""

    host: str = _setting("127.0.0.1", "Address to listen on.")
    port: int = _setting(8080, "TCP port to listen on; 0 takes a free one.", low=0, high=65535)
    recordings: str = _setting("recordings", "Folder for the recordings.")
    storage: str = _setting(
        "wav",
        "What recordings are kept as; opus: packets as they come, for `gapless render`.",
        choices=("wav", "opus", "memory"),
    )
    token: str | None = _setting(
        None, "Clients must show this token; needed beyond loopback.", is_secret=True
    )
    allow_anyone: bool = _setting(False, "Serve beyond loopback without a token.")
    tls_cert: str | None = _setting(None, "Certificate chain (PEM): serve HTTPS.")
    tls_key: str | None = _setting(None, "Private key (PEM) of --tls-cert.")
    ice_servers: tuple[IceServer, ...] = _setting(
        (), "STUN and TURN servers, for this server and its clients."
    )
    turn_secret: str | None = _setting(
        None,
        "Secret shared with the TURN servers: clients get credentials of their own.",
        is_secret=True,
    )
    turn_ttl_s: float = _setting(
        43_200.0, "How long those credentials are good for.", low=60, high=7 * 86_400
    )
    ice_policy: str = _setting(
        "all", "relay: media goes through TURN servers only.", choices=("all", "relay")
    )
    udp_ports: PortRange | None = _setting(  # noqa: RUF009 (it is a field, as all of them)
        None, "UDP ports for media, as 50000-50999; one for each address of each session."
    )
    inactivity_timeout_s: float = _setting(
        30.0, "End a session that has brought no packet for so long.", low=0.5, high=86_400
    )
    connect_timeout_s: float = _setting(
        15.0, "Drop a session that has no media path by then.", low=0.5, high=600
    )
    reorder_hold_s: float = _setting(
        0.2, "Wait so long for packets that come out of order.", low=0, high=10
    )
    max_gap_s: float = _setting(
        60.0, "Longest silence to fill in when timestamps jump.", low=1, high=86_400
    )
    fec: bool = _setting(True, "Ask publishers for forward error correction (Opus).")
    dtx: bool = _setting(False, "Ask publishers to send next to nothing while it is silent.")
    bitrate: int | None = _setting(
        None, "Opus bit rate to ask publishers for, in bit/s.", low=6_000, high=510_000
    )
    stereo: bool = _setting(False, "Ask publishers for two channels, also of a mono microphone.")
    min_free_mb: int = _setting(64, "Refuse new recordings when less is free on the disk.", low=0)
    large_files: str = _setting(
        "parts",
        "Past 4 GiB (12 h of mono) go on in a new part, or as RF64 in the same file.",
        choices=("parts", "rf64"),
    )
    rotate_s: float | None = _setting(
        None, "Begin a new part after so much time, exact to the sample.", low=1
    )
    memory_mb: int = _setting(256, "Most that --storage memory keeps in all.", low=1)
    memory_each_mb: int = _setting(64, "Most that it keeps of one recording.", low=1)
    max_sessions: int = _setting(
        500, "Most sessions at one time, divided among the workers.", low=1
    )
    workers: int = _setting(
        1, "Processes that share the load; one for each core.", low=1, high=MAX_NODES
    )

    def __post_init__(self) -> None:
        _check_limits(self)
        if bool(self.tls_cert) != bool(self.tls_key):
            missing = "tls_key" if self.tls_cert else "tls_cert"
            raise SettingInvalid(missing, "tls_cert and tls_key go together")
        if self.token is not None and not self.token:
            raise SettingInvalid("token", "is empty")
        if self.max_sessions < self.workers:
            raise SettingInvalid("max_sessions", "each worker needs one at least")
        if not self.turn_secret:
            _check_turn_credentials(self.ice_servers)
        if not (self.token or self.allow_anyone or is_loopback(self.host)):
            raise SettingInvalid(
                "token",
                f"{self.host} can be reached from other machines: set a token, "
                "or say --allow-anyone to record whoever comes",
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientSettings:
    """Settings of `gapless stream`."""

    server: str = _setting("http://127.0.0.1:8080", "Address of the server.")
    capture: str = _setting(
        "sounddevice",
        "Where the sound comes from.",
        choices=("sounddevice", "pyaudio", "file", "tone"),
    )
    device: str | None = _setting(None, "Input device, by name or number; see `gapless devices`.")
    input: str | None = _setting(None, "The file to stream, with --capture file.")
    rate: int = _setting(48_000, "Sample rate of the capture in Hz.", low=8_000, high=384_000)
    channels: int = _setting(1, "1 for mono, 2 for stereo.", low=1, high=2)
    duration: float | None = _setting(None, "Stop after so many seconds.", low=0.02)
    name: str = _setting("", "What to call the recording.")
    token: str | None = _setting(None, "Token that the server asks for.", is_secret=True)
    bitrate: int = _setting(64_000, "Opus bit rate in bit/s.", low=6_000, high=510_000)
    complexity: int = _setting(
        6, "How much work Opus makes of it: from 0 to 10, the most.", low=0, high=10
    )
    fec: bool = _setting(True, "Carry each frame again, coarsely, in the next packet.")
    expected_loss: int = _setting(
        10, "Packet loss in percent that FEC is made for.", low=0, high=100
    )
    dtx: bool = _setting(False, "Send next to nothing while it is silent.")
    application: str = _setting(
        "voip", "What Opus is tuned for.", choices=("voip", "audio", "lowdelay")
    )
    queue_s: float = _setting(
        2.0, "Sound that may wait between capture and encoder.", low=0.1, high=60
    )
    ice_servers: tuple[IceServer, ...] = _setting(
        (), "STUN and TURN servers; without any, those that the server names."
    )
    ice_policy: str = _setting(
        "all", "relay: media goes through TURN servers only.", choices=("all", "relay")
    )

    def __post_init__(self) -> None:
        _check_limits(self)
        _check_turn_credentials(self.ice_servers)
        if not self.server.startswith(("http://", "https://")):
            raise SettingInvalid("server", f"{self.server!r} is no http:// or https:// address")
        if self.capture == "file" and not self.input:
            raise SettingInvalid("input", "--capture file needs the file to stream")
