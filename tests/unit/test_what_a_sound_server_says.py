"""The listings of `pactl` are read; without a server it is not called, as it might start one."""

from __future__ import annotations

import os
import pathlib
import subprocess
import sys
import time

import pytest

from adapters.capture.sound_server import ServerSource, SoundServer

SOURCES = """\
Source #0
	State: IDLE
	Name: alsa_output.pci.monitor
	Description: Monitor of Built-in Audio
	Monitor of Sink: alsa_output.pci
	Properties:
		device.description = "Monitor of Built-in Audio"
		device.class = "monitor"
		device.bus_path = "pci-0000:00:1f.3"
Source #7
	State: RUNNING
	Name: alsa_input.usb-C-Media_USB_Mic-00.mono-fallback
	Description: USB Mic Mono
	Volume: mono: 65536 / 100% / 0.00 dB
	Properties:
		alsa.device = "0"
		device.serial = "C-Media_USB_Mic"
		device.class = "sound"
		device.bus_path = "pci-0000:00:14.0-usb-0:2:1.0"
	Ports:
		analog-input-mic: Microphone (type: Mic, priority: 8700, availability unknown)
"""
OUTPUTS = """\
Source Output #12
	Driver: protocol-native.c
	Source: 7
	Properties:
		media.name = "ALSA Capture"
		application.process.id = "{pid}"
Source Output #13
	Source: 7
	Properties:
		application.process.id = "1"
Source Output #14
	Source: 99
	Properties:
		application.process.id = "{pid}"
"""
MONITOR = ServerSource(
    "alsa_output.pci.monitor", "Monitor of Built-in Audio", "alsa_output.pci.monitor"
)
MICROPHONE = ServerSource(
    "alsa_input.usb-C-Media_USB_Mic-00.mono-fallback",
    "USB Mic Mono",
    "pci-0000:00:14.0-usb-0:2:1.0 0 C-Media_USB_Mic",
)


@pytest.fixture
def program(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> pathlib.Path:
    """A `pactl` that says the above, and leaves a file when it is called."""
    outputs = OUTPUTS.format(pid=os.getpid())
    (tmp_path / "sources").write_text(SOURCES)
    (tmp_path / "source-outputs").write_text(outputs)
    program = tmp_path / "bin/pactl"
    program.parent.mkdir()
    program.write_text(
        f'#!/bin/sh\necho "$PULSE_SERVER" > {tmp_path}/called\nexec cat "{tmp_path}/$2"\n'
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    monkeypatch.delenv("PULSE_SERVER", raising=False)
    return program


def begin_server(folder: pathlib.Path) -> pathlib.Path:
    socket = folder / "pulse/native"
    socket.parent.mkdir()
    socket.touch()
    return socket


def test_a_microphone_is_known_by_its_port_and_a_monitor_by_its_name(
    program: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    begin_server(tmp_path)
    assert SoundServer().sources() == [MONITOR, MICROPHONE]


def test_streams_of_this_process_are_found(program: pathlib.Path, tmp_path: pathlib.Path) -> None:
    begin_server(tmp_path)
    assert SoundServer().recorded() == {12: MICROPHONE}


def test_no_server_is_started(program: pathlib.Path, tmp_path: pathlib.Path) -> None:
    server = SoundServer()
    assert server.sources() is None
    assert server.recorded() == {}
    server.watch(12, lambda: None)()
    assert not (tmp_path / "called").exists()
    socket = begin_server(tmp_path)
    server.sources()
    assert (tmp_path / "called").read_text() == f"unix:{socket}\n"


def test_a_server_that_does_not_answer_is_none(
    program: pathlib.Path, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begin_server(tmp_path)
    program.write_text("#!/bin/sh\nexit 1\n")
    assert SoundServer().sources() is None
    program.unlink()
    monkeypatch.setenv("PATH", str(program.parent))
    assert SoundServer().sources() is None


WATCHING = """\
import time
from adapters.capture.sound_server import SoundServer
end = SoundServer().watch(12, lambda: print("changed", flush=True))
input()
end()
time.sleep(60)
"""


@pytest.mark.parametrize("is_killed", [False, True])
def test_a_watch_leaves_no_process_behind(
    program: pathlib.Path, tmp_path: pathlib.Path, is_killed: bool
) -> None:
    begin_server(tmp_path)
    program.write_text(
        f"#!/bin/sh\necho $$ > {tmp_path}/pid.new && mv {tmp_path}/pid.new {tmp_path}/pid\n"
        "echo \"Event 'change' on source-output #1\"\n"
        "echo \"Event 'change' on source-output #12\"\n"
        "exec sleep 60\n"
    )
    command = [sys.executable, "-c", WATCHING]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as client:
        assert client.stdin is not None
        assert client.stdout is not None
        assert client.stdout.readline() == "changed\n"
        pid = int((tmp_path / "pid").read_text())
        assert exists(pid)
        if is_killed:
            client.kill()
        else:
            client.stdin.write("\n")
            client.stdin.flush()
        deadline = time.monotonic() + 10
        while exists(pid):
            assert time.monotonic() < deadline
            time.sleep(0.01)
        client.kill()


def exists(pid: int) -> bool:
    """Return whether a process runs; one that nobody waits for does not."""
    try:
        status = pathlib.Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return status.rsplit(")", 1)[1].split()[0] != "Z"


def test_a_choice_ends_with_its_block(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PULSE_SOURCE", raising=False)
    with SoundServer().choosing(MICROPHONE):
        assert os.environ["PULSE_SOURCE"] == MICROPHONE.name
        with SoundServer().choosing(MONITOR):
            assert os.environ["PULSE_SOURCE"] == MONITOR.name
        assert os.environ["PULSE_SOURCE"] == MICROPHONE.name
    assert "PULSE_SOURCE" not in os.environ
