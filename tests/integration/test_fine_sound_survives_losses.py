"""96 kHz and 24 bit in stereo, from a file, over a network that loses packets."""

from __future__ import annotations

import hashlib
import json
import pathlib
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import scipy.signal
import soundfile

from tests.rigs.network import Network, network_before
from tests.rigs.processes import Server, gapless, serving
from tests.rigs.relay import random_loss
from tests.rigs.sound import speech
from tests.rigs.spooled import KINDS, ended

RATE, SECONDS = 96_000, 6
FILTERS_DB = 60.0
"""Two different filters for a change of the rate agree at least so well."""

pytestmark = pytest.mark.timeout(180)


def studio_sound() -> npt.NDArray[np.int32]:
    """Return speech in 96 kHz, different on both sides, of which all 24 bits count.

    As libsndfile has it: in the upper bits of 32.
    """
    spoken = speech(SECONDS + 1)[:, 0] / 32768
    both = np.stack([spoken[: SECONDS * 48_000], spoken[48_000:][: SECONDS * 48_000]], axis=1)
    wide = scipy.signal.resample_poly(both * 0.9, RATE, 48_000, axis=0)
    rustle = np.random.default_rng(1).normal(0.0, 2.0**-20, wide.shape)
    return (np.rint((wide + rustle) * 2**23).astype("<i4")) << 8


@pytest.fixture
def source(tmp_path: pathlib.Path) -> npt.NDArray[np.int32]:
    samples = studio_sound()
    soundfile.write(str(tmp_path / "source.wav"), samples, RATE, subtype="PCM_24")
    return samples


async def restored(folder: pathlib.Path, server: Server, network: Network, mode: str) -> str:
    """Stream the source; return the client's last word."""
    command = (
        "stream", "--server", network.url, "--spool", str(folder / "spool"), "--restore", mode,
        "--capture", "file", "--input", str(folder / "source.wav"), "--rate", str(RATE),
        "--depth", "24", "--channels", "2",
    )  # fmt: skip
    with gapless(*command) as client:
        assert await ended(client) == 0, client.errors
        assert server.process.stop() == 0
        return client.lines[-1]


def only(folder: pathlib.Path) -> tuple[pathlib.Path, dict[str, Any]]:
    (path,) = folder.glob("*.wav")
    ledger = json.loads(path.with_suffix(".json").read_text())
    assert ledger["restore"]["state"] == "complete"
    return path, ledger


def verify(path: pathlib.Path, source: pathlib.Path) -> None:
    with gapless("verify", "--source", str(source), str(path)) as verifying:
        assert verifying.end() == 0, verifying.lines


async def test_everything_is_kept_as_it_was_captured(
    tmp_path: pathlib.Path, source: npt.NDArray[np.int32]
) -> None:
    with serving(tmp_path / "recordings") as server:
        async with network_before(server.url, plan=random_loss(0.2)) as network:
            last = await restored(tmp_path, server, network, "all")
    path, ledger = only(tmp_path / "recordings")
    info = soundfile.info(str(path))
    assert (info.samplerate, info.channels, info.subtype) == (RATE, 2, "PCM_24")
    recorded, _ = soundfile.read(str(path), dtype="int32", always_2d=True)
    assert np.array_equal(recorded, source)
    packed = source.view("u1").reshape(-1, 4)[:, 1:].tobytes()  # 24 bits of 32
    assert ledger["sha256"] == hashlib.sha256(packed).hexdigest()
    assert ledger["sha256"] in last
    verify(path, tmp_path / "source.wav")


async def test_what_was_lost_is_patched_into_the_live_recording(
    tmp_path: pathlib.Path, source: npt.NDArray[np.int32]
) -> None:
    # too short a time to send lost packets again
    with serving(tmp_path / "recordings", "--reorder-hold-s", "0.02") as server:
        async with network_before(server.url, plan=random_loss(0.3)) as network:
            await restored(tmp_path, server, network, "lost")
    path, ledger = only(tmp_path / "recordings")
    info = soundfile.info(str(path))
    assert (info.samplerate, info.channels, info.subtype) == (48_000, 2, "PCM_16")
    recorded, _ = soundfile.read(str(path), dtype="int16", always_2d=True)
    assert len(recorded) == len(source) // 2
    assert {span["kind"] for span in ledger["spans"]} <= KINDS
    expected = scipy.signal.resample_poly(source / 2**16, 1, 2, axis=0)
    patched = np.zeros(len(recorded), bool)
    for span in ledger["spans"]:
        patched[span["start"] : span["start"] + span["length"]] = span["kind"] == "restored"
    assert patched.mean() > 0.02
    error = recorded[patched] - expected[patched]
    ratio_db = 10 * np.log10(np.mean(expected[patched] ** 2) / np.mean(error**2))
    assert ratio_db > FILTERS_DB
    verify(path, tmp_path / "source.wav")
