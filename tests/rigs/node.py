"""Node, which runs the modules of the pages that need no browser."""

from __future__ import annotations

import json
import pathlib
import shutil
import subprocess
from typing import Any

from adapters.http.pages.handlers import FILES

NODE = shutil.which("node")
"""The program; None if it is not installed."""
_TIMEOUT_S = 60


def run_in_node(script: str, argument: Any = None) -> Any:
    """Run a script that imports modules of the pages; return the JSON value that it returns.

    The script is the body of an async function of `argument`, a JSON value, and of `load`, which
    imports a module by its path in the folder of the pages. Raises AssertionError with what the
    script has thrown.
    """
    assert NODE is not None
    source = f"""
    const chunks = [];
    for await (const chunk of process.stdin) chunks.push(chunk);
    const argument = JSON.parse(Buffer.concat(chunks));
    const load = (path) => import({json.dumps(pathlib.Path(FILES).as_uri())} + "/" + path);
    const result = await (async () => {{ {script} }})();
    process.stdout.write(JSON.stringify(result ?? null));
    """
    ran = subprocess.run(
        [NODE, "--input-type=module", "--eval", source],
        input=json.dumps(argument),
        capture_output=True,
        text=True,
        timeout=_TIMEOUT_S,
    )
    assert ran.returncode == 0, ran.stderr
    return json.loads(ran.stdout)
