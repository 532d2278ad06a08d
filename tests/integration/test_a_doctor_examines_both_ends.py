"""`gapless doctor` with a real server: all checks, and the exit code."""

from __future__ import annotations

import json
import pathlib

from tests.rigs.processes import gapless, serving

COMMAND = ("doctor", "--capture", "tone", "--json", "--seconds", "1")


def test_a_server_is_examined_by_a_stream(tmp_path: pathlib.Path) -> None:
    with serving(tmp_path, "--token", "secret") as server:
        options = ("--server", server.url, "--token", "secret")
        with gapless(*COMMAND, *options) as doctor:
            assert doctor.end() == 0, doctor.lines + doctor.errors
    report = json.loads("\n".join(doctor.lines))
    assert report["ok"] is True
    found = {one["check"]: one for one in report["findings"]}
    good = [check for check, one in found.items() if one["level"] == "ok"]
    assert {"device", "level", "server", "tls", "version", "path", "loss"} <= {*good}
    assert found["path"]["what"] == "host to host"
    assert "as long as what was sent" in found["recording"]["what"]


def test_a_server_that_is_not_there_is_a_problem() -> None:
    with gapless(*COMMAND, "--server", "http://127.0.0.1:1") as doctor:
        assert doctor.end() == 1
    report = json.loads("\n".join(doctor.lines))
    assert report["ok"] is False
    (one,) = [one for one in report["findings"] if one["level"] == "problem"]
    assert one["check"] == "server"
    assert "no server at" in one["what"]
