"""A stranger who has the shared token and the id of a session can neither end nor change it."""

from __future__ import annotations

import pathlib
import signal
import time
import urllib.error
import urllib.request

import pytest

from tests.rigs.processes import gapless, serving


def status_of(request: urllib.request.Request) -> int:
    try:
        with urllib.request.urlopen(request) as response:
            return int(response.status)
    except urllib.error.HTTPError as error:
        with error:
            return error.code


@pytest.mark.parametrize("workers", ["1", "2"])
def test_the_shared_token_and_an_id_do_not_end_a_session(
    tmp_path: pathlib.Path, workers: str
) -> None:
    tokens = ("--token", "shared", "--admin-token", "admin")
    with serving(tmp_path, "--workers", workers, *tokens) as server:

        def delete(session: str, bearer: str) -> int:
            headers = {"Authorization": f"Bearer {bearer}"}
            url = f"{server.url}/sessions/{session}"
            return status_of(urllib.request.Request(url, method="DELETE", headers=headers))

        def reroute(session: str) -> int:
            headers = {"Authorization": "Bearer shared", "Content-Type": "application/json"}
            body = f'{{"id": "{session}", "candidate": "candidate:1 1 udp 1 127.0.0.1 9 typ host"}}'
            url = f"{server.url}/ice-candidate"
            return status_of(urllib.request.Request(url, data=body.encode(), headers=headers))

        command = ("stream", "--server", server.url, "--capture", "tone", "--token", "shared")
        with gapless(*command) as client, gapless(*command) as other:
            sessions = [server.process.wait_for("recording,").split()[0] for _ in range(2)]
            for session in sessions * 3:  # whichever worker gets the request
                assert (delete(session, "shared"), reroute(session)) == (403, 403)
                assert delete(session, "wrong") == 401
            time.sleep(1)  # a second of sound
            client.process.send_signal(signal.SIGINT)
            assert client.end() == 0, client.errors
            assert "safe on the server" in client.lines[-1]
            ended = server.process.wait_for("session ended").split()[0]
            sessions.remove(ended)
            assert delete(sessions[0], "admin") == 204
            assert other.end() == 1
    in_names = {path.stem.rpartition("-")[2] for path in server.recordings()}
    assert in_names == {ended, *sessions}  # so a stranger can know the ids
