"""The speaker's page keeps its stream connected: its state machine, in Node, with a fake clock."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from tests.rigs.node import NODE, run_in_node

pytestmark = pytest.mark.skipif(NODE is None, reason="node is not installed")

STAGE = """
const { Connection } = await load("speaker/connection.js");
const { ApiError } = await load("shared/api.js");
let now = 0, timers = [], isOnline = true, hear = () => {};
const told = [], log = [];
const world = {
  now: () => now,
  after: (run, ms) => {
    const timer = { run, at: now + ms };
    timers.push(timer);
    return () => { timers = timers.filter((one) => one !== timer); };
  },
  random: () => 1,
  isOnline: () => isOnline,
  onNetwork: (given) => { hear = given; return () => { hear = () => {}; }; },
};
const settle = async () => { for (let i = 0; i < 50; i += 1) await null; };
// lets time pass, timer by timer
const pass = async (ms) => {
  const end = now + ms;
  await settle();
  for (;;) {
    const next = timers.filter((one) => one.at <= end).sort((a, b) => a.at - b.at)[0];
    if (!next) break;
    timers = timers.filter((one) => one !== next);
    now = next.at;
    next.run();
    await settle();
  }
  now = end;
};
let links = [], answers = [], restarts = [];
class FakeLink {
  constructor() {
    this.state = "new";
    this.onstate = () => {};
    this.session = { id: "one", secret: "two" };
    links.push(this);
  }
  become(state) { this.state = state; this.onstate(state); return settle(); }
  async restart() {
    log.push(`restart at ${now}`);
    const answer = restarts.shift() ?? "connected";
    if (answer instanceof Error) throw answer;
    if (answer === "never") return new Promise(() => {});
    this.become(answer);
  }
  abandon() { log.push(`abandon ${links.indexOf(this)}`); }
}
const open = async (session) => {
  log.push(`offer at ${now}${session ? ` for ${session.id}` : ""}`);
  const answer = answers.shift() ?? "connected";
  if (answer instanceof Error) throw answer;
  const link = new FakeLink();
  if (answer !== "never") queueMicrotask(() => link.become(answer));
  return link;
};
const connection = new Connection(open, world);
connection.onchange = ({ state, status }) => told.push(status ? `${state} ${status}` : state);
connection.onsession = ({ id }) => log.push(`session ${id}`);
"""


def played(script: str) -> Any:
    """Run a script on that stage; return what was told and done."""
    return run_in_node(f"{STAGE}{script}; return {{ told, log }};")


def test_a_lost_connection_gets_another_path() -> None:
    found = played("""
        connection.run(); await settle();
        await links[0].become("disconnected");
        await pass(100_000);
    """)
    assert found["told"] == ["live", "restarting", "live"]
    assert found["log"] == ["offer at 0", "session one", "restart at 0"]


@pytest.mark.parametrize("answer", ['new ApiError(0, "no network")', '"never"'])
def test_without_another_path_a_new_connection_goes_on_with_the_session(answer: str) -> None:
    found = played(f"""
        connection.run(); await settle();
        restarts = [{answer}];
        await links[0].become("disconnected");
        await pass(5000);
    """)
    assert found["told"] == ["live", "restarting", "live"]
    at = 5000 if "never" in answer else 0
    assert found["log"][-2:] == [f"offer at {at} for one", "abandon 0"]


def test_attempts_become_rarer_and_never_end() -> None:
    found = played("""
        answers = Array(40).fill(0).map(() => new ApiError(0, "no network"));
        connection.run();
        await pass(60_000);
    """)
    times = [int(line.split()[2]) for line in found["log"]]
    assert times[:6] == [0, 500, 1500, 3500, 7500, 15_500]
    assert {b - a for a, b in itertools.pairwise(times[5:])} == {8000}
    assert set(found["told"]) == {"waiting"}


def test_a_network_that_comes_back_is_used_at_once() -> None:
    found = played("""
        answers = Array(5).fill(0).map(() => new ApiError(0, "no network"));
        isOnline = false;
        connection.run();
        await pass(8000);
        isOnline = true; answers = []; hear();
        await pass(1);
    """)
    assert found["told"] == ["offline"] * 5 + ["live"]
    assert found["log"][-2] == "offer at 8000"


def test_sound_that_never_gets_through_is_called_blocked() -> None:
    found = played("""
        answers = ["never", "failed", "connected"];
        connection.run();
        await pass(30_000);
    """)
    assert found["told"] == ["blocked", "blocked", "live"]
    assert found["log"] == [
        "offer at 0",
        "session one",
        "offer at 10500 for one",
        "abandon 0",
        "offer at 11500 for one",
        "abandon 1",
    ]


@pytest.mark.parametrize("status", [401, 403, 404, 400])
def test_a_refusal_ends_it(status: int) -> None:
    found = played(f"""
        answers = [new ApiError({status}, "no")];
        await connection.run();
    """)
    assert found == {"told": [f"refused {status}"], "log": ["offer at 0"]}


@pytest.mark.parametrize("status", [429, 500, 502, 503, 507])
def test_a_busy_server_is_asked_again(status: int) -> None:
    found = played(f"""
        answers = [new ApiError({status}, "later")];
        connection.run();
        await pass(500);
    """)
    assert found["told"] == [f"waiting {status}", "live"]


def test_a_session_that_is_over_is_not_opened_again() -> None:
    found = played("""
        const running = connection.run(); await settle();
        restarts = [new ApiError(404, "gone")];
        answers = [new ApiError(404, "gone")];
        await links[0].become("failed");
        await running;
    """)
    assert found["told"] == ["live", "restarting", "over 404"]
    assert found["log"][-1] == "abandon 0"


def test_a_session_that_ended_because_no_sound_got_through_is_called_blocked() -> None:
    """The server waits for a path for less time than a network may block one."""
    found = played("""
        answers = ["never", "never", new ApiError(404, "gone")];
        const running = connection.run();
        await pass(60_000);
        await running;
    """)
    assert found["told"] == ["blocked", "blocked", "blocked 404"]


def test_a_session_that_may_be_over_is_asked_for_at_once() -> None:
    found = played("""
        const running = connection.run(); await settle();
        answers = ["connected", new ApiError(404, "gone")];
        connection.doubt(); await settle();
        connection.doubt();
        await running;
    """)
    assert found["told"] == ["live", "restarting", "live", "restarting", "over 404"]
    assert "restart" not in " ".join(found["log"])


def test_a_lost_connection_that_comes_back_by_itself_is_kept() -> None:
    found = played("""
        connection.run(); await settle();
        restarts = [new ApiError(0, "no network")];
        answers = [new ApiError(0, "no network")];
        await links[0].become("disconnected");
        await links[0].become("connected");
        await pass(60_000);
    """)
    assert found["told"] == ["live", "restarting", "waiting", "live"]
    assert "abandon 0" not in found["log"]


def test_closing_leaves_nothing_open() -> None:
    found = played("""
        const running = connection.run(); await settle();
        connection.close();
        await running;
        log.push(`${timers.length} timers`);
    """)
    assert found["told"] == ["live", "closed"]
    assert found["log"][-2:] == ["abandon 0", "0 timers"]
