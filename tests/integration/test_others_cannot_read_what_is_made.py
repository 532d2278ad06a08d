"""Files and folders that Gapless makes belong to its user alone, in a whole life of a recording."""

from __future__ import annotations

import os
import pathlib
import stat
import struct
from collections.abc import Iterator

import numpy as np
import pytest
from click.testing import CliRunner

from adapters.opening import make_folder, mode_in
from adapters.storage.folder.part import PartOptions
from adapters.storage.restoring.pieces import FolderPieces
from domain.recording.effects import EndReason
from domain.recording.ledger import RestoreMode, SampleKind
from domain.recording.ranges import Range
from entrypoints.cli import main
from tests.contracts.test_a_recording_is_rewritten_whole import make
from tests.fakes.pieces import flac_of, random_sound, restore_key
from tests.rigs import hostile
from tests.rigs.recordings import SECOND, START, close, open_folder, ramp
from tests.rigs.spooling import FORMAT


@pytest.fixture(autouse=True)
def lax() -> Iterator[None]:
    """Let the process mask nothing: what is made has the mode that was asked for."""
    before = os.umask(0)
    yield
    os.umask(before)


def modes(folder: pathlib.Path) -> dict[str, int]:
    """Return the modes of everything in a folder, and of itself."""
    return {
        str(path.relative_to(folder)): stat.S_IMODE(path.lstat().st_mode)
        for path in (folder, *folder.rglob("*"))
    }


def assert_private(folder: pathlib.Path) -> None:
    found = modes(folder)
    assert len(found) > 1
    assert found == {name: 0o700 if (folder / name).is_dir() else 0o600 for name in found}


def run(*arguments: str) -> None:
    result = CliRunner().invoke(main, list(arguments))
    assert result.exit_code == 0, result.output


async def test_a_recording_is_private_from_its_first_file_to_its_last(
    tmp_path: pathlib.Path,
) -> None:
    folder = tmp_path / "new" / "recordings"
    rig = open_folder(folder, PartOptions(rotate_s=0.5))
    writer = rig.create(1)
    writer.append([ramp(30_000)], SampleKind.RECEIVED)
    await rig.until(lambda entry: len(entry.parts) == 2, 1)
    assert list(folder.glob("*.part")) and list(folder.glob("*.journal"))
    assert_private(tmp_path / "new")
    await writer.finish(EndReason.CLOSED, START + SECOND)
    assert rig.ids()
    assert_private(tmp_path / "new")
    close(rig)
    assert_private(tmp_path / "new")


def test_what_is_recovered_rendered_and_exported_is_private(tmp_path: pathlib.Path) -> None:
    for name in ("unfinished", "complete"):
        make_folder(tmp_path / name)
    hostile.with_unfinished(tmp_path / "unfinished")
    assert_private(tmp_path / "unfinished")
    run("recover", str(tmp_path / "unfinished"))
    assert_private(tmp_path / "unfinished")
    hostile.with_recordings(tmp_path / "complete")
    packets = str(tmp_path / "complete" / "packets.opus")
    run("render", packets)
    run("render", "--output", str(tmp_path / "rendered" / "here"), packets)
    assert_private(tmp_path / "complete")
    assert_private(tmp_path / "rendered")
    hostile.with_spools(tmp_path / "state" / "spool")
    assert_private(tmp_path / "state")
    make_folder(tmp_path / "exported")
    export = ("spool", "export", "--spool", str(tmp_path / "state" / "spool"), "20260102-a")
    run(*export, str(tmp_path / "exported" / "a.wav"))
    assert_private(tmp_path / "exported")
    assert_private(tmp_path / "state")


@pytest.mark.parametrize("mode", [RestoreMode.LOST, RestoreMode.ALL])
def test_what_is_restored_is_private(tmp_path: pathlib.Path, mode: RestoreMode) -> None:
    make_folder(tmp_path / "restored")
    folder, sound = make(tmp_path / "restored", mode)
    for path in (tmp_path / "restored").glob("*.restore"):
        path.chmod(0o600)  # the rig has made it
    folder.restore(sound)
    assert_private(tmp_path / "restored")
    folder.close()


async def test_pieces_of_a_spool_are_private(tmp_path: pathlib.Path) -> None:
    make_folder(tmp_path / "pieces")
    store = FolderPieces(str(tmp_path / "pieces"), lambda _: True, None)  # type: ignore[arg-type]
    pieces = await store.begin(restore_key("a0", FORMAT))
    await pieces.put(0, flac_of(random_sound(100, FORMAT), FORMAT), [Range(0, 100)])
    assert_private(tmp_path / "pieces")


async def test_a_folder_that_exists_keeps_its_mode(tmp_path: pathlib.Path) -> None:
    folder = tmp_path / "shared"
    folder.mkdir(mode=0o755)
    close(open_folder(folder))
    assert modes(folder)["."] == 0o755


def acl() -> bytes:
    """Return a default ACL that lets one more user read and write."""
    entries = [(0x01, 7, -1), (0x02, 7, 1234), (0x04, 5, -1), (0x10, 7, -1), (0x20, 0, -1)]
    return struct.pack("<I", 2) + b"".join(struct.pack("<HHi", *entry) for entry in entries)


@pytest.mark.parametrize("how", ["setgid", "acl"])
async def test_a_folder_that_is_shared_lets_its_group_read_recordings_and_ledgers(
    tmp_path: pathlib.Path, how: str
) -> None:
    folder = tmp_path / "shared"
    folder.mkdir(mode=0o750)
    if how == "setgid":
        folder.chmod(0o2750)
    else:
        try:
            os.setxattr(folder, "system.posix_acl_default", acl())
        except OSError:
            pytest.skip("the file system has no ACLs")
    assert mode_in(folder) == 0o640
    rig = open_folder(folder)
    writer = rig.create(1)
    writer.append([np.ones((100, 1), "<i2")], SampleKind.RECEIVED)
    await rig.until(lambda entry: entry.length == 100, 1)
    (journal,) = folder.glob("*.journal")
    assert stat.S_IMODE(journal.stat().st_mode) == 0o600
    await writer.finish(EndReason.CLOSED, START + SECOND)
    close(rig)
    found = modes(folder)
    assert {found[name] for name in found if name.endswith((".wav", ".json"))} == {0o640}
    assert found[".catalogue.sqlite3"] == 0o600
