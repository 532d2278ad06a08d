"""The files, classes and functions that the documents name exist."""

from __future__ import annotations

import ast
import pathlib
import re

import pytest

ROOT = pathlib.Path(__file__).parents[2]
PACKAGES = ("domain", "adapters", "entrypoints", "tests", "benchmarks")
PAGES = ROOT / "adapters" / "http" / "pages" / "files"
DOCUMENTS = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    *(path for path in sorted((ROOT / "docs").glob("*.md"))),
]
FOREIGN = {
    # names of aiortc, and of the document that Gapless is based on
    "MediaRecorder",
    "PyAudioStreamTrack",
    "RTCRtpReceiver",
    "RTCRtpSender",
    # ctypes'
    "PyDLL",
    # a subprotocol of WebSockets
    "gapless.pcm",
    # HTTP headers and SDP
    "Location",
    "ETag",
    "Link",
    # attributes of cookies
    "HttpOnly",
    "SameSite",
}


def quoted(document: pathlib.Path) -> set[str]:
    """Return the text in single backticks outside of code blocks."""
    text = re.sub(r"```.*?```", "", document.read_text(encoding="utf-8"), flags=re.S)
    return set(re.findall(r"`([^`\n]+)`", text))


def sources() -> list[pathlib.Path]:
    return [path for package in PACKAGES for path in (ROOT / package).rglob("*.py")]


def defined() -> set[str]:
    """Return the names of classes, functions and methods, and of members as Class.member."""
    names: set[str] = set()
    for path in sources():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                names.add(node.name)
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                names.add(f"{path.stem}.{node.name}")
            if isinstance(node, ast.ClassDef):
                members = (item for item in node.body if hasattr(item, "name"))
                names |= {f"{node.name}.{item.name}" for item in members}
    return names


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_files_and_folders_exist(document: pathlib.Path) -> None:
    modules = {path.name for path in [*sources(), *PAGES.rglob("*.js")]}
    for text in quoted(document):
        if text.split("/")[0] in (*PACKAGES, "docs", "requirements") and " " not in text:
            assert list(ROOT.glob(text.rstrip("/"))), f"{document.name} names {text}"
        elif re.fullmatch(r"[a-z_0-9-]+\.(py|js)", text):
            assert text in modules, f"{document.name} names {text}"
        elif re.fullmatch(r"[a-z]+/[a-z-]+\.js", text):
            assert (PAGES / text).exists(), f"{document.name} names {text}"


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_classes_and_functions_exist(document: pathlib.Path) -> None:
    known = defined() | FOREIGN
    for text in quoted(document):
        if re.fullmatch(r"[A-Z][a-z]\w*[A-Z]\w*(\.\w+)?|[a-z_]+\.[a-z_]+", text):
            if text.endswith((".py", ".js", ".toml", ".txt", ".md")):
                continue
            assert text in known, f"{document.name} names {text}"
