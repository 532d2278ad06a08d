"""Which kind an address is of, and whether connectivity checks may go there."""

from __future__ import annotations

import pytest

from domain.session.address_kinds import AddressKind, CheckRules, kind_of
from tests.rigs.victims import VICTIMS

KINDS = {
    "loopback": {AddressKind.LOOPBACK},
    "metadata": {AddressKind.METADATA},
    "link_local": {AddressKind.LINK_LOCAL},
    "multicast": {AddressKind.MULTICAST},
    "broadcast": {AddressKind.RESERVED, AddressKind.PRIVATE},  # 10.99.0.255 is one of a network
    "translated": {AddressKind.TRANSLATED},
    "private": {AddressKind.PRIVATE},
    "public": {AddressKind.PUBLIC},
}
SERVER = CheckRules(probe_private=False, probe_own=False)
CLIENT = CheckRules()


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_each_address_has_its_kind(kind: str) -> None:
    assert {kind_of(address) for address in VICTIMS[kind]} == KINDS[kind]


def test_the_first_and_last_addresses_of_networks_are_in_them() -> None:
    for address, kind in (
        ("9.255.255.255", AddressKind.PUBLIC), ("10.0.0.0", AddressKind.PRIVATE),
        ("172.15.255.255", AddressKind.PUBLIC), ("172.31.255.255", AddressKind.PRIVATE),
        ("172.32.0.0", AddressKind.PUBLIC), ("100.63.255.255", AddressKind.PUBLIC),
        ("100.127.255.255", AddressKind.PRIVATE), ("223.255.255.255", AddressKind.PUBLIC),
        ("239.255.255.255", AddressKind.MULTICAST), ("::", AddressKind.TRANSLATED),
        ("fe7f::1", AddressKind.PUBLIC), ("febf::1", AddressKind.LINK_LOCAL),
        ("fec0::1", AddressKind.PRIVATE), ("2001:1::1", AddressKind.PUBLIC),
    ):  # fmt: skip
        assert kind_of(address) is kind, address


@pytest.mark.parametrize(
    "name",
    ["", "a0b1c2d3.local", "localhost", "127.1", "0177.0.0.1", "2130706433", "0x7f000001",
     "fe80::1%eth0", "[::1]", "127.0.0.1 ", "127.0.0.1:80"],
)  # fmt: skip
def test_what_is_not_an_address_has_no_kind_and_is_not_checked(name: str) -> None:
    """Other ways to write an address are names for a resolver."""
    assert kind_of(name) is None
    for rules in (SERVER, CLIENT):
        assert not rules.may_probe(name, own=())
        assert not rules.may_answer(name, at="192.0.2.1")


def test_a_server_probes_public_addresses_only() -> None:
    own = ("203.0.113.1", "192.168.1.1", "2001:db8::1")
    assert SERVER.may_probe("198.51.100.7", own=own)
    for kind, addresses in VICTIMS.items():
        for address in addresses:
            assert SERVER.may_probe(address, own=own) is (kind == "public"), address


def test_a_server_does_not_probe_its_own_addresses_however_they_are_spelled() -> None:
    own = ("203.0.113.1", "2001:db8::1")
    for spelled in ("203.0.113.1", "2001:db8::1", "2001:0db8:0:0::0001", "2001:DB8::1"):
        assert not SERVER.may_probe(spelled, own=own)


def test_private_addresses_are_probed_by_setting_and_own_ones_are_not() -> None:
    rules = CheckRules(probe_own=False)
    assert rules.may_probe("192.168.1.2", own=("192.168.1.1",))
    assert not rules.may_probe("192.168.1.1", own=("192.168.1.1",))


def test_loopback_is_for_those_who_are_on_it() -> None:
    on_loopback = CheckRules(is_on_loopback=True, probe_private=False, probe_own=False)
    assert on_loopback.may_probe("127.0.0.1", own=("127.0.0.1",))
    assert on_loopback.may_answer("::1", at="::1")
    for rules in (SERVER, CLIENT):
        assert not rules.may_probe("127.0.0.1", own=())
        assert not rules.may_answer("127.0.0.1", at="192.0.2.1")


def test_a_client_finds_its_server_on_the_local_network() -> None:
    assert CLIENT.may_probe("192.168.1.1", own=("192.168.1.1",))  # on the same machine, too
    assert CLIENT.may_probe("169.254.7.7", own=("169.254.9.9",))
    assert not CLIENT.may_probe("169.254.7.7", own=("192.168.1.1",))


def test_no_hostile_server_points_a_client_at_services_or_groups() -> None:
    own = ("169.254.9.9", "192.168.1.1")
    for kind in ("metadata", "multicast", "translated"):
        for address in VICTIMS[kind]:
            assert not CLIENT.may_probe(address, own=own), address
    assert not CLIENT.may_probe("255.255.255.255", own=own)


def test_clients_of_the_same_network_are_answered() -> None:
    for address in VICTIMS["private"] + VICTIMS["public"]:
        assert SERVER.may_answer(address, at="192.168.1.1")
    assert SERVER.may_answer("169.254.7.7", at="169.254.9.9")
    assert not SERVER.may_answer("169.254.7.7", at="192.168.1.1")
    assert not SERVER.may_answer("169.254.169.254", at="169.254.9.9")
