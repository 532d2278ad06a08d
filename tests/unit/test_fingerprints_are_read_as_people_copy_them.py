"""Fingerprints of certificates, as text and as settings."""

from __future__ import annotations

import pytest

from domain.errors import SettingInvalid
from domain.events.server import ServerStarted
from domain.session.fingerprints import fingerprint_text, parse_fingerprint
from entrypoints.client_settings import ClientSettings
from entrypoints.server_view import ServerView

DIGEST = bytes(range(200, 232))
TEXT = fingerprint_text(DIGEST)


def test_it_is_read_with_and_without_colons_in_any_case() -> None:
    assert TEXT.startswith("C8:C9:CA:")
    for text in (TEXT, TEXT.lower(), TEXT.replace(":", ""), TEXT.replace(":", " "), f" {TEXT}\n"):
        assert parse_fingerprint(text) == DIGEST


@pytest.mark.parametrize("text", ["", "AA:BB", TEXT[:-3], f"{TEXT}:00", "x" * 64, "é"])
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not a SHA-256 fingerprint"):
        parse_fingerprint(text)
    with pytest.raises(SettingInvalid, match="fingerprint: .* is not a SHA-256 fingerprint"):
        ClientSettings(server="https://x", fingerprint=text)


def test_it_is_for_https() -> None:
    assert ClientSettings(server="https://x", fingerprint=TEXT).pinned == DIGEST
    assert ClientSettings().pinned is None
    with pytest.raises(SettingInvalid, match="fingerprint: http://x has no certificate"):
        ClientSettings(server="http://x", fingerprint=TEXT)


def test_the_start_of_a_server_says_how_clients_reach_it(
    capsys: pytest.CaptureFixture[str],
) -> None:
    urls = ("https://192.168.1.20:8080", "https://10.0.0.2:8080")
    ServerView().handle(ServerStarted("https://0.0.0.0:8080", 1, TEXT, urls))
    first, second, *clients = capsys.readouterr().out.splitlines()
    assert first == "gapless is listening on https://0.0.0.0:8080 (Ctrl-C to stop)"
    assert second.endswith(TEXT)
    assert clients == [
        f"clients: gapless stream --server {url} --fingerprint {TEXT}" for url in urls
    ]
    ServerView().handle(ServerStarted("http://127.0.0.1:1", 1))
    assert len(capsys.readouterr().out.splitlines()) == 1
