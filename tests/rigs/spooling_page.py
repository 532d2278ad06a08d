"""A page that keeps what it captures, driven by scripts: with the speaker's modules and no view."""

from __future__ import annotations

import asyncio
import os
import pathlib
import signal

from playwright.async_api import Page

from tests.rigs.browser import Browser, BrowserPage
from tests.rigs.firefox import FirefoxPage

OPEN = """
async ({ mode, label }) => {
  const { Capture } = await import("/pages/speaker/capture.js");
  const { Spool } = await import("/pages/speaker/spool.js");
  const events = [], levels = [];
  window.rig = { Capture, Spool, events, levels };
  let capture = await Capture.open({ mode });
  if (capture.label !== label) {
    // labels are shown once the page has a microphone
    const devices = await navigator.mediaDevices.enumerateDevices();
    const isIt = (one) => one.kind === "audioinput" && one.label === label;
    await capture.close();
    capture = await Capture.open({ mode, deviceId: devices.find(isIt).deviceId });
  }
  capture.onevent = (event) => events.push(event);
  capture.onlevel = (level) => levels.push(level);
  rig.capture = capture;
  return { label: capture.label, rate: capture.sampleRate, channels: capture.channels };
}
"""
"""Opens a microphone by its label."""

RECORD = """
async ({ resume = null }) => {
  const { Spool, capture } = rig;
  const { sampleRate, channels } = capture;
  const spool = rig.spool = resume
    ? await Spool.resume(resume)
    : await Spool.begin({ sampleRate, channels, name: "page", room: "" });
  spool.onprogress = (progress) => (rig.progress = progress);
  spool.onevent = (event) => rig.events.push(event);
  await capture.keep(spool.port);
  const pc = rig.pc = new RTCPeerConnection();
  const [track] = capture.stream.getAudioTracks();
  pc.addTransceiver(track, { direction: "sendonly", streams: [capture.stream] });
  await pc.setLocalDescription();
  await new Promise((resolve) => {
    const check = () => pc.iceGatheringState === "complete" && resolve();
    pc.onicegatheringstatechange = check;
    check();
  });
  const headers = { "Content-Type": "application/sdp" };
  headers["Gapless-Spool"] = JSON.stringify(await spool.offer());
  if (spool.session) headers["Gapless-Resume"] = spool.session.secret;
  const body = pc.localDescription.sdp;
  const answer = await fetch("/whip?name=page", { method: "POST", headers, body });
  if (answer.status !== 201) throw new Error(await answer.text());
  rig.resource = answer.headers.get("Location");
  const secret = rig.resource.split("/").at(-1);
  await spool.attach({ id: answer.headers.get("Gapless-Session"), secret });
  await pc.setRemoteDescription({ type: "answer", sdp: await answer.text() });
  rig.reports = setInterval(() => spool.network({ roundTripS: 0.001, lost: 0 }), 500);
  return spool.id;
}
"""
"""Begins a spool, or goes on with one, and publishes the same sound by WHIP."""

END_AT_THE_SERVER = """
async () => {
  rig.pc.close();
  await fetch(rig.resource, { method: "DELETE" });
}
"""
"""Ends the session and not the capture, as a server does that has waited for too long."""

USED = """
async (label) => {
  const soon = () => new Promise((resolve) => setTimeout(resolve, 50));
  while (rig.capture.label !== label) await soon();
  rig.levels.length = 0;
  while (!rig.levels.some(([level]) => level.peak_dbfs > -60)) await soon();
  return rig.events.filter(({ type }) => type === "ended" || type === "microphone");
}
"""
"""Waits until a microphone is heard; returns which were used and ended until then."""

REACHED = """
async ({ captured = 0, safe = 0 }) => {
  const is = () => rig.progress?.capturedS >= captured && rig.progress.safeS >= safe;
  while (!is()) await new Promise((resolve) => setTimeout(resolve, 50));
  return rig.progress;
}
"""
"""Waits until so many seconds are captured, or safe; returns the progress."""

STALLED = """
async () => {
  const stall = () => rig.events.find((event) => event.type === "stall");
  while (!stall()) await new Promise((resolve) => setTimeout(resolve, 50));
  return stall().seconds;
}
"""
"""Waits until the page has told of time that was not captured; returns its seconds."""

END = """
async () => {
  clearInterval(rig.reports);
  await fetch(rig.resource, { method: "DELETE" });
  await rig.capture.keep(null);
  rig.pc.close();
  const finished = await rig.spool.finish();
  await rig.capture.close();
  return finished;
}
"""
"""Ends the session, and sends the rest; returns what `Spool.finish` does."""

EXPORTED = """
async () => {
  const wav = await (await rig.spool.export()).arrayBuffer();
  const digest = await crypto.subtle.digest("SHA-256", wav.slice(44));
  return Array.from(new Uint8Array(digest), (byte) => byte.toString(16).padStart(2, "0")).join("");
}
"""
"""The hash (hex) of the PCM that the page exports."""

KEPT = """
async () => {
  await rig.spool.close();
  const root = await navigator.storage.getDirectory();
  const kept = [];
  for await (const id of (await root.getDirectoryHandle("spools")).keys()) kept.push(id);
  return kept;
}
"""
"""Lets go of the spool; returns which are still kept by the browser."""

OWED = "async () => await rig.Spool.owed()"


async def kill_tab(browser: Browser) -> BrowserPage:
    """Let the process of the page end at once, as by a crash; return a page of another one."""
    page = browser.page
    if isinstance(page, FirefoxPage):
        _kill_content_processes(browser.process_group)
        await page.open_tab()
        return page
    assert isinstance(page, Page)
    assert browser.devtools is not None
    async with page.expect_event("crash"):
        crashing = asyncio.create_task(browser.devtools.send("Page.crash"))
    crashing.cancel()  # there is nobody who could answer
    await asyncio.gather(crashing, return_exceptions=True)
    return await page.context.new_page()


def _kill_content_processes(process_group: int) -> None:
    killed = 0
    for folder in pathlib.Path("/proc").iterdir():
        if not folder.name.isdigit():
            continue
        try:
            # processes that were forked have it as one text
            arguments = (folder / "cmdline").read_bytes().replace(b"\0", b" ").split()
            is_own = os.getpgid(int(folder.name)) == process_group
        except (FileNotFoundError, ProcessLookupError):
            continue  # it has ended meanwhile
        if is_own and b"-contentproc" in arguments and b"tab" in arguments:
            os.kill(int(folder.name), signal.SIGKILL)
            killed += 1
    assert killed
