"""Opens one of the listed input devices: the wanted one, or the same as before."""

from __future__ import annotations

import contextlib
import re
import time
from collections.abc import Callable, Collection, Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace

from adapters.capture.sound_cards import CardPlace, SoundCards, port_label
from adapters.capture.sound_server import ServerSource, SoundServer
from domain.errors import DeviceLost, DeviceUncertain, NoSuchDevice
from domain.ports.capture import (
    USUAL_RATES_HZ,
    CaptureRequest,
    DeviceIdentity,
    InputDevice,
)

_ALSA = "ALSA"
_STREAM_S = 0.5
"""How long a new stream may take to be known to the sound server."""
_STREAM_INTERVAL_S = 0.05
_PLACE_IN_NAME = re.compile(r" \(hw:(\d+),(\d+)\)$")


@dataclass(frozen=True, slots=True)
class OpenedDevice:
    """A device that delivers sound."""

    identity: DeviceIdentity
    close: Callable[[], object]


class DeviceOpener:
    """Opens the device that a request asks for, and holds to it."""

    def __init__(self, cards: SoundCards, server: SoundServer) -> None:
        self._cards = cards
        self._server = server

    def locate(self, devices: Iterable[InputDevice]) -> list[InputDevice]:
        """Add to each device where it is plugged in at the moment, as far as that is known."""
        return located(devices, self._cards)

    def open(
        self,
        request: CaptureRequest,
        listed: Sequence[InputDevice],
        open_stream: Callable[[InputDevice], Callable[[], object]],
        lost: Callable[[DeviceLost], object],
    ) -> OpenedDevice:
        """Open a device; `open_stream` returns what closes it again.

        `lost` is called, in any thread, when the sound server records from another microphone.
        Raises `NoSuchDevice`, `DeviceUncertain`, and what `open_stream` raises.
        """
        devices = self.locate(listed)
        same_as = request.same_as
        if same_as is None:
            device = choose(devices, request.device)
        else:
            device = find_again(devices, same_as)
        identity = identify(device, devices)
        if _is_indirect(device.name):
            return self._open_indirect(device, identity, same_as, open_stream, lost)
        close = open_stream(device)
        if self.locate([device]) != [device]:
            # the number of its card may already have belonged to another one when it was opened
            _close_after_error(close)
            raise DeviceUncertain(f"{device.name!r} was unplugged while it was being opened")
        return OpenedDevice(identity, close)

    def _open_indirect(
        self,
        device: InputDevice,
        identity: DeviceIdentity,
        same_as: DeviceIdentity | None,
        open_stream: Callable[[InputDevice], Callable[[], object]],
        lost: Callable[[DeviceLost], object],
    ) -> OpenedDevice:
        """Open a device such as `default`, with the same microphone behind it as before.

        Where it leads is only known once it is open: to a sound server, or to a card.
        """
        server = self._server
        wanted = None if same_as is None else same_as.source
        chosen: AbstractContextManager[None] = nullcontext()
        if wanted is not None and (sources := server.sources()) is not None:
            chosen = server.choosing(_find_source(sources, wanted, device.name))
        streams_before, cards_before = server.recorded(), self._cards.recording()
        with chosen:
            close = open_stream(device)
        try:
            stream, source = self._new_stream(streams_before)
            if wanted is not None and (source is None or source.key != wanted):
                instead = "something unknown" if source is None else repr(source.description)
                raise DeviceUncertain(
                    f"the sound server records from {instead} and not from the microphone that "
                    f"was unplugged. Choose that one as the system's input"
                )
            if source is None:
                return OpenedDevice(self._behind(identity, same_as, cards_before), close)
            end_watch = self._watch(stream, source.key, lost)
        except BaseException:
            _close_after_error(close)
            raise

        def close_all() -> None:
            try:
                end_watch()
            finally:
                close()

        return OpenedDevice(replace(identity, source=source.key), close_all)

    def _watch(
        self, stream: int, key: str, lost: Callable[[DeviceLost], object]
    ) -> Callable[[], None]:
        """Call `lost` when the stream records from another source; return what ends the watch."""

        def changed() -> None:
            now = self._server.recorded().get(stream)
            if now is not None and now.key != key:
                lost(DeviceLost("the sound server has changed to another microphone"))

        end_watch = self._server.watch(stream, changed)
        changed()  # it may have changed before the watch began
        return end_watch

    def _behind(
        self, identity: DeviceIdentity, same_as: DeviceIdentity | None, before: Collection[int]
    ) -> DeviceIdentity:
        """Add the place of the card behind a device that is open now, if that can be told."""
        cards = self._cards.recording().difference(before)
        place = self._cards.place(cards.pop()) if len(cards) == 1 else CardPlace(None, None)
        if (
            same_as is not None
            and same_as.port is not None
            and (same_as.port, same_as.serial) != (place.port, place.serial)
        ):
            port = f"port {port_label(place.port)}" if place.port else "an unknown port"
            raise DeviceUncertain(
                f"{identity.name!r} leads to the microphone in {port} and not to the one that was "
                f"unplugged"
            )
        return replace(identity, port=place.port, serial=place.serial)

    def _new_stream(self, before: Collection[int]) -> tuple[int, ServerSource | None]:
        """Return the stream that is new at the sound server, and what it records from."""
        if self._server.sources() is None:
            return -1, None
        deadline = time.monotonic() + _STREAM_S
        while True:
            for number, source in self._server.recorded().items():
                if number not in before:
                    return number, source
            if time.monotonic() > deadline:
                return -1, None
            time.sleep(_STREAM_INTERVAL_S)


def _find_source(sources: Sequence[ServerSource], key: str, device: str) -> ServerSource:
    for source in sources:
        if source.key == key:
            return source
    raise DeviceUncertain(
        f"the sound server behind {device!r} does not have the microphone that was unplugged; "
        f"others are left alone"
    )


def _close_after_error(close: Callable[[], object]) -> None:
    with contextlib.suppress(Exception):  # the first error says more
        close()


def located(devices: Iterable[InputDevice], cards: SoundCards) -> list[InputDevice]:
    """Add to each device where it is plugged in at the moment, as far as that is known."""
    found = []
    for device in devices:
        if device.host_api == _ALSA and (match := _PLACE_IN_NAME.search(device.name)):
            place = cards.place(int(match[1]))
            device = replace(device, port=place.port, serial=place.serial)
        found.append(device)
    return found


def choose(devices: Sequence[InputDevice], wanted: str | None) -> InputDevice:
    """Return the device with the wanted number or name, or the default if `wanted` is None.

    Part of a name is enough if it fits only one device. Raises `NoSuchDevice` with a list of the
    available devices, and `DeviceUncertain` if several have exactly this name.
    """
    if wanted is None:
        for device in devices:
            if device.is_default:
                return device
        raise NoSuchDevice(None, _listing(devices))
    for device in devices:
        if wanted == str(device.index):
            return device
    if named := [device for device in devices if device.name == wanted]:
        # the same device may be listed once for each interface of the system
        twins = [device for device in named if device.host_api == named[0].host_api]
        if len(twins) > 1:
            raise DeviceUncertain(
                f"{len(twins)} input devices are called {wanted!r}; "
                f"choose one by its number: {', '.join(_listing(twins))}"
            )
        return named[0]
    same = [device for device in devices if _without_card(device.name) == _without_card(wanted)]
    alike = [device for device in devices if wanted.lower() in device.name.lower()]
    for fitting in (same, alike):
        if len(fitting) == 1:
            return fitting[0]
    raise NoSuchDevice(wanted, _listing(devices))


def working_rates(device: InputDevice, is_supported: Callable[[int, int], bool]) -> Sequence[int]:
    """Return at which rates a device records; `is_supported` gets a rate and a number of channels.

    Some devices have one channel, others have all of theirs and no fewer.
    """
    channels = sorted({1, device.channels})
    return [rate for rate in USUAL_RATES_HZ if any(is_supported(rate, count) for count in channels)]


def identify(device: InputDevice, devices: Sequence[InputDevice]) -> DeviceIdentity:
    """Return what will tell this device from the others when it is plugged in again."""
    identity = DeviceIdentity(device.name, device.host_api, device.port, device.serial)
    alike = [other for other in devices if _looks_like(other, identity)]
    return replace(identity, is_only_one=len(alike) <= 1)


def find_again(devices: Sequence[InputDevice], lost: DeviceIdentity) -> InputDevice:
    """Return the device that was opened before, at the port where it was plugged in then.

    Where no port is known, a name that only one device has ever had is enough. Raises
    `NoSuchDevice` when it is not there, and `DeviceUncertain` when there are devices of its name
    that are others, or may be others.
    """
    alike = [device for device in devices if _looks_like(device, lost)]
    if not alike:
        raise NoSuchDevice(lost.name, _listing(devices))
    name = _without_card(lost.name)
    if lost.port is not None and not _is_indirect(lost.name):
        port = port_label(lost.port)
        there = [device for device in alike if device.port == lost.port]
        if not there:
            raise DeviceUncertain(
                f"no {name!r} is plugged into port {port}; "
                f"what is plugged in elsewhere ({_places(alike)}) may be another microphone. "
                f"Plug it into port {port} again"
            )
        if len(there) > 1:
            raise DeviceUncertain(f"{len(there)} devices called {name!r} are at port {port}")
        if lost.serial != there[0].serial:
            raise DeviceUncertain(
                f"the {name!r} in port {port} has another serial number than the one that was "
                f"unplugged there"
            )
        return there[0]
    if len(alike) > 1:
        raise DeviceUncertain(
            f"{len(alike)} input devices are called {name!r}, and nothing tells which of them it "
            f"was. Unplug the others, or start again with the right one"
        )
    if not lost.is_only_one:
        raise DeviceUncertain(
            f"several input devices were called {name!r}, and nothing tells whether the one that "
            f"is left is the one that was unplugged. Start again with the right one"
        )
    return alike[0]


def _looks_like(device: InputDevice, lost: DeviceIdentity) -> bool:
    """Return whether a device is the lost one or of its kind: all is equal but its place."""
    return (
        device.host_api == lost.host_api
        and _without_card(device.name) == _without_card(lost.name)
        and _subdevice(device.name) == _subdevice(lost.name)
    )


def _is_indirect(name: str) -> bool:
    """Return whether a device is no card itself: what it leads to may change."""
    return not _PLACE_IN_NAME.search(name)


def _without_card(name: str) -> str:
    """Strip the card number from an ALSA name; it changes when the card is plugged in again."""
    return _PLACE_IN_NAME.sub("", name)


def _subdevice(name: str) -> str | None:
    """Return which of its card's inputs an ALSA device is; replugging does not change that."""
    match = _PLACE_IN_NAME.search(name)
    return match and match[2]


def _listing(devices: Iterable[InputDevice]) -> list[str]:
    return [f"{device.index}: {device.name}" for device in devices]


def _places(devices: Iterable[InputDevice]) -> str:
    return ", ".join(
        f"port {port_label(device.port)}" if device.port else f"number {device.index}"
        for device in devices
    )
