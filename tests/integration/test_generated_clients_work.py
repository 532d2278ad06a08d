"""Clients that generators make of the OpenAPI document are used as they come."""

from __future__ import annotations

import json
import pathlib
import subprocess
import sys
import urllib.request
from collections.abc import Iterator

import pytest

from tests.rigs.processes import Server, gapless, serving

ADMIN = "the-token-of-an-administrator"
TOKEN = "the-token-of-all-the-clients"
NPM = pathlib.Path(sys.prefix) / "npm" / "node_modules" / ".bin"
MODULES = pathlib.Path(sys.prefix) / "npm" / "node_modules"

PYTHON = """
import sys
from client import AuthenticatedClient
from client.api.recordings import (
    delete_recording, get_recording, get_recording_ledger, list_recordings,
)
from client.api.sessions import list_sessions
from client.models import Problem

url, token = sys.argv[1:]
client = AuthenticatedClient(base_url=url, token=token)
page = list_recordings.sync(client=client, limit=10)
(recording,) = page.recordings
assert get_recording.sync(recording.id, client=client) == recording
ledger = get_recording_ledger.sync(recording.id, client=client)
assert ledger.spans[0].kind == "received", ledger
assert list_sessions.sync(client=client).sessions == []
assert isinstance(get_recording.sync("nothing", client=client), Problem)
assert delete_recording.sync_detailed(recording.id, client=client).status_code == 204
assert list_recordings.sync(client=client).recordings == []
print("done", recording.name)
"""

TYPESCRIPT = """
import createClient from "openapi-fetch";
import type { components, paths } from "./api";

const [url, token] = process.argv.slice(2);
const client = createClient<paths>({
  baseUrl: url,
  headers: { Authorization: `Bearer ${token}` },
});

async function main(): Promise<void> {
  const { data, error } = await client.GET("/api/recordings", { params: { query: { limit: 10 } } });
  if (error !== undefined) throw new Error(error.detail);
  const recording: components["schemas"]["Recording"] | undefined = data.recordings[0];
  if (recording === undefined) throw new Error("no recording");
  const path = { id: recording.id };
  const ledger = await client.GET("/api/recordings/{id}/ledger", { params: { path } });
  if (ledger.data?.spans[0]?.kind !== "received") throw new Error("not received");
  const unknown = await client.GET("/api/recordings/{id}", { params: { path: { id: "nothing" } } });
  if (unknown.error?.status !== 404) throw new Error("an unknown recording was found");
  const sessions = await client.GET("/api/sessions");
  if (sessions.data?.sessions.length !== 0) throw new Error("a session is left");
  const deleted = await client.DELETE("/api/recordings/{id}", { params: { path } });
  if (deleted.response.status !== 204) throw new Error(`${deleted.response.status}`);
  console.log("done", recording.name);
}

void main();
"""
COMPILER = {
    "compilerOptions": {
        "strict": True,
        "noUncheckedIndexedAccess": True,
        "module": "commonjs",
        "moduleResolution": "node10",
        "target": "es2022",
        "lib": ["es2022", "dom"],
        "types": [],
        "skipLibCheck": False,
        "outDir": "built",
    },
    "files": ["main.ts", "process.d.ts"],
}


@pytest.fixture
def server(tmp_path: pathlib.Path) -> Iterator[Server]:
    """Run a server that has one recording."""
    recordings = tmp_path / "recordings"
    recordings.mkdir()
    with serving(recordings, "--token", TOKEN, "--admin-token", ADMIN) as server:
        client = ("stream", "--server", server.url, "--capture", "tone", "--duration", "1")
        with gapless(*client, "--token", TOKEN) as stream:
            assert stream.end() == 0, stream.errors
        server.recording()
        yield server


def run(*command: object, folder: pathlib.Path) -> str:
    """Run a command in a folder; return what it prints."""
    done = subprocess.run(
        [str(word) for word in command], cwd=folder, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def save_document(server: Server, folder: pathlib.Path) -> None:
    with urllib.request.urlopen(f"{server.url}/api/openapi.json") as answer:
        (folder / "openapi.json").write_bytes(answer.read())


def test_a_client_in_python(server: Server, tmp_path: pathlib.Path) -> None:
    save_document(server, tmp_path)
    generator = pathlib.Path(sys.executable).parent / "openapi-python-client"
    said = run(
        generator, "generate", "--path", "openapi.json", "--output-path", "client", "--meta",
        "none", folder=tmp_path,
    )  # fmt: skip
    assert "WARNING" not in said.upper().replace("RUFF IS NOT IN PATH", ""), said
    (tmp_path / "use.py").write_text(PYTHON)
    assert run(sys.executable, "use.py", server.url, ADMIN, folder=tmp_path).startswith("done")


@pytest.mark.skipif(not NPM.is_dir(), reason="npm could install nothing")
def test_a_client_in_typescript(server: Server, tmp_path: pathlib.Path) -> None:
    save_document(server, tmp_path)
    run(NPM / "openapi-typescript", "openapi.json", "-o", "api.d.ts", folder=tmp_path)
    (tmp_path / "node_modules").symlink_to(MODULES)
    (tmp_path / "main.ts").write_text(TYPESCRIPT)
    (tmp_path / "process.d.ts").write_text("declare const process: { argv: string[] };\n")
    (tmp_path / "tsconfig.json").write_text(json.dumps(COMPILER))
    run(NPM / "tsc", "--project", "tsconfig.json", folder=tmp_path)
    assert run("node", "built/main.js", server.url, ADMIN, folder=tmp_path).startswith("done")
