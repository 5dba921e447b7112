"""What may be taken of memory."""

import pytest

from medmcl.core import limits
from medmcl.core.errors import RecordError


def test_free_memory_is_that_of_the_group_that_slurm_or_a_container_bounds(tmp_path, monkeypatch):
    job = tmp_path / "slurm" / "job_7"
    (job / "step_0").mkdir(parents=True)
    (tmp_path / "own").write_text("0::/slurm/job_7/step_0\n")
    monkeypatch.setattr(limits, "CGROUPS", tmp_path)
    monkeypatch.setattr(limits, "OWN_CGROUP", tmp_path / "own")
    plain = limits.free_memory()
    for folder, most in ((job / "step_0", "max"), (job, "1000000")):
        (folder / "memory.max").write_text(most)
        (folder / "memory.current").write_text("700000")
        (folder / "memory.stat").write_text("anon 400000\ninactive_file 200000\n")
    assert limits.free_memory() == 500_000
    (job / "memory.max").write_text("max")
    assert limits.free_memory() == pytest.approx(plain, rel=0.5)


def test_what_is_not_free_is_refused_unless_a_bound_is_set(monkeypatch):
    monkeypatch.delenv("MEDMCL_TABLE_MB", raising=False)
    monkeypatch.setattr(limits, "free_memory", lambda: 3 * 2**30)
    limits.refuse_large(2 * 2**30, "t.parquet", kind="table")
    with pytest.raises(RecordError, match=r"at most 3\.\d* GB[\s\S]*MEDMCL_TABLE_MB=4097"):
        limits.refuse_large(4 * 2**30, "t.parquet", kind="table")
    monkeypatch.setenv("MEDMCL_TABLE_MB", "8000")
    limits.refuse_large(4 * 2**30, "t.parquet", kind="table")
