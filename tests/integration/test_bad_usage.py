"""Errors at the command line: one clear line, the right exit code, no traceback."""

from __future__ import annotations

import pathlib
import signal
import socket
import subprocess
import sys

import pytest

from tests.rigs.processes import Process, environment, gapless, serving


def failing(*arguments: str, env: dict[str, str] | None = None, code: int) -> str:
    """Run a command that fails, and return its one line of output."""
    with gapless(*arguments, env=env) as process:
        assert process.end() == code, process.lines + process.errors
    said = [line for line in process.errors if line]
    assert len(said) == 1, said
    assert said[0].startswith("gapless: ")
    return said[0]


def test_a_client_waits_for_its_server_until_ctrl_c() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
        with gapless("stream", "--server", url, "--capture", "tone") as client:
            assert "trying again in" in client.wait_for(f"no server at {url}")
            client.wait_for(f"no server at {url}")
            client.process.send_signal(signal.SIGINT)
            assert client.end() == 1
    assert client.errors == ["gapless: stopped before the connection was made"]


def test_something_else_at_the_servers_address(tmp_path: pathlib.Path) -> None:
    other = subprocess.Popen(
        [sys.executable, "-u", "-m", "http.server", "0", "--bind", "127.0.0.1"],
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, cwd=tmp_path,
    )  # fmt: skip
    try:
        assert other.stdout is not None
        port = other.stdout.readline().split("port ")[1].split()[0]
        url = f"http://127.0.0.1:{port}"
        said = failing("stream", "--server", url, "--capture", "tone", code=1)
    finally:
        other.kill()
        other.communicate()
    assert "refused (501)" in said


def test_a_server_that_refuses(tmp_path: pathlib.Path) -> None:
    with serving(tmp_path, "--token", "secret") as server:
        said = failing("stream", "--server", server.url, "--capture", "tone", code=1)
        assert "refused (401): a bearer token is needed" in said
        arguments = ("--capture", "tone", "--duration", "0.5", "--token", "secret")
        with gapless("stream", "--server", server.url, *arguments) as client:
            assert client.end() == 0


@pytest.mark.parametrize(
    ("name", "content"), [("text.wav", b"no audio"), ("empty.wav", b""), ("gone.wav", None)]
)
def test_an_input_that_is_not_audio(
    tmp_path: pathlib.Path, name: str, content: bytes | None
) -> None:
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    said = failing("stream", "--capture", "file", "--input", str(path), code=2)
    assert f"cannot read {path} as audio" in said


def test_a_folder_that_cannot_be_written(tmp_path: pathlib.Path) -> None:
    (tmp_path / "file").write_text("")
    folder = str(tmp_path / "file" / "recordings")
    assert f"cannot write recordings to {folder}" in failing(
        "serve", "--port", "0", "--recordings", folder, code=1
    )


def test_a_port_in_use(tmp_path: pathlib.Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        said = failing("serve", "--port", port, "--recordings", str(tmp_path), code=1)
    assert f"127.0.0.1:{port} is in use by another program" in said


def test_an_address_of_another_machine(tmp_path: pathlib.Path) -> None:
    arguments = (
        "--host",
        "203.0.113.9",
        "--token",
        "nobody guesses it",
        "--recordings",
        str(tmp_path),
    )
    assert "host: cannot listen on 203.0.113.9" in failing("serve", *arguments, code=2)


def test_a_missing_certificate(tmp_path: pathlib.Path) -> None:
    arguments = ("--tls-cert", "/no/cert", "--tls-key", "/no/key", "--recordings", str(tmp_path))
    assert "tls_cert: cannot use /no/cert" in failing("serve", *arguments, code=2)


@pytest.mark.parametrize(
    ("arguments", "env", "said"),
    [
        (("serve", "--port", "x"), {}, "port: 'x' is not a whole number (from --port)"),
        (("serve",), {"GAPLESS_STORAGE": "tape"}, "(from GAPLESS_STORAGE)"),
        (("serve",), {"GAPLESS_PROT": "1"}, "prot: there is no such setting"),
        (("serve", "--config", "/no/file"), {}, "config: cannot read /no/file"),
        (("serve", "--host", "0.0.0.0"), {}, "token: 0.0.0.0 can be reached"),
        (("serve", "--host", "0.0.0.0", "--token", "x"), {}, "token needs at least 16 characters"),
        (("stream", "--capture", "tape"), {}, "capture: 'tape' is not one of"),
        (("stream", "--capture", "file"), {}, "input: --capture file needs"),
        (("stream", "--server", "ftp://x"), {}, "server: 'ftp://x' is not an http://"),
    ],
)
def test_a_wrong_setting(arguments: tuple[str, ...], env: dict[str, str], said: str) -> None:
    assert said in failing(*arguments, env=env, code=2)


def test_an_unknown_option() -> None:
    with gapless("serve", "--prot", "1") as process:
        assert process.end() == 2
    assert any("No such option '--prot'" in line for line in process.errors)


@pytest.mark.parametrize(
    ("backend", "hidden", "advice"),
    [
        ("sounddevice", "sounddevice", "pip install sounddevice"),
        ("pyaudio", "pyaudio", "apt install portaudio19-dev"),
    ],
)
def test_a_missing_backend_is_reported_with_how_to_get_it(
    tmp_path: pathlib.Path, backend: str, hidden: str, advice: str
) -> None:
    (tmp_path / f"{hidden}.py").write_text("raise ImportError")
    env = {"PYTHONPATH": str(tmp_path)}
    for command in ("stream", "devices"):
        assert advice in failing(command, "--capture", backend, env=env, code=2)


def test_a_missing_port_audio_is_reported_with_how_to_get_it(tmp_path: pathlib.Path) -> None:
    (tmp_path / "sounddevice.py").write_text("raise OSError('PortAudio library not found')")
    env = {"PYTHONPATH": str(tmp_path)}
    assert "apt install libportaudio2" in failing("devices", env=env, code=2)


def test_no_capture_library_is_imported_before_it_is_chosen() -> None:
    code = (
        "import sys, entrypoints.container; "
        "assert not {'sounddevice', 'pyaudio'} & set(sys.modules), 'imported'"
    )
    subprocess.run([sys.executable, "-c", code], check=True, env=environment())


def test_help_reads_like_a_manual() -> None:
    for command in ([], ["serve"], ["stream"], ["devices"], ["demo"]):
        process = Process(*command, "--help")
        assert process.end() == 0
        process.kill()
        text = "\n".join(process.lines)
        assert "gapless" in text or "Record ten seconds" in text
        assert max(map(len, process.lines)) <= 100
