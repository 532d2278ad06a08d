"""Publishes a tone of 440 Hz from GStreamer's webrtcbin: ``python3 gstreamer.py URL SECONDS``.

Runs in Debian's Python, which has the bindings. webrtcbin makes a certificate of its own, an RSA
one. The session is deleted after SECONDS of connection.
"""

import sys
import urllib.parse
import urllib.request

import gi

gi.require_version("Gst", "1.0")
gi.require_version("GstSdp", "1.0")
gi.require_version("GstWebRTC", "1.0")
from gi.repository import GLib, Gst, GstSdp, GstWebRTC  # noqa: E402

PIPELINE = """
audiotestsrc is-live=true wave=sine freq=440 volume=0.3 ! audio/x-raw,rate=48000,channels=1
! opusenc ! rtpopuspay pt=97 ! application/x-rtp,media=audio,encoding-name=OPUS,payload=97
! webrtcbin name=peer bundle-policy=max-bundle
"""
CONNECT_S = 20


class Publisher:
    def __init__(self, url, seconds):
        self.url = url
        self.seconds = seconds
        self.session = None
        self.failure = "not connected in time"
        self.loop = GLib.MainLoop()
        self.pipeline = Gst.parse_launch(PIPELINE)
        self.peer = self.pipeline.get_by_name("peer")
        self.peer.connect("on-negotiation-needed", self.offer)
        self.peer.connect("notify::ice-gathering-state", self.gathered)
        self.peer.connect("notify::connection-state", self.connection_changed)

    def run(self):
        self.pipeline.set_state(Gst.State.PLAYING)
        GLib.timeout_add_seconds(CONNECT_S, self.loop.quit)
        self.loop.run()
        if self.session is not None:
            urllib.request.urlopen(urllib.request.Request(self.session, method="DELETE")).close()
        self.pipeline.set_state(Gst.State.NULL)
        if self.failure:
            sys.exit(self.failure)

    def offer(self, peer):
        def offered(promise, _):
            # the reply has to be kept: it owns the offer
            reply = promise.get_reply()
            peer.emit("set-local-description", reply.get_value("offer"), Gst.Promise.new())

        peer.emit("create-offer", None, Gst.Promise.new_with_change_func(offered, None))

    def gathered(self, peer, _):
        complete = GstWebRTC.WebRTCICEGatheringState.COMPLETE
        if peer.get_property("ice-gathering-state") != complete:
            return
        offer = peer.get_property("local-description").sdp.as_text()
        headers = {"Content-Type": "application/sdp"}
        request = urllib.request.Request(self.url, data=offer.encode(), headers=headers)
        with urllib.request.urlopen(request) as response:
            self.session = urllib.parse.urljoin(self.url, response.headers["Location"])
            answer = response.read()
        _, message = GstSdp.SDPMessage.new()
        GstSdp.sdp_message_parse_buffer(answer, message)
        kind = GstWebRTC.WebRTCSDPType.ANSWER
        description = GstWebRTC.WebRTCSessionDescription.new(kind, message)
        peer.emit("set-remote-description", description, Gst.Promise.new())

    def connection_changed(self, peer, _):
        states = GstWebRTC.WebRTCPeerConnectionState
        state = peer.get_property("connection-state")
        if state == states.CONNECTED:
            self.failure = ""
            GLib.timeout_add(round(self.seconds * 1000), self.loop.quit)
        elif state == states.FAILED:
            self.failure = "the connection has failed"
            self.loop.quit()


if __name__ == "__main__":
    Gst.init(None)
    Publisher(sys.argv[1], float(sys.argv[2])).run()
