"""Checks private names of other projects, so that an upgrade that changes one is noticed."""

from __future__ import annotations

import ast
import asyncio
import asyncio.sslproto
import datetime
import inspect
import os
import pathlib
import ssl
from typing import Any

import aioice
import numpy as np
import pylibsrtp
import pytest
import soundfile
from aiohttp import web
from aioice.ice import (
    StunProtocol,
    get_host_addresses,
    relayed_candidate,
    server_reflexive_candidate,
)
from aioice.turn import TurnTransport
from aiortc import RTCCertificate
from aiortc.rtcdtlstransport import SRTP_PROFILES
from OpenSSL import SSL
from pylibsrtp import _binding

from adapters.http import tls
from adapters.http.connections import MAX_READ_BYTES, HttpConnection
from adapters.storage.wav.file import WavFile, _open
from adapters.transport.srtp import Protector, Unprotector
from domain.recording.ledger import RecordingInfo
from domain.rtp.packets import RtpPacket, write_rtp
from domain.sound.formats import AudioFormat, SampleFormat

SOURCES = [
    path
    for folder in ("adapters", "domain", "entrypoints")
    for path in (pathlib.Path(__file__).parents[2] / folder).rglob("*.py")
]
AIOICE = {
    "_check_list", "_check_list_maybe_fail", "_check_list_state", "_closing", "_early_checks",
    "_early_checks_done", "_find_pair", "_local_candidates", "_local_candidates_end",
    "_local_candidates_start", "_nominated", "_pair_remote_candidate", "_protocols",
    "_query_consent_task", "_queue", "_remote_candidates", "_remote_candidates_expected",
}  # fmt: skip
"""Private names of `aioice.Connection`, which the ICE agent inherits from."""
OTHERS = {
    "_TurnTransport__close_task", "_network_host",  # aioice
    "_create_ssl_context",  # aiortc
    "_srtp",  # pylibsrtp
    "_ffi", "_file", "_snd",  # soundfile
    "_initialize", "_initialized", "_terminate",  # sounddevice
}  # fmt: skip
"""Private names that are used on objects of other projects."""


async def test_no_other_private_names_are_used() -> None:
    own: set[str] = set()  # defined here, or accessed through `self`, because it may be inherited
    foreign: set[str] = set()  # accessed through anything else
    in_ice: set[str] = set()
    modules: set[str] = set()
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Attribute) and is_private(node.attr):
                is_own = isinstance(node.value, ast.Name) and node.value.id in ("self", "cls")
                (own if is_own else foreign).add(node.attr)
                if path.parent.name == "ice":
                    in_ice.add(node.attr)
            elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                own.add(node.name)
            elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
                own.add(node.target.id)
            elif isinstance(node, ast.ImportFrom):
                modules.update(filter(is_private, (node.module or "").split(".")))
                modules.update(alias.name for alias in node.names if is_private(alias.name))
    assert foreign - own == OTHERS - own
    connection = aioice.Connection(ice_controlling=True)
    assert in_ice & set(dir(connection)) == AIOICE
    assert modules == {"_binding"}
    await connection.close()


def is_private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__")


def test_aiortc_certificates_have_the_private_name_that_is_used() -> None:
    context = RTCCertificate.generateCertificate()._create_ssl_context(SRTP_PROFILES)
    assert isinstance(context, SSL.Context)
    assert SRTP_PROFILES[-1].get_key_and_salt(bytes(range(60)), 1) == bytes(
        [*range(16, 32), *range(46, 60)]
    )


def test_pylibsrtp_has_the_private_names_that_are_used() -> None:
    session = pylibsrtp.Session(
        pylibsrtp.Policy(key=bytes(30), ssrc_type=pylibsrtp.Policy.SSRC_ANY_INBOUND)
    )
    assert _binding.ffi.typeof(session._srtp) is _binding.ffi.typeof("srtp_t *")
    for function in ("protect", "protect_rtcp", "unprotect", "unprotect_rtcp"):
        address = _binding.ffi.addressof(_binding.lib, f"srtp_{function}")
        parameters = _binding.ffi.typeof(address).args
        assert len(parameters) == 3
    assert pylibsrtp.ERRORS[0] == "nothing to report"


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
    assert all(hasattr(connection, name) for name in AIOICE)
    assert connection._query_consent_task is None
    query = inspect.getsource(aioice.Connection.query_consent)
    for replaced in ("CONSENT_INTERVAL", "CONSENT_FAILURES", "self._query_consent_task = None"):
        assert replaced in query
    assert "self.query_consent()" in inspect.getsource(aioice.Connection)
    parameters = inspect.signature(aioice.Connection.check_incoming).parameters
    assert list(parameters) == ["self", "message", "addr", "protocol"]
    parameters = inspect.signature(aioice.Connection.build_request).parameters
    assert list(parameters) == ["self", "pair", "nominate"]
    assert callable(connection.sort_check_list)
    assert connection._protocols == []
    assert connection._remote_candidates == []
    assert connection._remote_candidates_end is False
    assert connection._nominated == {}
    assert connection._check_list == []
    assert list(inspect.signature(connection.check_complete).parameters) == ["pair"]
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


def test_soundfile_has_the_private_names_that_are_used(tmp_path: pathlib.Path) -> None:
    assert soundfile._snd.SF_TRUE == 1
    assert soundfile._snd.SF_FALSE == 0
    assert callable(soundfile._snd.sf_command)
    assert len(soundfile._ffi.from_buffer(b"data")) == 4
    with soundfile.SoundFile(tmp_path / "a.wav", "w", 8000, 1) as file:
        assert soundfile._snd.sf_command(file._file, 0x1060, soundfile._ffi.NULL, 0) == 0


async def test_asyncio_reads_as_much_at_a_time_as_it_is_told() -> None:
    """`HttpConnection` sets `max_size`, which asyncio does not document."""
    sizes: list[int] = []
    over = asyncio.Event()

    class Reader(asyncio.Protocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            HttpConnection.limit_reads(transport)

        def data_received(self, data: bytes) -> None:
            sizes.append(len(data))

        def connection_lost(self, _error: Exception | None) -> None:
            over.set()

    server = await asyncio.get_running_loop().create_server(Reader, "127.0.0.1", 0)
    _, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
    writer.write(bytes(10 * MAX_READ_BYTES))
    writer.close()
    await over.wait()
    server.close()
    assert sum(sizes) == 10 * MAX_READ_BYTES
    assert max(sizes) <= MAX_READ_BYTES


def test_the_buffer_of_a_tls_connection_is_as_small_as_it_is_told() -> None:
    """`tls` sets `max_size`, which asyncio does not document."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    protocol: Any = asyncio.sslproto.SSLProtocol(
        asyncio.new_event_loop(), asyncio.Protocol(), context, None, server_side=True
    )
    assert len(protocol.get_buffer(-1)) == tls.READ_BYTES
    protocol._get_app_transport().abort()
    protocol._loop.close()


async def test_aiohttp_counts_the_requests_of_a_connection() -> None:
    """`HttpConnection` reads `_request_count`, and `_prepare_headers` is a method to extend."""
    manager = web.Server(lambda _: web.Response())  # type: ignore[arg-type, return-value]
    connection = HttpConnection(manager, loop=asyncio.get_running_loop(), changed=lambda _: None)
    assert connection._request_count == 0
    assert asyncio.iscoroutinefunction(web.StreamResponse._prepare_headers)


def test_sounddevice_can_be_initialized_again() -> None:
    sounddevice = pytest.importorskip("sounddevice", exc_type=(ImportError, OSError))
    assert callable(sounddevice._terminate)
    assert callable(sounddevice._initialize)
    assert sounddevice._initialized >= 1


def info(audio_format: AudioFormat) -> RecordingInfo:
    began = datetime.datetime(2026, 1, 2, tzinfo=datetime.UTC)
    return RecordingInfo("a", "a", audio_format, "opus", began, session_id="a")


@pytest.mark.parametrize("sample_format", list(SampleFormat))
@pytest.mark.parametrize("rf64", [False, True])
def test_the_header_is_updated_with_every_write(
    tmp_path: pathlib.Path, sample_format: SampleFormat, rf64: bool
) -> None:
    path = tmp_path / "a.wav"
    audio_format = AudioFormat(8000, 1, sample_format)
    with path.open("w+b") as opened:
        file = WavFile.create(opened.fileno(), info(audio_format), rf64=rf64)
        for n in range(1, 4):
            file.write([np.zeros((100, 1), dtype=sample_format.dtype)])
            assert soundfile.info(path).frames == 100 * n
            assert path.read_bytes()[:4] == b"RIFF"


@pytest.mark.parametrize(
    ("dtype", "subtype", "sample_format"),
    [
        ("<i2", "PCM_16", SampleFormat.S16),
        ("<i4", "PCM_32", SampleFormat.S32),
        ("<i4", "PCM_24", SampleFormat.S24),
        ("<f4", "FLOAT", SampleFormat.F32),
        ("<f8", "DOUBLE", SampleFormat.F64),
    ],
)
def test_written_files_are_those_that_libsndfile_writes(
    tmp_path: pathlib.Path, dtype: str, subtype: str, sample_format: SampleFormat
) -> None:
    samples = np.arange(-600, 600).astype(dtype).reshape(-1, 2)
    audio_format = AudioFormat(48_000, 2, sample_format)
    theirs, ours = tmp_path / "theirs.wav", tmp_path / "ours.wav"
    whole = np.concatenate([samples, samples[:7]])
    descriptor = os.open(theirs, os.O_RDWR | os.O_CREAT)
    with _open(descriptor, info(audio_format), rf64=False) as file:
        # libsndfile keeps the upper bits of integers that are wider than the file's
        file.write(whole << 8 if subtype == "PCM_24" else whole)
    with ours.open("w+b") as opened:
        own = WavFile.create(opened.fileno(), info(audio_format), rf64=False)
        own.write([samples])
        own.write([samples[:7]])
        own.complete(len(whole))
    assert ours.read_bytes() == theirs.read_bytes()
