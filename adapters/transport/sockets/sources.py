"""Which connection sends with which SSRC."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from adapters.transport.sockets.port import MediaReceiver


class Sources:
    """Which connection sends with which SSRC, once a packet has been authenticated."""

    def __init__(self) -> None:
        self._receivers: dict[bytes, MediaReceiver | None] = {}
        self.of = self._receivers.get
        """Returns the connection of an SSRC (4 bytes); None if none or several send with it."""

    def add(self, ssrc: int, receiver: MediaReceiver) -> None:
        """Note that a connection sends with an SSRC."""
        key = ssrc.to_bytes(4, "big")
        # if two connections use one SSRC, their addresses tell them apart
        self._receivers[key] = receiver if self._receivers.get(key, receiver) is receiver else None

    def remove(self, ssrc: int, receiver: MediaReceiver) -> None:
        """Forget that a connection sends with an SSRC."""
        key = ssrc.to_bytes(4, "big")
        if self._receivers.get(key, receiver) in (receiver, None):
            self._receivers.pop(key, None)
