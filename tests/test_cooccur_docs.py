"""The commands of docs/cooccurrence_exchange.md, as they stand there, one after the other."""

import re
import shlex
import subprocess
from pathlib import Path

import pytest
from typed import typed

from medmcl.cooccurrence.exchange.folder import load_counts, read_manifest

PAGE = Path(__file__).resolve().parents[1] / "docs" / "cooccurrence_exchange.md"
HEADING = "## All of it with three simulated sites"
SUBJECTS = "--subjects 2000"


def command(line):
    """Run a line: medmcl in this process, which has imported it, all else in a shell."""
    words = shlex.split(line)
    if words[0] != "medmcl":
        subprocess.run(line, shell=True, check=True, timeout=60)
        return
    assert not typed(*words[1:]), line


def test_three_simulated_sites_go_every_way(tmp_path, monkeypatch):
    """At fewer subjects than the page has, and without the scoring, for time."""
    pytest.importorskip("opendp", reason="the extra [dp] is not installed")
    monkeypatch.chdir(tmp_path)
    section = PAGE.read_text(encoding="utf-8").split(HEADING)[1]
    blocks = re.findall(r"^```(\w*)\n(.*?)^```$", section, re.MULTILINE | re.DOTALL)
    (spec,) = (text for language, text in blocks if language == "yaml")
    (tmp_path / "site.yaml").write_text(spec, encoding="utf-8")
    lines = [line for language, text in blocks if not language for line in text.splitlines()]
    assert len(lines) > 30
    assert SUBJECTS in lines[0]
    for line in (lines[0].replace(SUBJECTS, "--subjects 300"), *lines[1:]):
        if "cooccur evaluate" not in line:  # a second that other tests spend
            command(line)
    whole, secure = load_counts("all"), load_counts("secure-all")
    assert (whole.D != secure.D).nnz == 0
    assert whole.totals == secure.totals
    assert whole.patients == 300
    for name in ("all", "secure-all", "private-all", "release"):
        assert read_manifest(name).sites == 3
    assert len(whole.provenance.merged_from) == 3
    assert not secure.provenance.merged_from
