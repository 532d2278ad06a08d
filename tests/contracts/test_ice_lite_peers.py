"""A peer that is an ICE-lite agent sends no checks: this end controls ICE, and nominates."""

from __future__ import annotations

import aioice
import pytest
from aiortc import RTCCertificate

from adapters.runtime.asyncio_runtime import BackgroundTasks
from adapters.transport.dtls.transport import DtlsTransport
from adapters.transport.sdp.descriptions import LocalTransport
from adapters.transport.sdp.parsing import parse_answer
from adapters.transport.sdp.writing import write_offer
from domain.rtp.packets import RtpPacket, write_rtp
from tests.contracts.test_transport_contract import OPTIONS, Heard, real_server


def take_pairs_without_checks(pair: aioice.ice.CandidatePair) -> None:
    """Replaces `check_start_task`: an ICE-lite agent validates a pair by the peer's check alone."""
    pair.state = aioice.ice.CandidatePair.State.SUCCEEDED


async def test_the_server_controls_ice_and_nominates(monkeypatch: pytest.MonkeyPatch) -> None:
    spawner, heard = BackgroundTasks(), Heard()
    certificate = RTCCertificate.generateCertificate()
    peer = DtlsTransport(OPTIONS, controlling=False, certificate=certificate)
    monkeypatch.setattr(peer.ice._agent, "check_start_task", take_pairs_without_checks)
    ice = peer.ice
    candidates = await ice.gather(())
    local = LocalTransport(ice.username, ice.password, peer.fingerprint, candidates, complete=True)
    offer = write_offer(local, channels=1).replace("t=0 0", "t=0 0\r\na=ice-lite")
    server = await real_server(spawner).accept(offer, ice_servers=())
    server.start(heard)
    answer = parse_answer(server.answer_sdp)
    assert not answer.is_ice_lite
    ice.set_remote(answer.username, answer.password)
    await peer.connect(answer.dtls, role=answer.dtls_role, candidates=(), candidates_complete=False)
    peer.send(write_rtp(RtpPacket(111, 1, 960, 7, b"\x78x")))
    await heard.until(lambda: len(heard.packets) == 1)
    assert not ice._agent.ice_controlling
    await peer.close()
    await server.close()
    await spawner.join()
