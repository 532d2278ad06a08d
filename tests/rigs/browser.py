"""Chromium with a WAV file as its microphone."""

from __future__ import annotations

import pathlib
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from playwright.async_api import Page, async_playwright

CHROMIUM = shutil.which("chromium")

PUBLISH = """
async ({ token }) => {
  const raw = { echoCancellation: false, noiseSuppression: false, autoGainControl: false };
  const stream = await navigator.mediaDevices.getUserMedia({ audio: raw });
  const pc = new RTCPeerConnection();
  const queue = [];
  let id = null;
  const headers = { "Content-Type": "application/json" };
  if (token) headers.Authorization = `Bearer ${token}`;
  const send = async (candidate) => {
    const body = JSON.stringify({ id, ...candidate.toJSON() });
    await fetch("/ice-candidate", { method: "POST", headers, body });
  };
  pc.onicecandidate = ({ candidate }) => {
    if (!candidate) return;
    if (id) send(candidate); else queue.push(candidate);
  };
  pc.addTransceiver(stream.getAudioTracks()[0], { direction: "sendonly" });
  await pc.setLocalDescription();
  const response = await fetch("/offer", {
    method: "POST", headers,
    body: JSON.stringify({ sdp: pc.localDescription.sdp, type: "offer", name: "browser" }),
  });
  if (!response.ok) throw new Error(await response.text());
  const answer = await response.json();
  id = answer.id;
  await pc.setRemoteDescription({ type: "answer", sdp: answer.sdp });
  for (const candidate of queue) await send(candidate);
  await new Promise((resolve, reject) => {
    const check = () => {
      if (pc.connectionState === "connected") resolve();
      if (pc.connectionState === "failed") reject(new Error("connection failed"));
    };
    pc.onconnectionstatechange = check;
    check();
  });
  window.pc = pc;
  window.session = id;
  return id;
}
"""

WAIT_UNTIL_SENT = """
async (packets) => {
  for (;;) {
    for (const report of (await pc.getStats()).values())
      if (report.type === "outbound-rtp" && report.packetsSent >= packets) return;
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}
"""


@asynccontextmanager
async def browser_page(microphone: pathlib.Path) -> AsyncIterator[Page]:
    """Open a page in a fresh browser that loops the file `microphone` as its microphone."""
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(
            executable_path=CHROMIUM,
            args=[
                "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-sync",
                "--disable-background-networking", "--disable-component-update",
                "--use-fake-ui-for-media-stream", "--use-fake-device-for-media-stream",
                f"--use-file-for-fake-audio-capture={microphone}",
                "--allow-loopback-in-peer-connection",
            ],
        )  # fmt: skip
        try:
            context = await browser.new_context(permissions=["microphone"])
            yield await context.new_page()
        finally:
            await browser.close()


WHIP = """
async ({ video = false }) => {
  const raw = { echoCancellation: false, noiseSuppression: false, autoGainControl: false };
  const stream = await navigator.mediaDevices.getUserMedia({ audio: raw });
  const pc = new RTCPeerConnection({ bundlePolicy: "max-bundle" });
  const whip = { pc, statuses: [], queue: [] };
  const tracks = [stream.getAudioTracks()[0]];
  if (video) {
    const canvas = document.createElement("canvas");
    canvas.width = canvas.height = 64;
    const paint = canvas.getContext("2d");
    setInterval(() => {
      paint.fillStyle = `hsl(${Math.random() * 360} 90% 50%)`;
      paint.fillRect(0, 0, 64, 64);
    }, 100);
    tracks.unshift(canvas.captureStream(10).getVideoTracks()[0]);
  }
  for (const track of tracks) pc.addTransceiver(track, { direction: "sendonly" });
  const inSdp = (name) => pc.localDescription.sdp.match(new RegExp(`a=${name}:(.*)\\r\\n`))[1];
  whip.patch = async (lines, ifMatch) => {
    const body = [`a=ice-ufrag:${inSdp("ice-ufrag")}`, `a=ice-pwd:${inSdp("ice-pwd")}`,
                  "m=audio 9 UDP/TLS/RTP/SAVPF 0", `a=mid:${inSdp("mid")}`, ...lines, ""];
    const headers = { "Content-Type": "application/trickle-ice-sdpfrag" };
    if (ifMatch) headers["If-Match"] = ifMatch;
    const response = await fetch(whip.url, { method: "PATCH", headers, body: body.join("\\r\\n") });
    whip.statuses.push(response.status);
    return response;
  };
  const trickle = ({ candidate }) => {
    if (!whip.etag) { whip.queue.push(candidate); return; }
    if (candidate && candidate.candidate) whip.patch([`a=${candidate.candidate}`], whip.etag);
    else whip.patch(["a=end-of-candidates"], whip.etag);
  };
  pc.onicecandidate = trickle;
  await pc.setLocalDescription(await pc.createOffer());
  const response = await fetch("/whip?name=browser", {
    method: "POST", headers: { "Content-Type": "application/sdp" },
    body: pc.localDescription.sdp.replace(/a=candidate:.*\\r\\n/g, ""),
  });
  if (response.status !== 201) throw new Error(await response.text());
  whip.url = response.headers.get("Location");
  whip.etag = response.headers.get("ETag");
  await pc.setRemoteDescription({ type: "answer", sdp: await response.text() });
  for (const candidate of whip.queue) trickle({ candidate });
  whip.connected = () => new Promise((resolve, reject) => {
    const check = () => {
      if (pc.connectionState === "connected") resolve();
      if (pc.connectionState === "failed") reject(new Error("connection failed"));
    };
    pc.onconnectionstatechange = check;
    check();
  });
  whip.selected = async () => {
    const stats = await pc.getStats();
    for (const report of stats.values())
      if (report.type === "transport") return report.iceLocalUsernameFragment;
  };
  whip.restart = async () => {
    const old = await whip.selected();
    const remote = pc.remoteDescription.sdp;
    whip.queue = []; whip.etag = null;
    pc.restartIce();
    await pc.setLocalDescription(await pc.createOffer());
    const response = await whip.patch([], "*");
    if (response.status !== 200) throw new Error(await response.text());
    const fragment = (await response.text()).split("\\r\\n");
    const own = (name) => fragment.find((line) => line.startsWith(`a=${name}:`));
    const candidates = fragment.filter((line) => line.startsWith("a=candidate:")).join("\\r\\n");
    const sdp = remote
      .replace(/a=candidate:.*\\r\\n/g, "")
      .replace(/a=ice-ufrag:.*/g, own("ice-ufrag"))
      .replace(/a=ice-pwd:.*/g, own("ice-pwd"))
      .replace(/a=end-of-candidates/g, `${candidates}\\r\\na=end-of-candidates`);
    await pc.setRemoteDescription({ type: "answer", sdp });
    whip.etag = response.headers.get("ETag");
    for (const candidate of whip.queue) trickle({ candidate });
    for (;;) {
      const now = await whip.selected();
      if (now !== old && pc.iceConnectionState === "connected") return;
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
  };
  whip.end = async () => {
    const response = await fetch(whip.url, { method: "DELETE" });
    pc.close();
    return response.status;
  };
  window.pc = pc;
  window.whip = whip;
  await whip.connected();
}
"""
