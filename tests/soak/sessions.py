"""Attacks of somebody who has a token: offers, candidates, sound and pieces."""

from __future__ import annotations

import asyncio
import contextlib
import json
import secrets
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace

from domain.errors import GaplessError
from tests.rigs.clients import Remote
from tests.rigs.piece_requests import FLAC, digest
from tests.rigs.rebinding import Streaming
from tests.rigs.requests import candidates, post
from tests.soak.target import Outcome, Target, sent

NAME = "attacker"
"""Of the attacker's recordings."""
SPOOL = {"rtp_timestamp": 0, "sample_rate_hz": 48_000, "channels": 1, "sample_format": "s16"}


class Refused(Exception):
    """The server has not answered an offer; the text is its status."""


class _Session(Streaming):
    """A session of the attacker's own."""

    async def start(self, **more: object) -> None:
        try:
            status, body = await self.server.post(
                "/offer", sdp=self.connection.offer_sdp, type="offer", name=NAME, **more
            )
        except Exception as error:
            raise Refused(type(error).__name__) from error
        if status != 200:
            raise Refused(str(status))
        self.id, self.resume, self.answer = body["id"], body["resume"], body["sdp"]


@asynccontextmanager
async def _own_session(target: Target, outcome: Outcome) -> AsyncIterator[_Session | None]:
    """Connect a session; None if the server does not let it in."""
    async with target.http(token=target.token) as remote:
        session = _Session(remote)
        try:
            await session.start()
            await session.connect(session.answer)
        except (Refused, GaplessError) as refused:
            outcome[str(refused)[:40]] += 1
            yield None
        else:
            outcome["connected"] += 1
            yield session
        finally:
            with contextlib.suppress(GaplessError):
                await session.connection.close()


async def offers_that_never_connect(target: Target) -> Outcome:
    outcome, deadline = Outcome(), target.deadline()
    async with target.http(token=target.token) as remote:
        sdp = remote.open_connection().offer_sdp

        async def offer() -> None:
            while target.goes_on(deadline):
                own = sdp.replace("a=ice-ufrag:", f"a=ice-ufrag:{secrets.token_hex(3)}")
                body = {"sdp": own, "type": "offer", "name": NAME}
                outcome[await sent(remote.http.post(f"{remote.url}/offer", json=body))] += 1

        await asyncio.gather(*(offer() for _ in range(8)))
    return outcome


async def replayed_offers(target: Target) -> Outcome:
    """The same offer again and again: each answer should be the first one's, or a refusal."""
    outcome, deadline = Outcome(), target.deadline()
    async with target.http(token=target.token) as remote:
        body = {"sdp": remote.open_connection().offer_sdp, "type": "offer", "name": NAME}
        while target.goes_on(deadline):
            outcome[await sent(remote.http.post(f"{remote.url}/offer", json=body))] += 1
    return outcome


async def hostile_descriptions(target: Target) -> Outcome:
    outcome, deadline, chance = Outcome(), target.deadline(), target.chance
    async with target.http(token=target.token) as remote:
        sdp = remote.open_connection().offer_sdp
        while target.goes_on(deadline):
            lines = sdp.splitlines(keepends=True)
            for _ in range(chance.randrange(1, 6)):
                at = chance.randrange(len(lines))
                lines[at] = chance.choice(
                    ["", lines[at] * 50, lines[at][: chance.randrange(len(lines[at]) + 1)],
                     "a=\x00\x1b[31m\r\n", "m=audio 99999999 RTP/AVP 111\r\n", lines[at].upper(),
                     "a=rtpmap:111 opus/4800000000/255\r\n"]
                )  # fmt: skip
            body = {"sdp": "".join(lines), "type": "offer", "name": NAME + "\x1b[2J/../" * 3}
            outcome[await sent(remote.http.post(f"{remote.url}/offer", json=body))] += 1
    return outcome


async def hostile_candidates(target: Target) -> Outcome:
    """Candidates in the attacker's own sessions, all of which lead back to this machine."""
    outcome, deadline = Outcome(), target.deadline()
    hosts = ["127.66.1.{low}", "127.0.0.1", "127.77.{high}.{low}"]
    while target.goes_on(deadline):
        async with target.http(token=target.token) as remote:
            session = _Session(remote)
            try:
                await session.start()
            except Refused as refused:
                outcome[str(refused)] += 1
                await asyncio.sleep(0.2)
                continue
            for line in candidates(target.chance.choice(hosts), 100):
                body = {"id": session.id, "candidate": f"candidate:{line}", "sdpMid": "0"}
                headers = {"Authorization": f"Bearer {session.resume}"}
                url = f"{remote.url}/ice-candidate"
                outcome[await sent(remote.http.post(url, json=body, headers=headers))] += 1
            with contextlib.suppress(GaplessError):
                await session.connection.close()
    return outcome


async def wrong_dtls(target: Target) -> Outcome:
    """Connect by ICE, with another certificate than the offer has announced."""
    outcome, deadline = Outcome(), target.deadline()
    while target.goes_on(deadline):
        async with target.http(token=target.token) as remote:
            session = _Session(remote)
            body = session.connection.offer_sdp
            at = body.index("sha-256 ") + 8
            wrong = body[:at] + "AA" + body[at + 2 :]
            try:
                status, answer = await remote.post("/offer", sdp=wrong, type="offer", name=NAME)
                outcome[str(status)] += 1
                if status == 200:
                    async with asyncio.timeout(max(0.1, target.lasts_s / 2)):
                        await session.connect(answer["sdp"])
            except (GaplessError, TimeoutError, OSError) as error:
                outcome[type(error).__name__] += 1
            except Exception as error:
                outcome[type(error).__name__] += 1
            finally:
                with contextlib.suppress(GaplessError):
                    await session.connection.close()
            await asyncio.sleep(0.1)
    return outcome


async def packets_that_claim_120_ms(target: Target) -> Outcome:
    """Two bytes are six frames of 20 ms without sound: a thousand of them a second."""
    return await _packets(target, lambda _: bytes((0x0B, 6)), step=5760)


async def garbage_under_valid_srtp(target: Target) -> Outcome:
    return await _packets(
        target, lambda _: target.chance.randbytes(target.chance.randrange(1, 200)), step=960
    )


async def _packets(target: Target, payload: Callable[[int], bytes], *, step: int) -> Outcome:
    outcome, deadline = Outcome(), target.deadline()
    async with _own_session(target, outcome) as session:
        if session is None:
            return outcome
        number = 0
        while target.goes_on(deadline):
            for _ in range(20):
                packet = session.packetizer.packet(payload(number), number * step)
                session.connection.send(packet)
                number += 1
            await asyncio.sleep(0.02)
        outcome["packets"] += number
    return outcome


async def timestamps_that_jump(target: Target) -> Outcome:
    outcome, deadline = Outcome(), target.deadline()
    async with _own_session(target, outcome) as session:
        if session is None:
            return outcome
        number = 0
        while target.goes_on(deadline):
            made = session.packetizer.packet(session.packets[0], number * 960)
            session.connection.send(
                replace(
                    made,
                    timestamp=target.chance.getrandbits(32),
                    sequence=target.chance.getrandbits(16),
                    ssrc=target.chance.choice([made.ssrc, target.chance.getrandbits(32)]),
                )
            )
            number += 1
            await asyncio.sleep(0.005)
        outcome["packets"] += number
    return outcome


async def wrong_pieces(target: Target) -> Outcome:
    """Pieces that are no FLAC, in the wrong place, with the wrong digest, and too many."""
    outcome, deadline = Outcome(), target.deadline()
    async with target.http(token=target.token) as remote:
        session = _Session(remote)
        try:
            await session.start(spool=SPOOL)
        except Refused as refused:
            outcome[str(refused)] += 1
            return outcome
        while target.goes_on(deadline):
            await _wrong_piece(target, remote, session, outcome)
        with contextlib.suppress(GaplessError):
            await session.connection.close()
    return outcome


async def _wrong_piece(target: Target, remote: Remote, session: _Session, outcome: Outcome) -> None:
    chance = target.chance
    data = chance.choice([FLAC, chance.randbytes(2000), b"", bytes(13 << 20)])
    start = chance.choice([0, -1, 2**40, "x", 480_000])
    headers = {
        "Authorization": f"Bearer {session.resume}", "Content-Type": "audio/flac",
        "Content-Digest": digest(chance.choice([data, b"another"])),
    }  # fmt: skip
    url = f"{remote.url}/sessions/{session.id}/sound/{start}"
    outcome[await sent(remote.http.put(url, data=data, headers=headers))] += 1
    ranges = [{"start": n * 2, "length": 1} for n in range(20_000)]
    body = {"length": chance.choice([1, -1, 2**60]), "sha256": "0" * 64, "missing": ranges}
    request = post(
        f"/sessions/{session.id}/captured", json.dumps(body).encode(), "application/json",
        f"Authorization: Bearer {session.resume}",
    )  # fmt: skip
    outcome[await target.tell(request)] += 1
