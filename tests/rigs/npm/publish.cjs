// Publishes Opus packets by WHIP: node publish.cjs LIBRARY URL PACKETS
//
// PACKETS is a JSON file with packets of 20 ms in base64. One goes out every 20 ms; then the session
// is deleted. Without packets, it is deleted as soon as the library has taken the answer. LIBRARY is
// one of those at the end; NODE_PATH has to say where npm has installed them.
"use strict";

const fs = require("node:fs");

const PAYLOAD_TYPE = 111;
const SSRC = 0x5eed;
const CONNECT_MS = 20_000;

// Each library gives its offer, takes an answer, tells that it is connected, sends, and closes.

async function libdatachannel() {
  const {
    Audio, PeerConnection, RtcpNackResponder, RtcpSrReporter, RtpPacketizationConfig, RtpPacketizer,
  } = require("node-datachannel");
  const peer = new PeerConnection("publisher", { iceServers: [] });
  const audio = new Audio("0", "SendOnly");
  audio.addOpusCodec(PAYLOAD_TYPE);
  audio.addSSRC(SSRC, "publisher");
  const track = peer.addTrack(audio);
  const config = new RtpPacketizationConfig(SSRC, "publisher", PAYLOAD_TYPE, 48_000);
  const packetizer = new RtpPacketizer(config);
  packetizer.addToChain(new RtcpSrReporter(config));
  packetizer.addToChain(new RtcpNackResponder());
  track.setMediaHandler(packetizer);
  const gathered = new Promise((resolve) => {
    peer.onGatheringStateChange((state) => state === "complete" && resolve());
  });
  peer.setLocalDescription();
  await gathered;
  return {
    offer: peer.localDescription().sdp,
    connected: new Promise((resolve) => track.onOpen(resolve)),
    answer: async (sdp) => peer.setRemoteDescription(sdp, "Answer"),
    send: (payload) => {
      track.sendMessageBinary(payload);
      config.timestamp += 960;
    },
    close: async () => {
      peer.close();
      require("node-datachannel").cleanup();
    },
  };
}

async function werift({ dataChannel = false } = {}) {
  const { MediaStreamTrack, RTCPeerConnection, RTCRtpCodecParameters, RtpHeader, RtpPacket } =
    require("werift");
  const opus = new RTCRtpCodecParameters({
    mimeType: "audio/opus", clockRate: 48_000, channels: 2, payloadType: PAYLOAD_TYPE,
  });
  const peer = new RTCPeerConnection({ iceServers: [], bundlePolicy: "max-bundle", codecs: { audio: [opus], video: [] } });
  const track = new MediaStreamTrack({ kind: "audio" });
  peer.addTransceiver(track, { direction: "sendonly" });
  if (dataChannel) peer.createDataChannel("chat");
  const connected = new Promise((resolve) => {
    peer.connectionStateChange.subscribe((state) => state === "connected" && resolve());
  });
  await peer.setLocalDescription(await peer.createOffer());
  let sequence = 1000, timestamp = 5000;
  return {
    offer: peer.localDescription.sdp,
    connected,
    answer: (sdp) => peer.setRemoteDescription({ type: "answer", sdp }),
    send: (payload) => {
      const header = new RtpHeader({
        payloadType: PAYLOAD_TYPE, ssrc: SSRC, sequenceNumber: sequence++, timestamp,
      });
      timestamp += 960;
      track.writeRtp(new RtpPacket(header, payload));
    },
    close: () => peer.close(),
  };
}

const LIBRARIES = {
  libdatachannel,
  werift,
  "werift with a data channel": () => werift({ dataChannel: true }),
};

async function main(library, url, path) {
  const packets = JSON.parse(fs.readFileSync(path)).map((packet) => Buffer.from(packet, "base64"));
  const peer = await LIBRARIES[library]();
  const response = await fetch(url, {
    method: "POST", headers: { "Content-Type": "application/sdp" }, body: peer.offer,
  });
  const answer = await response.text();
  if (response.status !== 201) throw new Error(`${response.status} ${answer}`);
  const session = new URL(response.headers.get("Location"), url);
  await peer.answer(answer);
  if (packets.length > 0) {
    const tooLate = setTimeout(() => {
      console.error("no connection");
      process.exit(1);
    }, CONNECT_MS);
    await peer.connected;
    clearTimeout(tooLate);
  }
  const begin = performance.now();
  for (const [number, packet] of packets.entries()) {
    const wait = begin + number * 20 - performance.now();
    if (wait > 0) await new Promise((resolve) => setTimeout(resolve, wait));
    peer.send(packet);
  }
  const deleted = await fetch(session, { method: "DELETE" });
  if (deleted.status !== 200) throw new Error(`${deleted.status} ${await deleted.text()}`);
  await peer.close();
  process.exit(0);
}

main(...process.argv.slice(2)).catch((error) => {
  console.error(error);
  process.exit(1);
});
