"""The API says what `gapless verify` says."""

from __future__ import annotations

import asyncio
import pathlib
import threading
from collections.abc import Iterator

import pytest

from adapters.codec.pyav import PyAvResampler
from adapters.http.api import verdicts
from adapters.http.api.verdicts import VerdictHandlers
from adapters.storage.folder.inspection import FolderInspector
from adapters.storage.folder.part import PartOptions
from domain.ports.maintenance import RecordingInspector
from domain.recording.effects import EndReason
from domain.recording.ledger import Container, SampleKind
from domain.recording.verification import FileFacts
from tests.rigs.api import api_of
from tests.rigs.recordings import START, Rig, close, info, open_folder, ramp


def verdict_of(number: int) -> str:
    return f"/api/recordings/{info(number).id}/verdict"


class CountingInspector:
    """Inspects as `FolderInspector` does; counts, and waits if it is told to."""

    def __init__(self) -> None:
        self._inspector = FolderInspector(PyAvResampler)
        self.inspected: list[str] = []
        self.at_once = 0
        self.most_at_once = 0
        self.may_go_on = threading.Event()
        self.may_go_on.set()

    def inspect(self, location: str, source: str | None = None) -> FileFacts:
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        self.inspected.append(location)
        assert self.may_go_on.wait(20)
        facts = self._inspector.inspect(location, source)
        self.at_once -= 1
        return facts


@pytest.fixture(params=["wav", "opus"])
def rig(request: pytest.FixtureRequest, tmp_path: pathlib.Path) -> Iterator[Rig]:
    rig = open_folder(tmp_path / "recordings")
    rig.container = Container(request.param)
    yield rig
    close(rig)


@pytest.fixture
def inspector() -> CountingInspector:
    return CountingInspector()


def handlers(rig: Rig, inspector: RecordingInspector | None) -> list[VerdictHandlers]:
    return [VerdictHandlers(rig.catalogue, inspector)]


async def test_a_sound_recording_is_sound(rig: Rig, inspector: CountingInspector) -> None:
    writer = rig.create(1)
    writer.append(rig.sound(), SampleKind.RECEIVED)
    writer.append_silence(960, SampleKind.SILENCE)
    await writer.finish(EndReason.CLOSED, START)
    async with api_of(handlers(rig, inspector)) as api:
        found = (await api.get(verdict_of(1))).json
        assert (found["verdict"], found["problems"]) == ("sound", [])
        (part,) = found["parts"]
        assert (part["number"], part["ok"], part["end_reason"]) == (1, True, "closed")
        assert (part["samples"]["received"], part["samples"]["silence"]) == (9600, 960)
        assert part["longest_gap_samples"] == 960


async def test_damage_is_found_and_no_path_is_told(
    rig: Rig, inspector: CountingInspector, tmp_path: pathlib.Path
) -> None:
    await rig.record(1)
    path = pathlib.Path(rig.catalogue.entry(info(1).id).parts[0].location)
    async with api_of(handlers(rig, inspector)) as api:
        assert (await api.get(verdict_of(1))).json["verdict"] == "sound"
        data = bytearray(path.read_bytes())
        data[-5] ^= 1
        path.write_bytes(data)
        answer = await api.get(verdict_of(1))
        assert answer.json["verdict"] == "not sound"
        assert answer.json["problems"] and not answer.json["parts"][0]["ok"]
        assert str(tmp_path) not in answer.body.decode()


async def test_a_verdict_is_kept_until_the_files_change(
    rig: Rig, inspector: CountingInspector, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(verdicts, "MAX_KNOWN", 1)
    await rig.record(1)
    await rig.record(2)
    async with api_of(handlers(rig, inspector)) as api:
        first = await api.get(verdict_of(1))
        assert (await api.get(verdict_of(1))).body == first.body
        assert len(inspector.inspected) == 1
        await api.get(verdict_of(2))
        await api.get(verdict_of(1))
        assert len(inspector.inspected) == 3
        pathlib.Path(inspector.inspected[0]).with_suffix(".json").touch()
        await api.get(verdict_of(1))
        assert len(inspector.inspected) == 4


async def test_one_recording_is_checked_at_a_time_and_only_once(
    rig: Rig, inspector: CountingInspector, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(verdicts, "MAX_WAITING", 4)
    await rig.record(1)
    await rig.record(2)
    inspector.may_go_on.clear()
    async with api_of(handlers(rig, inspector)) as api:
        numbers = (1, 1, 2, 2, 1)
        asked = {asyncio.create_task(api.get(verdict_of(number))) for number in numbers}
        done, asked = await asyncio.wait(asked, timeout=20, return_when=asyncio.FIRST_COMPLETED)
        (refused,) = (task.result() for task in done)
        assert (refused.status, refused.headers["Retry-After"]) == (503, "5")
        inspector.may_go_on.set()
        answers = await asyncio.gather(*asked)
    assert {answer.status for answer in answers} == {200}
    assert (len(inspector.inspected), inspector.most_at_once) == (2, 1)


async def test_a_missing_part_is_a_problem(
    inspector: CountingInspector, tmp_path: pathlib.Path
) -> None:
    rig = open_folder(tmp_path / "recordings", PartOptions(rotate_s=0.96))
    writer = rig.create(1)
    writer.append([ramp(110_400)], SampleKind.RECEIVED)
    await writer.finish(EndReason.CLOSED, START)
    async with api_of(handlers(rig, inspector)) as api:
        found = (await api.get(verdict_of(1))).json
        assert found["verdict"] == "sound"
        assert [part["length_samples"] for part in found["parts"]] == [46_080, 46_080, 18_240]
        pathlib.Path(rig.catalogue.entry(info(1).id).parts[1].location).unlink()
        found = (await api.get(verdict_of(1))).json
        assert found["problems"] == ["part 2 is missing"]
        assert [part["number"] for part in found["parts"]] == [1, 3]
    close(rig)


async def test_live_and_unknown_recordings_have_no_verdict(
    rig: Rig, inspector: CountingInspector
) -> None:
    writer = rig.create(1)
    writer.append(rig.sound(), SampleKind.RECEIVED)
    await rig.until(lambda entry: True, 1)
    async with api_of(handlers(rig, inspector)) as api:
        assert (await api.get(verdict_of(1))).status == 409
        assert (await api.get(verdict_of(2))).status == 404
    async with api_of(handlers(rig, None)) as api:
        assert (await api.get(verdict_of(1))).status == 404
    assert inspector.inspected == []
    await writer.finish(EndReason.CLOSED, START)
