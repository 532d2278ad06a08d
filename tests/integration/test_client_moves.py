"""Two hosts with their own addresses; the client's address changes during the stream."""

from __future__ import annotations

import pathlib

import pytest

from tests.rigs.hosts import missing
from tests.rigs.outages import moved

pytestmark = pytest.mark.skipif((why := missing()) is not None, reason=str(why))


def test_a_client_with_another_address_continues_the_same_recording(
    tmp_path: pathlib.Path,
) -> None:
    outcome = moved(tmp_path)
    assert outcome.recovery_s < 8
    assert outcome.length_error_ms <= 40
    # the client sends again what was lost meanwhile, as far as the server waits for it
    assert outcome.kinds in (
        ("received", "silence", "received"),
        *(("received",) * n for n in (1, 2)),
    )
