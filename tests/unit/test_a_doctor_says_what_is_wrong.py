"""What `gapless doctor` says of a microphone, of a server, and of the way between them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import numpy as np
import pytest

from domain.errors import (
    BackendMissing,
    DeviceLost,
    GaplessError,
    NoMediaPath,
    NoSuchDevice,
    Refusal,
    ServerRefused,
    ServerUnreachable,
)
from domain.ports.capture import CaptureRequest
from domain.ports.media import PathReport
from domain.rtp.packetizer import Packetizer
from domain.services.client.diagnosis import (
    Finding,
    Level,
    Listener,
    PathMeasured,
    judge_length,
    judge_path,
    judge_sound,
)
from domain.sound.formats import AudioFormat, AudioFrame
from entrypoints.client_settings import ClientSettings
from entrypoints.doctor import ServerExamination, examine_device
from entrypoints.version import VERSION
from tests.fakes.capture import FakeCapture, FakeSource
from tests.fakes.media import FakeClientConnection, FakeClientTransport, PlainEncoder
from tests.fakes.signaling import FakeSignaling
from tests.fakes.time import FakeClock

RATE = 48_000
FORMAT = AudioFormat(RATE, 1)
REQUEST = CaptureRequest(sample_rate_hz=RATE, channels=1)
OK, WARNING, PROBLEM = Level.OK, Level.WARNING, Level.PROBLEM


def levels(findings: list[Finding]) -> dict[str, Level]:
    """Return the worst level of each check."""
    order = [OK, WARNING, PROBLEM]
    found: dict[str, Level] = {}
    for one in findings:
        found[one.check] = max(found.get(one.check, OK), one.level, key=order.index)
    return found


def advised(findings: list[Finding]) -> bool:
    """Return whether each finding that is not good says what to do, and no other does."""
    return all(bool(one.advice) == (one.level is not OK) for one in findings)


async def all_of(findings: AsyncIterator[Finding], clock: FakeClock) -> list[Finding]:
    async def collect() -> list[Finding]:
        return [one async for one in findings]

    collecting = asyncio.create_task(collect())
    async with asyncio.timeout(20):
        while not collecting.done():
            await clock.run(0.1)
    return collecting.result()


# -- the microphone ------------------------------------------------------------------------------


def blocks(samples: Any, *, position: int = 0) -> list[AudioFrame]:
    """Return samples from -1 to 1 as blocks of 20 ms."""
    whole = np.rint(np.asarray(samples) * 32767).astype(np.int16).reshape(-1, 1)
    return [
        AudioFrame(FORMAT, whole[at : at + 960], position + at) for at in range(0, len(whole), 960)
    ]


def speech(*, amplitude: float = 0.3, noise: float = 0.001) -> list[AudioFrame]:
    """Return two seconds: one of sound, one of silence."""
    time = np.arange(RATE) / RATE
    sound = amplitude * np.sin(2 * np.pi * 300 * time)
    pause = np.random.default_rng(1).uniform(-noise, noise, RATE)
    return blocks(np.concatenate([sound, pause]))


async def examine(*script: AudioFrame | Exception, overruns: int = 0) -> list[Finding]:
    clock = FakeClock()
    source = FakeSource(FORMAT, script, clock)
    source.overrun_samples = overruns
    found = await all_of(examine_device(FakeCapture(source), REQUEST, clock, seconds=2.0), clock)
    assert source.closed == 1
    assert advised(found)
    return found


async def test_a_good_microphone_is_good() -> None:
    found = await examine(*speech())
    assert levels(found) == dict.fromkeys(("device", "rate", "level", "noise", "overruns"), OK)
    (level,) = [one for one in found if one.check == "level"]
    assert level.what == "peak -10.5 dBFS, mean -16.5 dBFS"


@pytest.mark.parametrize(
    ("script", "check", "level", "said"),
    [
        (blocks(np.zeros(2 * RATE)), "level", PROBLEM, "every sample is zero"),
        (speech(amplitude=1.0), "level", WARNING, "samples at full scale"),
        (speech(amplitude=0.002), "level", WARNING, "very quiet"),
        (speech(noise=0.1), "noise", WARNING, "noise floor -2"),
        ([], "rate", PROBLEM, "delivers no sound"),
        ([*speech()[:40], DeviceLost("the device went away")], "device", PROBLEM, "went away"),
    ],
)
async def test_what_is_wrong_with_it_is_said(
    script: list[AudioFrame | Exception], check: str, level: Level, said: str
) -> None:
    found = await examine(*script)
    (one,) = [one for one in found if one.check == check]
    assert one.level is level
    assert said in one.what


def test_a_wrong_rate_is_noticed() -> None:
    """The device says 48 kHz and delivers 44.1 kHz."""
    listener = Listener(FORMAT, seconds=2.0)
    for number in range(100):
        block = AudioFrame(FORMAT, speech()[0].samples[:882], position=number * 882)
        assert listener.add(block, now=number * 0.02)
    found = list(judge_sound(FORMAT, listener.heard(overrun_samples=0)))
    (rate,) = [one for one in found if one.check == "rate"]
    assert rate.level is WARNING
    assert "44100 samples a second instead of 48000" in rate.what


async def test_overruns_are_a_problem() -> None:
    found = await examine(*speech(), overruns=4800)
    (overruns,) = [one for one in found if one.check == "overruns"]
    assert overruns.level is PROBLEM
    assert "0.10 s were lost" in overruns.what


@pytest.mark.parametrize(
    "error", [NoSuchDevice("x", ["0: Desk"]), BackendMissing("PortAudio is not installed")]
)
async def test_a_device_that_cannot_be_opened_is_a_problem(error: GaplessError) -> None:
    clock = FakeClock()
    found = await all_of(examine_device(FakeCapture(error), REQUEST, clock), clock)
    assert levels(found) == {"device": PROBLEM}
    assert str(error) in found[0].what
    assert advised(found)


# -- the way to the server -----------------------------------------------------------------------


def path(kinds: tuple[str, str] | None = ("host", "host"), **measured: Any) -> dict[str, Level]:
    found = list(judge_path(PathMeasured(kinds, **measured)))
    assert advised(found)
    return levels(found)


def test_a_path_is_judged_by_its_kind_its_time_and_its_loss() -> None:
    good = {"path": OK, "round trip": OK, "loss": OK}
    assert path(round_trips_s=[0.02, 0.03, 9.0], losses=[0.0, 0.01]) == good
    assert path(("relay", "host"), round_trips_s=[0.02], losses=[0])["path"] is WARNING
    assert path(("srflx", "prflx"), round_trips_s=[0.02], losses=[0])["path"] is OK
    assert path(round_trips_s=[0.5], losses=[0])["round trip"] is WARNING
    assert path(losses=[0.0, 0.1])["loss"] is WARNING
    assert path(losses=[0.3])["loss"] is PROBLEM
    assert path()["loss"] is PROBLEM, "no report has come"


def test_a_recording_is_as_long_as_what_was_sent() -> None:
    assert judge_length(5.0, 5.02).level is OK
    assert judge_length(5.0, 4.5).level is PROBLEM
    assert judge_length(5.0, None).level is WARNING


class Connection(FakeClientConnection):
    """The server reports twice."""

    path_kinds = ("host", "srflx")

    def send(self, packet: Any) -> None:
        super().send(packet)
        if len(self.sent) in (4, 8):
            self.path_report = PathReport(0.03, 0.0, float(len(self.sent)))


class Api:
    """A server's API: answers, or errors that are raised, by the path."""

    def __init__(self, **changed: Any) -> None:
        self.answers: dict[str, Any] = {
            "/health": {"status": "ok", "version": VERSION},
            "/api/recordings": {
                "recordings": [
                    {"id": "another", "session": "another", "seconds": 9.0},
                    {"id": "one/two", "session": "session", "seconds": 0.2},
                ]
            },
        } | changed
        self.deletion: Exception | None = None
        self.deleted: list[str] = []

    async def get(self, path: str, **query: object) -> Any:
        answer = self.answers[path]
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def delete(self, path: str) -> None:
        if self.deletion is not None:
            raise self.deletion
        self.deleted.append(path)


class Signaling(FakeSignaling):
    recorded_s: float | None = 0.2

    async def delete(self, session_id: str, *, resume: str | None = None) -> float | None:
        await super().delete(session_id, resume=resume)
        return self.recorded_s


async def ask(
    api: Api,
    signaling: Signaling,
    *,
    fail: Exception | None = None,
    server: str = "https://recorder",
) -> list[Finding]:
    clock = FakeClock()
    connection = Connection(clock, fail)
    examination = ServerExamination(
        ClientSettings(server=server),
        api=api,
        signaling=signaling,
        transport=FakeClientTransport(connection),
        encoder=PlainEncoder(),
        packetizer=Packetizer(ssrc=1, first_sequence=65_530, first_timestamp=0),
        clock=clock,
        seconds=0.2,
    )
    found = await all_of(examination.run(), clock)
    assert advised(found), found
    if signaling.offers:
        assert signaling.deleted == ["session"]
        assert connection.closed == [False]
    return found


async def test_a_good_server_is_good_and_keeps_nothing() -> None:
    api, signaling = Api(), Signaling()
    found = await ask(api, signaling)
    assert set(levels(found).values()) == {OK}
    assert [*levels(found)] == [
        "server", "tls", "version", "path", "round trip", "loss", "recording", "token", "removal",
    ]  # fmt: skip
    assert api.deleted == ["/api/recordings/one%2Ftwo"]
    ((_, name),) = signaling.offers
    assert name.startswith("gapless-doctor-")


REFUSED = ServerRefused(Refusal.FINAL, "the server refused (403): this token may not")
GONE = ServerUnreachable("no server at https://recorder: refused")


async def test_what_the_token_may_not_remove_stays_and_is_named() -> None:
    api = Api()
    api.deletion = REFUSED
    found = await ask(api, Signaling())
    assert levels(found)["removal"] is WARNING
    assert "stays on the server" in found[-1].what
    assert found[-1].advice.endswith("gapless recordings delete one/two")
    found = await ask(Api(**{"/api/recordings": REFUSED}), Signaling())
    assert levels(found)["removal"] is WARNING
    assert levels(found)["token"] is OK


@pytest.mark.parametrize(
    "page", [{}, [], {"recordings": []}, {"recordings": [{"session": "session"}]}, None, "x"]
)
async def test_an_api_that_does_not_list_it_is_told(page: Any) -> None:
    found = levels(await ask(Api(**{"/api/recordings": page}), Signaling()))
    assert found["recording"] is WARNING
    assert found["removal"] is WARNING


async def test_a_recording_of_another_length_is_a_problem() -> None:
    signaling = Signaling()
    signaling.recorded_s = 0.05
    assert levels(await ask(Api(), signaling))["recording"] is PROBLEM


async def test_a_recording_that_is_listed_with_another_length_is_a_problem() -> None:
    entry = {"id": "one", "session": "session", "seconds": 9.0}
    found = await ask(Api(**{"/api/recordings": {"recordings": [entry]}}), Signaling())
    assert [one.level for one in found if one.check == "recording"] == [OK, PROBLEM]


async def test_whatever_keeps_from_streaming_is_a_problem() -> None:
    assert levels(await ask(Api(), Signaling(REFUSED)))["token"] is PROBLEM
    assert levels(await ask(Api(), Signaling(), fail=NoMediaPath("no path")))["path"] is PROBLEM
    assert levels(await ask(Api(), Signaling(GONE)))["server"] is PROBLEM
    assert levels(await ask(Api(**{"/health": GONE}), Signaling())) == {"server": PROBLEM}
    assert levels(await ask(Api(**{"/health": REFUSED}), Signaling())) == {"server": PROBLEM}


async def test_a_token_for_one_name_is_not_called_useless() -> None:
    found = await ask(Api(), Signaling(REFUSED))
    assert found[-1].what.startswith("opens no test session: ")
    assert "works with `gapless stream` only" in found[-1].advice


async def test_a_server_that_nobody_named_need_not_be_there() -> None:
    default = ClientSettings().server
    found = await ask(Api(**{"/health": GONE}), Signaling(), server=default)
    assert levels(found) == {"server": WARNING}


async def test_tls_and_versions_are_judged() -> None:
    found = levels(await ask(Api(), Signaling(), server="http://recorder"))
    assert found["tls"] is WARNING
    assert levels(await ask(Api(), Signaling(), server="http://127.0.0.1:1"))["tls"] is OK
    other = Api(**{"/health": {"status": "ok", "version": "0.0.1"}})
    assert levels(await ask(other, Signaling()))["version"] is WARNING
    silent = Api(**{"/health": {"status": "ok"}})
    assert levels(await ask(silent, Signaling()))["version"] is WARNING
