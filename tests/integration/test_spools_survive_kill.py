"""A client is killed while it captures: all that it has spooled is there, once."""

from __future__ import annotations

import hashlib
import os
import pathlib
import random
import subprocess
import sys

import pytest
import soundfile

from domain.ports.spool import MAX_PIECE_SAMPLES
from tests.rigs.processes import environment
from tests.rigs.spooling import FORMAT, SESSION, captured_until, description, owed, pcm_of, sound_at

KILLS = int(os.environ.get("KILLS", "4"))


@pytest.mark.parametrize("seed", range(KILLS))
async def test_a_killed_client_loses_nothing_that_was_spooled(
    tmp_path: pathlib.Path, seed: int
) -> None:
    lines = random.Random(seed).randrange(2, 60)
    command = [sys.executable, "-m", "tests.rigs.spooling", str(tmp_path)]
    told = 0
    with subprocess.Popen(command, env=environment(), stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for number, line in enumerate(process.stdout):
            told = int(line)
            if number == 1:
                assert await owed(tmp_path) == []  # it is in use
            if number >= lines:
                process.kill()
        assert process.wait() == -9
    (spool,) = await owed(tmp_path)
    assert (spool.description, spool.session) == (description(), SESSION)
    assert await owed(tmp_path) == []  # this process uses it now
    assert spool.length >= told
    assert spool.captured == captured_until(spool.length, FORMAT)
    for item in spool.captured:
        for start in range(item.start, item.end, MAX_PIECE_SAMPLES):
            length = min(MAX_PIECE_SAMPLES, item.end - start)
            (tmp_path / "piece.flac").write_bytes(await spool.flac(start, length))
            samples, _ = soundfile.read(tmp_path / "piece.flac", dtype="int32")
            assert (samples >> 8 == sound_at(start, length, FORMAT)).all()
    pcm = pcm_of(spool.captured, spool.length, FORMAT)
    assert await spool.sha256() == hashlib.sha256(pcm).hexdigest()
    await spool.remove()
    assert not [path for path in tmp_path.iterdir() if path.is_dir()]
    assert await owed(tmp_path) == []
