"""TLS of the server: Mozilla's intermediate profile, and certificates that are renewed."""

from __future__ import annotations

import asyncio
import asyncio.sslproto
import logging
import pathlib
import ssl

from domain.errors import SettingInvalid

POLL_S = 5.0
"""How often the files are looked at. New ones are read when they have stayed the same for so long:
certificate and key are not replaced at the same moment."""
MAX_CACHED_SESSIONS = 2000
"""OpenSSL keeps 20,000 sessions of TLS 1.2 for clients that take no tickets; each is a kilobyte."""
READ_BYTES = 16 * 1024
"""asyncio's buffer for each TLS connection, of 256 kB by default; a TLS record has 16 kB."""
_CIPHERS = ":".join(
    f"ECDHE-{key}-{cipher}"
    for cipher in ("AES128-GCM-SHA256", "AES256-GCM-SHA384", "CHACHA20-POLY1305")
    for key in ("ECDSA", "RSA")
)
"""Of TLS 1.2, by https://wiki.mozilla.org/Security/Server_Side_TLS (intermediate, 5.7). Those with
DHE need parameters and much CPU, and no client that can run WebRTC needs them."""
_log = logging.getLogger("gapless")
asyncio.sslproto.SSLProtocol.max_size = READ_BYTES  # nothing public sets it


class TlsFiles:
    """A certificate and its key, read again when the files change."""

    def __init__(self, certificate: str, key: str, *, passphrase: str | None = None) -> None:
        """Read the files. Raises `SettingInvalid`."""
        self._certificate = certificate
        self._key = key
        self._passphrase = passphrase
        self._seen = self._used = self._look()
        self._next_poll = 0.0
        self._polling: asyncio.Future[None] | None = None
        self.context = self._load()
        """For the connections that begin now."""

    def refresh(self, now: float) -> None:
        """Look in a thread whether the files have changed, at times; `now` is in seconds."""
        if now < self._next_poll or (self._polling is not None and not self._polling.done()):
            return
        self._next_poll = now + POLL_S
        loop = asyncio.get_running_loop()
        self._polling = loop.run_in_executor(None, self.reload_if_changed)

    def reload_if_changed(self) -> None:
        """Read the files if they have changed since the call before the last one.

        What cannot be used is logged once, and what was read before stays in use.
        """
        seen, self._seen = self._seen, self._look()
        is_new = self._seen != self._used and self._seen == seen
        if not is_new and self.context.session_stats()["number"] < MAX_CACHED_SESSIONS:
            return
        self._used = self._seen
        try:
            self.context = self._load()
        except SettingInvalid as error:
            _log.warning("the certificate of before stays in use: %s", error)
        else:
            if is_new:
                _log.info("the certificate %s has been read again", self._certificate)

    def _look(self) -> tuple[object, ...]:
        """Return what tells a file from the one that was there before."""
        found: list[object] = []
        for path in (self._certificate, self._key):
            try:
                status = pathlib.Path(path).stat()
            except OSError as error:
                found.append(error.errno)
            else:
                found.append((status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns))
        return tuple(found)

    def _load(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.set_ciphers(_CIPHERS)
        context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION
        # clients know best which of the ciphers is fast for them
        context.options &= ~ssl.OP_CIPHER_SERVER_PREFERENCE
        # a resumed session saves little, and two tickets for each connection cost
        context.num_tickets = 0
        asked = False

        def passphrase() -> str:
            nonlocal asked
            asked = True
            return self._passphrase or ""

        try:
            # without a callback, OpenSSL would ask on the terminal, if there is one, and wait
            context.load_cert_chain(self._certificate, self._key, passphrase)
        except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
            raise self._explained(error, asked=asked) from error
        return context

    def _explained(self, error: Exception, *, asked: bool) -> SettingInvalid:
        mismatch = isinstance(error, ssl.SSLError) and error.reason == "KEY_VALUES_MISMATCH"
        if asked and not self._passphrase:
            return PassphraseNeeded(
                "tls_passphrase",
                f"{self._key} is encrypted: set its passphrase, or start the server on a terminal",
            )
        if asked and not mismatch:
            return SettingInvalid("tls_passphrase", f"does not decrypt {self._key}")
        reason = str(error)
        if mismatch:
            reason = "they do not belong together"
        elif isinstance(error, ssl.SSLError):
            reason = "a certificate chain and a private key in PEM are needed"
        elif isinstance(error, OSError):
            reason = error.strerror or reason
        text = f"cannot use {self._certificate} with {self._key}: {reason}"
        return SettingInvalid("tls_cert", text)


class PassphraseNeeded(SettingInvalid):
    """A key is encrypted, and there is no passphrase for it."""
