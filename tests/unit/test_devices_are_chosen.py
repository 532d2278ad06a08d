"""Devices are chosen by number, name or part of a name; what is not clear is an error."""

from __future__ import annotations

from dataclasses import replace

import pytest

from adapters.capture.devices import choose
from domain.errors import DeviceUncertain, NoSuchDevice
from domain.ports.capture import InputDevice

DEVICES = [
    InputDevice(0, "USB Audio", 1, 48_000, is_default=False),
    InputDevice(3, "USB Microphone", 2, 44_100, is_default=True),
]


@pytest.mark.parametrize(
    ("wanted", "index"), [(None, 3), ("0", 0), ("3", 3), ("USB Audio", 0), ("micro", 3)]
)
def test_devices_are_found_by_number_name_and_part_of_it(wanted: str | None, index: int) -> None:
    assert choose(DEVICES, wanted).index == index


def test_a_card_that_was_plugged_in_again_may_have_another_number() -> None:
    devices = [
        InputDevice(0, "Webcam: Audio (hw:1,0)", 1, 48_000, is_default=True),
        InputDevice(1, "USB Mic: Audio (hw:2,0)", 1, 48_000, is_default=False),
    ]
    assert choose(devices, "USB Mic: Audio (hw:1,0)").index == 1
    with pytest.raises(NoSuchDevice):
        choose(devices[:1], "USB Mic: Audio (hw:1,0)")


@pytest.mark.parametrize("wanted", ["1", "usb", "HDMI"])
def test_a_device_that_is_not_there_lists_those_that_are(wanted: str) -> None:
    with pytest.raises(NoSuchDevice, match="0: USB Audio, 3: USB Microphone"):
        choose(DEVICES, wanted)


def test_devices_of_exactly_one_name_are_chosen_by_number_only() -> None:
    first = InputDevice(4, "Desk", 1, 48_000, is_default=False, host_api="WASAPI")
    twins = [first, replace(first, index=5)]
    with pytest.raises(DeviceUncertain, match="by its number: 4: Desk, 5: Desk"):
        choose(twins, "Desk")
    assert choose(twins, "5").index == 5


def test_a_device_that_several_interfaces_list_is_the_first_of_them() -> None:
    first = InputDevice(4, "Desk", 1, 48_000, is_default=False, host_api="MME")
    assert choose([first, replace(first, index=9, host_api="WASAPI")], "Desk").index == 4
