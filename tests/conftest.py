"""Settings for all tests."""

from __future__ import annotations

from hypothesis import settings

# no deadline: how long an example takes depends on the machine
settings.register_profile("gapless", deadline=None)
settings.load_profile("gapless")
