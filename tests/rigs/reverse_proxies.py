"""Caddy and nginx before a server, with the lines that docs/server.md has for them."""

from __future__ import annotations

import contextlib
import os
import pathlib
import re
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager

from tests.rigs.processes import free_port
from tests.rigs.tls import self_signed

GUIDE = pathlib.Path(__file__).parents[2] / "docs/server.md"
PROGRAMS = {
    "caddy": shutil.which("caddy"),
    # not in the path of users
    "nginx": shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin"),
}
"""None for one that is not installed."""
_NAME, _UPSTREAM = "record.example.org", "127.0.0.1:8080"
_START_S = 20.0
_NGINX = """\
daemon off;
pid nginx.pid;
error_log stderr;
events {{}}
http {{
    access_log access.log;
    client_body_temp_path body;
    proxy_temp_path proxy;
    fastcgi_temp_path fastcgi;
    uwsgi_temp_path uwsgi;
    scgi_temp_path scgi;
    {lines}
}}
"""
_CADDY = """\
{{
	admin off
	auto_https disable_redirects
}}
{lines}
"""


def lines_for(name: str) -> str:
    """Return what the guide says for a program, or its first lines of another language."""
    found = re.search(rf"```{name}\n(.*?)```", GUIDE.read_text(), re.DOTALL)
    assert found is not None
    return found[1]


@contextmanager
def reverse_proxy(program: str, upstream: str, folder: pathlib.Path) -> Iterator[str]:
    """Run a program before the server at the URL `upstream`; its own URL."""
    cert, key = self_signed(folder)
    port = free_port()
    lines = lines_for(program).replace(_UPSTREAM, upstream.removeprefix("http://"))
    assert lines != lines_for(program)
    if program == "caddy":
        lines = lines.replace(f"{_NAME} {{", f"https://127.0.0.1:{port} {{\n\ttls {cert} {key}")
        config, command = _CADDY, ["run", "--adapter", "caddyfile", "--config"]
    else:
        lines = re.sub(r"/etc/letsencrypt/live/\S+/fullchain.pem", cert, lines)
        lines = re.sub(r"/etc/letsencrypt/live/\S+/privkey.pem", key, lines)
        lines = lines.replace("/var/log/nginx/", f"{folder}/")
        lines = lines.replace("listen 443 ", f"listen 127.0.0.1:{port} ")
        lines = lines.replace("listen 80;", f"listen 127.0.0.1:{free_port()};")
        config, command = _NGINX, ["-p", str(folder), "-c"]
    path = folder / f"{program}.conf"
    path.write_text(config.format(lines=lines))
    executable = PROGRAMS[program]
    assert executable is not None
    errors = folder / f"{program}.log"
    with errors.open("w") as log:
        process = subprocess.Popen(
            [executable, *command, str(path)], stdout=log, stderr=log, cwd=folder,
            env=os.environ | {"HOME": str(folder), "XDG_DATA_HOME": str(folder)},
        )  # fmt: skip
    try:
        _wait_for(port, process, errors)
        yield f"https://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(_START_S)


def _wait_for(port: int, process: subprocess.Popen[bytes], errors: pathlib.Path) -> None:
    until = time.monotonic() + _START_S
    while time.monotonic() < until and process.poll() is None:
        with contextlib.suppress(OSError):
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        time.sleep(0.05)
    raise AssertionError(errors.read_text())
