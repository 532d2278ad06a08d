"""What `make` installs is known to the byte, listed, and looked up among known vulnerabilities."""

from __future__ import annotations

import importlib.util
import json
import os
import pathlib
import re
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[2]
LOCKS = sorted((ROOT / "requirements").glob("*.txt"))
AUDIT = ROOT / "requirements" / "audit.py"
ENTRY = re.compile(r"(?P<name>[a-z0-9._-]+)==(?P<version>\S+)((?: --hash=sha256:[0-9a-f]{64})+)")


def entries(lock: pathlib.Path) -> list[str]:
    return lock.read_text().replace("\\\n", "").splitlines()


def versions(lock: pathlib.Path) -> dict[str, str]:
    found = {}
    for line in entries(lock):
        if not line or line.startswith("#"):
            continue
        entry = ENTRY.fullmatch(re.sub(r" +", " ", line))
        assert entry is not None, line  # such as a URL, an index or a version without a hash
        found[entry["name"]] = entry["version"]
    return found


@pytest.mark.parametrize("lock", LOCKS, ids=lambda lock: lock.name)
def test_every_version_has_its_hashes_and_no_index_is_named(lock: pathlib.Path) -> None:
    assert versions(lock)


def test_all_locks_agree() -> None:
    assert len(LOCKS) == 6
    chosen: dict[str, str] = {}
    for lock in LOCKS:
        for name, version in versions(lock).items():
            assert chosen.setdefault(name, version) == version, f"{name} in {lock.name}"


def audit(folder: pathlib.Path, output: str) -> subprocess.CompletedProcess[str]:
    """Run an audit with a pip-audit that prints `output`, and a last line of errors."""
    script = f"import sys; print({output!r}); print('nobody answers', file=sys.stderr)"
    (folder / "pip_audit.py").write_text(script)
    return subprocess.run(
        [sys.executable, str(AUDIT), "a.txt"], capture_output=True, text=True,
        env=os.environ | {"PYTHONPATH": str(folder)},
    )  # fmt: skip


def result(**package: object) -> str:
    return json.dumps({"dependencies": [{"name": "one", "version": "1"} | package], "fixes": []})


@pytest.mark.parametrize(
    ("output", "code", "text"),
    [
        (result(vulns=[]), 0, "no vulnerability is known of 1 packages\n"),
        (
            result(vulns=[{"id": "CVE-1", "fix_versions": ["2"]}]),
            1,
            "one 1: CVE-1, fixed in 2\n",
        ),
        (
            result(vulns=[{"id": "CVE-1", "fix_versions": []}]),
            1,
            "one 1: CVE-1, fixed in no version\n",
        ),
        (result(skip_reason="not in the index"), 2, ""),
        ("", 2, ""),
        ("{}", 2, ""),
    ],
)
def test_an_audit_that_has_not_taken_place_is_not_a_good_one(
    tmp_path: pathlib.Path, output: str, code: int, text: str
) -> None:
    audited = audit(tmp_path, output)
    assert audited.returncode == code
    assert audited.stdout == text
    assert ("not audited: " in audited.stderr) is (code == 2)


@pytest.mark.skipif(
    importlib.util.find_spec("cyclonedx_py") is None, reason="`make sbom` installs what it needs"
)
@pytest.mark.timeout(180)
def test_the_bill_of_materials_is_valid_and_lists_what_is_locked(tmp_path: pathlib.Path) -> None:
    from cyclonedx.schema import SchemaVersion
    from cyclonedx.validation.json import JsonStrictValidator

    target = f"VENV={sys.prefix}"
    subprocess.run(["make", "--silent", "sbom", target], cwd=ROOT, check=True, timeout=170)
    text = (ROOT / "gapless.cdx.json").read_text()
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text) is None
    listed = {item["name"]: item["version"] for item in json.loads(text)["components"]}
    assert listed == versions(ROOT / "requirements" / "run.txt")
