"""Runs tests on a mutant in a forked process. Forking saves the time of importing libraries."""

from __future__ import annotations

import importlib
import importlib.abc
import importlib.machinery
import os
import resource
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Sequence
from pathlib import Path
from types import CodeType

import hypothesis
import pytest

_LIBRARIES = ("numpy", "aiohttp", "av", "cffi")
"""Imported once, before forking. No module of ours may be among them, or a mutant has no effect."""
_MEMORY = 4 << 30
"""The limit of a process in bytes: a mutant may allocate without end."""
_PROFILE = "mutants"
_OPTIONS = ("-x", "-q", "-p", "no:cacheprovider", f"--hypothesis-profile={_PROFILE}")
_OPTIONS += ("-W", "ignore::pytest.PytestAssertRewriteWarning")  # Hypothesis is loaded already


def prepare() -> None:
    """Import the libraries, and make Hypothesis generate the same examples in every run."""
    for name in _LIBRARIES:
        importlib.import_module(name)
    hypothesis.settings.register_profile(
        _PROFILE,
        deadline=None,
        derandomize=True,
        database=None,
        phases=(hypothesis.Phase.explicit, hypothesis.Phase.generate),  # no shrinking
    )


class Judge:
    """A process that runs tests on one mutant, or on the original code if `source` is None."""

    def __init__(
        self, module: str, source: str | None, tests: Sequence[str], *, timeout_s: float
    ) -> None:
        self._started_at = time.monotonic()
        self._timeout_s = timeout_s
        self._output = tempfile.TemporaryFile()  # noqa: SIM115 (lives as long as the process)
        sys.stdout.flush()
        self._pid = os.fork()
        if self._pid == 0:
            code = 3
            try:
                code = self._run(module, source, tests)
            except BaseException:
                traceback.print_exc()
            finally:
                sys.stdout.flush()
                sys.stderr.flush()
                os._exit(code)

    def is_killed(self) -> bool | None:
        """Whether a test failed, or the time ran out; None while the tests run."""
        pid, status = os.waitpid(self._pid, os.WNOHANG)
        if pid == 0:
            if time.monotonic() - self._started_at < self._timeout_s:
                return None
            os.killpg(self._pid, signal.SIGKILL)
            os.waitpid(self._pid, 0)
            return True
        self.took_s = time.monotonic() - self._started_at
        return os.waitstatus_to_exitcode(status) != 0

    def output(self) -> str:
        """The output of pytest."""
        self._output.seek(0)
        return self._output.read().decode(errors="replace")

    def _run(self, module: str, source: str | None, tests: Sequence[str]) -> int:
        os.setsid()
        for stream in (1, 2):
            os.dup2(self._output.fileno(), stream)
        resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, _MEMORY))
        sys.dont_write_bytecode = source is not None
        if source is not None:
            sys.meta_path.insert(0, _MutantFinder(module, source))
        return int(pytest.main([*_OPTIONS, *tests]))


class _MutantFinder(importlib.abc.MetaPathFinder, importlib.machinery.SourceFileLoader):
    """Imports a module from a mutant's source. The file on disk is not changed."""

    def __init__(self, module: str, source: str) -> None:
        self._name = module.removesuffix(".py").replace("/", ".")
        assert self._name not in sys.modules, f"{self._name} is loaded already"
        super().__init__(self._name, str(Path(module).resolve()))
        self._source = source

    def find_spec(
        self, fullname: str, path: object = None, target: object = None
    ) -> importlib.machinery.ModuleSpec | None:
        if fullname != self._name:
            return None
        return importlib.machinery.ModuleSpec(fullname, self, origin=self.path)

    def get_code(self, fullname: str) -> CodeType:
        return compile(self._source, self.path, "exec", dont_inherit=True)
