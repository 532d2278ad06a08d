"""Who may open a session: what has not proved itself is limited, and gives way to newcomers."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.errors import OfferRepeated, ServerFull, SessionUnknown, TooManyRequests
from domain.recording.effects import EndReason
from domain.services.server.admission import GRACE_S, MAX_ADDRESSES, Admission, OfferRate
from domain.session.addresses import network_of
from domain.session.caller import UNKNOWN, Caller
from domain.session.policy import SessionPolicy
from domain.session.session import Session, SessionInput, SessionState, digest_of
from tests.fakes.media import packet
from tests.unit.test_sessions_are_recorded import Server

ONE, OTHER = Caller("192.0.2.1"), Caller("198.51.100.7")
DAY_S = 86_400.0


class Door:
    """An `Admission` in virtual time, whose sessions open at once."""

    def __init__(self, **policy: int | bool) -> None:
        self.admission = Admission(SessionPolicy(**policy))  # type: ignore[arg-type]
        self.now = 1000.0
        self.sessions: dict[str, Session] = {}
        self.gone: list[str] = []
        self._numbers = itertools.count(1)

    def come(self, caller: Caller, *, is_answered: bool = True) -> str:
        """Make an offer; return the id of its session."""
        session_id = f"s{next(self._numbers)}"
        gives_way = self.admission.admit(session_id, caller, now=self.now)
        if gives_way is not None:
            self.gone.append(gives_way)
            self.sessions.pop(gives_way).handle(SessionInput.GAVE_WAY)
        if is_answered:
            session = Session(session_id, digest_of(session_id), "", self.now + 15, 30)
            self.sessions[session_id] = session
            self.admission.opened(session)
        return session_id

    def prove(self, session_id: str) -> None:
        self.sessions[session_id].connected(now=self.now)

    def come_in_vain(self, caller: Caller) -> float:
        """Return after how long an offer that is refused may be made again."""
        with pytest.raises(TooManyRequests) as refused:
            self.come(caller)
        return refused.value.retry_after_s


# -- limits of an address -------------------------------------------------------------------------


def test_an_address_has_few_sessions_that_are_connecting() -> None:
    door = Door(max_unproven=3)
    mine = [door.come(ONE) for _ in range(3)]
    assert door.come_in_vain(ONE) > 0
    door.come(OTHER)
    door.prove(mine[0])
    door.come(ONE)
    assert door.come_in_vain(ONE) > 0
    assert door.gone == []


def test_an_address_makes_few_offers_a_minute_and_gets_each_back() -> None:
    door = Door(offers_per_minute=60)
    for _ in range(60):
        door.prove(door.come(ONE))
    assert door.come_in_vain(ONE) == pytest.approx(1.0)
    door.prove(door.come(OTHER))
    door.now += 0.5
    assert door.come_in_vain(ONE) == pytest.approx(0.5)
    door.now += 0.5
    door.prove(door.come(ONE))
    door.now += 60.0
    for _ in range(60):
        door.prove(door.come(ONE))


def test_offers_that_are_refused_do_not_count() -> None:
    door = Door(offers_per_minute=3, max_unproven=1, max_sessions=2)
    first = door.come(ONE)
    for _ in range(10):
        door.come_in_vain(ONE)
    door.prove(first)
    second = door.come(ONE)
    door.prove(second)
    for _ in range(10):
        with pytest.raises(ServerFull):
            door.come(ONE)
    door.admission.leave(first)
    door.come(ONE)


@given(
    per_minute=st.integers(1, 300),
    pauses=st.lists(st.floats(0, 30), min_size=1, max_size=200),
)
def test_in_no_minute_there_are_more_than_twice_as_many(
    per_minute: int, pauses: list[float]
) -> None:
    rate, now, counted = OfferRate(per_minute), 1000.0, []
    for pause in pauses:
        now += pause
        try:
            rate.count("a", now=now)
        except TooManyRequests as refused:
            rate.count("a", now=now + refused.retry_after_s)  # what it promises, it keeps
            now += refused.retry_after_s
        counted.append(now)
    for at in counted:
        assert sum(at <= other < at + 60 - 1e-3 for other in counted) <= 2 * per_minute


def test_addresses_are_forgotten_when_they_have_all_their_offers_back() -> None:
    rate = OfferRate(60)
    for number in range(MAX_ADDRESSES + 50):
        rate.count(f"a{number}", now=1000.0)
    assert len(rate._used_until) == MAX_ADDRESSES
    rate.count("late", now=1002.0)
    assert list(rate._used_until) == ["late"]


def test_a_classroom_behind_one_address_starts_at_the_same_moment() -> None:
    door = Door()
    pupils = [door.come(ONE) for _ in range(30)]
    for pupil in pupils:
        door.prove(pupil)
    for _ in range(30):  # and once more in the same minute
        door.prove(door.come(ONE))
    assert door.gone == []


@pytest.mark.parametrize(
    ("one", "other", "is_one_network"),
    [
        ("2001:db8::1", "2001:db8::ffff:1", True),
        ("2001:db8::1", "2001:db8:0:1::1", False),
        ("192.0.2.1", "192.0.2.2", False),
        ("", "192.0.2.2", False),
        ("", "", True),
    ],
)
def test_an_ipv6_network_counts_as_one_address(one: str, other: str, is_one_network: bool) -> None:
    assert (network_of(one) == network_of(other)) is is_one_network
    door = Door(max_unproven=1)
    door.come(Caller(one))
    if is_one_network:
        door.come_in_vain(Caller(other))
    else:
        door.come(Caller(other))


@pytest.mark.parametrize("address", ["127.0.0.1", "127.0.0.9", "::1", ""])
@pytest.mark.parametrize("is_local", [True, False])
def test_callers_that_nobody_else_can_be_are_not_limited(address: str, is_local: bool) -> None:
    door = Door(is_local=is_local, max_unproven=2, max_sessions=500)
    for _ in range(2):
        door.come(Caller(address))
    if is_local:
        for _ in range(98):
            door.come(Caller(address))
    else:
        door.come_in_vain(Caller(address))


def test_what_a_proxy_on_this_machine_forwards_is_limited() -> None:
    door = Door(is_local=True, max_unproven=1)
    door.come(ONE)
    door.come_in_vain(ONE)


# -- places ---------------------------------------------------------------------------------------


def test_what_has_proved_itself_keeps_its_place() -> None:
    door = Door(max_sessions=4, max_unproven=40)
    for _ in range(4):
        door.prove(door.come(ONE))
    door.now += DAY_S
    with pytest.raises(ServerFull, match="all 4"):
        door.come(OTHER)
    assert door.gone == []


def test_the_unproven_have_a_share_of_the_places() -> None:
    door = Door(max_sessions=400, max_unproven=10)
    for number in range(300):
        door.come(Caller(f"192.0.2.{number}"), is_answered=True)
        door.now += GRACE_S
    unproven = [item for item in door.sessions.values() if item.state is SessionState.CONNECTING]
    assert len(unproven) == 100


def test_the_greedy_give_way_at_once_and_their_oldest_first() -> None:
    door = Door(max_sessions=20, max_unproven=20, offers_per_minute=1000)
    first = door.come(OTHER)
    greedy = [door.come(ONE) for _ in range(19)]
    for number in range(5):
        door.prove(door.come(Caller(f"203.0.113.{number}")))
    assert door.gone == greedy[:5]
    assert first in door.sessions


def test_equals_give_way_after_a_while_only() -> None:
    """Many that come at the same time would keep each other from connecting."""
    door = Door(max_sessions=2)
    first = door.come(Caller("192.0.2.1"))
    door.now += 1.0
    door.come(Caller("192.0.2.2"))
    with pytest.raises(ServerFull):
        door.come(Caller("192.0.2.3"))
    door.now += GRACE_S - 1.0
    door.come(Caller("192.0.2.3"))
    assert door.gone == [first]


def test_who_has_most_gives_way_to_itself_only() -> None:
    door = Door(max_sessions=4)
    for number in range(3):
        door.come(Caller(f"192.0.2.{number}"))
    mine = door.come(OTHER)
    door.now += GRACE_S
    door.come(OTHER)
    assert door.gone == [mine]


def test_a_token_that_many_addresses_have_gives_way_to_another() -> None:
    door = Door(max_sessions=30, max_unproven=30)
    stolen = [door.come(Caller(f"192.0.2.{number}", "stolen")) for number in range(30)]
    door.come(Caller("198.51.100.7", "own"))
    assert door.gone == stolen[:1]


def test_an_offer_that_is_being_answered_has_a_place_and_cannot_give_way() -> None:
    door = Door(max_sessions=2)
    for caller in (ONE, ONE):
        door.come(caller, is_answered=False)
    assert door.admission.places_taken == 2
    with pytest.raises(ServerFull):
        door.come(OTHER)
    door.admission.leave("s1")
    door.come(OTHER)


def test_a_session_of_an_earlier_process_has_proved_itself() -> None:
    door = Door(max_sessions=1)
    session = Session("old", "digest", "", 0, 30, state=SessionState.INTERRUPTED)
    door.admission.keep(session)
    with pytest.raises(ServerFull):
        door.come(ONE)
    door.admission.leave("old")
    door.come(ONE)


def test_nobody_comes_in_when_it_closes() -> None:
    door = Door()
    door.admission.close()
    with pytest.raises(ServerFull, match="shutting down"):
        door.come(ONE)
    assert door.admission.places_taken == 0


@given(
    steps=st.lists(
        st.tuples(st.integers(0, 5), st.integers(0, 2), st.booleans(), st.floats(0, 10)),
        max_size=120,
    )
)
def test_places_are_never_more_than_there_are(
    steps: list[tuple[int, int, bool, float]],
) -> None:
    door = Door(max_sessions=8, max_unproven=3, offers_per_minute=30)
    proven: set[str] = set()
    for address, token, is_proven, pause in steps:
        door.now += pause
        try:
            session_id = door.come(Caller(f"192.0.2.{address}", f"t{token}"))
        except (ServerFull, TooManyRequests):
            continue
        if is_proven:
            door.prove(session_id)
            proven.add(session_id)
        assert door.admission.places_taken <= 8
        assert not proven.intersection(door.gone)
        assert door.admission.places_taken == len(door.sessions)


# -- with sessions --------------------------------------------------------------------------------


async def test_a_flood_of_offers_ends_no_session_that_has_a_path() -> None:
    server = Server(max_sessions=20, max_unproven=20, offers_per_minute=10_000)
    for number in range(10):
        await server.sessions.offer(f"v=0 {number}", name="", caller=OTHER)
        server.receive(packet(0))
    refused = 0
    for number in range(3000):
        try:
            await server.sessions.offer(f"v=0 flood {number}", name="", caller=ONE)
        except (ServerFull, TooManyRequests):
            refused += 1
        server.clock.advance(0.001)
    assert refused >= 2900
    assert server.sessions.places_taken == 20
    newcomer = await server.sessions.offer("v=0 new", name="", caller=Caller("203.0.113.9"))
    server.receive(packet(0))
    await server.spawned.join()
    assert server.sessions.states()["recording"] == 11
    assert set(server.seen.ended) == {EndReason.INACTIVE}
    assert "no media path yet" in (server.seen.details[0] or "")
    assert await server.sessions.delete(newcomer.session_id) == pytest.approx(0.02)
    assert server.transport.connections[10].closed == 1
    assert [item.closed for item in server.transport.connections[:10]] == [0] * 10


async def test_an_offer_that_resumes_is_never_too_many() -> None:
    server = Server(max_sessions=2, max_unproven=1, offers_per_minute=1)
    first = await server.sessions.offer("v=0 1", name="", caller=ONE)
    server.receive(packet(0))
    for number in range(100):
        again = await server.sessions.offer(
            f"v=0 again {number}", name="", resume=first.resume, caller=ONE
        )
        assert again.session_id == first.session_id
    with pytest.raises(TooManyRequests):
        await server.sessions.offer("v=0 2", name="", caller=ONE)


async def test_a_refused_offer_leaves_its_place() -> None:
    server = Server(max_sessions=1)
    for _ in range(3):
        with pytest.raises(Exception, match="bad"):
            await server.sessions.offer("bad", name="")
    assert server.sessions.places_taken == 0
    await server.offer()


# -- replays --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("after_s", "caller", "is_answered"),
    [
        (14.9, ONE, True),
        (15.0, ONE, False),
        (1.0, OTHER, False),
        (1.0, Caller(ONE.address, "another"), False),
    ],
)
async def test_an_answer_is_given_again_to_its_caller_for_a_while(
    after_s: float, caller: Caller, is_answered: bool
) -> None:
    server = Server()
    first = await server.sessions.offer("v=0 same", name="", caller=ONE)
    server.receive(packet(0))
    server.clock.advance(after_s - 0.02)
    if is_answered:
        assert await server.sessions.offer("v=0 same", name="", caller=caller) == first
    else:
        with pytest.raises(OfferRepeated, match="make a new one"):
            await server.sessions.offer("v=0 same", name="", caller=caller)
    assert len(server.transport.connections) == 1


async def test_a_client_gets_its_answer_at_another_address_of_its_network() -> None:
    server = Server()
    home = Caller("2001:db8::1"), Caller("2001:db8::2")
    first, again = [await server.sessions.offer("v=0", name="", caller=item) for item in home]
    assert first == again


async def test_the_secret_of_a_session_is_not_kept_for_replays() -> None:
    server = Server()
    first = await server.sessions.offer("v=0 same", name="", caller=ONE)
    server.receive(packet(0))
    server.clock.advance(15)
    await server.sessions.offer("v=0 next", name="", caller=ONE)
    kept = server.sessions._answers._answers.values()
    assert first not in [item.accepted for item in kept]
    assert len(kept) == 1


async def test_offers_are_remembered_within_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("domain.services.server.answers.MAX_REMEMBERED", 10)
    server = Server()
    for number in range(20):
        accepted = await server.sessions.offer(f"v=0 {number}", name="", caller=UNKNOWN)
        await server.sessions.delete(accepted.session_id)
    answers = server.sessions._answers
    assert (len(answers._answers), len(answers._spent)) == (0, 10)
    with pytest.raises(OfferRepeated):
        await server.sessions.offer("v=0 19", name="")


async def test_an_unknown_secret_costs_no_offer_of_its_address() -> None:
    server = Server(offers_per_minute=1)
    for number in range(5):
        with pytest.raises(SessionUnknown):
            await server.sessions.offer(f"v=0 {number}", name="", resume="guess", caller=ONE)
    await server.sessions.offer("v=0", name="", caller=ONE)
