"""The first `make` says what it does before pip is silent for minutes."""

import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")
def test_make_says_that_it_installs_before_it_does(tmp_path):
    asked = ["make", "--dry-run", "--no-print-directory", f"VENV={tmp_path}/venv", "demo"]
    done = subprocess.run(asked, cwd=ROOT, capture_output=True, text=True, check=True)
    first, second = done.stdout.splitlines()[:2]
    assert first.startswith('echo "installing medmcl and what it needs into ')
    assert "1 to 3 minutes the first time" in first
    assert "-m venv" in second


AUDITS = {
    "absent": (None, 0, "not checked, pip-audit is not installed"),
    "no network": ("exit 1", 0, "not checked, pip-audit had no answer"),
    "clean": ("echo '[{\"vulns\": []}, {\"vulns\": []}, {\"skip_reason\": \"\"}]' > $9; exit 0", 0,
              "no known vulnerability in 2 of"),
    "index knows none": ("echo '[{\"skip_reason\": \"\"}]' > $9; exit 0", 0,
                         "not checked, the index that pip-audit asked knows none"),
    "found": ("echo found-one > $9; exit 1", 2, "found-one"),
}  # fmt: skip


@pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")
@pytest.mark.parametrize("name", AUDITS)
def test_the_audit_says_what_was_found_or_that_nothing_was_checked(name, tmp_path):
    script, code, told = AUDITS[name]
    tool = tmp_path / "pip-audit"
    if script is not None:
        last = 'for last; do :; done; set -- a b c d e f g h "$last"'
        tool.write_text(f"#!/bin/sh\n{last}\n{script}\n")
        tool.chmod(0o755)
    asked = ["make", "--no-print-directory", "audit", f"AUDIT={tool}", f"TMPDIR={tmp_path}"]
    done = subprocess.run(asked, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == code, done.stderr
    assert told in done.stdout


def test_the_pinned_set_pins_all_but_the_builds_of_a_machine():
    lines = [one for one in (ROOT / "constraints.txt").read_text().splitlines() if one[:1] != "#"]
    assert len(lines) > 100
    assert all("==" in one for one in lines)
    assert "torch" not in {one.partition("==")[0] for one in lines}
