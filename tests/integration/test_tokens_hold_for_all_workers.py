"""Tokens of a running server: on all its workers, after a restart, in no log, and as a QR code."""

from __future__ import annotations

import json
import os
import pathlib
import pty
import subprocess
import sys
import urllib.error
import urllib.request
from typing import Any

from tests.rigs.processes import environment, serving

TOKEN, ADMINISTRATORS = "the token of all clients", "the token of administrators"
TOKENS = ("--token", TOKEN, "--admin-token", ADMINISTRATORS)


def ask(url: str, method: str, path: str, token: str, body: object = None) -> tuple[int, Any]:
    """Send a request over a new connection, which any worker accepts."""
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url + path, data=data, headers=headers, method=method)
    try:
        with urllib.request.urlopen(request) as answer:
            return answer.status, json.loads(answer.read() or b"null")
    except urllib.error.HTTPError as error:
        return error.code, None


def issue(url: str, name: str) -> dict[str, str]:
    body = {"role": "publish", "sub": name}
    status, token = ask(url, "POST", "/api/tokens", ADMINISTRATORS, body)
    assert status == 201
    return dict(token)


def statuses(url: str, token: str, count: int = 10) -> set[int]:
    return {ask(url, "GET", "/whip", token)[0] for _ in range(count)}


def test_a_token_is_issued_and_revoked_on_all_workers_and_over_restarts(
    tmp_path: pathlib.Path,
) -> None:
    folder, audit = tmp_path / "recordings", tmp_path / "audit.log"
    with serving(folder, *TOKENS, "--workers", "2", "--audit-log", str(audit)) as server:
        kept, revoked = issue(server.url, "kept"), issue(server.url, "lost")
        texts = [kept["token"], revoked["token"]]
        assert [statuses(server.url, text) for text in texts] == [{204}, {204}]
        assert ask(server.url, "DELETE", f"/api/tokens/{revoked['id']}", ADMINISTRATORS)[0] == 204
        assert [statuses(server.url, text) for text in texts] == [{204}, {401}]
        assert ask(server.url, "DELETE", "/sessions/unknown", kept["token"])[0] == 403
        assert ask(server.url, "GET", f"/{kept['token']}?{kept['token']}", kept["token"])[0] == 404
    with serving(folder, *TOKENS) as later:
        assert [statuses(later.url, text) for text in texts] == [{204}, {401}]
        listed = ask(later.url, "GET", "/api/tokens", ADMINISTRATORS)[1]["tokens"]
    assert [bool(item["revoked"]) for item in listed] == [True, False]
    told = audit.read_text()
    assert f"kept ({kept['id']})" in told
    logs = "\n".join([*server.process.lines, *later.process.lines, json.dumps(listed), told])
    files = [path.read_bytes() for path in folder.rglob("*") if path.is_file()]
    for secret in (*texts, TOKEN, ADMINISTRATORS):
        assert secret not in logs
        assert not any(secret.encode() in content for content in files)


def test_an_invitation_has_a_qr_code_on_a_terminal(tmp_path: pathlib.Path) -> None:
    with serving(tmp_path) as server:
        ours, its = pty.openpty()
        command = [sys.executable, "-m", "entrypoints", "invite", "--server", server.url]
        with subprocess.Popen(
            [*command, "--name", "Ana"], stdout=its, stderr=subprocess.PIPE, env=environment()
        ) as process:
            os.close(its)
            shown = b""
            try:
                while block := os.read(ours, 65536):
                    shown += block
            except OSError:  # the terminal is closed
                pass
            assert process.stderr is not None
            assert b"expires" in process.stderr.read()
        os.close(ours)
        lines = shown.decode().split("\r\n")
        assert lines[-1] == "" and lines[-2].startswith(f"{server.url}/#token=")
        assert set("".join(lines[:-2])) & set("█▀▄") and max(map(len, lines[:-2])) < 100
