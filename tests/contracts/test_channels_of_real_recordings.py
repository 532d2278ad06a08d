"""Files of senders that begin to send a second channel, also over a kill of the server."""

from __future__ import annotations

import json
import os
import pathlib
from typing import Any

import numpy as np
import pytest
import soundfile

from adapters.codec.decoders import make_decoder
from adapters.codec.libopus import OpusDecoder
from adapters.storage.folder.inspection import inspect_recording
from adapters.storage.folder.renderer import render_recording
from adapters.storage.folder.store import FolderStore
from adapters.storage.ogg.opus import read_file, read_packets
from domain.recording.completed import CompletedRecording
from domain.recording.verification import Limits, verify
from domain.sound.detection import Stereo
from domain.sound.formats import AudioFormat
from tests.rigs.recordings import LONG_AGO
from tests.rigs.sound import encode, speech
from tests.rigs.tracks import OpusTrack

FRAME = 960
VOICE = speech(6)
ONE = encode(VOICE)
TWO = encode(np.hstack([VOICE, -VOICE]))
TWICE = encode(np.hstack([VOICE, VOICE]))


def parts(recording: CompletedRecording) -> list[tuple[int, int, int]]:
    """Start, length and channels of each part, all of which have to be sound."""
    found = []
    for part in recording.parts:
        facts = inspect_recording(part.location)
        assert verify(facts, Limits()).problems == []
        assert facts.format is not None and facts.length == part.length
        found.append((part.start, part.length, facts.format.channels))
    return found


def ledgers(recording: CompletedRecording) -> list[dict[str, Any]]:
    paths = [pathlib.Path(part.location).with_suffix(".json") for part in recording.parts]
    return [json.loads(path.read_text()) for path in paths]


def samples(recording: CompletedRecording, number: int) -> Any:
    return soundfile.read(recording.parts[number].location, dtype="int16", always_2d=True)[0]


def decoded(payloads: list[bytes], channels: int) -> Any:
    decoder = OpusDecoder(AudioFormat(48_000, channels))
    for payload in payloads:
        decoder.decode(payload)
    return np.concatenate(decoder.collect())  # type: ignore[arg-type]


async def test_a_wav_with_two_channels_follows_the_mono_one(tmp_path: pathlib.Path) -> None:
    store = FolderStore(str(tmp_path))
    track = OpusTrack(store)
    payloads = ONE[:15] + TWO[15:100]
    track.receive(payloads)
    recording = await track.end()
    store.close()
    assert parts(recording) == [(0, 15 * FRAME, 1), (15 * FRAME, 85 * FRAME, 2)]
    np.testing.assert_array_equal(samples(recording, 0), decoded(payloads[:15], 1))
    np.testing.assert_array_equal(samples(recording, 1), decoded(payloads, 2)[15 * FRAME :])
    first, second = ledgers(recording)
    assert (first["end_reason"], second["end_reason"]) == ("continued", "closed")
    assert [(e["type"], e["position"]) for e in second["events"]][:2] == [
        ("continues", 0), ("channels", 0),
    ]  # fmt: skip
    assert second["events"][1]["channels"] == 2


async def test_packets_with_two_channels_begin_a_file_with_two(tmp_path: pathlib.Path) -> None:
    store = FolderStore(str(tmp_path))
    track = OpusTrack(store, keep_packets=True)
    payloads = ONE[:50] + TWO[50:100] + ONE[100:150]
    track.receive(payloads)
    recording = await track.end()
    store.close()
    assert parts(recording) == [(0, 50 * FRAME, 1), (50 * FRAME, 100 * FRAME, 2)]
    kept = []
    for part, channels in zip(recording.parts, (1, 2), strict=True):
        descriptor = os.open(part.location, os.O_RDONLY)
        found = read_file(descriptor)
        assert found is not None and found.channels == channels
        kept += [item.payload for item in read_packets(descriptor) if not item.is_gap]
        os.close(descriptor)
    assert kept == payloads
    rendered = render_recording(pathlib.Path(recording.parts[1].location), None, make_decoder)
    whole = decoded(payloads, 2)[50 * FRAME :]
    apart = samples(rendered, 0)[25 * FRAME :].astype(int) - whole[25 * FRAME :]
    assert np.abs(apart).max() < 200  # a rendering begins without the packets before


@pytest.mark.parametrize("payloads", [TWICE, TWO])
async def test_kept_packets_of_uncertain_channels_are_told_to_have_two(
    tmp_path: pathlib.Path, payloads: list[bytes]
) -> None:
    store = FolderStore(str(tmp_path))
    track = OpusTrack(store, Stereo.UNCERTAIN, keep_packets=True)
    track.receive(payloads[:5])
    assert [found.channels for found in track.seen.started] == []
    track.receive(payloads[5:100])
    recording = await track.end()
    store.close()
    assert parts(recording) == [(0, 100 * FRAME, 2)]


async def resumed(
    folder: pathlib.Path, before: list[bytes], after: list[bytes], stereo: Stereo,
    *, keep_packets: bool = False,
) -> CompletedRecording:  # fmt: skip
    """Kill the server after some packets, and let the client resume with others."""
    store = FolderStore(str(folder))
    first = OpusTrack(store, stereo, keep_packets=keep_packets)
    first.receive(before)
    first.wait(0.3)
    store.close()  # as a killed process leaves it
    store = FolderStore(str(folder))
    (interrupted,) = store.recover(resumable_since=LONG_AGO).interrupted
    second = OpusTrack(store, stereo, former=first, interrupted=interrupted)
    second.receive(after)
    recording = await second.end()
    store.close()
    return recording


@pytest.mark.parametrize("keep_packets", [False, True])
@pytest.mark.parametrize("stereo", [Stereo.UNINVITED, Stereo.UNCERTAIN])
async def test_a_part_with_two_channels_is_resumed_with_two(
    tmp_path: pathlib.Path, stereo: Stereo, keep_packets: bool
) -> None:
    source = ONE if stereo is Stereo.UNINVITED else TWICE
    before = source[:75] + TWO[75:150]
    recording = await resumed(
        tmp_path, before, source[150:200] + TWO[200:250], stereo, keep_packets=keep_packets
    )
    channels = [channels for _, _, channels in parts(recording)]
    assert channels == ([2] if keep_packets and stereo is Stereo.UNCERTAIN else [1, 2])
    assert recording.info.format.channels == 2
    assert sum(
        span["length"]
        for ledger in ledgers(recording)
        for span in ledger["spans"]
        if span["kind"] == "received"
    ) == 250 * FRAME  # fmt: skip


@pytest.mark.parametrize("stereo", [Stereo.UNINVITED, Stereo.UNCERTAIN])
async def test_a_mono_part_is_resumed_in_mono_until_a_second_channel_comes(
    tmp_path: pathlib.Path, stereo: Stereo
) -> None:
    source = ONE if stereo is Stereo.UNINVITED else TWICE
    recording = await resumed(tmp_path, source[:75], source[75:150] + TWO[150:250], stereo)
    (first, second) = parts(recording)
    assert (first[2], second[2]) == (1, 2)
    late = recording.length - 100 * FRAME - second[0]
    assert -2 * FRAME <= late <= 0
    events = [event["type"] for event in ledgers(recording)[1]["events"]]
    assert events[:2] == ["continues", "channels"]
