"""Declares every setting of the server once.

A settings object is always valid, because its constructor raises `SettingInvalid`. The module
`config` reads the values from flags, environment and file.
"""

from __future__ import annotations

from dataclasses import dataclass

from domain.errors import SettingInvalid
from domain.recording.ledger import RestoreMode
from domain.session.addresses import is_loopback
from domain.session.ice import MAX_CANDIDATES, IceServer
from domain.session.placement import MAX_NODES
from entrypoints.declaring import (
    check_limits,
    check_origins,
    check_signing_secret,
    check_strength,
    check_turn_credentials,
    setting,
)

SELF_SIGNED = "self-signed"


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerSettings:
    """Settings of `gapless serve`."""

    host: str = setting("127.0.0.1", "Address to listen on.")
    port: int = setting(8080, "TCP port to listen on; 0 picks a free port.", low=0, high=65535)
    recordings: str = setting("recordings", "Folder for the recordings.")
    storage: str = setting(
        "wav",
        "Where and how to store recordings; opus stores packets undecoded, for `gapless render`.",
        choices=("wav", "opus", "memory"),
    )
    token: str | None = setting(
        None,
        "Token that clients must send; required unless the host is loopback, with at least 16 "
        "characters then. Its bearers may do everything, unless there is an --admin-token: then "
        "they may record and watch.",
        is_secret=True,
    )
    admin_token: str | None = setting(
        None,
        "Token for administrators, who may end any session, delete recordings and issue tokens.",
        is_secret=True,
    )
    token_secret: str | None = setting(
        None,
        "Secret that signs the tokens of `gapless token` and `gapless invite`, of at least 32 "
        "characters; by default one is made, and kept in the folder for the recordings.",
        is_secret=True,
    )
    token_keys: str | None = setting(
        None,
        "Public keys (a JSON Web Key Set) of others who issue tokens, by RS256 or ES256; read "
        "again when they change.",
    )
    audit_log: str | None = setting(
        None,
        "File that gets a JSON object for each client that comes, is refused, or ends something.",
    )
    allow_anyone: bool = setting(
        False, "Allow any client to record without a token, from other machines, too."
    )
    cors_origins: tuple[str, ...] = setting(
        (),
        "Web pages that may use this server from a browser, as origins separated by commas. By "
        "default all of them if there is a token, else those of this machine, which may publish "
        "and watch.",
    )
    trusted_proxies: tuple[str, ...] = setting(
        (),
        "Addresses or networks of reverse proxies, separated by commas: their X-Forwarded-For "
        "says who sends a request.",
    )
    max_connections: int = setting(
        1000,
        "Maximum number of HTTP connections, divided among the workers; those that do nothing "
        "give way to new ones.",
        low=1,
    )
    max_connections_per_address: int = setting(
        50,
        "Maximum number of HTTP connections from one address (IPv6: from one /64 network), divided "
        "among the workers, but up to 30 for each. Does not apply to trusted proxies, nor if the "
        "host is loopback.",
        low=1,
    )
    tls_cert: str | None = setting(
        None, "Certificate chain (PEM), to serve HTTPS; it is read again when it changes."
    )
    tls_key: str | None = setting(None, "Private key (PEM) of --tls-cert.")
    tls_passphrase: str | None = setting(
        None,
        "Passphrase of --tls-key; by default it is asked for on the terminal, if it is needed.",
        is_secret=True,
    )
    tls: str | None = setting(
        None,
        "Serve HTTPS with a certificate that the server makes, for clients in the same network; it "
        "is kept, and its fingerprint is shown for `gapless stream --fingerprint`.",
        choices=(SELF_SIGNED,),
    )
    hsts: bool = setting(
        False, "Tell browsers to use nothing but HTTPS with this host name for two years."
    )
    ice_servers: tuple[IceServer, ...] = setting(
        (), "STUN and TURN servers that this server and its clients use.", is_secret=True
    )
    turn_secret: str | None = setting(
        None,
        "Secret shared with the TURN servers, to give each client its own credentials.",
        is_secret=True,
    )
    turn_ttl_s: float = setting(
        43_200.0, "How long the TURN credentials of a client are valid.", low=60, high=7 * 86_400
    )
    ice_policy: str = setting(
        "all",
        "relay: media goes through TURN servers only. public: addresses of this machine are not "
        "announced, only those of --public-address and those that STUN servers tell.",
        choices=("all", "relay", "public"),
    )
    udp_port: int | None = setting(
        None,
        "UDP port for the media of all sessions, by default the number of --port; 0 picks a free "
        "port. Further workers have the numbers that follow.",
        low=0,
        high=65535,
    )
    public_address: tuple[str, ...] = setting(
        (),
        "Addresses or names, separated by commas, at which clients reach this machine from "
        "outside: for clouds, and routers that forward.",
    )
    probe_private: bool = setting(
        False,
        "Also send connectivity checks to private addresses that clients name, where this server "
        "has to check candidates (STUN, TURN, ICE-lite).",
    )
    max_candidates: int = setting(
        50,
        "Maximum number of ICE candidates that a connection takes at once; 6 more each minute.",
        low=1,
        high=MAX_CANDIDATES,
    )
    inactivity_timeout_s: float = setting(
        30.0, "End a session that has received no packet for this long.", low=0.5, high=86_400
    )
    connect_timeout_s: float = setting(
        15.0, "Drop a session that has no media path after this long.", low=0.5, high=600
    )
    reorder_hold_s: float = setting(
        1.0, "How long to wait for packets that are late or have to be sent again.", low=0, high=10
    )
    max_gap_s: float = setting(
        60.0, "Longest gap to fill with silence when timestamps jump.", low=1, high=86_400
    )
    fec: bool = setting(True, "Ask publishers to send forward error correction (Opus).")
    dtx: bool = setting(False, "Ask publishers to send almost nothing during silence (DTX).")
    bitrate: int | None = setting(
        None, "Opus bit rate to ask publishers for, in bit/s.", low=6_000, high=510_000
    )
    stereo: bool = setting(False, "Ask publishers for two channels, even from a mono microphone.")
    min_free_mb: int = setting(
        64, "Refuse new recordings when the disk has less free space.", low=0
    )
    large_files: str = setting(
        "parts",
        "Beyond 4 GiB (12 h of mono), begin a new part, or continue the file as RF64.",
        choices=("parts", "rf64"),
    )
    rotate_s: float | None = setting(
        None, "Begin a new part after this much time, exact to the sample.", low=1
    )
    restore: str = setting(
        "lost",
        "What to fetch from clients that keep what they capture: what was lost, or everything.",
        choices=tuple(mode.value for mode in RestoreMode),
    )
    restore_window_h: float = setting(
        24.0, "How long to wait for it after a session has ended, in hours.", low=0.1, high=8_760
    )
    memory_mb: int = setting(256, "Memory limit of --storage memory for all recordings.", low=1)
    memory_each_mb: int = setting(64, "Memory limit of --storage memory for one recording.", low=1)
    max_sessions: int = setting(
        500, "Maximum number of sessions, divided among the workers.", low=1
    )
    max_unproven: int = setting(
        40,
        "Maximum number of sessions of one address that have no media path yet, at each worker.",
        low=1,
    )
    offers_per_minute: int = setting(
        60, "How many sessions one address may open in a minute, at each worker.", low=1
    )
    max_burst_s: float = setting(
        30.0,
        "How far sound may run ahead of the wall clock. What comes faster is left out, and a "
        "sender that keeps on is cut off.",
        low=5,
        high=3_600,
    )
    max_packets_per_s: float = setting(
        1_000.0,
        "Maximum number of packets a second of each track, and four times as many of all tracks; "
        "further ones are left out.",
        low=100,
    )
    max_session_h: float = setting(
        168.0, "End a session that lasts longer than this, in hours.", low=0.001
    )
    max_session_gb: float = setting(
        200.0, "End a session that has recorded more gigabytes than this.", low=0.001
    )
    max_day_gb: float = setting(
        1_000.0,
        "Begin no new session when more gigabytes than this were recorded within 24 hours; divided "
        "among the workers.",
        low=0.001,
    )
    max_conversions: int = setting(
        4,
        "Maximum number of recordings that are converted to other formats at a time, at each "
        "worker.",
        low=0,
    )
    max_watchers: int = setting(
        200, "Maximum number of clients that follow the events, at each worker.", low=1
    )
    alarm_silence_s: float = setting(
        30.0,
        "Alarm when a track has had no sound for this long; 0 for none, as for all alarms.",
        low=0,
    )
    alarm_silence_dbfs: float = setting(
        -60.0, "What is no sound: a level (RMS) below this.", low=-120, high=0
    )
    alarm_clipped_samples: int = setting(
        100, "Alarm when more samples than this were clipped within --alarm-clipped-s.", low=0
    )
    alarm_clipped_s: float = setting(
        10.0, "Time in which clipped samples are counted.", low=0.5, high=600
    )
    alarm_channel_s: float = setting(
        30.0, "Alarm when one of two channels has had sound for this long, the other none.", low=0
    )
    alarm_loss_percent: float = setting(
        2.0, "Alarm when this share of the packets of the last minute is lost.", low=0, high=100
    )
    alarm_nothing_s: float = setting(
        5.0, "Alarm when a session has received no packet for this long.", low=0
    )
    alarm_stall_s: float = setting(
        60.0, "How long the alarm stays that a sender captured nothing for a time.", low=0
    )
    alarm_clock_ppm: float = setting(
        500.0, "Alarm when a sender's clock is off by this much (parts per million).", low=0
    )
    alarm_restoring_s: float = setting(
        60.0, "Alarm when a client that is there has restored nothing for this long.", low=0
    )
    alarm_disk_h: float = setting(
        8.0, "Alarm when the disk will be full within this many hours, at the present rate.", low=0
    )
    tap_buffer_s: float = setting(
        10.0,
        "How far a listener to a live recording may be behind, and how much of what others listen "
        "to a new one can have, in seconds. Each takes 0.1 MB for each channel.",
        low=1,
        high=60,
    )
    max_taps: int = setting(
        50, "Maximum number of listeners to live recordings, at each worker.", low=0
    )
    workers: int = setting(
        1, "Processes that share the load; use one for each core.", low=1, high=MAX_NODES
    )
    quiet: bool = setting(False, "Print only what is wrong: warnings and errors.")

    def __post_init__(self) -> None:
        check_limits(self)
        check_origins("cors_origins", self.cors_origins)
        if bool(self.tls_cert) != bool(self.tls_key):
            missing = "tls_key" if self.tls_cert else "tls_cert"
            raise SettingInvalid(missing, "tls_cert and tls_key go together")
        if self.tls and self.tls_cert:
            raise SettingInvalid("tls", "is for servers without a certificate (tls_cert)")
        if self.hsts and not self.tls_cert:
            raise SettingInvalid("hsts", "needs a certificate (tls_cert)")
        if self.token is not None and not self.token:
            raise SettingInvalid("token", "is empty")
        if self.admin_token is not None:
            if not self.admin_token:
                raise SettingInvalid("admin_token", "is empty")
            if self.token is None:
                raise SettingInvalid("admin_token", "needs a token for clients, too (--token)")
            if self.admin_token == self.token:
                raise SettingInvalid("admin_token", "must not be the token that clients have")
        check_strength("token", self.token, self.host)
        check_strength("admin_token", self.admin_token, self.host)
        check_signing_secret("token_secret", self.token_secret)
        if self.max_sessions < self.workers:
            raise SettingInvalid("max_sessions", "each worker needs at least one session")
        if not self.turn_secret:
            check_turn_credentials(self.ice_servers)
        last_port = self.media_port + self.workers - 1
        if self.media_port and last_port > 65535:
            raise SettingInvalid("udp_port", f"{self.workers} workers need ports up to {last_port}")
        if self.ice_policy == "public" and not (self.public_address or self.ice_servers):
            raise SettingInvalid("ice_policy", "public needs --public-address or a STUN server")
        if not (self.needs_token or self.allow_anyone or is_loopback(self.host)):
            raise SettingInvalid(
                "token",
                f"{self.host} can be reached from other machines: set a token, "
                "or allow any client with --allow-anyone",
            )

    @property
    def needs_token(self) -> bool:
        """Whether clients need a token: one of the server's, or one that is signed."""
        return any((self.token, self.token_secret, self.token_keys))

    @property
    def media_port(self) -> int:
        """The UDP port of the first worker; 0 for any free one."""
        return self.port if self.udp_port is None else self.udp_port
