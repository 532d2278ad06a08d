"""Several guests use one browser: what one of them owes does not become another's recording."""

from __future__ import annotations

from typing import Any

import pytest

from tests.rigs.node import NODE, run_in_node

pytestmark = pytest.mark.skipif(NODE is None, reason="node is not installed")

ANA = {"token": "for Ana", "name": "Ana", "room": "radio"}
SETTLE = """
globalThis.addEventListener = globalThis.removeEventListener = () => {};
globalThis.location = { href: "https://record.example.org/" };
globalThis.RTCPeerConnection = class {
  addTransceiver() {}
  createOffer() { return { sdp: "" }; }
  close() {}
};
const asked = [], opened = [];
globalThis.fetch = async (path, { method, headers }) => {
  asked.push([method, path.split("?")[0], headers.Authorization ?? null]);
  const isAlive = method === "GET" && argument.isAlive;
  return new Response(null, { status: isAlive ? 204 : 403 });
};
const { Debts } = await load("speaker/debts.js");
const { Spool } = await load("speaker/spool.js");
const { session } = argument;
const spool = (how) => async (id) => {
  opened.push([how, id]);
  return {
    session, sampleRate: 48000,
    offer: async () => null,
    close: async () => {},
    finish: async () => ({ state: argument.ends, length: 0, isSame: true, sha256: "" }),
  };
};
const left = { name: "Ana", room: "radio", startedAt: "2026-01-01T00:00:00Z", session };
Spool.owed = async () => [{ ...left, id: "one", seconds: 9, owedS: 9, isEnded: false }];
Spool.send = spool("send");
Spool.resume = spool("resume");
let debts = [];
const all = new Debts(argument.invitation, (now) => { debts = now; });
await all.settle();
const taken = await all.take("one");
clearTimeout(all.timer);
return { asked, opened, state: debts[0]?.state ?? null, wasTaken: taken !== null };
"""


def settle(
    invitation: dict[str, Any],
    *,
    session: dict[str, str] | None = None,
    is_alive: bool = False,
    ends: str = "complete",
) -> dict[str, Any]:
    """Open a page where Ana has left something; return what it does about that."""
    argument = {"invitation": invitation, "session": session, "isAlive": is_alive, "ends": ends}
    found: dict[str, Any] = run_in_node(SETTLE, argument)
    return found


def test_what_was_captured_with_an_invitation_is_sent_with_it() -> None:
    assert settle(ANA)["asked"] == [["POST", "/whip", "Bearer for Ana"]]


@pytest.mark.parametrize("other", [{"name": "Ben"}, {"room": "another"}, {"name": "", "room": ""}])
def test_another_invitation_opens_no_session_for_it(other: dict[str, str]) -> None:
    done = settle(ANA | {"token": "for Ben"} | other)
    assert (done["asked"], done["opened"], done["state"]) == ([], [], "elsewhere")


def test_where_no_token_is_needed_it_keeps_its_name() -> None:
    assert settle({"token": None, "name": "", "room": ""})["asked"] == [["POST", "/whip", None]]


def test_what_has_a_session_is_sent_to_that_whoever_opens_the_page() -> None:
    done = settle(ANA | {"name": "Ben"}, session={"id": "s", "secret": "x"})
    assert done["opened"] == [["send", "one"]]
    assert done["state"] == "sent"


@pytest.mark.parametrize("name", ["Ana", "Ben"])
def test_only_the_same_guest_goes_on_with_a_recording(name: str) -> None:
    done = settle(ANA | {"name": name}, session={"id": "s", "secret": "x"}, is_alive=True)
    assert done["opened"] == [["resume", "one"]]
    assert done["wasTaken"] is (name == "Ana")


@pytest.mark.parametrize("ends", ["off", "expired", "refused"])
def test_what_the_server_does_not_take_can_be_deleted(ends: str) -> None:
    done = settle(ANA, session={"id": "s", "secret": "x"}, ends=ends)
    assert done["state"] == "refused"
