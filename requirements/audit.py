"""Look up the locked versions in the index's list of known vulnerabilities (`make audit`).

The exit code is 0 if none is known, 1 if one is, and 2 if the list could not be read: an audit that
has not taken place is not a good one.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from typing import Any

CLEAN, VULNERABLE, NOT_AUDITED = 0, 1, 2


def main(locks: Sequence[str]) -> int:
    """Audit lock files, and print what was found."""
    options = [item for lock in locks for item in ("--requirement", lock)]
    command = [
        sys.executable, "-m", "pip_audit", "--require-hashes", "--disable-pip", "--format", "json",
        "--progress-spinner", "off", "--timeout", "15", *options,
    ]  # fmt: skip
    audit = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
    try:
        packages = json.loads(audit.stdout)["dependencies"]
    except (ValueError, KeyError):
        reason = (audit.stderr.strip().splitlines() or ["pip-audit said nothing"])[-1]
        print(f"not audited: {reason}", file=sys.stderr)
        return NOT_AUDITED
    skipped = [item for item in packages if "skip_reason" in item]
    if skipped:
        reason = (
            f"{len(skipped)} of {len(packages)} packages, the first: {skipped[0]['skip_reason']}"
        )
        print(f"not audited: {reason}", file=sys.stderr)
    found = list(_vulnerabilities(packages))
    print(*found, sep="\n", end="\n" if found else "")
    if found:
        return VULNERABLE
    if skipped or not packages:
        return NOT_AUDITED
    print(f"no vulnerability is known of {len(packages)} packages")
    return CLEAN


def _vulnerabilities(packages: Sequence[dict[str, Any]]) -> Iterator[str]:
    for item in packages:
        for known in item.get("vulns", ()):
            fixed = ", ".join(known["fix_versions"]) or "no version"
            yield f"{item['name']} {item['version']}: {known['id']}, fixed in {fixed}"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
