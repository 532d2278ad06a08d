// Opens microphones, and what their sound runs through.

/** @typedef {import("./capture.js").Mode} Mode */
/** @typedef {{ sampleRate: number, channels: number }} Shape of sound */

export const RATE_HZ = 48_000;

/**
 * @param {Mode} mode
 * @param {string} deviceId
 */
export function openMicrophone(mode, deviceId) {
  const isVoice = mode === "voice";
  return navigator.mediaDevices.getUserMedia({
    audio: {
      ...(deviceId ? { deviceId: { exact: deviceId } } : {}),
      echoCancellation: isVoice,
      noiseSuppression: isVoice,
      autoGainControl: isVoice,
      channelCount: isVoice ? 1 : { ideal: 2 },
    },
  });
}

/**
 * @param {MediaStream} microphone
 * @param {AudioContextLatencyCategory} latencyHint
 * @param {number} [sampleRate] that it should have
 */
export function contextFor(microphone, latencyHint, sampleRate = RATE_HZ) {
  const context = new AudioContext({ sampleRate, latencyHint });
  try {
    return { context, source: context.createMediaStreamSource(microphone) };
  } catch {
    // Firefox connects no microphone of another rate
    context.close();
  }
  const own = new AudioContext({ latencyHint });
  try {
    return { context: own, source: own.createMediaStreamSource(microphone) };
  } catch (error) {
    own.close();
    throw error;
  }
}

/**
 * @param {MediaStream} microphone
 * @param {Mode} mode
 */
export function channelsOf(microphone, mode) {
  if (mode === "voice") return 1;
  return Math.min(2, microphone.getAudioTracks()[0].getSettings().channelCount ?? 1);
}

/** @param {MediaStream} stream */
export function stop(stream) {
  for (const track of stream.getTracks()) track.stop();
}
