"""Checks the types of the pages with TypeScript (``make types``), against the API as it is now."""

from __future__ import annotations

import json
import pathlib
import subprocess
import sys

from tests.rigs.api_page import document

ROOT = pathlib.Path(__file__).parents[2]
PAGES = ROOT / "adapters" / "http" / "pages"
NPM = ROOT / ".venv" / "npm"
TYPES = NPM / "api.d.ts"
_PROGRAMS = NPM / "node_modules" / ".bin"


def is_installed() -> bool:
    return (_PROGRAMS / "tsc").exists()


def check() -> int:
    """Return the exit code of the first check that fails; 0 if the types are right."""
    openapi = NPM / "openapi.json"
    openapi.write_text(json.dumps(document("recordings")))
    commands = [
        [_PROGRAMS / "openapi-typescript", openapi, "-o", TYPES],
        [_PROGRAMS / "tsc", "--noEmit", "-p", PAGES / "tsconfig.json"],
        [_PROGRAMS / "tsc", "--noEmit", "-p", PAGES / "tsconfig.worker.json"],
    ]
    for command in commands:
        if code := subprocess.run(command, cwd=NPM, stdout=sys.stderr).returncode:
            return code
    return 0


if __name__ == "__main__":
    if not is_installed():
        sys.exit("npm has installed no TypeScript: the types of the pages are not checked")
    sys.exit(check())
