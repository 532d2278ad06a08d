"""WebRTC media: the UDP sockets and ICE, DTLS, SRTP, SDP and RTCP on them."""
