"""Whatever lies in a folder: one clear line, and on to the next; nothing is written elsewhere."""

from __future__ import annotations

import pathlib
import shutil
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pytest
from click.testing import CliRunner

from adapters.storage.folder.part import PartOptions
from adapters.storage.folder.store import FolderStore
from domain.recording.effects import EndReason
from domain.recording.ledger import SampleKind
from entrypoints.cli import main
from tests.rigs import hostile
from tests.rigs.hostile import CONTROLS, Plant, changed, content
from tests.rigs.processes import gapless
from tests.rigs.recordings import LONG_AGO, START

DEEP = b"[" * 100_000
DIGITS = "1" + "0" * 400
LONG = content(b'{"span":[0,"received"]}\n' * 3_000_000)  # 72 MB
KINDS: dict[str, Plant] = {
    "pipe": hostile.pipe,
    "device": hostile.device,
    "socket": hostile.unix_socket,
    "folder": hostile.folder,
    "sparse": hostile.sparse,
    "link": hostile.link(pathlib.Path("../outside/secret.json")),
}
LEDGERS: dict[str, Plant] = {
    "infinite number": changed("length_samples", to="raw:1e999"),
    "number of 400 digits": changed("length_samples", to=f"raw:{DIGITS}"),
    "no number": changed("sample_rate_hz", to="raw:NaN"),
    "negative length": changed("spans", "0", "length", to=-5),
    "boolean as a number": changed("spans", "0", "start", to=False),
    "length of 400 digits": changed("spans", "0", "length", to=f"raw:{DIGITS}"),
    "infinite length": changed("spans", "0", "length", to="raw:1e999"),
    "number with a fraction": changed("spans", "0", "length", to=9600.5),
    "nested lists": content(DEEP),
    "many objects": content(b"[" + b"{}," * 3_000_000 + b"{}]"),
    "not UTF-8": content(b'{"version": 1, "name": "\xff\xfe"}'),
    "a number": content(b"7"),
    "no spans": changed("spans", to={"a": 1}),
    "name outside": changed("name", to="../../outside/x"),
    "absolute name": changed("name", to="/outside/x"),
    "name with controls": changed("name", to=CONTROLS),
    "long name": changed("name", to="x" * 5000),
    "name is a list": changed("name", to=["x"]),
    "kind with controls": changed("spans", "0", "kind", to=CONTROLS),
    "version with controls": changed("version", to=CONTROLS),
    "hash with controls": changed("sha256", to=CONTROLS),
    "restoring is text": changed("restore", to=CONTROLS),
}
JOURNALS: dict[str, Plant] = {
    "name outside": changed("name", to="../../outside/x"),
    "absolute name": changed("name", to="/outside/x"),
    "id outside": changed("id", to="../outside/secret"),
    "nested lists": content(DEEP),
    "too many lines": LONG,
    "lines that say nothing": content(b"0\n" * 30_000_000),
    "rate of 400 digits": changed("sample_rate_hz", to=f"raw:{DIGITS}"),
    "many channels": changed("channels", to=10**9),
    "header beyond the file": changed("data_offset", to=10**17),
    "begun before year 2": changed("started_at", to="0001-01-01T00:00:00+00:00"),
    "begun nowhere": changed("started_at", to="2026-01-01T00:00:00"),
    "infinitely much before": changed("before", "samples", to="raw:1e999"),
    "very much before": changed("before", "samples", to=10**17),
}


@dataclass(frozen=True)
class Ran:
    code: int
    lines: list[str]

    @property
    def text(self) -> str:
        return "\n".join(self.lines)


def ran(*arguments: str) -> Ran:
    result = CliRunner().invoke(main, list(arguments))
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    lines = result.output.removesuffix("\n").split("\n")
    assert all(line.isprintable() for line in lines), lines
    assert "Traceback" not in result.output
    return Ran(result.exit_code, lines)


def ran_as_process(*arguments: str) -> Ran:
    with gapless(*arguments) as process:
        code = process.end()
    lines = process.lines + process.errors
    assert all(line.isprintable() for line in lines), lines
    assert "Traceback" not in "".join(lines)
    return Ran(code, lines)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    folder = tmp_path_factory.mktemp("made")
    for name in ("complete", "unfinished", "spools"):
        (folder / name).mkdir()
    hostile.with_recordings(folder / "complete")
    hostile.with_unfinished(folder / "unfinished")
    hostile.with_spools(folder / "spools")
    return folder


@pytest.fixture
def place(made: pathlib.Path, tmp_path: pathlib.Path) -> Iterator[pathlib.Path]:
    """A folder that holds copies, beside one into which nothing may be written."""
    folder, outside = tmp_path / "folder", tmp_path / "outside"
    shutil.copytree(made, folder)
    outside.mkdir()
    (outside / "secret.json").write_text('{"secret": 1}')
    yield folder
    assert [path.name for path in tmp_path.rglob("*") if path.parent == outside] == ["secret.json"]
    assert (outside / "secret.json").read_text() == '{"secret": 1}'
    assert sorted(path.name for path in tmp_path.iterdir()) == ["folder", "outside"]


# -- what is no file: with real processes, since these can hang ------------------------------------


def test_what_is_no_file_is_told_and_the_next_file_is_verified(place: pathlib.Path) -> None:
    complete = place / "complete"
    files = []
    for kind, plant in KINDS.items():
        for ending in ("wav", "json"):
            name = complete / f"{kind}-{ending}"
            shutil.copy(complete / "wav.wav", f"{name}.wav")
            shutil.copy(complete / "wav.json", f"{name}.json")
            plant(name.with_suffix(f".{ending}"))
            files.append(f"{name}.wav")
    files += ["/dev/zero", str(complete), str(complete / "wav.wav")]
    found = ran_as_process("verify", *files)
    assert found.code == 1
    verdicts = [line for line in found.lines if not line.startswith("  ")]
    assert verdicts == [f"{file}: NOT SOUND" for file in files[:-1]] + [f"{files[-1]}: sound"]
    for what in ("named pipe", "device", "socket", "folder", "symbolic link"):
        assert f"it is a {what}, not a file" in found.text
    assert "bytes, more than any recording" in found.text
    assert "secret" not in found.text


@pytest.mark.parametrize("ending", ["journal", "wav.part", "json.part", "swap"])
def test_recovery_tells_what_is_no_file_and_goes_on(place: pathlib.Path, ending: str) -> None:
    unfinished = place / "unfinished"
    for kind, plant in KINDS.items():
        plant(unfinished / f"{kind}.{ending}")
    hostile.pipe(unfinished / f".{ending}")
    found = ran_as_process("recover", str(unfinished))
    assert f"recovered 00:00.0 in {unfinished / 'a.wav'}" in found.lines
    told = [line for line in found.lines if "cannot recover" in line]
    if ending != "json.part":  # with nothing else of their name, they are not looked at
        assert found.code == 1
        assert len(told) >= len(KINDS) - 1  # a sparse file may be nothing else than empty
    assert len(found.lines) == 1 + len(told)


@pytest.mark.parametrize("kind", ["pipe", "device"])
def test_a_source_that_is_no_file_is_refused(place: pathlib.Path, kind: str) -> None:
    KINDS[kind](place / "source.wav")
    recording = str(place / "complete" / "wav.wav")
    found = ran_as_process("verify", "--source", str(place / "source.wav"), recording)
    assert found.code == 1
    assert "not a file" in found.text


def test_a_server_starts_whatever_lies_in_its_folder(place: pathlib.Path) -> None:
    unfinished = place / "unfinished"
    for kind, plant in KINDS.items():
        for ending in ("journal", "wav.part", "json.part", "swap", "restore", "wav", "json"):
            plant(unfinished / f"{kind}.{ending}")
        for ending in ("journal", "restore", "swap"):
            plant(unfinished / f"{kind}-{ending}.{ending}")
    hostile.pipe(unfinished / ".journal")
    hostile.pipe(unfinished / ".catalogue.sqlite3")
    hostile.link(pathlib.Path("../../outside/made"))(unfinished / ".catalogue.closed")
    hostile.link(pathlib.Path("../../outside/made"))(unfinished / ".catalogue.stale")
    for number, (name, plant) in enumerate(JOURNALS.items()):
        if plant is LONG or "lines" in name:
            continue
        for ending in ("wav.part", "journal"):
            shutil.copy(unfinished / f"a.{ending}", unfinished / f"b{number}.{ending}")
        plant(unfinished / f"b{number}.journal")
    with gapless("serve", "--port", "0", "--recordings", str(unfinished)) as process:
        process.wait_for("listening on")
        assert process.stop() == 0
    lines = process.lines + process.errors
    assert all(line.isprintable() for line in lines)
    assert "Traceback" not in "".join(lines)
    assert (unfinished / "a.wav").exists()


async def test_resuming_names_the_next_parts_by_the_file(place: pathlib.Path) -> None:
    unfinished = place / "unfinished"
    changed("resume_digest", to="ab" * 32)(unfinished / "a.journal")
    shutil.copy(unfinished / "a.wav.part", unfinished / "b.wav.part")
    shutil.copy(unfinished / "a.journal", unfinished / "b.journal")  # it says that it is "a"
    store = FolderStore(str(unfinished), PartOptions(rotate_s=0.05))
    found = store.recover(resumable_since=LONG_AGO)
    assert [item.info.name for item in found.interrupted] == ["a"]
    assert [item.info.name for item in found.recovered] == ["b"]
    (interrupted,) = found.interrupted
    interrupted.writer.append([np.ones((1000, 1), "<i2")], SampleKind.RECEIVED)
    await interrupted.writer.finish(EndReason.CLOSED, START)
    store.close()
    names = {path.stem for path in unfinished.glob("*.wav")}
    assert names == {"a", "a_part002", "a_part003", "a_part004", "b"}


# -- contents --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", LEDGERS)
def test_no_ledger_keeps_the_next_file_from_being_verified(place: pathlib.Path, name: str) -> None:
    complete = place / "complete"
    LEDGERS[name](complete / "packets.json")
    files = [str(complete / name) for name in ("packets.opus", "wav.wav")]
    found = ran("verify", *files)
    assert found.code == 1
    assert found.lines[0] == f"{files[0]}: NOT SOUND"
    assert [line for line in found.lines if line.endswith(": sound")] == [f"{files[1]}: sound"]
    assert max(map(len, found.lines)) < 1000
    assert ran("verify", "--json", *files).code == 1


@pytest.mark.parametrize("name", LEDGERS)
def test_no_ledger_makes_render_write_elsewhere(place: pathlib.Path, name: str) -> None:
    complete, output = place / "complete", place / "output"
    LEDGERS[name](complete / "packets.json")
    found = ran("render", "--output", str(output), str(complete / "packets.opus"))
    assert found.code == 2
    assert len(found.lines) == 1 and found.lines[0].startswith("gapless: ")
    assert list(output.iterdir()) == []


@pytest.mark.parametrize("name", JOURNALS)
def test_no_journal_keeps_others_from_being_recovered(place: pathlib.Path, name: str) -> None:
    unfinished = place / "unfinished"
    for ending in ("wav.part", "journal"):
        shutil.copy(unfinished / f"a.{ending}", unfinished / f"b.{ending}")
    JOURNALS[name](unfinished / "b.journal")
    found = ran("recover", str(unfinished))
    assert f"recovered 00:00.0 in {unfinished / 'a.wav'}" in found.lines
    assert len(found.lines) == 2
    made = sorted(path.name for path in unfinished.iterdir())
    assert all(item.startswith(("a.", "b.")) for item in made)
    assert ran("verify", str(unfinished / "a.wav")).code == 0


def test_an_end_cannot_look_like_a_verdict(place: pathlib.Path) -> None:
    complete = place / "complete"
    changed("end_reason", to=CONTROLS)(complete / "wav.json")
    changed("name", to="other")(complete / "wav.json")
    found = ran("verify", str(complete / "wav.wav"))
    ended = [line for line in found.lines if "ended" in line]
    assert len(ended) == 1 and ended[0].startswith("  ended      \\x1b[2J")


def test_names_of_files_do_not_control_the_terminal(place: pathlib.Path) -> None:
    complete, unfinished = place / "complete", place / "unfinished"
    odd = "a\x1b[2J\u202e\nb"
    shutil.copy(complete / "wav.wav", complete / f"{odd}.wav")
    shutil.copy(unfinished / "a.wav.part", unfinished / f"{odd}.wav.part")
    assert ran("verify", str(complete / f"{odd}.wav")).code == 1
    assert ran("recover", str(unfinished)).code == 0
    assert ran("render", str(complete / f"{odd}.wav")).code == 2


# -- links -----------------------------------------------------------------------------------------


def test_a_link_that_is_named_is_followed_with_its_ledger(place: pathlib.Path) -> None:
    (place / "mine.wav").symlink_to(place / "complete" / "wav.wav")
    assert ran("verify", str(place / "mine.wav")).lines[0] == f"{place / 'mine.wav'}: sound"
    (place / "mine.opus").symlink_to(place / "complete" / "packets.opus")
    assert ran("render", "--output", str(place / "output"), str(place / "mine.opus")).code == 0


@pytest.mark.parametrize("target", ["packets.wav", "packets.json", "packets.wav.part"])
def test_render_follows_no_link_in_its_output(place: pathlib.Path, target: str) -> None:
    output = place / "output"
    output.mkdir()
    (output / target).symlink_to(place.parent / "outside" / "made")
    ran("render", "--output", str(output), str(place / "complete" / "packets.opus"))
    assert (output / target).is_symlink()


# -- spools ----------------------------------------------------------------------------------------

SPOOLS: dict[str, Plant] = {
    **KINDS,
    "nested lists": content(DEEP),
    "name with controls": changed("name", to=CONTROLS),
    "server with controls": changed("server", to=CONTROLS),
    "rate of 400 digits": changed("sample_rate_hz", to=f"raw:{DIGITS}"),
    "rate of zero": changed("sample_rate_hz", to=0),
    "many channels": changed("channels", to=10**9),
    "begun nowhere": changed("started_at", to="2026-01-01T00:00:00"),
    "version of 400 digits": changed("spool", to=f"raw:{DIGITS}"),
    "another version": changed("spool", to=2),
    "lines that say nothing": content(b"0\n" * 7_000_000),
}


@pytest.mark.parametrize("name", SPOOLS)
def test_no_spool_keeps_others_from_being_listed_and_exported(
    place: pathlib.Path, name: str
) -> None:
    spools = place / "spools"
    shutil.copytree(spools / "20260102-a", spools / "20260102-b")
    SPOOLS[name](spools / "20260102-b" / "journal")
    listed = ran("spool", "list", "--spool", str(spools))
    assert listed.code == 0
    assert sum(line.startswith("20260102-a") for line in listed.lines) == 1
    ran("spool", "list", "--spool", str(spools), "--json")
    exported = ran("spool", "export", "--spool", str(spools), "20260102-a", str(place / "a.wav"))
    assert exported.code == 0
    assert exported.lines[-1] == f"{place / 'a.wav'}: 00:00:01.0"


@pytest.mark.parametrize("kind", [*KINDS, "far away"])
@pytest.mark.parametrize("ending", ["pcm", "flac"])
def test_sound_of_a_spool_that_is_no_file_was_not_captured(
    place: pathlib.Path, kind: str, ending: str
) -> None:
    spool = place / "spools" / "20260102-a"
    position = "9" * 15 if kind == "far away" else f"{48_000:015}"
    path = spool / f"{position}.{ending}"
    if kind == "far away":
        shutil.copy(next(spool.glob(f"*.{ending}"), next(spool.glob("0*"))), path)
    else:
        KINDS[kind](path)
    assert ran("spool", "list", "--spool", str(place / "spools")).code == 0
    target = str(place / "a.wav")
    exported = ran("spool", "export", "--spool", str(place / "spools"), "20260102-a", target)
    assert exported.code == (1 if kind == "far away" and ending == "flac" else exported.code)
    assert len(exported.lines) == 1


def test_a_spool_that_is_a_link_is_left_alone(place: pathlib.Path) -> None:
    other = place.parent / "outside"
    spools = place / "spools"
    (spools / "20260102-z").symlink_to(other)
    listed = ran("spool", "list", "--spool", str(spools))
    assert not any(line.startswith("20260102-z") for line in listed.lines)
    exported = ran("spool", "export", "--spool", str(spools), "20260102-z", str(place / "z.wav"))
    assert exported.code == 1
