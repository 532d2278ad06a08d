"""Every private name of another project that is touched, so that an upgrade fails here first."""

from __future__ import annotations

import asyncio
import inspect
import pathlib

import aioice
import numpy as np
import pylibsrtp
import pytest
import soundfile
from aioice.ice import (
    StunProtocol,
    get_host_addresses,
    relayed_candidate,
    server_reflexive_candidate,
)
from aioice.turn import TurnTransport
from aiortc import RTCCertificate, RTCDtlsTransport

from adapters.storage.wav import libsndfile
from adapters.transport.ice.options import IceOptions
from adapters.transport.ice.transport import IceTransport
from adapters.transport.srtp import Protector, Unprotector
from domain.rtp.packets import RtpPacket, write_rtp


def test_aiortc_dtls_asks_its_transport_for_role_recv_and_send_only() -> None:
    source = inspect.getsource(RTCDtlsTransport)
    touched = {
        word.split("(")[0].split(")")[0].rstrip(".,:\n ")
        for word in source.split("self.transport.")[1:]
        for word in [word.split()[0]]
    }
    assert touched == {"role", "_recv", "_send"}


async def test_aiortc_dtls_has_the_private_names_that_are_used() -> None:
    ice = IceTransport(IceOptions(), controlling=True)
    dtls = RTCDtlsTransport(ice, [RTCCertificate.generateCertificate()])  # type: ignore[arg-type]
    assert dtls._rx_srtp is None
    dtls._set_role("server")
    assert dtls._role == "server"
    assert dtls._tx_srtp is None
    assert dtls._ssl is None
    assert dtls._task is None
    await ice.close()


def test_pylibsrtp_unprotects_as_its_wrapper_does() -> None:
    key = bytes(range(30))
    sender, wrapper, other = (
        pylibsrtp.Session(pylibsrtp.Policy(key=key, ssrc_type=kind))
        for kind in (
            pylibsrtp.Policy.SSRC_ANY_OUTBOUND,
            pylibsrtp.Policy.SSRC_ANY_INBOUND,
            pylibsrtp.Policy.SSRC_ANY_INBOUND,
        )
    )
    unprotect = Unprotector(other).rtp
    for sequence, size in enumerate((1, 80, 1200)):
        packet = write_rtp(RtpPacket(111, sequence, 0, 7, bytes(size)))
        protected = sender.protect(packet)
        assert unprotect(protected) == wrapper.unprotect(protected) == packet
        with pytest.raises(pylibsrtp.Error, match="replay"):
            unprotect(protected)
    with pytest.raises(pylibsrtp.Error, match="authentication"):
        unprotect(sender.protect(packet[:3] + b"\x09" + packet[4:])[:-1] + b"x")
    with pytest.raises(ValueError, match="too long"):
        unprotect(bytes(3000))


def test_pylibsrtp_protects_as_its_wrapper_does() -> None:
    policies = [
        pylibsrtp.Policy(key=bytes(range(30)), ssrc_type=pylibsrtp.Policy.SSRC_ANY_OUTBOUND)
        for _ in range(2)
    ]
    wrapper, other = map(pylibsrtp.Session, policies)
    protect = Protector(other).rtp
    for sequence, size in enumerate((1, 80, 1275)):
        packet = write_rtp(RtpPacket(111, sequence, 0, 7, bytes(size)))
        assert protect(packet) == wrapper.protect(packet)
    assert len(protect(write_rtp(RtpPacket(111, 3, 0, 7, bytes(2036))))) > 2048
    with pytest.raises(ValueError, match="too long"):
        protect(write_rtp(RtpPacket(111, 4, 0, 7, bytes(2037))))
    with pytest.raises(pylibsrtp.Error):
        protect(b"no RTP")


async def test_aioice_has_the_private_names_that_are_used() -> None:
    connection = aioice.Connection(ice_controlling=True)
    assert connection._protocols == []
    assert connection._remote_candidates == []
    assert connection._remote_candidates_end is False
    assert connection._nominated == {}
    assert connection._local_candidates == []
    assert connection._local_candidates_start is connection._local_candidates_end is False
    assert connection._early_checks_done is connection._closing is False
    assert not connection._early_checks
    source = inspect.getsource(aioice.Connection)
    assert "_queue.get" not in source.replace(inspect.getsource(aioice.Connection.recvfrom), "")
    for queue in ("_queue", "_check_list_state"):
        assert isinstance(getattr(connection, queue), asyncio.Queue)
        used = {word.split("(")[0] for word in source.split(f"self.{queue}.")[1:]}
        assert used == {"get", "put_nowait"}
    connect = inspect.getsource(aioice.Connection.connect)
    for once in ("_check_list_state.get", "in self._early_checks:"):
        assert source.count(once) == connect.count(once) == 1
    for name in ("_pair_remote_candidate", "_remote_candidates_expected", "_check_list_maybe_fail"):
        assert callable(getattr(connection, name))
    parameters = inspect.signature(server_reflexive_candidate).parameters
    assert list(parameters) == ["protocol", "stun_server"]
    parameters = inspect.signature(relayed_candidate).parameters
    assert set(parameters) == {
        "component", "hide_related_address", "protocol_factory", "turn_server", "turn_username",
        "turn_password", "turn_ssl", "turn_transport",
    }  # fmt: skip
    assert get_host_addresses(use_ipv4=False, use_ipv6=False) == []
    assert "__close_task" in inspect.getsource(TurnTransport.close)
    candidate = aioice.Candidate.from_sdp("1 1 udp 1 192.0.2.1 9 typ host")
    assert candidate._network_host == "192.0.2.1"
    assert list(inspect.signature(StunProtocol.datagram_received).parameters) == [
        "self", "data", "addr",
    ]  # fmt: skip
    await connection.close()


def test_sounddevice_can_be_started_anew() -> None:
    sounddevice = pytest.importorskip("sounddevice", exc_type=(ImportError, OSError))
    assert callable(sounddevice._terminate)
    assert callable(sounddevice._initialize)


def test_libsndfile_keeps_the_header_true_while_it_writes(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "a.wav"
    with soundfile.SoundFile(path, "w", samplerate=8000, channels=1, format="WAV") as file:
        libsndfile.keep_header_true(file)
        for n in range(1, 4):
            file.write(np.zeros(100, dtype="<i2"))
            assert soundfile.info(path).frames == 100 * n


@pytest.mark.parametrize(
    ("dtype", "subtype"),
    [("<i2", "PCM_16"), ("<i4", "PCM_32"), ("<i4", "PCM_24"), ("<f4", "FLOAT"), ("<f8", "DOUBLE")],
)
def test_libsndfile_writes_what_its_wrapper_does(
    tmp_path: pathlib.Path, dtype: str, subtype: str
) -> None:
    samples = np.arange(-600, 600).astype(dtype).reshape(-1, 2)
    paths = tmp_path / "ours.wav", tmp_path / "theirs.wav"
    for path, write in zip(paths, (libsndfile.write, soundfile.SoundFile.write), strict=True):
        with soundfile.SoundFile(path, "w", 48_000, 2, subtype, format="WAV") as file:
            libsndfile.keep_header_true(file)
            write(file, samples)
            write(file, samples[:7])
    assert paths[0].read_bytes() == paths[1].read_bytes()
