"""Recordings of a client that knows only the documented requests: what it lost is restored."""

from __future__ import annotations

import asyncio
import datetime
import hashlib
import json
import pathlib
import random
import re
import urllib.parse
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import soundfile

from tests.rigs.other_client import (
    Answer,
    KnownSound,
    OtherClient,
    Spool,
    connection_with,
    digest,
    other_client,
    pieces_of,
    waveform,
)
from tests.rigs.processes import Server, serving
from tests.rigs.relay import random_loss

DOCS = pathlib.Path(__file__).parents[2] / "docs"
LIVE_HZ = 48_000
TOKEN, ADMIN = "the shared token", "the administrator's token"
MAX_PIECE = 480_000
MAX_BYTES = 12 * 1024 * 1024


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Run a server for the tests that need no server of their own."""
    folder = tmp_path_factory.mktemp("recordings")
    with serving(folder, "--token", TOKEN, "--admin-token", ADMIN) as running:
        yield running


@asynccontextmanager
async def session(server: Server, spool: Spool, **more: Any) -> AsyncIterator[OtherClient]:
    """Open a session that ends without any media."""
    async with other_client(server.url, spool, **more) as client:
        client.token = TOKEN
        await client.begin_without_media()
        yield client


def ledger_of(server: Server, client: OtherClient) -> dict[str, Any]:
    (path,) = server.folder.glob(f"*{client.id}*.json")
    found: dict[str, Any] = json.loads(path.read_text())
    return found


def sound_of(server: Server, client: OtherClient) -> npt.NDArray[np.int32]:
    """Return a whole recording, and check what its ledger says of it."""
    ledger = ledger_of(server, client)
    path = server.folder / f"{ledger['name']}.wav"
    info = soundfile.info(path)
    assert info.samplerate == ledger["sample_rate_hz"]
    assert info.channels == ledger["channels"]
    bits = int(ledger["sample_format"].removeprefix("s"))
    assert info.subtype == f"PCM_{bits}"
    samples: npt.NDArray[np.int32] = soundfile.read(path, dtype="int32", always_2d=True)[0]
    samples >>= 32 - bits
    assert Spool(samples, info.samplerate, bits).sha256() == ledger["sha256"]
    end = 0
    for span, before in zip(ledger["spans"], [{}, *ledger["spans"]], strict=False):
        assert span["start"] == end
        assert span["kind"] != before.get("kind")
        end += span["length"]
    assert end == len(samples) == ledger["length_samples"]
    return samples


def kinds(ledger: dict[str, Any]) -> set[str]:
    return {span["kind"] for span in ledger["spans"]}


def mask_of(ledger: dict[str, Any], kind: str) -> npt.NDArray[np.bool_]:
    mask = np.zeros(ledger["length_samples"], dtype=bool)
    for span in ledger["spans"]:
        if span["kind"] == kind:
            mask[span["start"] : span["start"] + span["length"]] = True
    return mask


def check_wanted(answer: Answer, state: str) -> list[dict[str, int]]:
    """Check the fields and types that the design promises, and return the ranges."""
    assert answer.status == 200
    assert set(answer.body) - {"held"} == {"ranges", "state", "until"}
    assert answer.body["state"] == state
    if state == "live":
        assert answer.body["until"] is None
    else:
        until = datetime.datetime.fromisoformat(answer.body["until"])
        assert until.utcoffset() == datetime.timedelta()
        ahead = until - datetime.datetime.now(datetime.UTC)
        assert datetime.timedelta(0) < ahead <= datetime.timedelta(hours=24)
    return check_ranges(answer.body["ranges"])


def check_ranges(ranges: Any) -> list[dict[str, int]]:
    end = -1
    for item in ranges:
        assert set(item) == {"start", "length"}
        assert type(item["start"]) is int
        assert type(item["length"]) is int
        assert item["start"] > end
        assert item["length"] > 0
        end = item["start"] + item["length"]
    return list(ranges)


def check_refused(answer: Answer, status: int, text: str) -> None:
    """Check an error: one line as JSON, which says what is wrong."""
    assert answer.status == status, answer
    assert set(answer.body) == {"error"}
    assert text in answer.body["error"]
    assert "\n" not in answer.body["error"]
    if status == 401:
        assert answer.headers["WWW-Authenticate"].startswith("Bearer")


def check_409(answer: Answer, state: str) -> list[dict[str, int]]:
    assert answer.status == 409, answer
    assert set(answer.body) == {"error", "state", "ranges"}
    assert answer.body["state"] == state
    return check_ranges(answer.body["ranges"])


# -- live sound with losses ----------------------------------------------------------------------


async def lossy(client: OtherClient) -> None:
    """Capture 5 s; send two runs over two connections, with losses; capture before and after."""
    await client.send(LIVE_HZ, 1.2, random_loss(0.2, seed=4), vanish=True)
    ranges = check_wanted(await client.wanted(), "live")
    assert ranges[0]["start"] == 0  # before the first connection
    assert check_409(await client.captured(), "live")
    # a piece may be sent while the session lives
    start, length = pieces_of(ranges[0], 1 << 30)[0]
    put = await client.put(start, client.spool.flac(start, length))
    assert (put.status, put.body) == (204, None)
    assert all(r["start"] >= start + length for r in (await client.wanted()).body["ranges"])
    await client.send(3 * LIVE_HZ, 1.2, random_loss(0.2, seed=7))
    assert client.first_timestamps[0] != client.first_timestamps[1]
    await client.end()


@pytest.mark.parametrize(
    ("mode", "rate_hz", "bits", "channels"),
    [
        ("lost", 48_000, 16, 1),
        ("lost", 44_100, 16, 1),
        ("lost", 96_000, 24, 2),
        ("all", 44_100, 24, 1),
        ("all", 96_000, 24, 2),
    ],
)
async def test_what_was_lost_is_restored(
    tmp_path: pathlib.Path, mode: str, rate_hz: int, bits: int, channels: int
) -> None:
    spool = Spool.of(5, rate_hz=rate_hz, bits=bits, channels=channels)
    with serving(tmp_path, "--restore", mode) as server:
        async with other_client(server.url, spool) as client:
            await lossy(client)
            said = (await client.deliver(longest=30_000)).body
            assert set(said) == {"state", "sha256"}
            assert said["state"] == "complete"
            assert (await client.captured()).body == said
            assert check_wanted(await client.wanted(), "complete") == []
        server.process.wait_for("restored")
        samples, ledger = sound_of(server, client), ledger_of(server, client)
    assert ledger["restore"]["state"] == "complete"
    assert ledger["restore"]["mode"] == mode
    assert ledger["restore"]["wanted"] == 0
    restored = mask_of(ledger, "restored")
    assert ledger["restore"]["restored"] == restored.sum()
    assert said["sha256"] == ledger["sha256"]
    if mode == "all":
        assert said["sha256"] == spool.sha256()
        assert np.array_equal(samples, spool.samples)
        assert restored.all()
        return
    assert kinds(ledger) == {"received", "restored"}
    assert ledger["sample_rate_hz"] == LIVE_HZ
    assert len(samples) == 5 * LIVE_HZ
    captured = waveform(LIVE_HZ, 0, len(samples)) * 32_767
    heard = samples[:, 0]
    if rate_hz == LIVE_HZ:
        assert np.array_equal(samples[restored], np.repeat(spool.samples[restored], 2, axis=1))
    else:
        inside = restored & (np.arange(len(samples)) % (len(samples) - 100) > 100)
        assert np.abs(heard[inside] - captured[inside]).max() <= 40
    received = mask_of(ledger, "received")
    assert best_lag(heard, captured, received) == 0
    assert np.corrcoef(heard[received], captured[received])[0, 1] > 0.95


def best_lag(
    heard: npt.NDArray[Any], captured: npt.NDArray[Any], mask: npt.NDArray[np.bool_]
) -> int:
    """Return by how many samples the masked sound comes later than it was captured."""
    masked = np.where(mask, heard, 0).astype(float)
    spectrum = np.fft.rfft(masked) * np.conj(np.fft.rfft(captured))
    likeness = np.fft.irfft(spectrum, len(masked))
    return max(range(-480, 481), key=lambda lag: float(likeness[lag]))


# -- sound without any media ---------------------------------------------------------------------


@pytest.mark.parametrize("restore", ["lost", "all"])
async def test_what_was_never_sent_live_is_restored(server: Server, restore: str) -> None:
    spool = Spool.of(1.5)
    began = datetime.datetime.now(datetime.UTC) - datetime.timedelta(hours=1)
    said_at = began.isoformat()
    async with session(server, spool, restore=restore, started_at=said_at) as client:
        assert check_wanted(await client.wanted(), "waiting") == []
        # nothing is wanted yet, so that this is not kept
        assert (await client.put(0, spool.flac(0, 9600))).status == 204
        everything = [{"start": 0, "length": spool.length}]
        assert check_409(await client.captured(), "waiting") == everything
        assert check_wanted(await client.wanted(), "waiting") == everything
        said = await client.deliver()
        assert said.body == {"state": "complete", "sha256": spool.sha256()}
    assert np.array_equal(sound_of(server, client), spool.samples)
    ledger = ledger_of(server, client)
    assert kinds(ledger) == {"restored"}
    assert datetime.datetime.fromisoformat(ledger["started_at"]) == began
    length = datetime.timedelta(seconds=1.5)
    assert datetime.datetime.fromisoformat(ledger["ended_at"]) == began + length


async def test_pieces_come_in_any_order_and_more_than_once(server: Server) -> None:
    spool = Spool.of(2)
    chance = random.Random(3)
    pieces = [(start, min(7000, spool.length - start)) for start in range(0, spool.length, 5000)]
    pieces += pieces[::3]
    chance.shuffle(pieces)
    async with session(server, spool, restore="all") as client:
        check_409(await client.captured(), "waiting")
        at_once = asyncio.Semaphore(4)

        async def put(start: int, length: int) -> int:
            async with at_once:
                return (await client.put(start, spool.flac(start, length))).status

        assert await asyncio.gather(*(put(*piece) for piece in pieces)) == [204] * len(pieces)
        assert check_wanted(await client.wanted(), "waiting") == []
        said = await client.captured()
        assert (said.status, said.body["sha256"]) == (200, spool.sha256())
    assert np.array_equal(sound_of(server, client), spool.samples)


async def test_only_what_is_wanted_of_a_piece_is_kept(server: Server) -> None:
    spool = Spool.of(10)
    other = Spool(-spool.samples)
    missing = [(48_000, 24_000), (400_000, 1)]
    told = [{"start": start, "length": length} for start, length in missing]
    captured = spool.without(missing)
    async with session(server, spool, restore="all") as client:
        check_409(await client.captured(captured, missing=told), "waiting")
        first = await client.put(0, spool.flac(0, spool.length))  # far more than is wanted
        assert first.status == 204
        assert (await client.put(0, other.flac(0, 9600))).status == 204  # it is there already
        behind = await client.put(spool.length, spool.flac(0, 9600))
        assert behind.status == 204
        said = await client.captured(captured, missing=told)
        assert said.body == {"state": "complete", "sha256": captured.sha256()}
    assert np.array_equal(sound_of(server, client), captured.samples)
    ledger = ledger_of(server, client)
    silence = [s for s in ledger["spans"] if s["kind"] == "silence"]
    assert [(s["start"], s["length"]) for s in silence] == missing
    assert not list(server.folder.glob(f"{client.id}*.pcm"))


async def test_a_client_finds_damage_after_it_has_sent_the_sound(server: Server) -> None:
    spool = Spool.of(1)
    missing = [(9600, 4800)]
    told = [{"start": start, "length": length} for start, length in missing]
    left = spool.without(missing)
    async with session(server, spool, restore="all") as client:
        check_409(await client.captured(), "waiting")
        assert (await client.put(0, spool.flac(0, spool.length))).status == 204
        said = await client.captured(left, missing=told)
        assert (said.status, said.body) == (200, {"state": "complete", "sha256": left.sha256()})
    assert np.array_equal(sound_of(server, client), left.samples)


async def test_a_hash_that_was_wrong_can_be_corrected(tmp_path: pathlib.Path) -> None:
    spool = Spool.of(1)
    with serving(tmp_path, "--token", TOKEN) as server:
        async with session(server, spool, restore="all") as client:
            check_409(await client.captured(), "waiting")
            assert (await client.put(0, spool.flac(0, spool.length))).status == 204
            check_refused(await client.captured(sha256="0" * 64), 422, "its hash is another one")
            assert check_wanted(await client.wanted(), "waiting") == []
            assert not list(tmp_path.glob("*.wav"))
            assert (await client.captured()).body["sha256"] == spool.sha256()
        assert np.array_equal(sound_of(server, client), spool.samples)
        async with asyncio.timeout(20):  # the log has it, as an error of this session
            while not server.process.errors:
                await asyncio.sleep(0.01)
        (line,) = server.process.errors
        assert line.startswith(client.id)
        assert "not restored" in line
        server.process.errors.clear()


async def test_what_is_said_after_completion_changes_nothing(server: Server) -> None:
    spool = Spool.of(1)
    async with session(server, spool, restore="all") as client:
        said = await client.deliver()
        before = (sound_of(server, client), ledger_of(server, client))
        wrong = Spool(-spool.samples)
        assert (await client.put(0, wrong.flac(0, wrong.length))).status == 204
        assert (await client.captured()).body == said.body
        assert (await client.captured(wrong)).body == said.body  # it tells what is there
        assert check_wanted(await client.wanted(), "complete") == []
        assert np.array_equal(sound_of(server, client), before[0])
        assert ledger_of(server, client) == before[1]


async def test_who_does_not_want_to_restore_is_not_asked(server: Server) -> None:
    async with session(server, Spool.of(1), restore="off") as client:
        assert (await client.wanted()).body == {"ranges": [], "state": "off", "until": None}
        assert (await client.put(0, client.spool.flac(0, 100))).status == 204
        said = await client.captured()
        assert (said.status, said.body) == (200, {"state": "off", "sha256": None})


# -- what is refused -----------------------------------------------------------------------------

SOUND = Spool.of(1)
FLAC = SOUND.flac(0, 5000)


@pytest.mark.parametrize(
    ("start", "body", "headers", "status", "text"),
    [
        (0, FLAC, {"Content_Digest": digest(b"other")}, 400, "does not have its Content-Digest"),
        (0, FLAC, {"Content_Digest": None}, 400, "sha-256=:base64:"),
        (0, FLAC, {"Content_Digest": "sha-256=abc"}, 400, "sha-256=:base64:"),
        (0, FLAC, {"Content_Digest": "md5=:AAAA:"}, 400, "neither sha-256 nor sha-512"),
        (0, FLAC, {"Content_Type": "audio/wav"}, 415, "audio/flac"),
        (0, FLAC, {"Content_Type": None}, 415, "audio/flac"),
        (0, FLAC, {"Content_Encoding": "gzip"}, 415, "compressed"),
        ("-1", FLAC, {}, 400, "a whole number"),
        ("1.5", FLAC, {}, 400, "a whole number"),
        ("%C2%B2", FLAC, {}, 400, "a whole number"),
        (2**53, FLAC, {}, 400, "a whole number"),
        ("9" * 400, FLAC, {}, 400, "a whole number"),
        (0, b"", {}, 422, "not a FLAC file"),
        (0, SOUND.pcm(), {}, 422, "not a FLAC file"),
        (0, FLAC[:-50], {}, 422, "the piece"),
        (0, FLAC + FLAC, {}, 422, "the piece"),
        (0, Spool.of(1, rate_hz=44_100).flac(0, 5000), {}, 422, "44100 Hz"),
        (0, Spool.of(1, bits=24).flac(0, 5000), {}, 422, "24 bit"),
        (0, Spool.of(1, channels=2).flac(0, 5000), {}, 422, "2 channels"),
        (0, Spool.of(11).flac(0, MAX_PIECE + 1), {}, 422, f"more than {MAX_PIECE}"),
        (0, bytes(MAX_BYTES + 1), {}, 413, f"{MAX_BYTES} bytes"),
    ],
)
async def test_a_wrong_piece_is_refused_and_changes_nothing(
    server: Server, start: Any, body: bytes, headers: Any, status: int, text: str
) -> None:
    async with session(server, SOUND) as client:
        check_409(await client.captured(), "waiting")
        check_refused(await client.put(start, body, **headers), status, text)
        assert (await client.wanted()).body["ranges"] == [{"start": 0, "length": SOUND.length}]


async def test_a_piece_has_to_tell_its_length(server: Server) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        yield FLAC

    async with session(server, SOUND) as client:
        answer = await client.put(0, chunks(), Content_Digest=digest(FLAC))
        check_refused(answer, 411, "Content-Length")


async def test_a_digest_may_be_one_of_several(server: Server) -> None:
    async with session(server, SOUND) as client:
        check_409(await client.captured(), "waiting")
        several = f"md5=:AAAA:, {digest(FLAC)}"
        assert (await client.put(0, FLAC, Content_Digest=several)).status == 204
        left = [{"start": 5000, "length": SOUND.length - 5000}]
        assert (await client.wanted()).body["ranges"] == left


@pytest.mark.parametrize(
    ("said", "status", "text"),
    [
        ({"length": -1}, 400, "length"),
        ({"length": True}, 400, "length"),
        ({"length": "7"}, 400, "length"),
        ({"length": 1.5}, 400, "length"),
        ({"length": 2**53}, 400, "length"),
        ({"length": 2**53 - 1}, 422, "so much"),
        ({"sha256": "abc"}, 400, "sha256"),
        ({"sha256": None}, 400, "sha256"),
        ({"missing": {}}, 400, "missing"),
        ({"missing": [{"start": 0}]}, 400, "missing"),
        ({"missing": [{"start": 0, "length": 0}]}, 400, "missing"),
        ({"missing": [{"start": 0, "length": 1}] * 10_001}, 400, "too many"),
        ({"missing": [{"start": 0, "length": 10**6}]}, 422, "missing"),
        ({"missing": [{"start": 9, "length": 9}, {"start": 0, "length": 9}]}, 422, "missing"),
    ],
)
async def test_what_cannot_have_been_captured_is_refused(
    server: Server, said: Any, status: int, text: str
) -> None:
    async with session(server, SOUND) as client:
        check_refused(await client.captured(**said), status, text)
        assert check_wanted(await client.wanted(), "waiting") == []


async def test_only_the_secret_of_the_session_opens_it(server: Server) -> None:
    requests: list[tuple[str, str, dict[str, Any]]] = [
        ("GET", "wanted", {}),
        ("PUT", "sound/0", {"data": FLAC, "headers": {"Content-Type": "audio/flac"}}),
        ("POST", "captured", {"json": {"length": 1, "sha256": "0" * 64}}),
    ]
    async with session(server, SOUND) as client, session(server, SOUND) as other:
        check_409(await client.captured(), "waiting")
        for method, path, sent in requests:
            path = f"/sessions/{client.id}/{path}"
            for bearer in (None, "", "wrong", TOKEN, ADMIN, other.resume, client.id):
                answer = await client.ask(method, path, bearer=bearer, **sent)
                check_refused(answer, 401, "the secret of this session")
            query = urllib.parse.urlencode({"resume": client.resume})
            answer = await client.ask(method, f"{path}?{query}", **sent)
            check_refused(answer, 401, "the secret of this session")
            unknown = path.replace(client.id, "0" * 16)
            answer = await client.ask(method, unknown, bearer=client.resume, **sent)
            check_refused(answer, 401, "the secret of this session")
        assert (await client.wanted()).body["ranges"] == [{"start": 0, "length": SOUND.length}]
    log = "\n".join(server.process.lines)
    assert client.resume not in log


@pytest.mark.parametrize(
    "change",
    [
        {"rtp_timestamp": -1},
        {"rtp_timestamp": 2**32},
        {"rtp_timestamp": None},
        {"sample_rate_hz": 0},
        {"sample_rate_hz": 10**9},
        {"channels": 0},
        {"channels": 9},
        {"sample_format": "s32"},
        {"sample_format": None},
        {"restore": "some"},
        {"started_at": "yesterday"},
    ],
)
async def test_an_offer_with_a_wrong_spool_is_refused(
    server: Server, change: dict[str, Any]
) -> None:
    async with other_client(server.url, SOUND) as client:
        client.token = TOKEN
        async with connection_with(KnownSound(0, 0)) as connection:
            answer = await client.offer(connection, SOUND.description() | change)
    check_refused(answer, 400, f"{'spool.' if 'started_at' not in change else ''}")


async def test_a_client_without_a_spool_is_not_asked(server: Server) -> None:
    async with other_client(server.url, SOUND) as client:
        client.token = TOKEN
        async with connection_with(KnownSound(0, 0)) as connection:
            assert (await client.offer(connection, None)).status == 200
            check_refused(await client.wanted(), 401, "keeps no sound")
            await client.end()


# -- slow and hostile bodies ---------------------------------------------------------------------


@dataclass
class SlowPiece:
    """A piece whose body has not been sent yet."""

    flac: bytes
    writer: asyncio.StreamWriter
    answered: asyncio.Task[str]


async def begin_put(client: OtherClient, start: int, length: int) -> SlowPiece:
    """Send the head of a piece, and nothing of its body."""
    address = urllib.parse.urlsplit(client.url)
    reader, writer = await asyncio.open_connection(address.hostname, address.port)
    flac = client.spool.flac(start, length)
    writer.write(
        f"PUT /sessions/{client.id}/sound/{start} HTTP/1.1\r\nHost: {address.netloc}\r\n"
        f"Authorization: Bearer {client.resume}\r\nContent-Type: audio/flac\r\n"
        f"Content-Digest: {digest(flac)}\r\nContent-Length: {len(flac)}\r\n\r\n".encode()
    )
    await writer.drain()

    async def answer() -> str:
        async with asyncio.timeout(20):
            return (await reader.readuntil(b"\r\n\r\n")).decode()

    return SlowPiece(flac, writer, asyncio.create_task(answer()))


async def test_slow_bodies_of_one_session_stop_nobody_else(server: Server) -> None:
    spool = Spool.of(1)
    async with session(server, spool, restore="all") as client, session(server, SOUND) as other:
        check_409(await client.captured(), "waiting")
        slow = [await begin_put(client, index * 9600, 9600) for index in range(5)]
        for piece in slow:
            piece.writer.write(piece.flac[:100])
        first = asyncio.as_completed([piece.answered for piece in slow])
        refused = await next(first)
        assert " 429 " in refused
        assert "Retry-After: " in refused
        assert (await other.deliver()).status == 200
        check_wanted(await client.wanted(), "waiting")
        left = [piece for piece in slow if not piece.answered.done()]
        assert len(left) == 4
        for piece in reversed(left):
            piece.writer.write(piece.flac[100:])
            assert " 204 " in await piece.answered
        assert (await client.deliver()).body["sha256"] == spool.sha256()
        for piece in slow:
            piece.writer.close()


async def test_a_body_that_breaks_off_is_no_piece(server: Server) -> None:
    async with session(server, SOUND) as client:
        check_409(await client.captured(), "waiting")
        for _ in range(8):  # twice as many as may be sent at once
            piece = await begin_put(client, 0, 12_000)
            piece.writer.write(piece.flac[:-1])
            await piece.writer.drain()
            piece.writer.close()
            with pytest.raises(asyncio.IncompleteReadError):
                await piece.answered
        assert (await client.wanted()).body["ranges"] == [{"start": 0, "length": SOUND.length}]
        assert (await client.deliver()).status == 200


# -- the example of the documentation ------------------------------------------------------------


async def test_the_documented_example_restores_a_recording(
    server: Server, tmp_path: pathlib.Path
) -> None:
    page = (DOCS / "restoring-protocol.md").read_text()
    (example,) = re.findall(r"```sh\n(.*?)```", page, re.DOTALL)
    spool = Spool.of(1)
    (tmp_path / "piece.flac").write_bytes(spool.flac(0, spool.length))
    (tmp_path / "captured.pcm").write_bytes(spool.pcm())
    async with session(server, spool, restore="all") as client:
        process = await asyncio.create_subprocess_exec(
            "bash", "-euc", example, cwd=tmp_path, stdout=asyncio.subprocess.PIPE,
            env={"SERVER": server.url, "ID": client.id, "RESUME": client.resume,
                 "PATH": "/usr/bin:/bin"},
        )  # fmt: skip
        output, _ = await process.communicate()
    assert process.returncode == 0, output
    answers = output.decode().split("\n")
    hashed = hashlib.sha256(spool.pcm()).hexdigest()
    assert json.loads(answers[0])["ranges"] == [{"start": 0, "length": spool.length}]
    assert json.loads(answers[1])["ranges"] == [{"start": 0, "length": spool.length}]
    assert answers[2] == "204"
    assert json.loads(answers[3]) == {"state": "complete", "sha256": hashed}
    assert np.array_equal(sound_of(server, client), spool.samples)
