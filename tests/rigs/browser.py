"""Browsers as publishers: the scripts of their pages, and Chromium."""

from __future__ import annotations

import os
import pathlib
import shutil
import signal
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Protocol

from playwright.async_api import CDPSession, Page, async_playwright

from tests.rigs.firefox import BLANK, FIREFOX, firefox_page

CHROMIUM = shutil.which("chromium")
BROWSERS = {"chromium": CHROMIUM, "firefox": FIREFOX}
"""The programs; None for one that is not installed."""

PUBLISH = """
async ({ token = null, name = "browser", device = null, channels = 1, context = false }) => {
  const raw = { echoCancellation: false, noiseSuppression: false, autoGainControl: false };
  const open = async (label) => {
    const constraints = { ...raw, channelCount: channels };
    if (label) {
      // labels are shown once the page has a microphone
      const any = await navigator.mediaDevices.getUserMedia({ audio: true });
      const devices = await navigator.mediaDevices.enumerateDevices();
      for (const track of any.getTracks()) track.stop();
      const isIt = (one) => one.kind === "audioinput" && one.label === label;
      constraints.deviceId = { exact: devices.find(isIt).deviceId };
    }
    return await navigator.mediaDevices.getUserMedia({ audio: constraints });
  };
  let stream = await open(device), audio = null;
  if (context) {
    audio = new AudioContext();
    const output = new MediaStreamAudioDestinationNode(audio, { channelCount: channels });
    audio.createMediaStreamSource(stream).connect(output);
    await audio.resume();
    stream = output.stream;
  }
  const [track] = stream.getAudioTracks();
  const pc = new RTCPeerConnection();
  const queue = [];
  let id = null, resume = null;
  const headers = { "Content-Type": "application/json" };
  if (token) headers.Authorization = `Bearer ${token}`;
  const send = async (candidate) => {
    const body = JSON.stringify({ id, ...candidate.toJSON() });
    const owner = token ? { ...headers, Authorization: `Bearer ${resume}` } : headers;
    const response = await fetch("/ice-candidate", { method: "POST", headers: owner, body });
    if (!response.ok) throw new Error(await response.text());
  };
  pc.onicecandidate = ({ candidate }) => {
    if (!candidate) return;
    if (id) send(candidate); else queue.push(candidate);
  };
  const transceiver = pc.addTransceiver(track, { direction: "sendonly" });
  await pc.setLocalDescription();
  const response = await fetch("/offer", {
    method: "POST", headers,
    body: JSON.stringify({ sdp: pc.localDescription.sdp, type: "offer", name }),
  });
  if (!response.ok) throw new Error(await response.text());
  const answer = await response.json();
  ({ id, resume } = answer);
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
  window.published ??= {};
  published[name] = {
    pc, transceiver, track, audio, open, id,
    sender: transceiver.sender, sdp: answer.sdp, resume: answer.resume,
  };
  return id;
}
"""
"""Publishes a microphone, all as it hears it or through an AudioContext."""

STALLS = {
    "track replaced by none": """
async ({ sender, track }, wait) => {
  await sender.replaceTrack(null);
  await wait();
  await sender.replaceTrack(track);
}
""",
    "another microphone": """
async ({ sender, track, open }, wait) => {
  track.stop();
  await wait();
  const [other] = (await open("Other")).getAudioTracks();
  await sender.replaceTrack(other);
}
""",
    "context suspended": """
async ({ audio }, wait) => {
  await audio.suspend();
  await wait();
  await audio.resume();
}
""",
    "direction inactive": """
async ({ pc, transceiver, sdp }, wait) => {
  // the server is not asked: the page answers itself with what the server would say
  const agree = async (direction, answered) => {
    transceiver.direction = direction;
    await pc.setLocalDescription();
    await pc.setRemoteDescription({
      type: "answer", sdp: sdp.replace("a=recvonly", `a=${answered}`),
    });
  };
  await agree("inactive", "inactive");
  await wait();
  await agree("sendonly", "recvonly");
}
""",
    "encoding inactive": """
async ({ sender }, wait) => {
  const activate = async (active) => {
    const parameters = sender.getParameters();
    for (const encoding of parameters.encodings) encoding.active = active;
    await sender.setParameters(parameters);
  };
  await activate(false);
  await wait();
  await activate(true);
}
""",
}
"""What a page may do to what it publishes, so that nothing is sent for a while.

Functions of what was published and of a function that waits for the time of the stall.
"""

END = """
async (name) => {
  const { pc, id, resume } = published[name];
  pc.close();
  const headers = { Authorization: `Bearer ${resume}` };
  await fetch(`/sessions/${id}`, { method: "DELETE", headers });
}
"""
"""Ends what was published under a name."""

WAIT_UNTIL_SENT = """
async (packets) => {
  for (;;) {
    for (const report of (await pc.getStats()).values())
      if (report.type === "outbound-rtp" && report.packetsSent >= packets) return;
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}
"""

WAIT_FOR_MORE = """
async (packets) => {
  const sent = async () => [...(await pc.getStats()).values()]
    .find((report) => report.type === "outbound-rtp").packetsSent;
  const before = await sent();
  while (await sent() < before + packets) await new Promise((resolve) => setTimeout(resolve, 20));
}
"""


class BrowserPage(Protocol):
    """What tests need of a page, in any browser."""

    async def goto(self, url: str) -> object: ...
    async def evaluate(self, script: str, argument: Any = None, /) -> Any:
        """Evaluate an expression, or call a function; wait for the promise that it returns."""


@dataclass(frozen=True)
class Browser:
    """A browser with one page; its microphones are those of PulseAudio."""

    page: BrowserPage
    process_group: int
    devtools: CDPSession | None
    """Chromium's DevTools for the page."""

    async def publish(self, name: str, **options: object) -> None:
        """Publish a microphone; `options` are those of `PUBLISH`."""
        await self.page.evaluate(PUBLISH, {"name": name} | options)

    async def stall(self, stall: str, name: str, *, seconds: float) -> None:
        """Do one of `STALLS` to what was published under a name."""
        wait = f"() => new Promise((resolve) => setTimeout(resolve, {seconds * 1000}))"
        script = STALLS[stall].strip()
        await self.page.evaluate(f"async (name) => ({script})(published[name], {wait})", name)

    async def end(self, name: str) -> None:
        await self.page.evaluate(END, name)

    def stop(self) -> None:
        """Stop all processes, as a machine that has no time for them does."""
        os.killpg(self.process_group, signal.SIGSTOP)

    def resume(self) -> None:
        os.killpg(self.process_group, signal.SIGCONT)


@asynccontextmanager
async def opened(
    name: str, folder: pathlib.Path, environ: Mapping[str, str]
) -> AsyncIterator[Browser]:
    """Open "chromium" or "firefox". `environ` says where PulseAudio is."""
    if name == "firefox":
        async with firefox_page(folder, environ) as firefox:
            yield Browser(firefox, firefox.process_id, None)
    else:
        async with _chromium([], environ) as (page, group):
            yield Browser(page, group, await page.context.new_cdp_session(page))


@asynccontextmanager
async def browser_page(
    microphone: pathlib.Path, *, accepts_any_certificate: bool = False, is_phone: bool = False
) -> AsyncIterator[Page]:
    """Open a page in a fresh Chromium that loops the file `microphone` as its microphone.

    A user who goes on past the warning of a certificate `accepts_any_certificate`. A phone is
    small, and is touched.
    """
    arguments = [
        "--use-fake-device-for-media-stream",
        f"--use-file-for-fake-audio-capture={microphone}",
    ]
    async with _chromium(arguments, {}, accepts_any_certificate, is_phone) as (page, _):
        yield page


@asynccontextmanager
async def _chromium(
    arguments: Sequence[str],
    environ: Mapping[str, str],
    accepts_any_certificate: bool = False,
    is_phone: bool = False,
) -> AsyncIterator[tuple[Page, int]]:
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(
            executable_path=CHROMIUM,
            env=os.environ | dict(environ),
            args=[
                "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-sync",
                "--disable-background-networking", "--disable-component-update",
                "--use-fake-ui-for-media-stream", "--allow-loopback-in-peer-connection",
                "--autoplay-policy=no-user-gesture-required", *arguments,
            ],
        )  # fmt: skip
        try:
            devtools: CDPSession = await browser.new_browser_cdp_session()
            processes = (await devtools.send("SystemInfo.getProcessInfo"))["processInfo"]
            (leader,) = (one["id"] for one in processes if one["type"] == "browser")
            context = await browser.new_context(
                permissions=["microphone"],
                ignore_https_errors=accepts_any_certificate,
                viewport={"width": 360, "height": 740} if is_phone else None,
                has_touch=is_phone,
                is_mobile=is_phone,
            )
            await context.route(
                f"**{BLANK}",
                lambda route: route.fulfill(content_type="text/html", body="<!doctype html>"),
            )
            yield await context.new_page(), os.getpgid(leader)
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
