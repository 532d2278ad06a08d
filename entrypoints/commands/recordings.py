"""`gapless recordings`: what a server has recorded."""

from __future__ import annotations

import asyncio
import datetime
import json
import pathlib
import shutil
import sys
from collections.abc import Sequence
from typing import Any
from urllib.parse import quote

import click

from domain.errors import SettingInvalid, WrongServer
from domain.recording.naming import file_name
from entrypoints.asking import JSON_HELP, SERVER_SETTINGS, ApiClient, ask
from entrypoints.client_settings import ClientSettings
from entrypoints.downloading import download
from entrypoints.options import settings_options
from entrypoints.spool_view import size_text
from entrypoints.terminal import cut, full_time, local_time, printable, table, text_width

_PAGE = 50
_MAX_JSON_BYTES = 64 << 20
_NAME_WIDTH = 10
"""Characters of a name that are worth a column of their own."""
_FORMATS = ("wav", "opus", "flac", "mp3")
_server = settings_options(ClientSettings, only=SERVER_SETTINGS)


@click.group()
def recordings() -> None:
    """List, show, download and delete the recordings of a server.

    The server is asked by its API, from any machine, with a token that has the role `watch`, or
    `admin` to delete.

    \b
    Examples:
      gapless recordings list --name kitchen
      gapless recordings show 8f3a9c0d12345678
      gapless recordings get 8f3a9c0d12345678 talk.wav
      gapless recordings delete 8f3a9c0d12345678
    """


@recordings.command("list")
@click.option("--name", metavar="TEXT", help="Only recordings whose name contains this.")
@click.option("--room", metavar="TEXT", help="Only recordings of this room.")
@click.option("--state", type=click.Choice(["live", "complete"]), help="Only these.")
@click.option("--since", metavar="TIME", help="Only recordings that began then or later.")
@click.option("--until", metavar="TIME", help="Only recordings that began earlier.")
@click.option(
    "--limit", type=click.IntRange(min=1), default=_PAGE, show_default=True,
    help="How many, from the newest on.",
)  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help=JSON_HELP)
@_server
def list_command(
    settings: ClientSettings,
    name: str | None,
    room: str | None,
    state: str | None,
    since: str | None,
    until: str | None,
    limit: int,
    as_json: bool,
) -> None:
    """List recordings, newest first.

    TIME is a date, or a date and a time, of this machine's time zone unless it names another one:
    2026-03-20, 2026-03-20T12:00, 2026-03-20T12:00:00Z.

    \b
    Examples:
      gapless recordings list --since 2026-03-20 --state complete
      gapless recordings list --limit 1000 --json | jq -r '.recordings[].id'
    """
    query = {
        "name": name,
        "room": room,
        "state": state,
        "since": _moment("since", since),
        "until": _moment("until", until),
    }
    found = ask(settings, lambda api: _list(api, query, limit))
    if as_json:
        click.echo(json.dumps(found, indent=2))
    elif not found["recordings"]:
        click.echo("no recordings")
    else:
        for line in _table(found["recordings"], _width()):
            click.echo(line)


@recordings.command()
@click.argument("recording_id", metavar="ID")
@click.option("--verdict", is_flag=True, help="Also let the server check it, which reads it all.")
@click.option("--ledger", is_flag=True, help="Print its ledger instead, as JSON.")
@click.option("--json", "as_json", is_flag=True, help=JSON_HELP)
@_server
def show(
    settings: ClientSettings, recording_id: str, verdict: bool, ledger: bool, as_json: bool
) -> None:
    """Show one recording.

    The exit code is 1 if it was to be checked and is not sound.

    \b
    Examples:
      gapless recordings show 8f3a9c0d12345678 --verdict
      gapless recordings show 8f3a9c0d12345678 --ledger | jq .spans
    """
    path = _path(recording_id)
    if ledger:
        click.echo(json.dumps(ask(settings, lambda api: _long(api, f"{path}/ledger")), indent=2))
        return
    found = ask(settings, lambda api: api.get(path))
    judged = ask(settings, lambda api: _long(api, f"{path}/verdict")) if verdict else None
    if as_json:
        click.echo(json.dumps(found if judged is None else {**found, **judged}, indent=2))
    else:
        for line in _described(found, judged):
            click.echo(printable(line))
    if judged is not None and judged.get("verdict") != "sound":
        sys.exit(1)


@recordings.command()
@click.argument("recording_id", metavar="ID")
@click.argument("file", metavar="[FILE]", required=False, type=click.Path(path_type=pathlib.Path))
@click.option(
    "--format", "file_format", type=click.Choice(_FORMATS),
    help="Format of the file, by default as it is stored; the server converts meanwhile.",
)  # fmt: skip
@click.option("--force", is_flag=True, help="Replace a file that is there already.")
@_server
def get(
    settings: ClientSettings,
    recording_id: str,
    file: pathlib.Path | None,
    file_format: str | None,
    force: bool,
) -> None:
    """Download a recording, live or complete, with all its parts as one file.

    Without FILE, the file has the recording's name. A download that was interrupted goes on where
    it was when the command is given again, unless the sound is converted.

    \b
    Examples:
      gapless recordings get 8f3a9c0d12345678
      gapless recordings get 8f3a9c0d12345678 talk.flac --format flac
    """

    async def download_it(api: ApiClient) -> tuple[pathlib.Path, int]:
        target = file
        if target is None or target.is_dir():
            found = await api.get(_path(recording_id))
            target = (target or pathlib.Path()) / _name_for(found, file_format)
        path = f"{_path(recording_id)}/audio"
        size = await download(api, path, target, is_forced=force, file_format=file_format)
        return target, size

    target, size = ask(settings, download_it)
    click.echo(printable(f"{target}: {size_text(size)}"))


@recordings.command()
@click.argument("ids", metavar="ID...", nargs=-1, required=True)
@click.option("--yes", is_flag=True, help="Do not ask.")
@_server
def delete(settings: ClientSettings, ids: tuple[str, ...], yes: bool) -> None:
    """Delete complete recordings, with all their files, from the server.

    That needs a token with the role `admin`.

    \b
    Example:
      gapless recordings delete 8f3a9c0d12345678
    """
    for recording_id in ids:
        path = _path(recording_id)
        found = ask(settings, lambda api, path=path: api.get(path))  # type: ignore[misc]
        name, length = printable(_text(found, "name")), _length(found)
        if not yes and not click.confirm(f"delete {name} ({length})?", err=True):
            click.echo(f"{name}: kept")
            continue
        ask(settings, lambda api, path=path: api.delete(path))  # type: ignore[misc]
        click.echo(f"{name}: deleted")


# -- asking ------------------------------------------------------------------------------------


async def _list(api: ApiClient, query: dict[str, str | None], limit: int) -> dict[str, Any]:
    """Return the first recordings of a query, from as many pages as that takes."""
    found: list[Any] = []
    before: str | None = None
    while len(found) < limit:
        page = await api.get(
            "/api/recordings", limit=min(_PAGE, limit - len(found)), before=before, **query
        )
        found += _items(page)
        before = page["next"]
        if before is None:
            break
    return {"recordings": found, "next": before}


async def _long(api: ApiClient, path: str) -> Any:
    """Return the JSON of an answer that may be long, or late."""
    async with api.stream(path) as response:
        text = b""
        async for chunk in response.content.iter_chunked(1 << 20):
            text += chunk
            if len(text) > _MAX_JSON_BYTES:
                raise WrongServer("the answer is longer than any ledger")
    try:
        return await asyncio.to_thread(json.loads, text)
    except (ValueError, RecursionError) as error:
        raise WrongServer("the server did not answer with JSON") from error


def _path(recording_id: str) -> str:
    return f"/api/recordings/{quote(recording_id, safe='')}"


def _moment(name: str, text: str | None) -> str | None:
    """Return a time as the API takes it. Raises `SettingInvalid`."""
    if text is None:
        return None
    try:
        return datetime.datetime.fromisoformat(text).astimezone(datetime.UTC).isoformat()
    except (ValueError, OverflowError):
        problem = f"{text!r} is not a time such as 2026-03-20T12:00"
        raise SettingInvalid(name, problem) from None


def _name_for(found: Any, file_format: str | None) -> str:
    """Return the name of the file for a recording. Raises `WrongServer`."""
    ending = file_format or _text(found, "container")
    try:
        if ending not in _FORMATS:
            raise ValueError(ending)
        return f"{file_name(_text(found, 'name'))}.{ending}"
    except ValueError:
        raise WrongServer("the server names a file that cannot be one") from None


# -- showing -----------------------------------------------------------------------------------


def _items(page: Any) -> list[Any]:
    if not (isinstance(page, dict) and isinstance(page.get("recordings"), list)):
        raise WrongServer("the server did not answer with recordings")
    page.setdefault("next", None)
    return [item for item in page["recordings"] if isinstance(item, dict)]


def _text(found: Any, name: str) -> str:
    value = found.get(name) if isinstance(found, dict) else None
    return "" if value is None else str(value)


def _number(found: Any, name: str) -> float:
    value = found.get(name) if isinstance(found, dict) else None
    return float(value) if isinstance(value, int | float) else 0.0


def _length(found: Any) -> str:
    return full_time(_number(found, "seconds"))


def _width() -> int | None:
    """Return the width of the terminal; None if the output goes elsewhere."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


def _table(found: Sequence[Any], width: int | None) -> list[str]:
    """Return the lines of a table of recordings, which fit a terminal if it is not very narrow."""
    columns = {
        "ID": [_text(item, "id") for item in found],
        "STARTED": [local_time(_text(item, "started_at")) for item in found],
        "LENGTH": [_length(item) for item in found],
        "STATE": [_text(item, "state") for item in found],
        "SIZE": [size_text(int(_number(item, "size_bytes"))) for item in found],
        "ROOM": [_text(item, "room") for item in found],
        "NAME": [_text(item, "title") or _text(item, "client_name") or "-" for item in found],
    }
    if not any(columns["ROOM"]):
        del columns["ROOM"]
    cells = {title: [title, *map(printable, column)] for title, column in columns.items()}
    widths = {title: max(map(text_width, column)) for title, column in cells.items()}
    if width is not None:
        for title in ("SIZE", "ROOM", "STATE"):
            others = sum(widths[name] + 2 for name in widths if name != "NAME")
            if others + min(widths["NAME"], _NAME_WIDTH) > width:
                widths.pop(title, None)
        others = sum(widths[name] + 2 for name in widths if name != "NAME")
        widths["NAME"] = max(min(widths["NAME"], width - others), len("NAME"))
    rows = [
        [cut(cells[title][row], width) for title, width in widths.items()]
        for row in range(len(found) + 1)
    ]
    right = [column for column, title in enumerate(widths) if title in ("LENGTH", "SIZE")]
    return list(table(rows, right=right))


def _described(found: Any, judged: Any) -> list[str]:
    """Return the lines that show one recording, and its verdict if it was asked for."""
    ended = _text(found, "ended_at")
    channels = {1: "mono", 2: "stereo"}.get(int(_number(found, "channels")), "several channels")
    parts = found.get("parts") if isinstance(found, dict) else None
    lines = {
        "id": _text(found, "id"),
        "name": _text(found, "name"),
        "title": _text(found, "title"),
        "room": _text(found, "room"),
        "state": _text(found, "state"),
        "started": local_time(_text(found, "started_at")),
        "ended": f"{local_time(ended)} ({_text(found, 'end_reason')})" if ended else "",
        "length": _length(found),
        "sound": f"{_text(found, 'codec')}, {_text(found, 'sample_rate_hz')} Hz, {channels}",
        "size": f"{size_text(int(_number(found, 'size_bytes')))}, {_text(found, 'container')}",
        "parts": str(len(parts)) if isinstance(parts, list) and len(parts) > 1 else "",
        "restore": _text(found, "restore"),
    }
    if judged is not None:
        lines["verdict"] = _text(judged, "verdict")
    shown = [f"{name:<8} {value}" for name, value in lines.items() if value]
    problems = judged.get("problems") if isinstance(judged, dict) else None
    return shown + [f"problem  {problem}" for problem in problems or ()]
