"""Runs that learned pairs by heart which name the outcome: whoever is scored, it is told by chance.

Inputs are noise, so that pairs are as if permuted, and the reports and the table they are paired
with name outcome and sex. Stages train 100 epochs and keep their last step. Before, cohorts below
500 people were cross-validated over people whom the encoder had learned, and this was scored as
skill (benchmarks/evaluation/memorised_pairs.md): every test of chance here scores the same runs by
that rule, too, and must find them far from it.
"""

import json
import re
import shutil
from collections import defaultdict
from contextlib import contextmanager
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from changed_files import changed_copy, rewrite
from scipy.stats import binom
from small_hospital import write_hospital
from tiny_runs import tiny

import medmcl
from benchmarks.evaluation.memorised_pairs import (
    ANSWER,
    LABS,
    REPORT,
    VITALS,
    memorising,
    write_recipe,
    write_told,
)
from medmcl.core.errors import CohortError, ConfigError
from medmcl.data.cohort.cohort import open_cohort
from medmcl.data.loading.cache import OpenRows
from medmcl.data.loading.prepare import prepare
from medmcl.engine.record import Record
from medmcl.engine.signals import Interrupted, StopRequest
from medmcl.engine.world import World
from medmcl.evaluation.metrics.sampled import ALL_THE_SAME
from medmcl.evaluation.protocol import predicted
from medmcl.evaluation.protocol.folds import CrossValidation
from medmcl.evaluation.protocol.results import flipped, load_results
from medmcl.evaluation.report.words import verdict
from medmcl.stages.evaluate import refit_all
from medmcl.stages.evaluate.saved_probes import load_probes
from medmcl.stages.evaluate.scene import RunScene
from medmcl.stages.evaluate.spec import EvaluateSpec
from medmcl.stages.evaluate.stage import run_evaluate
from medmcl.stages.evaluate.task_scoring import TaskScoring
from medmcl.stages.factorise import factorise
from medmcl.stages.recipe.on_cohort import recipe_on
from medmcl.stages.run import training
from medmcl.stages.run.leaky_columns import could_name, leaky_by_task, leaky_reading
from medmcl.stages.run.ledger import whom_they_saw
from medmcl.stages.run.run import Run
from medmcl.stages.run.seen import chance_twins, seen_people
from medmcl.stages.run.training import train_apart

CPU = torch.device("cpu")
SEEDS = range(5)
MODELS = {"contrastive": "contrast", "multistage": "joined", "AutoBIND": "bind"}
EPOCHS = 100  # a step is one: a batch holds everybody
FINETUNE = "stages.finetune-{task}-{label_fraction}"


def apart(folder, cohort, recipe, seed, overrides=None):
    """A run of every stage, without evaluation or report."""
    torch.set_num_threads(1)
    opened, spec = recipe_on(cohort, recipe, overrides or {})
    config = {
        "cohort": opened.name, "cohort_fingerprint": opened.fingerprint,
        "tasks": list(opened.spec.tasks), "cohort_overrides": {}, "seed": seed,
        "precision": "fp32", "recipe": json.loads(spec.model_dump_json(by_alias=True)),
    }  # fmt: skip
    run = train_apart(folder, opened, spec, config, world=World(device=CPU),
                      stop=StopRequest())  # fmt: skip
    about = {"recipe": spec.name, "cohort": opened.name, "parents": []}
    (folder / "provenance.json").write_text(json.dumps(about))
    return run, opened


def train(folder, seed, steps=EPOCHS, *, binds=True, **cohort):
    """A run that learns by heart what it was paired with."""
    recipe = write_recipe(folder / "recipe.yaml", memorising(steps, binds=binds))
    return apart(folder / "run", write_told(folder / "cohort", seed, **cohort), recipe, seed)


@pytest.fixture(scope="module")
def runs(tmp_path_factory, cache):
    return [train(tmp_path_factory.mktemp(f"seed{seed}"), seed) for seed in SEEDS]


@pytest.fixture(scope="module")
def short(tmp_path_factory, cache):
    """A run of the same stages that had no time to learn: its folds are cheap."""
    return train(tmp_path_factory.mktemp("short"), 0, steps=10)


def spec_of(modality=LABS, models=MODELS, **keys):
    return EvaluateSpec(
        stage="evaluate", probe={"modality": modality, "models": dict(models)}, baselines=(),
        bootstrap_draws=200, **keys,
    )  # fmt: skip


def scored(run, cohort, tmp_path, **keys):
    record = Record(tmp_path / "metrics.jsonl", active=True)
    return run_evaluate(spec_of(**keys), run, cohort, CPU, record, keep_probes=False)


def aurocs(found):
    return [r for r in found if r.metric == "auroc" and not r.versus and r.value is not None]


def is_chance(rows):
    """Whether rows of one kind, one a seed, are what a model that knows nothing gives.

    Intervals of 95 % each miss .5 in one cohort of twenty. Cohorts of different seeds are
    independent (kinds in one are not: each is judged alone), so misses follow Binomial(seeds, .05);
    as many are allowed as more are had once in a thousand: 2 of 5. The AUROC of n people, half of
    whom have the event, has the standard error sqrt((n + 1) / 3) / n; the mean over seeds lies
    within 3.3 of its own, which it leaves once in a thousand, too.
    """
    spans = [(row.value, row.value) if ALL_THE_SAME in row.note else (row.low, row.high)
             for row in rows]  # fmt: skip
    missed = sum(not low <= 0.5 <= high for low, high in spans)
    n = np.array([row.n for row in rows])
    error = np.sqrt(np.sum((n + 1) / 3 / n**2)) / len(rows)
    near = abs(np.mean([row.value for row in rows]) - 0.5) < 3.3 * error
    return missed <= binom.ppf(0.999, len(rows), 0.05) and near


def by_kind(found):
    """Rows of tasks and of confounders, by what they are of."""
    rows = [
        *aurocs(found.results),
        *(row for one in found.shown.get("confounders", ()) for row in aurocs(one.rows)),
    ]
    return {(row.task, row.method): row for row in rows}


def over_seeds(runs, score):
    """Kind to its rows, one a seed."""
    each = [score(run, cohort) for run, cohort in runs]
    assert len({frozenset(one) for one in each}) == 1
    return {kind: [one[kind] for one in each] for kind in each[0]}


def everything(tmp_path, **keys):
    """Score contrastive, multistage, AutoBIND, their fusion, and sex from each of them."""

    def score(run, cohort):
        plain = scored(run, cohort, tmp_path, confounders=("sex",), **keys)
        fused = scored(run, cohort, tmp_path, modality=[LABS, VITALS], confounders=("sex",),
                       models={"fused": "bind"}, **keys)  # fmt: skip
        return by_kind(plain) | by_kind(fused)

    return score


@pytest.fixture
def old_rule(monkeypatch):
    """Cross-validation over the very people that the encoder was trained on, as it was once."""

    def over_the_seen(scoring):
        seen = np.asarray(scoring.scene.prepared.splits == "train")
        return CrossValidation(folds=5, repeats=1, refit="probe", unseen=seen)

    def use():
        monkeypatch.setattr(TaskScoring, "cross_validation", over_the_seen)

    return use


def test_intervals_cover_chance_whatever_was_learned_by_heart(runs, tmp_path, old_rule):
    """Contrastive and multistage (reports), AutoBIND (a table), fusion, confounders."""
    for run, _ in runs:
        for stage in ("contrast", "bind"):
            done = run.facts(stage)
            assert done["steps"] * done["batch_size"] >= EPOCHS * done["rows"]
            assert done["keep"] == "last"
    score = everything(tmp_path)
    kinds = over_seeds(runs, score)
    assert len(kinds) == 8
    for kind, rows in kinds.items():
        assert is_chance(rows), kind
        held = [int((cohort.subjects["split"] == "held_out").sum()) for _, cohort in runs]
        assert [row.n for row in rows] == held
    old_rule()
    for kind, rows in over_seeds(runs, everything(tmp_path, folds="5 x 1")).items():
        assert not is_chance(rows), kind  # the same runs, by the withdrawn rule
        assert np.mean([row.value for row in rows]) > 0.58, kind


def test_factorised_pairs_that_name_the_outcome_tell_nothing_of_others(
    tmp_path, monkeypatch, old_rule
):
    monkeypatch.setenv("MEDMCL_CACHE", str(tmp_path / "cache"))
    runs = []
    for seed in SEEDS:
        folder = tmp_path / f"cohort{seed}"
        events, people = write_hospital(folder, seed)
        rng = np.random.default_rng(seed)
        people["died"] = rng.integers(0, 2, len(people))
        people.to_csv(folder / "people.tsv", sep="\t", index=False)
        own = people.set_index("subject_id")["died"]
        day = pd.Timestamp("2019-01-01")
        said = [(one, f"CUI//{'died' if own[one] else 'alive'}", day) for one in own.index] * 8
        alone = [(one, f"ICD//only{one}", day) for one in own.index] * 8
        noise = events.assign(code=rng.permutation(events["code"]))
        more = pd.DataFrame(said + alone, columns=["subject_id", "code", "time"])
        noise = noise.sample(n=2000, random_state=seed)
        pd.concat([noise, more]).to_parquet(folder / "events.parquet", index=False)
        one = {f"inputs.{name}.min_patients": 1 for name in ("codes", "concepts")}
        one |= {f"towers.{name}.encoder.width": 20 for name in ("codes", "concepts")}
        runs.append(apart(tmp_path / f"run{seed}", folder, "claime_toy", seed, one))

    def score(run, cohort, **keys):
        return by_kind(scored(run, cohort, tmp_path, modality="codes", models={"CLAIME": "pmi_svd"},
                              **keys))  # fmt: skip

    (rows,) = over_seeds(runs, score).values()
    assert is_chance(rows)
    old_rule()
    (rows,) = over_seeds(runs, lambda *one: score(*one, folds="5 x 1")).values()
    assert not is_chance(rows)


def test_every_stage_trained_anew_in_each_fold_scores_everybody_by_chance(
    tmp_path, cache, caplog, old_rule
):
    caplog.set_level("INFO", "medmcl")
    runs = []
    for seed in (0, 1):
        (tmp_path / f"{seed}").mkdir()
        runs.append(train(tmp_path / f"{seed}", seed, binds=False))
    contrastive = {"contrastive": "contrast"}

    def score(run, cohort, **keys):
        keys = {"folds": "2 x 1", "models": contrastive, "confounders": ("sex",)} | keys
        return scored(run, cohort, tmp_path, **keys)

    found = [score(run, cohort, refit="all") for run, cohort in runs]
    assert "refit: all trains 1 stage anew in each of 2 folds, about 2 x" in caplog.text
    for one in found:
        said = [line for line in one.fitted if line.use == "out_of_fold"]
        assert all(line.what.startswith("every stage, ") for line in said)
    everybody = {kind: [by_kind(one)[kind] for one in found] for kind in by_kind(found[0])}
    assert len(everybody) == 2
    for kind, rows in everybody.items():
        assert is_chance(rows), kind
        assert {row.n for row in rows} == {300}
        assert {row.protocol for row in rows} == {
            "linear_probe, 2 x 1-fold by subject, every stage refitted"
        }
    weights = {path: path.stat().st_mtime_ns for run, _ in runs
               for path in (run.path / "folds").rglob("checkpoint/**/*.safetensors")}  # fmt: skip
    assert len({path.relative_to(runs[0][0].path).parts[1]
                for path in weights if runs[0][0].path in path.parents}) == 2  # fmt: skip
    again = score(*runs[0], refit="all")
    assert [row.value for row in aurocs(again.results)] == [
        row.value for row in aurocs(found[0].results)
    ]
    assert weights == {path: path.stat().st_mtime_ns for path in weights}  # kept, not made again
    old_rule()
    for kind, rows in over_seeds(runs, lambda *one: by_kind(score(*one))).items():
        assert not is_chance(rows), kind


class Reading(OpenRows):
    """Rows that tell which of them are read."""

    def __init__(self, rows, told):
        super().__init__(rows, np.full(len(rows), b""))
        self.told = told

    def __getitem__(self, key):
        first = key[0] if isinstance(key, tuple) else key
        self.told(np.atleast_1d(np.arange(len(self))[first]))
        return super().__getitem__(key)


@pytest.fixture
def read(monkeypatch):
    """Fold's run and stage to the people of whom the stage read a record when it learned."""
    found = defaultdict(set)
    real = training.shut

    @contextmanager
    def shut(spec, prepared, context):
        with real(spec, prepared, context) as opened:

            def reading(name, one):
                whose = opened.cohort.records[name]["subject"].to_numpy()
                people = found[context.run.path, spec.name]
                return replace(one, rows=Reading(one.rows, lambda k: people.update(whose[k])))

            yield replace(opened, stored={k: reading(k, one) for k, one in opened.stored.items()})

    monkeypatch.setattr(training, "shut", shut)
    return found


@pytest.fixture
def tested(monkeypatch):
    """Fold's run to the people whom the fold tests."""
    found, real = {}, refit_all.gather

    def gather(scene):
        trained, here = scene.run, scene.prepared
        assert Run(trained.path).config["cohort_fingerprint"] == here.cohort.fingerprint
        held = here.splits == "held_out"
        known = seen_people(trained, here)
        assert not known[held].any()
        assert known[~held].all()
        found[trained.path] = set(here.samples["subject"][held])
        return real(scene)

    monkeypatch.setattr(refit_all, "gather", gather)
    return found


@pytest.fixture
def fitted(monkeypatch):
    """What every probe was fitted on in each fold: its features, its rows, and whom it tests."""
    found, real = [], predicted.over_folds

    def over_folds(made, plan, targets, **more):
        found.extend(zip([one.features for one in made], plan, strict=True))
        return real(made, plan, targets, **more)

    monkeypatch.setattr(predicted, "over_folds", over_folds)
    return found


def nobody_tested_was_read(tested, read, stages, cohort):
    """Assert it of every stage of every fold; everybody is tested once, and each stage did read."""
    people = cohort.samples["subject"]
    assert sorted(one for fold in tested.values() for one in fold) == sorted(people)
    assert {stage for _, stage in read} >= set(stages)
    for (fold, stage), whom in read.items():
        assert not whom & tested[fold], stage
        assert len(whom) > 100 or stage not in stages, stage


def probes_knew_nobody_tested(fitted, subjects):
    """Assert that no fold's probe was fitted, or chosen, on a person whom it tests."""
    assert len(fitted) > 0
    for _, (_, train, tuning, test) in fitted:
        assert not np.isin(subjects[test], subjects[np.concatenate([train, tuning])]).any()


def test_no_stage_of_a_fold_reads_the_people_it_tests(
    short, tmp_path, caplog, read, tested, fitted
):
    """Contrastive, multistage, AutoBIND; fusion of two towers and confounders by what they fit."""
    caplog.set_level("INFO", "medmcl")
    run, cohort = short
    keys = {"folds": "2 x 1", "refit": "all", "confounders": ("sex",)}
    shutil.rmtree(run.path / "folds", ignore_errors=True)
    scored(run, cohort, tmp_path, **keys)
    assert "refit: all trains 5 stages anew in each of 2 folds, about 2 x" in caplog.text
    assert re.search(r"fold 2 of 2, .+ gone, about .+ left", caplog.text)
    nobody_tested_was_read(tested, read, ("contrast", "groups", "within", "bind"), cohort)
    subjects = cohort.samples["subject"].to_numpy()
    probes_knew_nobody_tested(fitted, subjects)
    fitted.clear()
    found = scored(run, cohort, tmp_path, modality=[LABS, VITALS], models={"fused": "bind"}, **keys)
    probes_knew_nobody_tested(fitted, subjects)
    one, other = (x for x, _ in fitted[:2])  # of the fused towers, a fold each
    assert np.abs(np.asarray(one) - np.asarray(other)).max() > 1e-3
    assert len(by_kind(found)) == 2  # the task and sex


def test_counts_of_a_fold_are_without_the_people_it_tests(tmp_path, monkeypatch, tested, fitted):
    """Factorised pairs: whose records the counts of each fold hold."""
    monkeypatch.setenv("MEDMCL_CACHE", str(tmp_path / "cache"))
    counted, real = {}, factorise.count_records

    def count_records(spec, prepared, rows):
        counted[prepared.cohort.fingerprint] = set(prepared.samples["subject"].iloc[rows])
        return real(spec, prepared, rows)

    monkeypatch.setattr(factorise, "count_records", count_records)
    write_hospital(tmp_path / "cohort", 0)
    run, cohort = apart(tmp_path / "run", tmp_path / "cohort", "claime_toy", 0)
    counted.clear()
    scored(run, cohort, tmp_path, modality="codes", models={"CLAIME": "pmi_svd"},
           folds="2 x 1", refit="all")  # fmt: skip
    assert len(counted) == len(tested) == 2
    for fold, people in tested.items():
        whom = counted[Run(fold).config["cohort_fingerprint"]]
        assert len(whom) > 50
        assert not whom & people
    probes_knew_nobody_tested(fitted, cohort.samples["subject"].to_numpy())


def test_a_stop_between_folds_goes_on_where_it_was(short, tmp_path, monkeypatch):
    run, cohort = short
    real, calls = refit_all.train_apart, []

    def stopping(folder, *args, **more):
        if len(calls) == 1:
            calls.append("stop")
            raise Interrupted("asked")
        calls.append(folder)
        return real(folder, *args, **more)

    monkeypatch.setattr(refit_all, "train_apart", stopping)
    keys = {"folds": "2 x 2", "refit": "all", "models": {"contrastive": "contrast"}}
    with pytest.raises(Interrupted):
        scored(run, cohort, tmp_path, **keys)
    weights = next((calls[0] / "checkpoint" / "contrast").rglob("*.safetensors"))
    stamp = weights.stat().st_mtime_ns
    found = scored(run, cohort, tmp_path, **keys)
    assert weights.stat().st_mtime_ns == stamp
    assert {row.n for row in aurocs(found.results)} == {300}


def test_folds_of_probes_score_those_alone_whom_no_stage_has_seen(runs, tmp_path):
    run, cohort = runs[0]
    found = scored(run, cohort, tmp_path, folds="5 x 2")
    held = int((cohort.subjects["split"] == "held_out").sum())
    assert {row.n for row in aurocs(found.results)} == {held}
    assert {row.split for row in aurocs(found.results)} == {"cross-validation"}


def test_a_declared_split_is_not_repurposed(tmp_path, monkeypatch):
    monkeypatch.setenv("MEDMCL_CACHE", str(tmp_path / "cache"))
    run, cohort = train(tmp_path, 0, steps=2, binds=False, split="fold")
    held = cohort.subjects.index[cohort.subjects["split"] == "held_out"]
    models = {"contrastive": "contrast"}
    plain = scored(run, cohort, tmp_path, models=models)
    assert {row.n for row in aurocs(plain.results)} == {len(held)}
    with pytest.raises(ConfigError, match="says itself who is held out"):
        scored(run, cohort, tmp_path, folds="5 x 1", models=models)
    found = scored(run, cohort, tmp_path, folds="2 x 1", refit="all", models=models)
    assert {row.n for row in aurocs(found.results)} == {300 - len(held)}
    for folder in (run.path / "folds").glob("*-*"):
        fold = Run(folder)
        prepared = fold.prepare(cohort, (LABS, REPORT))
        known = seen_people(fold, prepared)
        assert not known[cohort.samples["subject"].isin(held)].any()


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ({"folds": "1 x 1"}, "two or more folds"),
        ({"folds": "five"}, "K x R"),
        ({"refit": "all"}, "add `folds"),
        ({"folds": "5 x 1", "refit": "some"}, "probe"),
    ],
)
def test_folds_that_cannot_be_are_refused(keys, said):
    with pytest.raises(ValueError, match=said):
        spec_of(**keys)
    assert spec_of(folds=5).folds == "5 x 1"
    assert spec_of(folds="10X3").folds == "10 x 3"


def test_another_split_of_the_same_people_does_not_open_those_who_were_seen(runs, tmp_path):
    """The same cohort under another seed of its split: whom the run saw is still not scored."""
    run, cohort = runs[0]
    other = open_cohort(cohort.path, {"subjects.split.random.seed": 99})
    seen = cohort.subjects.index[cohort.subjects["split"] != "held_out"]
    held = other.subjects.index[other.subjects["split"] == "held_out"]
    both = [one for one in held if one not in set(seen)]
    found = scored(run, other, tmp_path)
    assert {row.n for row in aurocs(found.results)} == {len(both)} != {len(held)}
    assert any(f"{len(held) - len(both)} held-out subjects whom" in note for note in found.notes)


TOLD = "answer, which it was paired with or reads, could name the outcome"


def test_who_was_paired_with_what_names_the_outcome_is_not_called_better(runs, tmp_path):
    run, cohort = runs[0]
    found = scored(run, cohort, tmp_path, models={"AutoBIND": "bind", "raw": "untrained"})
    plain = {row.method: row for row in aurocs(found.results)}
    assert (plain["AutoBIND"].told, plain["raw"].told) == (ANSWER, "")
    assert (
        "answer, which it was paired with or reads, could name the outcome"
        in plain["AutoBIND"].note
    )
    (gap,) = [r for r in found.results if r.versus and r.metric == "auroc"]
    assert (gap.method, gap.versus, gap.told, gap.versus_told) == ("raw", "AutoBIND", "", ANSWER)
    turned = flipped(replace(gap, value=-0.1, low=-0.2, high=-0.05, p_value=0.01))
    assert verdict(turned) == (f", ahead, but {TOLD}")
    assert verdict(flipped(turned)) == ", worse"
    assert verdict(replace(turned, told="")) == ", better"
    equals = {"contrastive": "contrast", "multistage": "joined"}  # each was paired with reports
    both = scored(run, cohort, tmp_path, models=equals)
    assert {r.told for r in aurocs(both.results)} == {REPORT}
    assert {r.told for r in both.results if r.versus} == {""}


def test_what_is_read_and_shows_the_outcome_is_told_as_what_was_paired_is(runs):
    run, cohort = runs[0]
    prepared = run.prepare(cohort, (LABS, ANSWER))
    assert leaky_reading(run, (LABS, ANSWER), prepared)["ill"] == (ANSWER,)
    assert leaky_reading(run, (LABS,), prepared)["ill"] == ()
    for read in ((LABS,), (LABS, ANSWER)):  # paired with it, or reading it
        assert leaky_by_task(run, "bind", read, prepared)["ill"] == (ANSWER,)
    words = run.prepare(cohort, (LABS, REPORT))  # a text that is read predicts like others
    assert leaky_reading(run, (LABS, REPORT), words)["ill"] == ()


def untold(tree):
    """A change of cohort.yaml: nothing names the outcome."""
    del tree["modalities"][ANSWER], tree["tasks"]["ill"]["leaky_columns"]


def test_another_cohort_is_told_what_could_have_named_the_outcome_in_training(runs, tmp_path):
    """There is no such modality in the other cohort: only the kept probe can know."""
    run, cohort = runs[0]
    kept = Run(shutil.copytree(run.path, tmp_path / "run"))
    record = Record(tmp_path / "metrics.jsonl", active=True)
    spec = spec_of(models={"AutoBIND": "bind", "raw": "untrained"})
    home = run_evaluate(spec, kept, cohort, CPU, record, keep_probes=True)
    folder = write_told(tmp_path / "other", 77)
    rewrite(folder / "cohort.yaml", untold)
    other = open_cohort(folder)
    done = run_evaluate(spec, kept, other, CPU, record, frozen=load_probes(kept))
    there, here = ({row.method: row for row in aurocs(one.results)} for one in (home, done))
    assert (here["AutoBIND"].told, here["raw"].told) == (ANSWER, "")
    assert TOLD in here["AutoBIND"].note
    for method, row in here.items():
        own = there[method]
        assert (row.train_subjects, row.train_events) == (own.train_subjects, own.train_events)
        assert row.train_events > 0


def test_free_texts_and_columns_that_tell_may_name_an_outcome(tmp_path, hearts):
    quiet = open_cohort(write_told(tmp_path / "quiet", 0, leaky_columns=False))
    loud = open_cohort(write_told(tmp_path / "loud", 0))
    for cohort, named in ((quiet, frozenset()), (loud, {ANSWER})):
        prepared = prepare(cohort, {LABS: {}, ANSWER: {}}, cache=tmp_path / "cache")
        assert could_name(prepared)["ill"] == named
    named = open_cohort(loud.path, {"tasks.ill.leaky_columns": [VITALS]})
    assert could_name(prepare(named, {LABS: {}}, cache=tmp_path / "cache"))["ill"] == {VITALS}
    texts = prepare(open_cohort(hearts), {"report": {}}, cache=tmp_path / "cache")
    assert all(one == {"report"} for one in could_name(texts).values())


def test_fine_tuned_stages_are_trained_anew_in_folds_and_their_labels_counted(hearts, tmp_path):
    few = {
        **tiny("ecg_mdm_toy"), "stages.results.folds": "2 x 1", "stages.results.refit": "all",
        "stages.results.tasks": ["heart_failure"], "stages.results.baselines": ["majority"],
        f"{FINETUNE}.for_each": {"task": ["heart_failure"], "label_fraction": [1.0]},
        "stages.results.confounders": [],
    }  # fmt: skip
    run = medmcl.pretrain(hearts, recipe="ecg_mdm_toy", out=tmp_path / "run", device="cpu",
                          overrides=few)  # fmt: skip
    rows = {row.method: row for row in load_results(run.path / "results.csv")
            if row.metric == "c_index" and not row.versus}  # fmt: skip
    probe, tuned = rows["MDM alone"], rows["fine-tuned"]
    cohort = medmcl.open_cohort(hearts)
    assert probe.n == tuned.n == int((cohort.samples["split"] != "held_out").sum())
    assert probe.train_subjects == tuned.train_subjects + tuned.tuning_subjects
    assert tuned.protocol == "fine_tune, 2 x 1-fold by subject, every stage refitted"
    brier = [row for row in load_results(run.path / "results.csv")
             if row.metric == "integrated_brier" and row.method == "fine-tuned"]  # fmt: skip
    assert brier[0].value is not None  # curves over a baseline of the rows fitted on


def test_the_command_asks_for_folds_of_a_finished_run(short, tmp_path):
    """In a new folder; nothing of the folds' training stands in the run's own curves."""
    run, cohort = short
    before = (run.path / "metrics.jsonl").read_bytes()
    asked = {"evaluate.folds": "2 x 1", "evaluate.refit": "all", "evaluate.bootstrap_draws": 100}
    done = medmcl.evaluate(run.path, cohort.path.parent, out=tmp_path / "asked", device="cpu",
                           overrides=asked)  # fmt: skip
    assert {row.n for row in aurocs(done.results)} == {300}
    assert (tmp_path / "asked" / "report.html").is_file()
    assert (run.path / "metrics.jsonl").read_bytes() == before
    lines = [line for line in done.fitted if line.use == "out_of_fold"]
    assert {line.subjects for line in lines} == {300}


def test_nobody_is_scored_whom_a_run_set_beside_has_seen(runs, tmp_path):
    """Folds of probes on another cohort, where the run beside was trained on most people."""
    (run, _), (other, cohort) = runs[0], runs[1]
    held = int((cohort.subjects["split"] == "held_out").sum())
    folder = tmp_path / "elsewhere"
    shutil.copytree(cohort.path.parent, folder)
    asked = {"evaluate.folds": "5 x 1", "evaluate.bootstrap_draws": 100}
    alone = medmcl.evaluate(run.path, folder, out=tmp_path / "a", probe="refit", device="cpu",
                            overrides=asked)  # fmt: skip
    assert {row.n for row in aurocs(alone.results)} == {300}  # strangers to it, all of them
    beside = medmcl.evaluate(run.path, folder, out=tmp_path / "b", probe="refit", device="cpu",
                             compare=[renamed(other.path, tmp_path / "rival")],
                             overrides=asked)  # fmt: skip
    assert {row.n for row in aurocs(beside.results)} == {held}
    (line, *_) = [one for one in beside.fitted if one.use == "out_of_fold"]
    assert set(line.splits) == {"train", "tuning", "held_out"}  # who was fitted on, not who scored


def renamed(path, to):
    shutil.copytree(path, to, ignore=shutil.ignore_patterns("folds"))
    return to


def test_a_run_set_beside_knows_its_people_however_they_are_split_now(runs):
    run, cohort = runs[0]
    other = open_cohort(cohort.path, {"subjects.split.random.seed": 99})
    prepared = run.prepare(other, (LABS,))
    with pytest.raises(CohortError, match="learned from people who are held out here"):
        whom_they_saw({"rival": (run, prepared)}, prepared.splits)
    seen, notes = whom_they_saw({"rival": (run, run.prepare(cohort, (LABS,)))}, cohort_splits(run))
    assert seen.sum() == int((cohort.subjects["split"] != "held_out").sum())
    assert notes == []
    unseen = run.unseen_subjects(other)
    assert set(unseen) == set(cohort.subjects.index[cohort.subjects["split"] == "held_out"])


def test_people_are_known_by_rows_that_chance_does_not_make_equal(short, tmp_path):
    """Few of them among strangers; not by reports, of which there are 48 in all."""
    run, cohort = short
    home, folder = cohort.path.parent, write_told(tmp_path / "elsewhere", 8)
    learned = np.flatnonzero((cohort.subjects["split"] != "held_out").to_numpy())[:20]
    for name in ("labs", "people"):
        there, here = pd.read_csv(folder / f"{name}.csv"), pd.read_csv(home / f"{name}.csv")
        there.iloc[5:25, 1:] = here.iloc[learned, 1:].to_numpy()
        there.iloc[:30].to_csv(folder / f"{name}.csv", index=False)
    rewrite(folder / "cohort.yaml", untold)
    rewrite(folder / "cohort.yaml", lambda t: t["subjects"].update(split={"everyone": "held_out"}))
    other = open_cohort(folder)
    for read in ((LABS,), (LABS, REPORT)):
        prepared = run.prepare(other, read)
        assert np.flatnonzero(seen_people(run, prepared)).tolist() == [*range(5, 25)]
    assert chance_twins(run, prepared) == 10  # strangers whose reports others have, too
    assert not seen_people(run, run.prepare(other, (REPORT,))).any()
    either = scene_of(run, run.prepare(other, (VITALS, LABS))).scored(fits=False)
    assert sorted({*range(30)} - {*either.tolist()}) == [
        *range(5, 25)
    ]  # one side alone was learned from


def scene_of(run, prepared, notes=(), *, spec=None, tasks=()):
    spec = spec or EvaluateSpec(stage="evaluate")
    return RunScene(spec=spec, run=run, prepared=prepared, device=None, seed=0, notes=list(notes),
                    tasks=tasks)  # fmt: skip


def test_zero_shot_scores_those_whom_probes_that_are_fitted_here_score(short, tmp_path):
    """A cohort that declares no split: nobody else where probes are fitted on what is drawn."""
    run, _ = short
    folder = write_told(tmp_path / "undeclared", 9)

    def undeclared(tree):
        del tree["subjects"]["split"]

    rewrite(folder / "cohort.yaml", undeclared)
    prepared = run.prepare(open_cohort(folder), (LABS,))
    targets, notes = prepared.tasks("ill"), []
    fits = EvaluateSpec(stage="evaluate", covariates=LABS)
    _, splits = scene_of(run, prepared, notes, spec=fits, tasks=("ill",)).scored_of(targets)
    assert ((splits == "held_out") == (prepared.splits == "held_out")).all()
    assert not any("nothing is fitted on this cohort" in note for note in notes)
    _, splits = scene_of(run, prepared, notes).scored_of(targets)
    assert (splits == "held_out").all()


def cohort_splits(run):
    return np.full(300, "train", dtype=object)


def test_what_named_an_outcome_in_training_is_known_where_it_is_not(runs, tmp_path):
    run, cohort = runs[0]
    without = open_cohort(cohort.path, {"modalities.answer": None, "tasks.ill.leaky_columns": []})
    found = scored(run, without, tmp_path, models={"AutoBIND": "bind"})
    assert {row.told for row in aurocs(found.results)} == {ANSWER}


def test_a_declared_held_out_elsewhere_is_neither_fitted_on_nor_scored_in_folds(runs, tmp_path):
    run, _ = runs[0]
    other = open_cohort(write_told(tmp_path / "declared", 7, split="fold"))
    held = int((other.subjects["split"] == "held_out").sum())
    found = scored(run, other, tmp_path, folds="5 x 1")
    rows = aurocs(found.results)
    assert {row.n for row in rows} == {300 - held}
    assert {row.train_subjects for row in rows} == {(300 - held) * 4 // 5}


def test_copies_of_a_record_stand_in_one_fold():
    subjects = np.array([0, 1, 2, 2, 3, 4])
    contents = (np.array([0, 1, 2, 5, 1, -1]), np.array([7, -1, 7, -1, -1, -1]))
    prepared = SimpleNamespace(subjects=subjects, sides=SimpleNamespace(contents=contents))
    units = refit_all.one_person(prepared)
    assert units[0] == units[2] == units[3]  # by the second modality; two records of one person
    assert units[1] == units[4]
    assert len(set(units.tolist())) == 3


def test_vectors_of_people_that_a_probe_was_fitted_on_are_known_elsewhere(tmp_path):
    """The same people under another cohort's name: noise that a wide probe has by heart."""
    home = write_told(tmp_path / "home", 3)
    ids = pd.read_csv(home / "people.csv")["pid"]
    noise = np.random.default_rng(1).normal(size=(len(ids), 60))
    table = pd.DataFrame(noise, columns=[f"v{k}" for k in range(60)]).assign(pid=ids)
    table.to_csv(tmp_path / "v.csv", index=False)
    few = {"evaluate.bootstrap_draws": 100, "evaluate.covariates": None}
    medmcl.evaluate(embeddings=tmp_path / "v.csv", cohort=home, out=tmp_path / "run", device="cpu",
                    overrides=few)  # fmt: skip

    def renamed_as(tree):
        tree["subjects"]["split"] = {"everyone": "train"}
        tree["tasks"]["ill"]["about"] = "as elsewhere"

    away = changed_copy(home, tmp_path / "away", "cohort.yaml", renamed_as)
    done = medmcl.evaluate(tmp_path / "run", away, embeddings={"v": tmp_path / "v.csv"},
                           out=tmp_path / "there", device="cpu")  # fmt: skip
    held = int((open_cohort(home).subjects["split"] == "held_out").sum())
    assert {row.n for row in aurocs(done.results)} == {held}
    assert any("whom the run learned from: not scored" in note for note in done.notes)


def test_vectors_that_two_ids_share_are_told_on_the_terminal_and_page_one(tmp_path, caplog):
    home = write_told(tmp_path / "home", 3)
    ids = pd.read_csv(home / "people.csv")["pid"]
    noise = np.random.default_rng(1).normal(size=(len(ids), 12))
    noise[:30] = noise[30:60]
    table = pd.DataFrame(noise, columns=[f"v{k}" for k in range(12)]).assign(pid=ids)
    table.to_csv(tmp_path / "v.csv", index=False)
    few = {"evaluate.bootstrap_draws": 100, "evaluate.covariates": None}
    with caplog.at_level("INFO"):
        medmcl.evaluate(embeddings=tmp_path / "v.csv", cohort=home, out=tmp_path / "run",
                        device="cpu", overrides=few)  # fmt: skip
    assert "v: 60 people have the vector of another id" in caplog.text
    page = (tmp_path / "run" / "report.html").read_text(encoding="utf-8")
    assert "v: some people have the vector of another id" in page
    assert "60 people have the vector" not in page


def test_folds_that_train_anew_are_balanced_by_every_task():
    first = np.arange(90) % 2
    rare = np.random.default_rng(0).permutation(90) < 6
    tasks = {
        name: SimpleNamespace(kind="binary", values=known[:, None].astype(float))
        for name, known in (("first", first), ("rare", rare))
    }
    drawn = SimpleNamespace(random=SimpleNamespace())
    keys = SimpleNamespace(keys=SimpleNamespace(subjects=SimpleNamespace(split=drawn)))
    prepared = SimpleNamespace(
        splits=np.full(90, "train"), subjects=np.arange(90), sides=SimpleNamespace(contents=()),
        cohort=SimpleNamespace(spec=keys), tasks=tasks.__getitem__,
    )  # fmt: skip
    spec = SimpleNamespace(name="results", fold_by="subject", folds_and_repeats=(3, 1))
    for seed in range(5):
        scene = SimpleNamespace(spec=spec, prepared=prepared, sites=None, tasks=[*tasks], seed=seed)
        plan = refit_all._plan(scene)
        assert [int(first[fold.test].sum()) for fold in plan] == [15, 15, 15]
        found = sorted(int(rare[fold.test].sum()) for fold in plan)
        assert found[0] >= 1
        assert found[-1] <= 3
