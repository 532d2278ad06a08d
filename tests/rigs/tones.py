"""Two simultaneous tones, each in its own track, from aiortc or from Chromium."""

from __future__ import annotations

import fractions
from typing import Any

import av
import numpy as np
import numpy.typing as npt
from aiortc import AudioStreamTrack, RTCConfiguration, RTCPeerConnection

from tests.rigs.loopback import loopback_for_aiortc

TONES_HZ = (440, 1000)
TWO_TONES = """
async () => {
  const context = new AudioContext();
  await context.resume();
  window.pc = new RTCPeerConnection();
  for (const frequency of [440, 1000]) {
    const tone = new OscillatorNode(context, { frequency });
    const output = new MediaStreamAudioDestinationNode(context, { channelCount: 1 });
    tone.connect(output);
    tone.start();
    pc.addTransceiver(output.stream.getAudioTracks()[0], { direction: "sendonly" });
  }
  await pc.setLocalDescription();
  while (pc.iceGatheringState !== "complete")
    await new Promise((resolve) => setTimeout(resolve, 20));
  return pc.localDescription.sdp;
}
"""
"""Returns an offer of `pc`. Chromium plays sound only after a user gesture on the page."""


class Tone(AudioStreamTrack):
    """A sine wave in real time."""

    def __init__(self, frequency_hz: int) -> None:
        super().__init__()
        self._frequency_hz = frequency_hz

    async def recv(self) -> av.AudioFrame:
        silence: Any = await super().recv()  # paced, and with timestamps
        rate = silence.sample_rate
        times = np.arange(silence.pts, silence.pts + silence.samples) / rate
        wave = 8000 * np.sin(2 * np.pi * self._frequency_hz * times)
        frame = av.AudioFrame.from_ndarray(wave.astype(np.int16)[None, :], layout="mono")
        frame.sample_rate, frame.pts = rate, silence.pts
        frame.time_base = fractions.Fraction(1, rate)
        return frame


async def peer_with_two_tones() -> RTCPeerConnection:
    """Make an aiortc peer with its offer."""
    peer = RTCPeerConnection(RTCConfiguration(iceServers=[]))
    for frequency_hz in TONES_HZ:
        peer.addTransceiver(Tone(frequency_hz), direction="sendonly")
    with loopback_for_aiortc():
        await peer.setLocalDescription(await peer.createOffer())
    return peer


def tone_in(samples: npt.NDArray[Any], *, sample_rate_hz: int) -> float:
    """Return the frequency of the strongest tone, which must have 99 % of the power."""
    assert samples.ndim == 1
    spectrum = np.abs(np.fft.rfft(samples * np.hanning(len(samples)))) ** 2
    peak = int(np.argmax(spectrum))
    assert spectrum[max(0, peak - 10) : peak + 11].sum() > 0.99 * spectrum.sum()
    return peak * sample_rate_hz / len(samples)
