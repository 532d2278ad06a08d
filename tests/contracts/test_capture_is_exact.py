"""What is captured is what the device delivers or the file holds, to the bit."""

from __future__ import annotations

import ctypes.util
import importlib.util
import pathlib

import numpy as np
import pytest
import soundfile

from domain.ports.capture import AudioSource, CaptureBackend, CaptureRequest
from domain.sound.conversion import convert
from domain.sound.formats import AudioFormat, AudioFrame, SampleFormat, Samples
from entrypoints.client_settings import ClientSettings
from entrypoints.container import ClientContainer
from tests.fakes.events import SeenByClient
from tests.rigs import microphone as rig

FINE = AudioFormat(96_000, 2, SampleFormat.S24)
BACKENDS = {
    "sounddevice": ctypes.util.find_library("portaudio") is not None,
    "pyaudio": importlib.util.find_spec("pyaudio") is not None,
}


def noise(length: int, audio_format: AudioFormat = FINE) -> Samples:
    """Return samples of which all bits vary."""
    limit = 1 << (audio_format.sample_format.bits - 1)
    shape = (length, audio_format.channels)
    drawn = np.random.default_rng(7).integers(-limit, limit, shape)
    return drawn.astype(audio_format.sample_format.dtype)


def backend_of(kind: str) -> CaptureBackend:
    settings = ClientSettings(capture=kind, input="unused")
    backend: CaptureBackend = ClientContainer(settings=settings, events=SeenByClient()).capture()
    return backend


async def opened_file(path: pathlib.Path) -> AudioSource:
    request = CaptureRequest(sample_rate_hz=48_000, channels=1, path=str(path))
    return await backend_of("file").open(request)


async def read(source: AudioSource, samples: float = float("inf")) -> Samples:
    """Read at least `samples` samples; all until the end if it is not given."""
    blocks: list[Samples] = []

    def consume(block: AudioFrame) -> bool:
        blocks.append(block.samples)
        return sum(map(len, blocks)) < samples

    await source.deliver(consume)
    await source.close()
    return np.concatenate(blocks)


@pytest.mark.parametrize("container", ["wav", "flac"])
@pytest.mark.parametrize(
    "audio_format",
    [FINE, AudioFormat(44_100, 8, SampleFormat.S24), AudioFormat(44_100, 1, SampleFormat.S16)],
    ids=str,
)
async def test_a_file_of_integers_is_delivered_bit_for_bit(
    tmp_path: pathlib.Path, audio_format: AudioFormat, container: str
) -> None:
    sent = noise(audio_format.sample_rate_hz // 5, audio_format)
    path, bits = tmp_path / f"input.{container}", audio_format.sample_format.bits
    shifted = sent << 8 if bits == 24 else sent  # libsndfile takes the upper 24 bits
    soundfile.write(path, shifted, audio_format.sample_rate_hz, subtype=f"PCM_{bits}")
    source = await opened_file(path)
    assert source.format == audio_format
    assert np.array_equal(await read(source), sent)


@pytest.mark.parametrize(
    ("subtype", "written_as"),
    [("PCM_32", SampleFormat.S32), ("FLOAT", SampleFormat.F32), ("DOUBLE", SampleFormat.F64)],
)
async def test_a_file_with_more_than_24_bits_is_rounded_to_24(
    tmp_path: pathlib.Path, subtype: str, written_as: SampleFormat
) -> None:
    fine = noise(9600, AudioFormat(96_000, 2, SampleFormat.S32))
    sent = convert(fine, SampleFormat.S32, written_as)
    soundfile.write(tmp_path / "input.wav", sent, 96_000, subtype=subtype)
    source = await opened_file(tmp_path / "input.wav")
    assert source.format == FINE
    assert np.array_equal(await read(source), convert(sent, written_as, SampleFormat.S24))


@pytest.mark.parametrize(
    ("subtype", "bits"), [("PCM_U8", 8), ("PCM_16", 16), ("PCM_24", 24), ("FLOAT", 24)]
)
async def test_the_loudest_samples_of_a_file_stay_the_loudest(
    tmp_path: pathlib.Path, subtype: str, bits: int
) -> None:
    extremes = np.array([[-1.0], [1.0], [0.0]])
    soundfile.write(tmp_path / "input.wav", extremes, 48_000, subtype=subtype)
    source = await opened_file(tmp_path / "input.wav")
    delivered, step = await read(source), 1 << (source.format.sample_format.bits - bits)
    limit = 1 << (source.format.sample_format.bits - 1)
    assert delivered[1:, 0].tolist() == [limit - step, 0]
    assert -limit <= delivered[0, 0] <= -limit + step


async def test_the_tone_has_the_depth_asked_for() -> None:
    request = CaptureRequest(sample_rate_hz=96_000, channels=2, sample_format=SampleFormat.S24)
    source = await backend_of("tone").open(request)
    assert source.format == FINE
    delivered = await read(source, 9600)
    assert np.any(delivered & 0xFF)
    assert np.abs(delivered).max() == pytest.approx(0.25 * 2**23, rel=0.01)


@pytest.mark.skipif(rig.missing() is not None, reason=str(rig.missing()))
@pytest.mark.parametrize("name", BACKENDS)
async def test_a_device_is_captured_in_its_rate_and_depth_bit_for_bit(
    name: str, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not BACKENDS[name]:
        pytest.skip(f"{name} is not installed")
    played = noise(FINE.sample_rate_hz)
    # PulseAudio leaves out the first milliseconds of a stream
    lead = np.zeros((FINE.sample_rate_hz // 2, FINE.channels), dtype=played.dtype)
    path = tmp_path / "played.wav"
    soundfile.write(path, np.concatenate([lead, played]) << 8, 96_000, subtype="PCM_24")
    with rig.microphone(tmp_path / "runtime", rate=96_000, channels=2, depth=24) as device:
        for key, value in device.environ.items():
            monkeypatch.setenv(key, value)
        source = await backend_of(name).open(
            CaptureRequest(
                sample_rate_hz=96_000,
                channels=2,
                sample_format=SampleFormat.S24,
                device="default",
            )
        )
        player = device.play(path)
        captured = await read(source, 5 * FINE.sample_rate_hz)
        assert player.wait() == 0
    assert source.format == FINE
    assert source.overrun_samples == 0
    begin = int(np.flatnonzero(captured.any(axis=1))[0])
    assert np.array_equal(captured[begin : begin + len(played)], played)
