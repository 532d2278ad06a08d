"""For all tests."""

from __future__ import annotations

from hypothesis import settings

# a law holds or it does not; how long that takes to see is the machine's business
settings.register_profile("gapless", deadline=None)
settings.load_profile("gapless")
