"""The contract of capture backends: PortAudio if it is installed, a file, a tone."""

from __future__ import annotations

import asyncio
import ctypes.util
import importlib.util
import itertools
import pathlib
import threading
import time
from collections.abc import Iterator

import numpy as np
import pytest
import soundfile

from domain.errors import DeviceLost, NoSuchDevice
from domain.ports.capture import AudioSource, CaptureBackend, CaptureRequest
from domain.sound.formats import AudioFormat, AudioFrame
from entrypoints.client_settings import ClientSettings
from entrypoints.container import ClientContainer
from tests.fakes.events import SeenByClient
from tests.rigs import microphone as rig

RATE = 48_000
WITH_DEVICES = {
    "sounddevice": ctypes.util.find_library("portaudio") is not None,
    "pyaudio": importlib.util.find_spec("pyaudio") is not None,
}


@pytest.fixture(scope="module")
def microphone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with (
        rig.microphone(tmp_path_factory.mktemp("pulse") / "runtime") as device,
        pytest.MonkeyPatch.context() as patch,
    ):
        for name, value in device.environ.items():
            patch.setenv(name, value)
        yield


def ready(name: str, request: pytest.FixtureRequest) -> str:
    """The name of a backend; skips the test if the backend is not installed."""
    if name in WITH_DEVICES:
        if not WITH_DEVICES[name]:
            pytest.skip(f"{name} is not installed")
        if rig.missing():
            pytest.skip(str(rig.missing()))
        request.getfixturevalue("microphone")
    return name


@pytest.fixture(params=WITH_DEVICES)
def device_kind(request: pytest.FixtureRequest) -> str:
    return ready(request.param, request)


@pytest.fixture(params=["file", "tone", *WITH_DEVICES])
def kind(request: pytest.FixtureRequest) -> str:
    return ready(request.param, request)


def backend_of(kind: str) -> CaptureBackend:
    settings = ClientSettings(capture=kind, input="unused")
    backend: CaptureBackend = ClientContainer(settings=settings, events=SeenByClient()).capture()
    return backend


async def open_source(kind: str, folder: pathlib.Path, seconds: float = 60) -> AudioSource:
    path = folder / "input.wav"
    soundfile.write(path, np.zeros(round(seconds * RATE), dtype="<i2"), RATE)
    device = "default" if kind in WITH_DEVICES else None
    return await backend_of(kind).open(
        CaptureRequest(sample_rate_hz=RATE, channels=1, path=str(path), device=device)
    )


async def read(source: AudioSource, samples: float = float("inf")) -> list[AudioFrame]:
    """Read at least `samples` samples; all until the end if it is not given."""
    blocks: list[AudioFrame] = []

    def consume(block: AudioFrame) -> bool:
        blocks.append(block)
        return sum(map(len, blocks)) < samples

    await source.deliver(consume)
    assert samples == float("inf") or sum(map(len, blocks)) >= samples
    return blocks


async def test_blocks_follow_each_other_in_the_format_asked_for(
    kind: str, tmp_path: pathlib.Path
) -> None:
    source = await open_source(kind, tmp_path)
    blocks = await read(source, RATE // 2)
    await source.close()
    assert source.format == AudioFormat(RATE, 1)
    assert source.overrun_samples == 0
    position = 0
    for block in blocks:
        assert block.format == source.format
        assert block.position == position
        position = block.end


async def test_sound_is_not_delivered_faster_than_real_time(
    kind: str, tmp_path: pathlib.Path
) -> None:
    source = await open_source(kind, tmp_path)
    await read(source, RATE // 4)  # discard sound from before the device was open
    began = time.monotonic()
    blocks = await read(source, RATE)
    elapsed = time.monotonic() - began
    await source.close()
    assert elapsed >= sum(map(len, blocks)) / RATE - 0.25


async def test_a_stopped_source_ends(kind: str, tmp_path: pathlib.Path) -> None:
    source = await open_source(kind, tmp_path)
    await read(source, 4800)
    source.stop()
    async with asyncio.timeout(5):
        await read(source)
    await source.close()


async def test_a_cancelled_source_has_ended(kind: str, tmp_path: pathlib.Path) -> None:
    source = await open_source(kind, tmp_path)
    entered, left = threading.Event(), threading.Event()

    def consume(block: AudioFrame) -> bool:
        left.clear()
        entered.set()
        time.sleep(0.2)
        left.set()
        return True

    delivering = asyncio.create_task(source.deliver(consume))
    await asyncio.to_thread(entered.wait, 5)
    for _ in range(2):  # a second cancellation must not matter
        delivering.cancel()
        await asyncio.sleep(0)
    with pytest.raises(asyncio.CancelledError):
        await delivering
    assert left.is_set()
    async with asyncio.timeout(5):
        assert await read(source) == []
    await source.close()


async def test_an_error_of_the_consumer_is_raised(kind: str, tmp_path: pathlib.Path) -> None:
    source = await open_source(kind, tmp_path)

    def refuse(block: AudioFrame) -> bool:
        raise RuntimeError("no")

    with pytest.raises(RuntimeError, match="no"):
        await source.deliver(refuse)
    await source.close()


async def test_sound_does_not_wait_for_the_event_loop(kind: str, tmp_path: pathlib.Path) -> None:
    source = await open_source(kind, tmp_path)
    await read(source, RATE // 10)  # a device may begin late
    began, came = time.monotonic(), []

    def consume(block: AudioFrame) -> bool:
        came.append(time.monotonic() - began)
        return came[-1] < 0.4

    delivering = asyncio.create_task(source.deliver(consume))
    await asyncio.sleep(0)
    time.sleep(0.5)  # block the event loop
    assert [at for at in came if 0.1 < at < 0.4]
    await delivering
    await source.close()


async def test_a_source_can_be_closed_twice(kind: str, tmp_path: pathlib.Path) -> None:
    source = await open_source(kind, tmp_path)
    await source.close()
    await source.close()


async def test_a_late_reader_misses_samples_that_are_counted(device_kind: str) -> None:
    source = await backend_of(device_kind).open(
        CaptureRequest(sample_rate_hz=RATE, channels=1, device="default", queue_s=0.1)
    )
    while not source.overrun_samples:  # do not read
        await asyncio.sleep(0.01)
    first = await read(source, 1)
    blocks = first + await read(source, RATE // 2)
    await source.close()
    holes = [b.position - a.end for a, b in itertools.pairwise(blocks)]
    assert min(holes) >= 0
    assert 0 < sum(holes) <= source.overrun_samples


async def test_an_unknown_device_is_an_error(device_kind: str) -> None:
    with pytest.raises(NoSuchDevice, match="there are:"):
        await backend_of(device_kind).open(
            CaptureRequest(sample_rate_hz=RATE, channels=1, device="nobody's")
        )


def test_devices_can_be_listed(kind: str) -> None:
    devices = backend_of(kind).devices()
    assert bool(devices) == (kind in WITH_DEVICES)
    assert sum(device.is_default for device in devices) <= 1


async def test_a_file_ends_with_its_last_sample(tmp_path: pathlib.Path) -> None:
    source = await open_source("file", tmp_path, seconds=0.1234)
    blocks = await read(source)
    assert sum(map(len, blocks)) == round(0.1234 * RATE)
    await source.close()


@pytest.mark.skipif(rig.missing() is not None, reason=str(rig.missing()))
@pytest.mark.parametrize("name", WITH_DEVICES)
async def test_a_device_that_goes_away_is_lost(
    name: str, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not WITH_DEVICES[name]:
        pytest.skip(f"{name} is not installed")
    with rig.microphone(tmp_path / "runtime") as device:
        for key, value in device.environ.items():
            monkeypatch.setenv(key, value)
        source = await open_source(name, tmp_path)
        await read(source, 4800)
        device.unplug()
        with pytest.raises(DeviceLost):
            await read(source)
        await source.close()
