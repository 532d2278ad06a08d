"""Chromium with a WAV as its microphone."""

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
    """A page of a fresh browser that plays `microphone`, again and again, as its microphone."""
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
