"""Evaluation says how long it took and still takes: within one task, over tasks, in folds."""

import itertools
import logging
import re
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from changed_files import rewrite
from small_omics import write_omics, write_recipe

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
def ticking(monkeypatch):
    """A line at every move, and a second at each look at the clock."""
    ticks = itertools.count()
    monkeypatch.setattr(progress, "EVERY", 0.0)
    clock = SimpleNamespace(monotonic=lambda: float(next(ticks)))  # theirs alone, not everybody's
    monkeypatch.setattr(progress, "time", clock)


@pytest.fixture
def lines(tmp_path, ticking, caplog):
    """Give what evaluates one set of vectors: tasks to the lines that were logged."""
    cohort = write_told(tmp_path / "cohort", 0)
    people = pd.read_csv(cohort / "people.csv")
    people["ward"] = people["ill"] ^ (np.arange(len(people)) % 3 == 0)
    people["site"] = np.where(np.arange(len(people)) % 2, "east", "west")
    people.to_csv(cohort / "people.csv", index=False)

    def warded(tree):
        tree["tasks"]["ward"] = {"kind": "binary", "column": "ward"}
        tree["subjects"]["group"] = "site"

    rewrite(cohort / "cohort.yaml", warded)
    vectors = pd.DataFrame(np.random.default_rng(0).normal(size=(len(people), 4)))
    vectors = vectors.set_axis([f"v{k}" for k in range(4)], axis=1).assign(pid=people["pid"])
    vectors.to_csv(tmp_path / "v.csv", index=False)

    def run(*tasks, **more):
        with caplog.at_level(logging.INFO, logger="medmcl"):
            medmcl.evaluate(
                embeddings=tmp_path / "v.csv", cohort=cohort, out=tmp_path / "out", device="cpu",
                tasks=tasks, overrides={**FEW, **more},
            )  # fmt: skip
        return [record.message for record in caplog.records]

    return run


def test_one_task_is_told_with_its_fits_and_its_metrics(lines):
    said = lines("ill")
    told = [re.search(r": tasks: (\d+)%, ill, (\d+) (?:s|min) gone, about \d+", x) for x in said]
    shares = [int(one[1]) for one in told if one]
    # of vectors 3 fits with half the labels and one with all, of the prevalence one; the metrics of
    # these 3; figures of both, each as five of these; differences
    fits, scored, drawn = range(1, 6), 8, (13, 18)
    assert shares[:5] == [round(100 * k / 19) for k in fits]
    assert {round(100 * k / 19) for k in (scored, *drawn)} < {*shares}
    assert shares == sorted(shares)  # of metrics each is told
    assert len(shares) > 20
    seconds = [int(one[2]) for one in told if one and "s gone" in one[0]]
    assert seconds == sorted(seconds)


def test_tasks_are_told_as_one_and_confounders_one_after_the_other(lines):
    said = "\n".join(lines("ill", "ward"))
    shares = [int(x) for x in re.findall(r"tasks: (\d+)%, (?:ill|ward), .* gone, about", said)]
    assert shares == sorted(shares)
    assert min(shares) < 10 < 50 < max(shares) < 100
    assert re.search(r"ill \(task 1 of 2\)", said)
    assert re.search(r"ward \(task 2 of 2, .* gone, about .* left\)", said)
    assert re.search(r"confounder site \(2 of 2, .* gone, about .* left\)", said)


def test_every_fold_of_a_probe_is_told(lines):
    said = lines("ill", **{"evaluate.folds": "4 x 2", "evaluate.label_fractions": [1.0]})
    told = [re.search(r": tasks: (\d+)%, ill, (\d+) (?:s|min) gone, about \d+", x) for x in said]
    shares = [int(one[1]) for one in told if one]
    # of vectors and of the prevalence 8 folds each, as one fit; then as above
    units = 2 + 2 + 2 * 5 + 1
    folds = [round(100 * k / 8 / units) for k in range(1, 17)]
    assert shares[:16] == folds


def test_embedding_and_folds_that_train_say_how_far_they_are(tmp_path, ticking, caplog):
    folder = write_omics(tmp_path / "omics", 60)
    recipe = write_recipe(tmp_path / "recipe.yaml", tasks=["case"], baselines=["majority"])
    few = {"stages.align.steps": 3, "stages.results.bootstrap_draws": 100}
    run = medmcl.pretrain(folder, recipe=recipe, out=tmp_path / "run", overrides=few, device="cpu")
    caplog.clear()
    more = {"evaluate.folds": "2 x 1", "evaluate.refit": "all", "evaluate.bootstrap_draws": 100}
    with caplog.at_level(logging.INFO, logger="medmcl"):
        medmcl.evaluate(
            run.path, folder, out=tmp_path / "out", device="cpu", tasks=["case"], overrides=more
        )
    said = [record.message for record in caplog.records]
    left = r"\d+ (?:s|min) gone, about \d+ (?:s|min) left"
    far = [re.fullmatch(rf"embedding (\w+): (\d+) of (\d+), {left}", one) for one in said]
    cohort = medmcl.open_cohort(folder)
    have = {name: len(cohort.records[name]) for name in ("rna", "proteins")}
    for name, count in have.items():  # held-out people, who come alone, are counted with the others
        of = [(int(one[2]), int(one[3])) for one in far if one and one[1] == name]
        assert {total for _, total in of} == {count}
        assert count - 1 in [done for done, _ in of]
    assert any(re.search(r"results: fold 1 of 2$", one) for one in said)
    assert any(re.search(rf"results: fold 2 of 2, {left}", one) for one in said)
