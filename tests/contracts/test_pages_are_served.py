"""The server serves its pages, and lets them do only what they need."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator

import aiohttp
import pytest

from adapters.http.pages.handlers import FILES, MEDIA_TYPES, PageHandlers
from tests.fakes.http import FakeSessions, http_server

PAGES = {"/": "speaker", "/studio": "studio"}
MAX_PAGE_BYTES = 100_000
_STATIC = re.compile(
    r"""(?:src|href)="(/pages/[^"]+)"|(?:from |import |import\()['"](\.[^'"]+)['"]"""
)


@pytest.fixture
async def url() -> AsyncIterator[str]:
    server = http_server(FakeSessions(), more=[PageHandlers()])
    yield await server.start()
    await server.stop()


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(auto_decompress=False) as session:
        yield session


@pytest.mark.parametrize("path", PAGES)
async def test_a_page_may_load_nothing_from_elsewhere(
    url: str, http: aiohttp.ClientSession, path: str
) -> None:
    async with http.get(url + path) as answer:
        assert answer.status == 200
        assert answer.content_type == "text/html"
        policy = answer.headers["Content-Security-Policy"].split("; ")
    assert "default-src 'none'" in policy
    assert "frame-ancestors 'none'" in policy
    assert "require-trusted-types-for 'script'" in policy
    allowed = {source for line in policy for source in line.split()[1:]}
    assert allowed <= {"'none'", "'self'", "'script'", "gapless"}


async def test_a_file_is_sent_again_only_if_it_has_changed(
    url: str, http: aiohttp.ClientSession
) -> None:
    address = f"{url}/pages/css/base.css"
    async with http.get(address, headers={"Accept-Encoding": "identity"}) as first:
        etag = first.headers["ETag"]
        assert first.headers["Cache-Control"] == "no-cache"
        body = await first.read()
    assert body == (FILES / "css/base.css").read_bytes()
    async with http.get(address, headers={"If-None-Match": etag}) as second:
        assert (second.status, await second.read()) == (304, b"")
    async with http.get(address, headers={"If-None-Match": '"other"'}) as third:
        assert third.status == 200


@pytest.mark.parametrize(
    "path",
    [
        "handlers.py",
        "../handlers.py",
        "%2e%2e/handlers.py",
        "css",
        "css/",
        "none.js",
        "/etc/passwd",
    ],
)
async def test_only_files_of_the_pages_are_sent(
    url: str, http: aiohttp.ClientSession, path: str
) -> None:
    async with http.get(f"{url}/pages/{path}") as answer:
        assert answer.status == 404


def test_every_file_has_a_media_type() -> None:
    others = [
        path for path in FILES.rglob("*") if path.is_file() and path.suffix not in MEDIA_TYPES
    ]
    assert others == []


@pytest.mark.parametrize("page", PAGES.values())
def test_nothing_in_a_page_is_inline(page: str) -> None:
    html = (FILES / f"{page}.html").read_text()
    assert not re.search(r"<style|<script(?![^>]*\bsrc=)|\sstyle=|\son\w+=", html)
    assert not re.search(r"(src|href)=\"(?!/)", html)
    assert not re.search(r"(src|href)=\"//", html)


@pytest.mark.parametrize("page", PAGES.values())
async def test_a_page_takes_less_than_100_kilobytes(
    url: str, http: aiohttp.ClientSession, page: str
) -> None:
    """With all that it loads: its modules and theirs, style sheets, texts and workers."""
    total = 0
    for path in needed_by(page):
        async with http.get(f"{url}/pages/{path}", headers={"Accept-Encoding": "gzip"}) as answer:
            assert answer.status == 200, path
            total += len(await answer.read())
    assert total < MAX_PAGE_BYTES


def needed_by(page: str) -> set[str]:
    """Return the files that a page loads, whenever it does."""
    seen: set[str] = set()
    waiting = [f"{page}.html", f"text/{page}.de.js", "text/shared.de.js"]
    while waiting:
        path = waiting.pop()
        if path in seen:
            continue
        seen.add(path)
        file = FILES / path
        for absolute, relative in _STATIC.findall(file.read_text()):
            found = absolute.removeprefix("/pages/") if absolute else ""
            if relative:
                found = (file.parent / relative).resolve().relative_to(FILES).as_posix()
            waiting.append(found)
        # scripts of workers are named where they are started
        waiting += re.findall(r'scriptUrl\("/pages/([^"]+)"\)', file.read_text())
    return seen


def texts_of(name: str, language: str) -> dict[str, str]:
    source = (FILES / "text" / f"{name}.{language}.js").read_text()
    pairs = re.findall(r'^  "([^"]+)":\s*"((?:[^"\\]|\\.)*)",$', source, re.MULTILINE)
    found = dict(pairs)
    assert len(found) == len(pairs) == len(re.findall(r"^  \"", source, re.MULTILINE)), "one a line"
    return found


@pytest.mark.parametrize("name", ["shared", *PAGES.values()])
def test_both_languages_have_the_same_texts(name: str) -> None:
    english, german = texts_of(name, "en"), texts_of(name, "de")
    assert english.keys() == german.keys()
    for key, text in english.items():
        assert set(re.findall(r"\{\w+\}", text)) == set(re.findall(r"\{\w+\}", german[key])), key


def test_every_text_that_is_used_is_there() -> None:
    """Keys are written out where they are used; those that are put together are named whole."""
    for page in PAGES.values():
        there = texts_of(page, "en").keys() | texts_of("shared", "en").keys()
        for path in needed_by(page):
            if path.endswith(".js") and not path.startswith("text/"):
                used = re.findall(r'\bt\(\s*"([^"]+)"', (FILES / path).read_text())
                lacking = [k for k in used if k not in there and f"{k}.other" not in there]
                assert lacking == [], path


def test_no_text_becomes_markup() -> None:
    """Trusted Types refuse it in browsers that know them; here it is refused for all of them."""
    forbidden = re.compile(
        r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function|DOMParser"
        r"|setHTML|createContextualFragment|\.style\.|cssText"
    )
    for path in FILES.rglob("*.js"):
        found = [m for m in forbidden.findall(path.read_text()) if m != ".style."]
        assert found == [], path
