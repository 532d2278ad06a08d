"""``/api/recordings/{id}/audio``: the sound of a recording, as it is stored or converted."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from typing import TypeVar

from aiohttp import hdrs, web

from adapters.http.api.places import Places
from adapters.http.api.recordings import ONE, TAG, id_in
from adapters.http.operations import Content, Operation, Parameter
from adapters.http.ranges import ByteRange, attachment, range_of
from adapters.http.routes import Route
from adapters.threads import LimitedThreads
from domain.errors import GaplessError, QueryInvalid, StorageFailed
from domain.ports.catalogue import Catalogue, OpenedRecording
from domain.ports.conversion import FileEncoder, FileEncoderFactory, FileFormat
from domain.session.roles import Role

CHUNK_BYTES = 128 * 1024
"""Bytes that are read and sent at a time."""
STEP_S = 0.5
"""Sound that is converted at a time."""
REST = 1.0
"""How long a conversion rests after a step, as a multiple of the time that the step took. The work
goes on without the GIL for the most part, but not all of it."""
MAX_REST_S = 0.1
MAX_DOWNLOADS = 100
"""Recordings that are sent at a time: each takes a descriptor for each of its parts."""
THREADS = 2
"""Reads at a time, and as many recordings that are opened, for which a long ledger may have to be
read: what is read is sent by the event loop, which has other work."""
_MEDIA_TYPES = {
    FileFormat.WAV: "audio/wav",
    FileFormat.OPUS: "audio/ogg",
    FileFormat.FLAC: "audio/flac",
    FileFormat.MP3: "audio/mpeg",
}
_log = logging.getLogger("gapless")
_T = TypeVar("_T")


class AudioHandlers:
    """Sends recordings, live or complete, with the sound that they have at that moment.

    All conversions share one thread, so that they never take more than one processor from what is
    being recorded.
    """

    def __init__(
        self, catalogue: Catalogue, encoders: FileEncoderFactory, *, max_conversions: int
    ) -> None:
        self._catalogue = catalogue
        self._encoders = encoders
        self._downloads = Places(MAX_DOWNLOADS, what="downloads")
        self._conversions = Places(max_conversions, what="conversions")
        self._openers = LimitedThreads(THREADS, name="gapless-open")
        self._readers = ThreadPoolExecutor(THREADS, thread_name_prefix="gapless-audio")
        self._converter = ThreadPoolExecutor(1, thread_name_prefix="gapless-convert")

    def routes(self) -> Sequence[Route]:
        return [Route("GET", f"{ONE}/audio", self._audio, role=Role.WATCH, operation=_AUDIO)]

    async def _audio(self, request: web.Request) -> web.StreamResponse:
        found, wanted = id_in(request), _format_in(request)
        with self._downloads.one():
            opened = await self._openers.run(lambda: self._catalogue.open(found))
            try:
                stored = FileFormat(opened.entry.info.container.value)
                if wanted is None or wanted is stored:
                    return await self._send(request, opened, stored)
                with self._conversions.one():
                    return await self._convert(request, opened, wanted)
            finally:
                # the last descriptor of a large file that was deleted may take long to close
                self._readers.submit(opened.close)

    async def _send(
        self, request: web.Request, opened: OpenedRecording, stored: FileFormat
    ) -> web.StreamResponse:
        """Send the bytes that are stored, or a range of them."""
        etag = f'"{opened.version}"'
        part = range_of(request, size=opened.size, etag=etag)
        whole = part or ByteRange(0, opened.size, opened.size)
        response = _begin(opened, stored, status=200 if part is None else 206)
        response.headers[hdrs.ACCEPT_RANGES] = "bytes"
        response.headers[hdrs.ETAG] = etag
        response.content_length = whole.length
        if part is not None:
            response.headers[hdrs.CONTENT_RANGE] = str(part)
        pieces = _pieces_of(opened, whole)
        return await self._stream(request, response, pieces, self._readers)

    async def _convert(
        self, request: web.Request, opened: OpenedRecording, wanted: FileFormat
    ) -> web.StreamResponse:
        """Send the sound in another format, which is made meanwhile."""
        info, length = opened.entry.info, opened.entry.length
        response = _begin(opened, wanted, status=200)
        response.headers[hdrs.ACCEPT_RANGES] = "none"
        if request.method == hdrs.METH_HEAD:
            await response.prepare(request)
            return response
        encoder = await _run(self._converter, lambda: self._encoders(wanted, info.format, length))
        try:
            if encoder.size is not None:
                response.content_length = encoder.size
            pieces = _converted(opened, encoder)
            return await self._stream(request, response, pieces, self._converter)
        finally:
            self._converter.submit(encoder.close)

    async def _stream(
        self,
        request: web.Request,
        response: web.StreamResponse,
        pieces: Iterator[bytes],
        executor: Executor,
    ) -> web.StreamResponse:
        """Send pieces as they are made: the next one is made when the client has taken the last.

        A piece may be empty, as those of silence often are: between two pieces others have their
        turn, and it is seen whether the client is still there, or the server ends.

        If one cannot be made, the connection is cut off, so that the client does not take what it
        has got for the whole.
        """
        try:
            await response.prepare(request)
            if request.method == hdrs.METH_HEAD:
                return response
            while (piece := await _run(executor, lambda: next(pieces, None))) is not None:
                if piece:
                    await response.write(piece)
                elif _is_gone(request):
                    return response
            await response.write_eof()
        except ConnectionError:  # the client has gone
            pass
        except (GaplessError, OSError) as error:
            _log.warning("a recording cannot be sent: %s", error)
            _cut_off(request)
        except BaseException:
            _cut_off(request)
            raise
        return response


def _begin(opened: OpenedRecording, file_format: FileFormat, *, status: int) -> web.StreamResponse:
    response = web.StreamResponse(status=status)
    response.headers[hdrs.CONTENT_TYPE] = _MEDIA_TYPES[file_format]
    name = f"{opened.entry.info.name}.{file_format.value}"
    response.headers[hdrs.CONTENT_DISPOSITION] = attachment(name)
    return response


def _pieces_of(opened: OpenedRecording, part: ByteRange) -> Iterator[bytes]:
    """Read a range of what is stored.

    Raises `OSError`, or `StorageFailed` if a file has become shorter.
    """
    for start in range(part.start, part.stop, CHUNK_BYTES):
        wanted = min(CHUNK_BYTES, part.stop - start)
        piece = opened.read_bytes(start, wanted)
        if len(piece) != wanted:
            raise StorageFailed(f"{opened.entry.info.name} has become shorter")
        yield piece


def _converted(opened: OpenedRecording, encoder: FileEncoder) -> Iterator[bytes]:
    """Convert all sound, and rest after each step. Raises `InputUnreadable` or `OSError`."""
    began = time.monotonic()
    for samples in opened.blocks(round(STEP_S * opened.entry.info.format.sample_rate_hz)):
        piece = encoder.encode(samples)
        time.sleep(min(REST * (time.monotonic() - began), MAX_REST_S))
        yield piece
        began = time.monotonic()
    yield encoder.finish()


def _format_in(request: web.Request) -> FileFormat | None:
    text = request.query.get("format")
    if text is None:
        return None
    try:
        return FileFormat(text)
    except ValueError:
        known = ", ".join(each.value for each in FileFormat)
        raise QueryInvalid(f"format has to be one of {known}") from None


def _is_gone(request: web.Request) -> bool:
    return request.transport is None or request.transport.is_closing()


def _cut_off(request: web.Request) -> None:
    if request.transport is not None:
        request.transport.abort()


async def _run(executor: Executor, call: Callable[[], _T]) -> _T:
    return await asyncio.get_running_loop().run_in_executor(executor, call)


_BINARY = {"type": "string", "format": "binary"}
_OTHERS = [each for each in _MEDIA_TYPES.values() if each != "audio/wav"]
_AUDIO = Operation(
    name="getRecordingAudio",
    tag=TAG,
    summary="The sound of a recording: all parts as one file, also while it is being written",
    parameters=[
        Parameter(
            name="format",
            text="By default as it is stored, with ranges and an ETag. Another format is made "
            "while it is sent, without ranges.",
            schema={"type": "string", "enum": [each.value for each in FileFormat]},
        ),
        Parameter(name="Range", text="Which bytes; one range.", where="header"),
        Parameter(name="If-Range", text="The ETag that the range is of.", where="header"),
    ],
    answers={
        200: Content(text="The file.", media_type="audio/wav", schema=_BINARY, more=_OTHERS),
        206: Content(
            text="The range of it.", media_type="audio/wav", schema=_BINARY, more=["audio/ogg"]
        ),
    },
    problems=[400, 404, 416],
)
