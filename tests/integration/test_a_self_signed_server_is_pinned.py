"""A server with a certificate of its own serves those who know it, and pages in browsers."""

from __future__ import annotations

import pathlib

import pytest
import soundfile

from tests.rigs.browser import CHROMIUM, PUBLISH, WAIT_UNTIL_SENT, browser_page
from tests.rigs.processes import Server, gapless, serving
from tests.rigs.sound import SPEECH

TOKEN = "Zm9vYmFyYmF6cXV4"


def fingerprint_of(server: Server) -> str:
    """Return what the server says at its start."""
    said = server.process.wait_for("its fingerprint is ")
    return said.rpartition(" ")[2]


def test_all_requests_of_a_client_are_pinned(tmp_path: pathlib.Path) -> None:
    folder, environ = tmp_path / "recordings", {"XDG_STATE_HOME": str(tmp_path / "state")}
    spool = {"GAPLESS_SPOOL": str(tmp_path / "spool"), "GAPLESS_RESTORE": "all"}
    with serving(folder, "--tls", "self-signed", env=environ) as server:
        assert server.url.startswith("https://")
        fingerprint = fingerprint_of(server)
        client = ("stream", "--server", server.url, "--capture", "tone", "--duration", "1")
        wrong = "00:" * 31 + "00"
        with gapless(*client, "--fingerprint", wrong) as refused:
            assert refused.end() == 1
        (said,) = refused.errors
        assert "has another fingerprint than it should have" in said
        assert fingerprint in said
        with gapless(*client, "--fingerprint", fingerprint, env=spool) as streaming:
            assert streaming.end() == 0, streaming.errors
        assert "all of it on the server" in streaming.lines[-1]
    assert soundfile.info(folder.glob("*.wav").__next__()).duration == pytest.approx(1, abs=0.1)


@pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed")
async def test_a_browser_has_a_microphone_there(tmp_path: pathlib.Path) -> None:
    """The page of a server in the network is a secure context, though nobody trusts its name."""
    soundfile.write(tmp_path / "microphone.wav", *soundfile.read(SPEECH, dtype="int16"))
    environ = {"XDG_STATE_HOME": str(tmp_path / "state")}
    options = ("--tls", "self-signed", "--host", "0.0.0.0", "--token", TOKEN)
    with serving(tmp_path / "recordings", *options, env=environ) as server:
        # not the loopback address, whose pages have microphones without a certificate, too
        url = server.process.wait_for("clients: ").partition("--server ")[2].split()[0]
        async with browser_page(tmp_path / "microphone.wav", accepts_any_certificate=True) as page:
            await page.goto(f"{url}/blank")
            assert await page.evaluate("isSecureContext")
            await page.evaluate(PUBLISH, {"token": TOKEN})
            await page.evaluate(WAIT_UNTIL_SENT, 50)
            await page.evaluate("pc.close()")
            recording = server.recording()
    assert soundfile.info(recording).duration > 0.9
