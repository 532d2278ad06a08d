"""What PulseAudio, or PipeWire in its place, records from: asked with ``pactl``.

ALSA's devices `default` and `pulse` are a sound server, which chooses the microphone. When that
one is unplugged, the server moves the stream to another one, and PortAudio does not tell.
"""

from __future__ import annotations

import contextlib
import os
import pathlib
import re
import shutil
import subprocess
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

_ANSWER_S = 2.0
_BLOCK = re.compile(r"^Source(?: Output)? #(\d+)$", re.MULTILINE)
_FIELD = re.compile(r'^\t(?:\t([\w.]+) = "(.*)"|(\w[\w ]*): (.*))$', re.MULTILINE)
_CHOICE = "PULSE_SOURCE"
"""The variable that names the source for streams that do not name one themselves."""

_SUBSCRIBE = '"$0" subscribe & read -r _; kill $!'
"""Ends ``pactl`` when this process closes the pipe, or is killed."""


@dataclass(frozen=True, slots=True)
class ServerSource:
    """A microphone of the sound server."""

    name: str
    description: str
    key: str
    """Where it is plugged in and its serial number, as far as known; else its name."""


class SoundServer:
    """The sound server of this user, if there is one and ``pactl`` is installed."""

    def sources(self) -> Sequence[ServerSource] | None:
        """Return the microphones that there are; None if the server does not answer."""
        listing = _ask("list", "sources")
        return None if listing is None else [_source(fields) for _, fields in _blocks(listing)]

    def recorded(self) -> Mapping[int, ServerSource]:
        """Return from what each stream of this process records."""
        # the streams first: a stream may have been moved to a source that is new
        outputs, sources = _ask("list", "source-outputs"), _ask("list", "sources")
        if sources is None or outputs is None:
            return {}
        by_number = {str(number): _source(fields) for number, fields in _blocks(sources)}
        return {
            number: by_number[fields["Source"]]
            for number, fields in _blocks(outputs)
            if fields.get("application.process.id") == str(os.getpid())
            and fields.get("Source") in by_number
        }

    @contextlib.contextmanager
    def choosing(self, source: ServerSource) -> Iterator[None]:
        """Let streams that are opened meanwhile record from this source."""
        before = os.environ.get(_CHOICE)
        os.environ[_CHOICE] = source.name
        try:
            yield
        finally:
            if before is None:
                del os.environ[_CHOICE]
            else:
                os.environ[_CHOICE] = before

    def watch(self, stream: int, changed: Callable[[], None]) -> Callable[[], None]:
        """Call `changed`, in another thread, whenever the server changes this stream.

        Returns what ends the watch.
        """
        if (environment := _environment()) is None or (pactl := shutil.which("pactl")) is None:
            return lambda: None
        try:
            process = subprocess.Popen(  # noqa: S603 - every argument is ours
                ["/bin/sh", "-c", _SUBSCRIBE, pactl],
                env=environment,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                start_new_session=True,  # Ctrl-C ends the client, which then ends this
                text=True,
            )
        except OSError:
            return lambda: None
        assert process.stdin is not None
        assert process.stdout is not None
        events, ours = process.stdout, f"source-output #{stream}\n"

        def read() -> None:
            for line in events:
                if line.startswith("Event 'change'") and line.endswith(ours):
                    changed()
            events.close()
            process.wait()

        threading.Thread(target=read, name="gapless-sound-server", daemon=True).start()
        return process.stdin.close


def _ask(*question: str) -> str | None:
    """Return the answer to a ``pactl`` command; None if there is no server that answers."""
    if (environment := _environment()) is None or (pactl := shutil.which("pactl")) is None:
        return None
    try:
        answer = subprocess.run(  # noqa: S603 - every argument is ours
            [pactl, *question],
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_ANSWER_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return answer.stdout.decode(errors="replace") if answer.returncode == 0 else None


def _environment() -> dict[str, str] | None:
    """Return the environment for ``pactl``; None if this user has no sound server.

    The server's address is given, because ``pactl`` may start a server if it has to look for one.
    """
    own = os.environ | {"LC_ALL": "C"}
    if "PULSE_SERVER" not in own:
        socket = pathlib.Path(own.get("XDG_RUNTIME_DIR", "/nonexistent")) / "pulse/native"
        if not socket.exists():
            return None
        own["PULSE_SERVER"] = f"unix:{socket}"
    return own


def _blocks(listing: str) -> Iterator[tuple[int, dict[str, str]]]:
    """Split a listing into its entries; yield the number and the fields of each."""
    _, *parts = _BLOCK.split(listing)
    for number, text in zip(parts[::2], parts[1::2], strict=True):
        fields = {
            match[1] or match[3]: match[2] if match[1] else match[4]
            for match in _FIELD.finditer(text)
        }
        yield int(number), fields


def _source(fields: Mapping[str, str]) -> ServerSource:
    name = fields.get("Name", "")
    key = name
    if (port := fields.get("device.bus_path")) and fields.get("device.class") != "monitor":
        parts = (port, fields.get("alsa.device"), fields.get("device.serial"))
        key = " ".join(part for part in parts if part)
    return ServerSource(name, fields.get("Description", name), key)
