"""The texts of the pages: all are used, in each language, and documents quote them as they are."""

from __future__ import annotations

import pathlib
import re

import pytest

ROOT = pathlib.Path(__file__).parents[2]
FILES = ROOT / "adapters/http/pages/files"
ASKING = {
    "speaker": ("speaker", "shared"),
    "studio": ("studio", "shared"),
    "shared": ("speaker", "studio", "shared"),
}
"""By file of texts: the folders of the modules that ask for them."""


def texts(page: str, language: str = "en") -> dict[str, str]:
    source = (FILES / f"text/{page}.{language}.js").read_text()
    return dict(re.findall(r'^  "([^"]+)":\s+"((?:[^"\\]|\\.)*)",$', source, re.MULTILINE))


@pytest.mark.parametrize("page", ASKING)
def test_no_text_is_there_in_vain(page: str) -> None:
    """Each key is written in a module, or begins as one that is put together there."""
    folders = [FILES / folder for folder in ASKING[page]]
    source = "\n".join(path.read_text() for folder in folders for path in folder.glob("*.js"))
    begins = tuple(re.findall(r"`([\w.]+\.)\$\{", source))
    unused = [
        key
        for key in texts(page)
        if not key.startswith(begins)
        # a text of a number has forms
        and not {f'"{key}"', f'"{re.sub(r"[.](one|other)$", "", key)}"'} & quoted(source)
    ]
    assert unused == []


def quoted(source: str) -> set[str]:
    return set(re.findall(r'"[\w.]+"', source))


def test_all_events_of_ledgers_have_names() -> None:
    table = (ROOT / "docs/ledger.md").read_text().partition("## Events")[2].partition("\n## ")[0]
    types = re.findall(r"^\| `([a-z ]+)` \|", table, re.MULTILINE)
    names = {f"event.{one.replace(' ', '_')}" for one in types}
    assert names == {key for key in texts("studio") if key.startswith("event.")}


@pytest.mark.parametrize("page", ASKING)
def test_all_languages_say_the_same_of_the_same_values(page: str) -> None:
    english = texts(page)
    assert len(english) == (FILES / f"text/{page}.en.js").read_text().count('\n  "')
    german = texts(page, "de")
    assert list(german) == list(english)
    for key, text in english.items():
        assert values_of(german[key]) == values_of(text), key


def values_of(text: str) -> set[str]:
    return set(re.findall(r"\{\w+\}", text))


@pytest.mark.parametrize("name", ["guest", "troubleshooting", "server"])
def test_documents_quote_what_the_pages_say(name: str) -> None:
    """What stands between single asterisks is the beginning of a text."""
    said = [re.sub(r"\{\w+\}", "…", text) for page in ASKING for text in texts(page).values()]
    prose = re.sub(r"```.*?```", "", (ROOT / f"docs/{name}.md").read_text(), flags=re.DOTALL)
    quotes = re.findall(r"(?<!\*)\*(\w[^*\n]*)\*(?!\*)", prose)
    assert [quote for quote in quotes if not any(text.startswith(quote) for text in said)] == []
