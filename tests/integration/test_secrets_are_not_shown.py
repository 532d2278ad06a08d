"""What a server was given in its environment or in files is nowhere to be read."""

from __future__ import annotations

import http.client
import pathlib
import subprocess
import sys
import urllib.parse

from tests.rigs.processes import environment, gapless, serving, workers_of

TOKEN, ADMIN, TURN, PASSPHRASE = (f"{word}-Zm9vYmFyYmF6" for word in ("t", "a", "turn", "p"))
SECRETS = (TOKEN, ADMIN, TURN, PASSPHRASE)


def command_lines(process_id: int) -> str:
    """Return the command lines of a server and of its workers, as `ps` shows them."""
    family = (process_id, *workers_of(process_id))
    return " ".join(
        pathlib.Path(f"/proc/{number}/cmdline").read_bytes().decode().replace("\0", " ")
        for number in family
    )


def delete(url: str, token: str) -> None:
    """Ask a server to end a session that it does not know."""
    connection = http.client.HTTPConnection(urllib.parse.urlsplit(url).netloc, timeout=20)
    headers = {"Authorization": f"Bearer {token}"}
    connection.request("DELETE", "/sessions/unknown", headers=headers)
    assert 400 <= connection.getresponse().status < 500
    connection.close()


def test_a_server_shows_none_of_its_secrets(tmp_path: pathlib.Path) -> None:
    admin = tmp_path / "admin"
    admin.write_text(f"{ADMIN}\n")
    recordings, audit = tmp_path / "recordings", tmp_path / "audit"
    environ = {
        "GAPLESS_TOKEN": TOKEN,
        "GAPLESS_ADMIN_TOKEN_FILE": str(admin),
        "GAPLESS_TURN_SECRET": TURN,
        "GAPLESS_TLS_PASSPHRASE": PASSPHRASE,
    }
    options = ("--workers", "2", "--audit-log", str(audit))
    with serving(recordings, *options, env=environ) as server:
        shown = command_lines(server.process.process.pid)
        client = ("stream", "--server", server.url, "--capture", "tone", "--duration", "1")
        with gapless(*client, env={"GAPLESS_TOKEN": TOKEN}) as streaming:
            shown += command_lines(streaming.process.pid)
            assert streaming.end() == 0, streaming.errors
        server.process.wait_for("session ended")
        for bearer in (TOKEN, ADMIN, "wrong"):
            delete(server.url, bearer)
    assert "entrypoints serve" in shown
    shown += "\n".join([*server.process.lines, *server.process.errors])
    shown += "\n".join([*streaming.lines, *streaming.errors])
    files = [path for path in (audit, *recordings.rglob("*")) if path.is_file()]
    assert any(path.suffix == ".json" for path in files)
    for path in files:
        shown += path.read_bytes().decode(errors="replace")
    assert [secret for secret in SECRETS if secret in shown] == []


def test_whoever_puts_a_secret_on_the_command_line_is_told() -> None:
    command = (sys.executable, "-m", "entrypoints", "stream", "--server", "http://127.0.0.1:1")
    options = ("--capture", "file", "--input", "/no/file", "--token", TOKEN)
    done = subprocess.run(
        [*command, *options], env=environment(), capture_output=True, text=True, timeout=50
    )
    warnings = [line for line in done.stderr.splitlines() if "WARNING" in line]
    assert len(warnings) == 1
    assert "use GAPLESS_TOKEN in the environment or --token-file FILE instead" in warnings[0]
    assert TOKEN not in done.stderr + done.stdout
