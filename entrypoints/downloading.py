"""Downloads a recording into a file, and goes on with what an earlier attempt has left."""

from __future__ import annotations

import pathlib
import re
import sys
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from typing import BinaryIO

from domain.errors import ServerUnreachable, SettingInvalid, StorageFailed, WrongServer
from entrypoints.asking import ApiClient
from entrypoints.spool_view import size_text

_CHUNK_BYTES = 256 * 1024
_PARTIAL = ".partial"
_VERSION = re.compile(r"[A-Za-z0-9-]{1,100}")
_ETAG = re.compile(rf'"({_VERSION.pattern})"')
_RANGE = re.compile(r"bytes (\d{1,18})-\d{1,18}/(\d{1,18})", re.ASCII)
_QUIET_S = 1.0
"""What is done by then shows no progress."""
_REDRAW_S = 0.2
_PLAIN_S = 5.0


async def download(
    api: ApiClient, path: str, target: pathlib.Path, *, is_forced: bool, file_format: str | None
) -> int:
    """Download into `target`; return its size in bytes.

    What has arrived is in ``NAME.VERSION.partial`` until it is whole. The next attempt goes on with
    it if the server still has that version, unless the sound is converted. Raises `SettingInvalid`
    if there is such a file already, `StorageFailed`, and as `ApiClient` does.
    """
    try:
        if not is_forced:
            _check_free(target)
        begun = _Partial.find(target)
        headers = {} if begun is None else begun.headers
        async with api.stream(path, headers=headers, format=file_format) as response:
            total = response.content_length
            if response.status == 206:
                begun, total = _continued(begun, response.headers.get("Content-Range", ""))
            else:  # there was none, or it is of another version
                begun = _Partial.begin(target, response.headers.get("ETag", ""), instead_of=begun)
            try:
                with begun.opened() as file:
                    chunks = response.content.iter_chunked(_CHUNK_BYTES)
                    size = await _write(file, chunks, begun.have, total)
            except BaseException:
                begun.leave()
                raise
        if total is not None and size != total:
            raise ServerUnreachable(f"{size} of {total} bytes came; the next attempt goes on there")
        begun.become(target, is_forced=is_forced)
    except OSError as error:
        raise StorageFailed(f"cannot write {target}: {error.strerror or error}") from error
    return size


@dataclass(frozen=True, slots=True)
class _Partial:
    """What has arrived of a file."""

    path: pathlib.Path
    version: str | None
    """None if nobody could go on with it."""
    have: int
    """Bytes."""

    @classmethod
    def find(cls, target: pathlib.Path) -> _Partial | None:
        """Return what is left of an earlier attempt."""
        for path in sorted(target.parent.iterdir()):
            name = path.name
            if not (name.startswith(f"{target.name}.") and name.endswith(_PARTIAL)):
                continue
            version = name.removeprefix(f"{target.name}.").removesuffix(_PARTIAL)
            if _VERSION.fullmatch(version) and path.is_file() and not path.is_symlink():
                return cls(path, version, path.stat().st_size)
        return None

    @classmethod
    def begin(cls, target: pathlib.Path, etag: str, *, instead_of: _Partial | None) -> _Partial:
        if instead_of is not None:
            instead_of.path.unlink()
        found = _ETAG.fullmatch(etag)
        version = found[1] if found else None
        path = target.with_name(f"{target.name}.{version or 'converted'}{_PARTIAL}")
        path.unlink(missing_ok=True)
        return cls(path, version, 0)

    @property
    def headers(self) -> dict[str, str]:
        """The headers that ask for the rest; the last byte comes again, so that there is a rest."""
        if not self.have:
            return {}
        return {"Range": f"bytes={self.have - 1}-", "If-Range": f'"{self.version}"'}

    def opened(self) -> BinaryIO:
        """Open it for what comes next."""
        file = self.path.open("r+b" if self.path.exists() else "xb")
        file.seek(self.have)
        return file

    def leave(self) -> None:
        """Keep it for the next attempt, if that can go on with it."""
        if self.version is None:
            self.path.unlink(missing_ok=True)

    def become(self, target: pathlib.Path, *, is_forced: bool) -> None:
        """Get its final name. Raises `SettingInvalid` if somebody else has taken that."""
        if not is_forced:
            _check_free(target)
        self.path.replace(target)


def _check_free(target: pathlib.Path) -> None:
    if target.exists():
        raise SettingInvalid("file", f"{target} exists; --force replaces it")


def _continued(begun: _Partial | None, content_range: str) -> tuple[_Partial, int]:
    """Return what is continued, and the size of the whole. Raises `WrongServer`."""
    found = _RANGE.fullmatch(content_range)
    if begun is None or found is None or int(found[1]) != begun.have - 1:
        raise WrongServer("the server sends another part than it was asked for")
    return replace(begun, have=begun.have - 1), int(found[2])


async def _write(file: BinaryIO, chunks: AsyncIterator[bytes], have: int, total: int | None) -> int:
    """Write what comes, and show how much that is; return the size of the file."""
    progress = _Progress(have, total)
    try:
        async for chunk in chunks:
            file.write(chunk)
            have += len(chunk)
            progress.show(have)
    finally:
        progress.end()
    return have


class _Progress:
    """Shows on standard error how far a download is, if it takes long."""

    def __init__(self, have: int, total: int | None) -> None:
        self._first = have
        self._total = total
        self._began = time.monotonic()
        self._next = self._began + _QUIET_S
        self._is_live = sys.stderr.isatty()
        self._is_drawn = False

    def show(self, have: int) -> None:
        now = time.monotonic()
        if now < self._next:
            return
        self._next = now + (_REDRAW_S if self._is_live else _PLAIN_S)
        text = size_text(have)
        if self._total:
            text += f" of {size_text(self._total)} ({have / self._total:.0%})"
        text += f", {size_text(round((have - self._first) / (now - self._began)))}/s"
        if self._is_live:
            sys.stderr.write(f"\r\x1b[K{text}")
            self._is_drawn = True
        else:
            sys.stderr.write(f"{text}\n")
        sys.stderr.flush()

    def end(self) -> None:
        if self._is_drawn:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()
