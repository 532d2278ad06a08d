"""What a page of a browser does that keeps what it sends: the least that is needed for it."""

from __future__ import annotations

RECORD = r"""
async ({ speech, sendFor, suspendFor }) => {
  const rate = 48000;
  const sleep = (seconds) => new Promise((resolve) => setTimeout(resolve, 1000 * seconds));
  const context = new AudioContext({ sampleRate: rate });
  const worklet = `registerProcessor("tap", class extends AudioWorkletProcessor {
    process(inputs) {
      this.port.postMessage(inputs[0][0]?.slice() ?? new Float32Array(128));
      return true;
    }
  });`;
  const url = URL.createObjectURL(new Blob([worklet], { type: "text/javascript" }));
  await context.audioWorklet.addModule(url);
  const source = context.createBufferSource();
  const wav = Uint8Array.from(atob(speech), (character) => character.charCodeAt(0));
  source.buffer = await context.decodeAudioData(wav.buffer);
  source.loop = true;
  source.start();
  const mono = { channelCount: 1, channelCountMode: "explicit" };
  const tap = new AudioWorkletNode(context, "tap", { numberOfOutputs: 0, ...mono });
  const output = new MediaStreamAudioDestinationNode(context, mono);
  source.connect(tap);
  source.connect(output);

  const spool = { blocks: [], length: 0, missing: [], began: null, isBehind: false };
  const add = (block) => { spool.blocks.push(block); spool.length += block.length; };
  tap.port.onmessage = ({ data }) => {
    const now = performance.now();
    spool.began ??= now - 1000 * data.length / rate;
    if (spool.isBehind) {
      const due = Math.round((now - spool.began) / 1000 * rate) - data.length;
      const length = Math.max(1, due - spool.length);
      spool.missing.push({ start: spool.length, length });
      add(new Int16Array(length));
      spool.isBehind = false;
    }
    add(Int16Array.from(data, (value) => Math.round(Math.max(-1, Math.min(1, value)) * 32767)));
  };
  await sleep(1);

  const pc = new RTCPeerConnection({ bundlePolicy: "max-bundle" });
  pc.addTransceiver(output.stream.getAudioTracks()[0], { direction: "sendonly" });
  await pc.setLocalDescription();
  while (pc.iceGatheringState !== "complete") await sleep(0.02);
  const about = {
    position: spool.length, sample_rate_hz: rate, channels: 1, sample_format: "s16", restore: "all",
  };
  const headers = { "Content-Type": "application/sdp", "Gapless-Spool": JSON.stringify(about) };
  const answer = await fetch("/whip", { method: "POST", headers, body: pc.localDescription.sdp });
  if (answer.status !== 201) throw new Error(await answer.text());
  await pc.setRemoteDescription({ type: "answer", sdp: await answer.text() });
  await sleep(sendFor);
  await context.suspend();
  await sleep(suspendFor);
  spool.isBehind = true;
  await context.resume();
  await sleep(sendFor);
  pc.close();
  tap.port.onmessage = null;

  const whole = new Int16Array(spool.length);
  let end = 0;
  for (const block of spool.blocks) { whole.set(block, end); end += block.length; }
  const bytes = new Uint8Array(whole.buffer);
  let text = "";
  for (let at = 0; at < bytes.length; at += 32768) {
    text += String.fromCharCode(...bytes.subarray(at, at + 32768));
  }
  return {
    pcm: btoa(text),
    missing: spool.missing,
    id: answer.headers.get("Gapless-Session"),
    resume: answer.headers.get("Location").split("/").pop(),
  };
}
"""
"""Captures speech (a WAV in base64), and sends it over WHIP. Its AudioContext is suspended once.

Returns the spool, what is missing in it, and the session. The connection is closed.
"""
