"""PortAudio and the machine below it: microphones that come and go, calls that hang."""

from __future__ import annotations

import pathlib
import shutil
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from adapters.capture.pyaudio_backend import PyAudioCapture
from adapters.capture.sound_cards import SoundCards
from adapters.capture.sound_server import ServerSource, SoundServer
from adapters.capture.sounddevice_backend import SoundDeviceCapture
from domain.ports.capture import CaptureBackend

HOST_APIS = ("ALSA", "PulseAudio", "WASAPI")
_BUS = "sys/devices/pci0000:00/0000:00:14.0/usb1"


@dataclass(frozen=True)
class FakeDevice:
    """A microphone; `card` is its ALSA number, if it is an ALSA device."""

    label: str
    name: str
    card: int | None = None
    host_api: str = "ALSA"
    formats: frozenset[tuple[int, int]] = frozenset({(48_000, 1)})
    """The rates and numbers of channels that it records."""

    @property
    def listed_name(self) -> str:
        return self.name if self.card is None else f"{self.name} (hw:{self.card},0)"


class FakeMachine:
    """A machine with USB ports, its PortAudio, and the folder where its kernel describes it."""

    def __init__(
        self, root: pathlib.Path, *, has_sysfs: bool = True, has_proc: bool = True
    ) -> None:
        self.root = root
        self._has_sysfs = has_sysfs
        self._has_proc = has_proc
        self._long_names: dict[int, str] = {}
        self.plugged: list[FakeDevice] = []
        self.audio = FakePortAudio(self)
        self.server = FakeSoundServer()
        self.card_behind_default: int | None = None

    def backend(self, name: str, patch: pytest.MonkeyPatch) -> CaptureBackend:
        """Return the backend ``pyaudio`` or ``sounddevice``, on this machine."""
        is_pyaudio = name == "pyaudio"
        module = self.audio.as_pyaudio() if is_pyaudio else self.audio.as_sounddevice()
        patch.setitem(sys.modules, name, module)
        kind = PyAudioCapture if is_pyaudio else SoundDeviceCapture
        return kind(SoundCards(self.root), self.server)

    def plug_in(
        self, label: str, *, card: int, port: str, name: str = "USB Mic: USB Audio",
        serial: str | None = None,
    ) -> None:  # fmt: skip
        """Plug a USB microphone into a port; the kernel gives it a card number."""
        self.plugged.append(FakeDevice(label, name, card))
        self._long_names[card] = f"C-Media USB Mic at usb-0000:00:14.0-{port}, full speed"
        self._write_proc()
        if not self._has_sysfs:
            return
        device = self.root / _BUS / f"1-{port}"
        interface = device / f"1-{port}:1.0"
        (interface / "sound" / f"card{card}").mkdir(parents=True)
        (device / "idVendor").write_text("0d8c\n")
        if serial is not None:
            (device / "serial").write_text(f"{serial}\n")
        (interface / "sound" / f"card{card}" / "device").symlink_to(f"../../../1-{port}:1.0")
        cards = self.root / "sys/class/sound"
        cards.mkdir(parents=True, exist_ok=True)
        (cards / f"card{card}").symlink_to(interface / "sound" / f"card{card}")

    def add(self, label: str, name: str, *, host_api: str) -> None:
        """Add a device that is no ALSA card."""
        self.plugged.append(FakeDevice(label, name, host_api=host_api))

    def unplug(self, label: str) -> None:
        (device,) = [device for device in self.plugged if device.label == label]
        self.plugged.remove(device)
        if device.card is None:
            return
        del self._long_names[device.card]
        self._write_proc()
        link = self.root / f"sys/class/sound/card{device.card}"
        if link.is_symlink():
            shutil.rmtree(link.resolve().parents[2])
            link.unlink()

    def record_from(self, card: int | None) -> None:
        """Let the kernel say that this thread records from a card; from none if it is None."""
        for status in self.root.glob("proc/asound/card*/pcm0c/sub0/status"):
            status.write_text("closed\n")
        if card is not None:
            thread = threading.get_native_id()
            (self.root / f"proc/self/task/{thread}").mkdir(parents=True, exist_ok=True)
            inputs = self.root / f"proc/asound/card{card}/pcm0c/sub0"
            inputs.mkdir(parents=True, exist_ok=True)
            (inputs / "status").write_text(f"state: RUNNING\nowner_pid   : {thread}\n")

    def _write_proc(self) -> None:
        if self._has_proc:
            (self.root / "proc/asound").mkdir(parents=True, exist_ok=True)
            (self.root / "proc/asound/cards").write_text("".join(
                f"{card:2} [Mic{card:<12}]: USB-Audio - USB Mic\n{'':22}{long_name}\n"
                for card, long_name in sorted(self._long_names.items())
            ))  # fmt: skip


class FakeSoundServer(SoundServer):
    """A sound server with microphones; the process has at most one stream there."""

    def __init__(self) -> None:
        self.microphones: list[ServerSource] | None = None  # none, and no server
        self.default: ServerSource | None = None
        self.can_be_told = True
        """Whether streams record from what the client chooses."""
        self.stream: ServerSource | None = None
        self.watches: list[Callable[[], None]] = []
        self._number = 0
        self._chosen: ServerSource | None = None

    def connect(self) -> None:
        """Begin a stream, as ALSA's plugin does when a device is opened."""
        self._number += 1
        self.stream = (self._chosen if self.can_be_told else None) or self.default

    def move(self, source: ServerSource) -> None:
        """Let the stream record from another microphone."""
        self.stream = source
        for changed in list(self.watches):
            changed()

    def sources(self) -> Sequence[ServerSource] | None:
        return self.microphones

    def recorded(self) -> Mapping[int, ServerSource]:
        return {} if self.stream is None else {self._number: self.stream}

    @contextmanager
    def choosing(self, source: ServerSource) -> Iterator[None]:
        self._chosen = source
        yield
        self._chosen = None

    def watch(self, stream: int, changed: Callable[[], None]) -> Callable[[], None]:
        assert stream == self._number
        self.watches.append(changed)
        return lambda: self.watches.remove(changed)


class FakeError(OSError):
    """What both libraries raise."""


class FakePortAudio:
    """One PortAudio, as PyAudio and sounddevice show it.

    It lists the devices that are plugged in when it starts, and keeps the list until it ends.
    """

    def __init__(self, machine: FakeMachine) -> None:
        self._machine = machine
        self._listed: list[FakeDevice] = []
        self._users = 0
        self._lock = threading.Lock()
        self._inside = 0
        self._hanging: dict[str, tuple[threading.Event, threading.Event]] = {}
        self.was_entered_twice = False
        """Whether two threads were in the library at the same time."""
        self.calls: Counter[str] = Counter()
        self.open: list[str] = []
        """Labels of the devices that are open now."""
        self.opened: list[str] = []
        """Labels of all devices that were opened."""
        self.when_opening: Callable[[], None] = lambda: None
        self.failing: set[str] = set()

    @contextmanager
    def hang(self, call: str) -> Iterator[threading.Event]:
        """Let calls hang until the block is left; provide what is set when one hangs."""
        entered, released = threading.Event(), threading.Event()
        self._hanging[call] = entered, released
        try:
            yield entered
        finally:
            del self._hanging[call]
            released.set()

    @contextmanager
    def _call(self, name: str) -> Iterator[None]:
        with self._lock:
            self._inside += 1
            self.calls[name] += 1
            self.was_entered_twice |= self._inside > 1
        try:
            if name in self._hanging:
                entered, released = self._hanging[name]
                entered.set()
                released.wait(20)
            if name in self.failing:
                raise FakeError("refused", -9999)
            yield
        finally:
            with self._lock:
                self._inside -= 1

    def start(self) -> None:
        with self._call("start"):
            if not self._users:
                self._listed = list(self._machine.plugged)
            self._users += 1

    def end(self) -> None:
        with self._call("end"):
            if not self._users:
                raise FakeError("PortAudio not initialized", -10000)
            self._users -= 1
            if not self._users:
                self.open.clear()

    def infos(self) -> list[dict[str, Any]]:
        with self._call("list"):
            return [
                {"index": index, "name": device.listed_name,
                 "maxInputChannels": 1, "max_input_channels": 1,
                 "defaultSampleRate": 48_000.0, "default_samplerate": 48_000.0,
                 "hostApi": HOST_APIS.index(device.host_api),
                 "hostapi": HOST_APIS.index(device.host_api)}
                for index, device in enumerate(self._listed)
            ]  # fmt: skip

    def check(self, index: int, rate_hz: float, channels: int) -> None:
        """Raise what both libraries raise if a device does not record in a format."""
        with self._call("check"):
            if (rate_hz, channels) not in self._listed[index].formats:
                raise FakeError("invalid sample rate", -9997)

    def open_stream(self, index: int) -> _Stream:
        wanted = self._listed[index]
        self.when_opening()
        with self._call("open"):
            # what the kernel has under that number now
            for device in self._machine.plugged:
                if device.card == wanted.card and device.name == wanted.name:
                    self.open.append(device.label)
                    self.opened.append(device.label)
                    if device.card is None:
                        self._machine.record_from(self._machine.card_behind_default)
                        if self._machine.server.microphones is not None:
                            self._machine.server.connect()
                    return _Stream(self, device.label)
            raise FakeError("device unavailable", -9985)

    def close_stream(self, label: str) -> None:
        with self._call("close"):
            if label in self.open:
                self.open.remove(label)
            self._machine.server.stream = None
            self._machine.record_from(None)

    def as_pyaudio(self) -> ModuleType:
        audio = self

        class PyAudio:
            def __init__(self) -> None:
                audio.start()

            def terminate(self) -> None:
                audio.end()

            def get_default_input_device_info(self) -> dict[str, Any]:
                if not (infos := audio.infos()):
                    raise FakeError("no default")
                return infos[0]

            def get_device_count(self) -> int:
                return len(audio.infos())

            def get_device_info_by_index(self, index: int) -> dict[str, Any]:
                return audio.infos()[index]

            def get_host_api_info_by_index(self, index: int) -> dict[str, Any]:
                return {"name": HOST_APIS[index]}

            def is_format_supported(
                self, rate: int, input_device: int, input_channels: int, input_format: int
            ) -> bool:
                assert input_format == module.paInt16
                try:
                    audio.check(input_device, rate, input_channels)
                except FakeError as error:
                    raise ValueError(*error.args) from error
                return True

            def open(self, *, input_device_index: int, **_: object) -> _Stream:
                return audio.open_stream(input_device_index)

        module: Any = ModuleType("pyaudio")
        module.PyAudio, module.paInputOverflow, module.paContinue = PyAudio, 2, 0
        module.paInt16, module.paInt24 = 8, 4
        return module  # type: ignore[no-any-return]

    def as_sounddevice(self) -> ModuleType:
        def raw_input_stream(*, device: int, **_: object) -> _Stream:
            return self.open_stream(device)

        module: Any = ModuleType("sounddevice")
        module.PortAudioError = FakeError
        module.RawInputStream = raw_input_stream
        module._initialize, module._terminate, module._initialized = self.start, self.end, 1
        module.query_devices = self.infos
        module.query_hostapis = lambda: [{"name": name} for name in HOST_APIS]
        module.check_input_settings = lambda device, channels, dtype, samplerate: self.check(
            device, samplerate, channels
        )
        module.default = SimpleNamespace(device=[0, 0])
        self.start()  # sounddevice starts PortAudio when it is imported
        return module  # type: ignore[no-any-return]


class _Stream:
    def __init__(self, audio: FakePortAudio, label: str) -> None:
        self._audio = audio
        self._label = label

    def start(self) -> None:
        pass

    def close(self, **_: object) -> None:
        self._audio.close_stream(self._label)
