"""Runs a command in the sandbox of a systemd unit, without systemd; also a command of its own.

It does what the unit's lines about system calls, capabilities, files and limits do, as read from
the unit itself. systemd has to be installed for the list of its groups of system calls.
"""

from __future__ import annotations

import ctypes
import errno
import os
import pathlib
import platform
import re
import resource
import shutil
import socket
import struct
import subprocess
import sys
from collections.abc import Iterator, Sequence

UNIT = pathlib.Path(__file__).parents[2] / "deploy" / "gapless.service"
_NUMBERS = pathlib.Path("/usr/include/x86_64-linux-gnu/asm/unistd_64.h")
_ALLOW, _ERRNO = 0x7FFF0000, 0x00050000
_X86_64 = 0xC000003E
_LOAD, _EQUAL, _RETURN = 0x20, 0x15, 0x06
_FIRST_ARGUMENT = 16
_PR_CAPBSET_DROP, _PR_SET_NO_NEW_PRIVS, _PR_SET_SECCOMP = 24, 38, 22


def missing() -> str | None:
    """Return why this machine cannot sandbox a command, or None if it can."""
    if platform.machine() != "x86_64":
        return "the numbers of system calls are those of x86_64"
    if os.geteuid() != 0:
        return "a mount namespace needs root"
    for needed in ("systemd-analyze", "unshare", "mount"):
        if shutil.which(needed) is None:
            return f"{needed} is not installed"
    if not _NUMBERS.exists():
        return "libc6-dev is not installed"
    probe = subprocess.run(["unshare", "--mount", "true"], capture_output=True)
    return None if probe.returncode == 0 else probe.stderr.decode().strip()


def within(folder: pathlib.Path) -> list[str]:
    """Return the command that runs another in the sandbox, where it may write to a folder."""
    script = """
        set -e
        mount --make-rprivate /
        mount --bind "$1" "$1"
        mount --options remount,bind,ro /
        mount --types tmpfs tmpfs /dev/shm
        shift
        export TMPDIR=/dev/shm
        exec "$@"
    """
    entering = [sys.executable, "-m", "tests.rigs.sandbox"]
    return ["unshare", "--mount", "sh", "-c", script, "sandbox", str(folder), *entering]


def settings(unit: pathlib.Path = UNIT) -> dict[str, list[str]]:
    """Read a unit: the values of each name, in order."""
    found: dict[str, list[str]] = {}
    for line in unit.read_text().splitlines():
        if "=" in line and not line.startswith("#"):
            name, _, value = line.partition("=")
            found.setdefault(name, []).append(value)
    return found


def allowed_calls(filters: Sequence[str]) -> set[str]:
    """The system calls that lines of SystemCallFilter= allow, the first of which allows."""
    text = subprocess.run(
        ["systemd-analyze", "--no-pager", "syscall-filter"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    groups: dict[str, list[str]] = {}
    for line in text.splitlines():
        if line.startswith("@"):
            members = groups.setdefault(line.strip(), [])
        elif line.strip() and not line.strip().startswith("#"):
            members.append(line.strip())

    def calls(name: str) -> Iterator[str]:
        if not name.startswith("@"):
            yield name
        for member in groups.get(name, ()):
            yield from calls(member)

    allowed = set(calls("@default"))
    for line in filters:
        named = {call for name in line.removeprefix("~").split() for call in calls(name)}
        allowed = allowed - named if line.startswith("~") else allowed | named
    return allowed


def _program(allowed: set[str], families: Sequence[int]) -> bytes:
    """A filter of system calls (seccomp(2)) as classic BPF."""
    pattern = r"#define __NR_(\w+) (\d+)"
    numbers = {name: int(n) for name, n in re.findall(pattern, _NUMBERS.read_text())}
    refused = _ERRNO | errno.EPERM
    code: list[tuple[int, int, int, int]] = [
        (_LOAD, 0, 0, 4), (_EQUAL, 1, 0, _X86_64), (_RETURN, 0, 0, refused), (_LOAD, 0, 0, 0),
    ]  # fmt: skip

    of_sockets = [(_LOAD, 0, 0, _FIRST_ARGUMENT)]
    for family in families:
        of_sockets += [(_EQUAL, 0, 1, family), (_RETURN, 0, 0, _ALLOW)]
    of_sockets.append((_RETURN, 0, 0, refused))
    code += [(_EQUAL, 0, len(of_sockets), numbers["socket"]), *of_sockets]
    for name in sorted(allowed & numbers.keys()):
        code += [(_EQUAL, 0, 1, numbers[name]), (_RETURN, 0, 0, _ALLOW)]
    code.append((_RETURN, 0, 0, refused))
    return b"".join(struct.pack("=HBBI", op, yes, no, value) for op, yes, no, value in code)


def enter(unit: dict[str, list[str]]) -> None:
    """Put this process into the sandbox for good."""
    libc = ctypes.CDLL(None, use_errno=True)
    files = int(unit["LimitNOFILE"][-1])
    resource.setrlimit(resource.RLIMIT_NOFILE, (files, files))
    os.umask(int(unit["UMask"][-1], 8))
    assert unit["CapabilityBoundingSet"] == [""]
    last = int(pathlib.Path("/proc/sys/kernel/cap_last_cap").read_text())
    for capability in range(last + 1):
        libc.prctl(_PR_CAPBSET_DROP, capability, 0, 0, 0)
    assert unit["NoNewPrivileges"] == ["yes"]
    libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    families = [int(getattr(socket, name)) for name in unit["RestrictAddressFamilies"][-1].split()]
    program = _program(allowed_calls(unit["SystemCallFilter"]), families)
    code = ctypes.create_string_buffer(program, len(program))
    head = struct.pack("HxxxxxxP", len(program) // 8, ctypes.addressof(code))
    if libc.prctl(_PR_SET_SECCOMP, 2, ctypes.c_char_p(head), 0, 0):
        raise OSError(ctypes.get_errno(), "no filter of system calls")


if __name__ == "__main__":
    enter(settings())
    os.execvp(sys.argv[1], sys.argv[1:])
