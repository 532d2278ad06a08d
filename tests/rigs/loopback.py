"""Makes stock aiortc use loopback, which aioice leaves out of its candidates."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from unittest import mock

import aioice


@contextlib.contextmanager
def loopback_for_aiortc() -> Iterator[None]:
    with mock.patch.object(aioice.ice, "get_host_addresses", return_value=["127.0.0.1"]):
        yield
