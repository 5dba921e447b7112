"""Evaluation says how long it took and still takes: within one task, over tasks, in folds."""

import itertools
import logging
import re
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import yaml

import medmcl
from benchmarks.evaluation.memorised_pairs import write_told
from medmcl.core import progress

FEW = {
    "evaluate.label_fractions": [0.5, 1.0],
    "evaluate.draws": 3,
    "evaluate.bootstrap_draws": 100,
    "evaluate.confounders": ["sex", "site"],
}


@pytest.fixture
def lines(tmp_path, monkeypatch, caplog):
    """Evaluate one set of vectors, a line at every move; a second passes at each look at the clock.

    Returns: tasks to the lines that were logged.
    """
    cohort = write_told(tmp_path / "cohort", 0)
    people = pd.read_csv(cohort / "people.csv")
    people["ward"] = people["ill"] ^ (np.arange(len(people)) % 3 == 0)
    people["site"] = np.where(np.arange(len(people)) % 2, "east", "west")
    people.to_csv(cohort / "people.csv", index=False)
    tree = yaml.safe_load((cohort / "cohort.yaml").read_text())
    tree["tasks"]["ward"] = {"kind": "binary", "column": "ward"}
    tree["subjects"]["group"] = "site"
    (cohort / "cohort.yaml").write_text(yaml.safe_dump(tree))
    vectors = pd.DataFrame(np.random.default_rng(0).normal(size=(len(people), 4)))
    vectors = vectors.set_axis([f"v{k}" for k in range(4)], axis=1).assign(pid=people["pid"])
    vectors.to_csv(tmp_path / "v.csv", index=False)
    ticks = itertools.count()
    monkeypatch.setattr(progress, "EVERY", 0.0)
    clock = SimpleNamespace(monotonic=lambda: float(next(ticks)))  # theirs alone, not everybody's
    monkeypatch.setattr(progress, "time", clock)

    def run(*tasks):
        with caplog.at_level(logging.INFO, logger="medmcl"):
            medmcl.evaluate(
                embeddings=tmp_path / "v.csv", cohort=cohort, out=tmp_path / "out", device="cpu",
                tasks=tasks, overrides=FEW,
            )  # fmt: skip
        return [record.message for record in caplog.records]

    return run


def test_one_task_is_told_with_its_fits_and_its_metrics(lines):
    said = lines("ill")
    told = [re.search(r": tasks: (\d+)%, ill, (\d+) (?:s|min) gone, about \d+", x) for x in said]
    shares = [int(one[1]) for one in told if one]
    # of vectors 3 fits with half the labels and one with all, of the prevalence one; the metrics of
    # these 3; figures of both, each as five of these; differences
    assert shares == [round(100 * k / 19) for k in (*range(1, 9), 13, 18)]
    assert [int(one[2]) for one in told if one] == sorted(int(one[2]) for one in told if one)


def test_tasks_are_told_as_one_and_confounders_one_after_the_other(lines):
    said = "\n".join(lines("ill", "ward"))
    shares = [int(x) for x in re.findall(r"tasks: (\d+)%, (?:ill|ward), .* gone, about", said)]
    assert shares == sorted(shares)
    assert min(shares) < 10 < 50 < max(shares) < 100
    assert re.search(r"ill \(task 1 of 2\)", said)
    assert re.search(r"ward \(task 2 of 2, .* gone, about .* left\)", said)
    assert re.search(r"confounder site \(2 of 2, .* gone, about .* left\)", said)
