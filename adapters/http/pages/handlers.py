"""Serves the pages: HTML, style sheets and modules, as they are in the folder ``files``."""

from __future__ import annotations

import gzip
import hashlib
import pathlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from aiohttp import hdrs, web

from adapters.http.routes import Route

FILES = pathlib.Path(__file__).parent / "files"
SPEAKER, STUDIO = "speaker.html", "studio.html"
MEDIA_TYPES = {
    ".html": "text/html",
    ".css": "text/css",
    ".js": "text/javascript",
    ".svg": "image/svg+xml",
}
_POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self'",
        "connect-src 'self'",
        "media-src 'self'",
        "worker-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
        # no text becomes markup or a script, whoever has written it
        "require-trusted-types-for 'script'",
        "trusted-types gapless",
    )
)
HEADERS = {
    # for workers, too: their policy is the one that their own file comes with
    "Content-Security-Policy": _POLICY,
    "Cross-Origin-Opener-Policy": "same-origin",
    "Permissions-Policy": "microphone=(self), screen-wake-lock=(self), camera=(), geolocation=()",
    # a browser asks each time whether a file is still current: a new version is used at once
    hdrs.CACHE_CONTROL: "no-cache",
    hdrs.VARY: hdrs.ACCEPT_ENCODING,
}


@dataclass(frozen=True, slots=True)
class _File:
    media_type: str
    etag: str
    body: bytes
    gzipped: bytes


class PageHandlers:
    """Serves the files of the pages to everybody: there is nothing secret in them."""

    def __init__(self) -> None:
        self._files = _read_files()

    def routes(self) -> Sequence[Route]:
        return [
            Route("GET", "/", self._speaker, None),
            Route("GET", "/studio", self._studio, None),
            Route("GET", "/pages/{path:.+}", self._file, None),
        ]

    async def _speaker(self, request: web.Request) -> web.StreamResponse:
        return _answer(request, self._files[SPEAKER])

    async def _studio(self, request: web.Request) -> web.StreamResponse:
        return _answer(request, self._files[STUDIO])

    async def _file(self, request: web.Request) -> web.StreamResponse:
        file = self._files.get(request.match_info["path"])
        if file is None:
            raise web.HTTPNotFound
        return _answer(request, file)


def _read_files() -> Mapping[str, _File]:
    """Read all files of the pages, by their paths."""
    files = {}
    for path in FILES.rglob("*"):
        if (media_type := MEDIA_TYPES.get(path.suffix)) is not None:
            body = path.read_bytes()
            etag = f'"{hashlib.sha256(body).hexdigest()[:16]}"'
            files[path.relative_to(FILES).as_posix()] = _File(
                media_type, etag, body, gzip.compress(body, mtime=0)
            )
    return files


def _answer(request: web.Request, file: _File) -> web.StreamResponse:
    headers = {**HEADERS, hdrs.ETAG: file.etag}
    given = request.headers.get(hdrs.IF_NONE_MATCH, "")
    if file.etag in {tag.strip().removeprefix("W/") for tag in given.split(",")}:
        return web.Response(status=304, headers=headers)
    body = file.body
    if "gzip" in request.headers.get(hdrs.ACCEPT_ENCODING, "").lower():
        headers[hdrs.CONTENT_ENCODING] = "gzip"
        body = file.gzipped
    return web.Response(body=body, headers=headers, content_type=file.media_type, charset="utf-8")
