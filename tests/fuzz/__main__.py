"""Fuzz every target for a while. Inputs that crash it are minimized and kept for `make test`."""

from __future__ import annotations

import argparse
import hashlib
import pathlib
import subprocess
import sys
import time

from tests.fuzz.seeds import seeds
from tests.fuzz.targets import TARGETS

CRASHES = pathlib.Path(__file__).parent / "crashes"
CORPUS = pathlib.Path(".cache/fuzz")
"""Inputs that reached new code are kept, so that the next run continues from them."""
_SLOW_S = 2
_MAX_BYTES = 8192


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--seconds", type=int, default=60, help="for each target")
    parser.add_argument("--only", choices=TARGETS, help="this target")
    arguments = parser.parse_args()
    crashed = []
    for name in [arguments.only] if arguments.only else TARGETS:
        print(f"{name}: ", end="", flush=True)
        crash = _fuzz(name, arguments.seconds)
        if crash is not None:
            crashed.append(crash)
    for crash in crashed:
        print(f"an input that crashes its parser was kept: {crash}")
    return 1 if crashed else 0


def _fuzz(name: str, seconds: int) -> pathlib.Path | None:
    """Run libFuzzer on a target; return the file with a minimized crash, if there is one."""
    corpus, found = CORPUS / name / "corpus", CORPUS / name / "found"
    for folder in (corpus, found):
        folder.mkdir(parents=True, exist_ok=True)
    for seed in seeds()[name]:
        (corpus / hashlib.sha256(seed).hexdigest()[:16]).write_bytes(seed)
    options = [f"-max_total_time={seconds}", f"-timeout={_SLOW_S}", f"-max_len={_MAX_BYTES}"]
    options += [f"-artifact_prefix={found}/", "-rss_limit_mb=2048", "-print_final_stats=1"]
    command = [sys.executable, "-m", "tests.fuzz.one", name, *options, str(corpus)]
    started_at = time.time()
    done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
    units = [line for line in done.stderr.splitlines() if "number_of_executed_units" in line]
    print(f"{units[0].split()[-1] if units else 'unknown'} runs, exit code {done.returncode}")
    if done.returncode == 0:
        return None
    artifacts = [path for path in found.iterdir() if path.stat().st_mtime >= started_at - 1]
    if not artifacts:
        sys.exit(f"the fuzzer failed:\n{done.stderr[-4000:]}")
    print(done.stdout[-2000:] + done.stderr[-2000:])
    data = max(artifacts, key=lambda path: path.stat().st_mtime).read_bytes()
    small = _minimize(name, data)
    kept = CRASHES / name / hashlib.sha256(small).hexdigest()[:16]
    kept.parent.mkdir(parents=True, exist_ok=True)
    kept.write_bytes(small)
    return kept


def _minimize(name: str, data: bytes) -> bytes:
    """Remove all bytes that the crash does not need."""
    wanted = _trouble(name, data)
    if wanted is None:
        return data
    size = len(data)
    while size:
        at = 0
        while at < len(data):
            shorter = data[:at] + data[at + size :]
            if _trouble(name, shorter) == wanted:
                data = shorter
            else:
                at += size
        size //= 2
    return data


def _trouble(name: str, data: bytes) -> object:
    """The type of the exception that the input causes, or "slow", or None."""
    started_at = time.thread_time()
    try:
        TARGETS[name](data)
    except Exception as error:
        return type(error)
    return "slow" if time.thread_time() - started_at > _SLOW_S else None


if __name__ == "__main__":
    sys.exit(main())
