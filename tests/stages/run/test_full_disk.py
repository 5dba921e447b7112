"""A run whose disk fills up keeps what was saved, says so in one message, and is gone on with."""

import errno
import sys
import warnings

import pytest
import torch
from killed import forked

import medmcl
from benchmarks.evaluation.memorised_pairs import (
    QUICK_RESULTS,
    memorising,
    write_recipe,
    write_told,
)

WRITES = {"metrics.jsonl": errno.ENOSPC, "results.csv": errno.EDQUOT}


@pytest.fixture(scope="module")
def short(tmp_path_factory):
    home = tmp_path_factory.mktemp("short")
    tree = memorising(2, QUICK_RESULTS, binds=False)
    return write_told(home / "cohort", 0), write_recipe(home / "recipe.yaml", tree)


@pytest.mark.parametrize("write", WRITES)
def test_a_full_disk_is_one_message_and_the_run_goes_on(write, short, tmp_path):
    cohort, recipe = short
    out, said = tmp_path / "run", tmp_path.with_suffix(".said")
    words = ["pretrain", "--cohort", cohort, "--recipe", recipe, "--out", out, "--device", "cpu"]

    def typed():
        warnings.simplefilter("ignore")  # of libraries that the command line imports
        from medmcl.cli.main import main

        torch.set_num_threads(1)
        sys.argv = ["medmcl", "--quiet", *map(str, words), "--workers", "0"]
        with said.open("w", buffering=1) as sys.stderr:
            try:
                main()
            except SystemExit as ended:
                return ended.code
        return 0

    assert forked(typed, tmp_path, at=write, fault=WRITES[write])[0] == 2
    message = said.read_text()
    assert message.startswith("error: ")
    assert "Traceback" not in message
    assert "free" in message
    assert {errno.EDQUOT: "quota", errno.ENOSPC: "is full"}[WRITES[write]] in message
    if (out / "config.yaml").exists():
        words.append("--resume")
    assert forked(typed, tmp_path)[0] == 0
    assert (out / "results.csv").exists()
    assert not [one for one in tmp_path.rglob(".*") if one.suffix == ".part"]
    assert medmcl.load(out).config["seed"] == 0
