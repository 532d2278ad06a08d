"""The attacker: a process that plays its attacks at random until it is ended.

Writes a line of JSON for each attack that is over.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import random
import resource
import sys
import time

from tests.soak import connections, others, sessions
from tests.soak.target import Attack, Target

ATTACKS: dict[str, Attack] = {
    "idle TCP connections": connections.idle_tcp_connections,
    "idle TLS connections": connections.idle_tls_connections,
    "half a TLS handshake": connections.half_a_tls_handshake,
    "slow headers": connections.slow_headers,
    "slow bodies": connections.slow_bodies,
    "malformed HTTP": connections.malformed_http,
    "hostile bodies": connections.hostile_bodies,
    "token guesses": connections.token_guesses,
    "foreign ids": connections.foreign_ids,
    "many health checks": connections.many_health_checks,
    "offers that never connect": sessions.offers_that_never_connect,
    "replayed offers": sessions.replayed_offers,
    "hostile descriptions": sessions.hostile_descriptions,
    "hostile candidates": sessions.hostile_candidates,
    "wrong DTLS": sessions.wrong_dtls,
    "packets that claim 120 ms": sessions.packets_that_claim_120_ms,
    "garbage under valid SRTP": sessions.garbage_under_valid_srtp,
    "timestamps that jump": sessions.timestamps_that_jump,
    "wrong pieces": sessions.wrong_pieces,
    "junk datagrams": others.junk_datagrams,
    "datagrams of 12 bytes": others.datagrams_of_12_bytes,
    "forged checks": others.forged_checks,
    "hostile files": others.hostile_files,
}
"""By the names that docs/security.md has for them."""
GIVE_UP_S = 20.0
"""How much longer than it should an attack may take: a server may hold it up, too."""


async def play(target: Target, names: list[str]) -> None:
    """Play each attack once, in another order each time, again and again."""
    while True:
        target.chance.shuffle(names)
        for name in names:
            began = time.monotonic()
            try:
                async with asyncio.timeout(target.lasts_s + GIVE_UP_S):
                    outcome = dict(await ATTACKS[name](target))
            except TimeoutError:
                outcome = {"held up": 1}
            except (AttributeError, NameError, TypeError):  # the attack itself is wrong
                raise
            except Exception as error:  # the server ends while it is attacked
                outcome = {repr(error): 1}
            line = {"attack": name, "began": began, "took": time.monotonic() - began}
            print(json.dumps(line | {"outcome": outcome}), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("url")
    parser.add_argument("--token", required=True)
    parser.add_argument("--folder", required=True)
    parser.add_argument("--udp-port", type=int, required=True)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--lasts", type=float, default=5.0)
    parser.add_argument("--only", default="", help="names of attacks, separated by commas")
    given = parser.parse_args()
    names = given.only.split(",") if given.only else list(ATTACKS)
    if unknown := set(names) - ATTACKS.keys():
        sys.exit(f"no such attack: {', '.join(sorted(unknown))}")
    logging.disable(logging.CRITICAL)
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    target = Target(
        given.url, given.token, given.folder, given.udp_port, random.Random(given.seed),
        lasts_s=given.lasts,
    )  # fmt: skip
    asyncio.run(play(target, names))


if __name__ == "__main__":
    main()
