"""`gapless verify` and `gapless recover` as their users run them."""

from __future__ import annotations

import json
import pathlib

import pytest
import soundfile

from tests.property.test_recovery_laws import leave_unfinished
from tests.rigs.processes import gapless


@pytest.fixture
def recordings(tmp_path: pathlib.Path) -> pathlib.Path:
    leave_unfinished(tmp_path)
    with gapless("recover", str(tmp_path)) as recovering:
        assert recovering.end() == 0, recovering.errors
    assert recovering.lines == [f"recovered 00:00.0 in {tmp_path / 'a.wav'}"]
    return tmp_path


def verified(*arguments: str) -> tuple[int, list[str]]:
    with gapless("verify", *arguments) as process:
        code = process.end()
    assert process.errors == []
    return code, process.lines


def test_the_verdict_on_a_valid_recording_is_text(recordings: pathlib.Path) -> None:
    code, lines = verified(str(recordings / "a.wav"))
    assert code == 0
    assert lines[0].endswith("a.wav: sound")
    text = "\n".join(lines)
    assert "received    40.000%  0.013 s" in text
    assert "silence     20.000%" in text
    assert "longest gap 0.019 s at 00:00.0" in text
    assert "ended      recovered" in text


def test_the_verdict_for_programs_is_one_object_per_line(recordings: pathlib.Path) -> None:
    code, lines = verified("--json", str(recordings / "a.wav"), str(recordings / "gone.wav"))
    assert code == 1
    sound, gone = map(json.loads, lines)
    assert sound == {
        "file": str(recordings / "a.wav"),
        "ok": True,
        "problems": [],
        "length_samples": 250,
        "sample_rate_hz": 8000,
        "channels": 1,
        "samples": {
            "received": 100, "recovered": 0, "restored": 0, "concealed": 100, "silence": 50,
            "dtx": 0,
        },
        "longest_gap_samples": 150,
        "end_reason": "recovered",
        "wall_clock": None,
        "restore": None,
        "source": None,
    }  # fmt: skip
    assert gone["ok"] is False
    assert "No such file" in gone["problems"][0]


@pytest.mark.parametrize(
    ("option", "code"),
    [
        ("--max-concealed=40%", 0),
        ("--max-concealed=39.9%", 1),
        ("--max-silence=0.2", 0),
        ("--max-silence=0", 1),
        ("--max-gap=0.02", 0),
        ("--max-gap=0.01", 1),
        ("--max-recovered=0", 0),
    ],
)
def test_limits_decide_the_exit_code(recordings: pathlib.Path, option: str, code: int) -> None:
    assert verified(option, str(recordings / "a.wav"))[0] == code


def test_one_changed_sample_is_found(recordings: pathlib.Path) -> None:
    path = recordings / "a.wav"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    code, lines = verified(str(path))
    assert code == 1
    assert any("sha256" in line for line in lines)


def test_a_wav_without_a_ledger_is_not_sound(tmp_path: pathlib.Path) -> None:
    soundfile.write(tmp_path / "b.wav", [0.0] * 100, 8000)
    code, lines = verified(str(tmp_path / "b.wav"))
    assert code == 1
    assert any("there is no ledger b.json" in line for line in lines)


def test_an_invalid_share_is_wrong_usage(recordings: pathlib.Path) -> None:
    with gapless("verify", "--max-concealed", "much", str(recordings / "a.wav")) as process:
        assert process.end() == 2


def test_a_missing_folder_cannot_be_recovered(tmp_path: pathlib.Path) -> None:
    with gapless("recover", str(tmp_path / "gone")) as process:
        assert process.end() == 1
    assert process.errors == [
        f"gapless: cannot read {tmp_path / 'gone'}: No such file or directory"
    ]


def test_recovering_again_finds_nothing(recordings: pathlib.Path) -> None:
    with gapless("recover", str(recordings)) as process:
        assert process.end() == 0
    assert process.lines == ["nothing to recover"]
