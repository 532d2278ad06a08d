"""WebRTC media: ICE from aioice, DTLS and SRTP from aiortc."""
