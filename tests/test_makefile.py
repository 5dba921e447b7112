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
