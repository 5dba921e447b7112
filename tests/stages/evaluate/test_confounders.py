"""What embeddings tell beside the tasks: known truths, folds, pooling, missing values, the run."""

import json
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from read_pages import both_pages

import medmcl
from medmcl.core.errors import ConfigError
from medmcl.core.split_guard import TEST
from medmcl.core.suppression import Hidden
from medmcl.data.cohort.cohort import open_cohort
from medmcl.data.loading.prepare import prepare
from medmcl.engine.record import Record
from medmcl.evaluation.aspects.confounders import ask
from medmcl.evaluation.aspects.confounders.ask import POOLED, ask_confounders
from medmcl.evaluation.aspects.confounders.aspect import ConfounderSpec
from medmcl.evaluation.aspects.confounders.names import confounder_names
from medmcl.evaluation.metrics.sampled import ALL_THE_SAME
from medmcl.evaluation.models import MODELS
from medmcl.evaluation.models.contract import Model
from medmcl.evaluation.protocol.results import load_results
from medmcl.evaluation.protocol.sample_subgroups import sample_numbers, sample_sites
from medmcl.stages.evaluate.methods import Sources
from medmcl.stages.evaluate.scene import RunScene
from medmcl.stages.evaluate.spec import EvaluateSpec, ProbeSpec
from medmcl.stages.evaluate.stage import run_evaluate
from medmcl.stages.evaluate.task_scoring import TaskScoring

N = 600
TREE = {
    "schema": "medmcl/cohort@1",
    "subjects": {"table": "people.csv", "id": "id", "split": "fold", "group": "centre"},
    "modalities": {"labs": {"reader": "table", "table": "labs.csv",
                            "columns": {"l0": "number", "l1": "number", "l2": "number"}},
                   "blood": {"reader": "table", "table": "blood.csv",
                             "columns": {"b0": "number", "b1": "number"}}},
    "tasks": {"case": {"kind": "binary", "column": "case"}},
}  # fmt: skip


def write_clinic(folder, n=N, **changed):
    """Tables: four fifths train and tuning, a fifth held out; three sites."""
    folder.mkdir(exist_ok=True)
    rng = np.random.default_rng(3)
    people = pd.DataFrame({
        "id": [f"p{k:04d}" for k in range(n)],
        "age": rng.uniform(40, 80, n).round(1),
        "sex": rng.choice(["F", "M"], n),
        "centre": rng.choice(["north", "south", "west"], n, p=[0.5, 0.3, 0.2]),
        "fold": rng.choice(["train", "tuning", "held_out"], n, p=[0.6, 0.2, 0.2]),
        "case": rng.integers(0, 2, n),
    })  # fmt: skip
    for name, values in changed.items():
        people[name] = values(people) if callable(values) else values
    people.to_csv(folder / "people.csv", index=False)
    labs = rng.normal(size=(n, 3)) + people["case"].to_numpy()[:, None]
    labs = pd.DataFrame(labs, columns=["l0", "l1", "l2"])
    labs.insert(0, "id", people["id"])
    labs.to_csv(folder / "labs.csv", index=False)
    blood = labs.rename(columns={"l0": "b0", "l1": "b1"})[["id", "b0", "b1"]]
    blood.to_csv(folder / "blood.csv", index=False)
    (folder / "cohort.yaml").write_text(yaml.safe_dump(TREE, sort_keys=False), encoding="utf-8")
    return open_cohort(folder)


def scene_of(
    cohort, tmp_path, embeddings, confounders, *, own=True, frozen=(), seen=None, **settings
):
    """The scene of an evaluate stage with made embeddings, {name: (N, E)}."""
    prepared = prepare(cohort, {"labs": {}}, cache=tmp_path / "cache", splits="all")
    models = dict.fromkeys(embeddings, "stage")
    spec = EvaluateSpec(
        stage="evaluate", probe=ProbeSpec(modality="labs", models=models), bootstrap_draws=200,
        confounders=confounders, **settings,
    )  # fmt: skip
    sources = Sources(embeddings=dict(embeddings),
                      present=dict.fromkeys(embeddings, prepared.present["labs"]))  # fmt: skip
    home = cohort.fingerprint if own else "elsewhere"
    run = SimpleNamespace(
        config={"cohort": cohort.name if own else "x", "cohort_fingerprint": home}, trains=True
    )
    wants_sites = "site" in (spec.fold_by, spec.resample)
    scene = RunScene(
        spec=spec, run=run, prepared=prepared, device=None, seed=0, notes=[],
        sites=sample_sites(cohort) if wants_sites else None, is_frozen=bool(frozen),
    )  # fmt: skip
    scene.scoring = TaskScoring(
        scene=scene, sources=sources, frozen=frozen, seen=None if seen is None else seen > 0
    )
    return scene


def asked(*args, **settings):
    scene, said = scene_of(*args, **settings), []
    scene.tell = said.append
    found = {one.name: one for one in ask_confounders(scene.spec.asked["confounders"], scene)}
    assert [one.split(" (")[0] for one in said] == [f"confounder {n}" for n in found] or scene.notes
    return found, scene


def told(cohort):
    """Embeddings that hold site and age exactly, and the same with both removed."""
    rng = np.random.default_rng(5)
    people = cohort.subjects.loc[cohort.samples["subject"]]
    noise = rng.normal(size=(len(people), 4))
    sites = pd.get_dummies(people["subjects.group"]).to_numpy(float)
    age = people["age"].to_numpy(float)[:, None] / 10
    return {"removed": noise, "holds": np.hstack([noise, sites, age])}


def test_what_an_embedding_holds_is_told_and_what_was_removed_is_not(tmp_path):
    cohort = write_clinic(tmp_path)
    found, scene = asked(cohort, tmp_path, told(cohort), ("site", "sex", "age"))
    assert list(found) == ["site", "sex", "age"]
    site, age = found["site"], found["age"]
    assert (site.kind, site.classes, age.kind) == ("multiclass", 3, "regression")
    assert site.row("auroc", "holds").value > 0.999
    assert site.row("balanced_accuracy", "holds").value > 0.99
    assert age.row("r2", "holds").value > 0.999
    assert age.row("mae", "holds").value < 0.1
    for name, metric, chance in (("site", "auroc", 0.5), ("site", "balanced_accuracy", 1 / 3),
                                 ("age", "r2", 0.0), ("sex", "auroc", 0.5)):  # fmt: skip
        row = found[name].row(metric, "removed")
        low, high = (row.value, row.value) if ALL_THE_SAME in row.note else (row.low, row.high)
        assert low <= chance <= high, (name, metric, row)
        assert found[name].chance[metric] == pytest.approx(chance), (name, metric)
    gone = site.row("auroc", "holds", "removed")
    assert gone.value == pytest.approx(
        site.row("auroc", "holds").value - site.row("auroc", "removed").value
    )
    assert gone.low > 0.3
    assert {row.split for one in found.values() for row in one.rows} == {"held_out"}
    held = int((scene.prepared.splits == "held_out").sum())
    assert {row.n for row in site.rows} == {held}
    assert {row.direction for one in found.values() for row in one.rows} == {"chance"}
    assert scene.notes == []


def test_probes_are_fitted_on_train_and_chosen_on_tuning_alone(tmp_path, monkeypatch):
    cohort = write_clinic(tmp_path)
    plain, seen = MODELS["linear_probe"].fit, []

    def spy(features, targets, train, tuning, **more):
        seen.append((targets.name, set(train), set(tuning)))
        assert not targets.sides.barred[np.concatenate([train, tuning])].any()
        return plain(features, targets, train, tuning, **more)

    monkeypatch.setitem(MODELS, "linear_probe", Model(fit=spy))
    found, scene = asked(cohort, tmp_path, told(cohort), ("site", "age"))
    splits = scene.prepared.splits
    assert [name for name, _, _ in seen] == ["site"] * 2 + ["age"] * 2
    for _, train, tuning in seen:
        assert train == set(np.flatnonzero(splits == "train"))
        assert tuning == set(np.flatnonzero(splits == "tuning"))
    used = {split for one in found.values() for line in one.fitted for split in line.splits}
    assert used == {"train", "tuning"}
    assert {line.task for line in found["site"].fitted} == {"site"}


def test_held_out_people_of_a_site_that_train_never_saw_are_left_out_and_counted(tmp_path):
    def some_west_held_out(people):
        free = np.where(np.arange(len(people)) % 4, "train", TEST)
        return np.where(people["centre"] == "west", TEST, free)

    cohort = write_clinic(tmp_path, fold=some_west_held_out)
    found, _ = asked(cohort, tmp_path, told(cohort), ("site", "sex"))
    site, people = found["site"], cohort.subjects
    held = people["split"] == TEST
    west = int((held & (people["subjects.group"] == "west")).sum())
    assert site.row("auroc", "holds").value > 0.999
    assert {row.split for row in site.rows} == {TEST}
    assert {row.n for row in site.rows} == {int(held.sum()) - west}
    assert f"{west} held-out subjects of classes that train has not: left out" in site.notes
    assert {row.n for row in found["sex"].rows} == {int(held.sum())}


def test_what_can_only_be_told_of_people_who_were_seen_is_left_out(tmp_path):
    """All of one class are held out: a probe scored on those whom a stage saw would flatter."""

    def west_held_out(people):
        return np.where(people["centre"] == "west", TEST, "train")

    cohort = write_clinic(tmp_path, fold=west_held_out)
    found, scene = asked(cohort, tmp_path, told(cohort), ("site", "sex"))
    assert list(found) == ["sex"]
    assert scene.notes[0].startswith("confounder site left out: ")
    assert "held-out subjects of classes that train has not" in scene.notes[0]


def test_folds_are_of_subjects_where_those_of_tasks_are_of_sites(tmp_path):
    cohort = write_clinic(tmp_path, n=200)
    embeddings = {"holds": told(cohort)["holds"]}
    found, _ = asked(
        cohort, tmp_path, embeddings, ("site",), folds="5 x 1", fold_by="site", seen=np.zeros(200)
    )
    site = found["site"]
    assert site.row("auroc", "holds").value > 0.999  # of a site left out nothing could be told
    assert site.row("auroc", "holds").protocol.endswith("by subject, probes refitted")
    assert site.notes == ("folds by subject, where those of the tasks are of whole sites",)


def test_whole_sites_are_not_drawn_where_they_are_the_classes(tmp_path):
    def clinics(people):
        return np.array([f"c{k % 12:02d}" for k in range(len(people))])

    def scanner(people):
        return np.where(np.arange(len(people)) % 12 < 6, "old", "new")

    cohort = write_clinic(tmp_path, centre=clinics, scanner=scanner)
    embeddings = {"noise": told(cohort)["removed"]}
    found, _ = asked(
        cohort, tmp_path, embeddings, ("site", "scanner", "sex", "age"), resample="site"
    )
    drawn = {name: {row.resampling for row in one.rows} for name, one in found.items()}
    assert drawn == {"site": {"subject"}, "scanner": {"subject"}, "sex": {"site"}, "age": {"site"}}
    assert "intervals draw subjects" in found["scanner"].notes[0]


def test_small_classes_are_pooled_and_unknown_values_counted(tmp_path):
    def device(people):
        names = np.where(np.arange(len(people)) % 2, "A", "B").astype(object)
        names[:8], names[8:12], names[12:19] = "C", "D", None
        return names

    cohort = write_clinic(tmp_path, n=200, device=device)
    embeddings = {"noise": told(cohort)["removed"]}
    found, scene = asked(cohort, tmp_path, embeddings, ("device",))
    device_ = found["device"]
    assert device_.classes == 3
    assert device_.notes == (
        "7 samples without a value left out",
        f"2 classes of fewer than 10 subjects pooled into '{POOLED}' (12 subjects)",
    )
    held = (cohort.subjects["split"] == TEST).to_numpy()
    assert {row.n for row in device_.rows} == {int(held[np.r_[:12, 19:200]].sum())}
    assert scene.notes == []
    plain = device_.plain_rows()[0]
    assert "pooled into" in plain["note"]
    assert plain["direction"] == "chance"
    assert "nearer to chance" in plain["reading"]


def test_what_stays_too_small_is_left_out(tmp_path):
    def device(people):
        names = np.where(np.arange(len(people)) % 2, "A", "B").astype(object)
        names[:4] = "C"
        return names

    cohort = write_clinic(tmp_path, n=200, device=device, kind="one", rare=["x"] * 6 + [None] * 194)
    embeddings = {"noise": told(cohort)["removed"]}
    found, scene = asked(cohort, tmp_path, embeddings, ("device", "kind", "rare", "case"))
    assert list(found) == ["device", "case"]
    assert found["device"].classes == 2
    assert found["device"].notes == ("1 class of fewer than 10 subjects left out (<5 subjects)",)
    held = (cohort.subjects["split"] == TEST).to_numpy()
    assert {row.n for row in found["device"].rows} == {int(held[4:].sum())}
    assert scene.notes[0].startswith("confounder kind left out: fewer than two classes")
    assert "confounder rare left out: 194 samples without a value" in scene.notes[1]


def test_numbers_of_many_values_are_numbers_and_bands_are_not_asked(tmp_path):
    cohort = write_clinic(tmp_path, n=200, bmi=np.linspace(18, 40, 200), grade=[1, 2, 3, 4] * 50)
    assert set(sample_numbers(cohort)) == {"age"}
    embeddings = {"noise": told(cohort)["removed"]}
    found, _ = asked(cohort, tmp_path, embeddings, ("age", "bmi", "grade"))
    kinds = {name: (one.kind, one.classes) for name, one in found.items()}
    assert kinds == {"age": ("regression", 0), "bmi": ("regression", 0), "grade": ("multiclass", 4)}


def test_many_classes_are_asked_one_by_one(tmp_path, monkeypatch):
    cohort = write_clinic(tmp_path)
    monkeypatch.setattr(ask, "MOST_TOGETHER", 20)  # three classes of 8 + 1 numbers are more
    found, _ = asked(cohort, tmp_path, told(cohort), ("site",))
    site = found["site"]
    assert (site.kind, site.classes) == ("multilabel", 3)
    assert site.row("auroc", "holds").value > 0.999
    gone = site.row("auroc", "removed")
    assert gone.value == pytest.approx(0.5, abs=0.05)
    assert site.row("balanced_accuracy", "holds") is None
    assert site.notes[0] == "3 classes, each asked on its own against the rest"
    assert {row.split for row in site.rows} == {TEST}
    assert {row.target for row in site.rows} == {"macro"}


def test_names_that_a_recipe_cannot_know_are_notes_and_others_errors(tmp_path):
    cohort = write_clinic(tmp_path, n=60, scanner="one")

    def names(*asked, **more):
        return confounder_names(ConfounderSpec(names=asked), cohort, where="evaluate", **more)

    assert names("site", "age", "site", "scanner") == (["site", "age", "scanner"], [])
    with pytest.raises(ConfigError, match=r"no confounder 'scaner'; did you mean 'scanner'"):
        names("scaner")
    chosen, notes = names("scaner", "sex", is_own=False)
    assert chosen == ["sex"]
    assert notes == ["confounder scaner left out: the cohort does not have it"]
    every = ConfounderSpec(names="all")
    assert confounder_names(every, cohort, where="evaluate")[0] == ["sex", "age", "site"]
    people = pd.read_csv(tmp_path / "people.csv").drop(columns=["sex"])
    people.to_csv(tmp_path / "people.csv", index=False)
    cohort = open_cohort(tmp_path)
    chosen, notes = names("site", "sex")
    assert chosen == ["site"]
    assert notes == ["confounder sex left out: the cohort does not have it"]
    with pytest.raises(ValueError, match="confounders: they are asked of the models of `probe`"):
        EvaluateSpec(stage="evaluate", confounders=("site",))


def test_nothing_is_fitted_where_kept_probes_are_applied(tmp_path):
    cohort = write_clinic(tmp_path, n=60)
    embeddings = {"noise": told(cohort)["removed"]}
    found, scene = asked(cohort, tmp_path, embeddings, ("site",), own=False, frozen=(object(),))
    assert found == {}
    assert "--probe refit" in scene.notes[0]


QUICK = {
    "stages.bind.steps": 6,
    "stages.bind.objectives.cross_modal.pairs.every": 3,
    "stages.results.bootstrap_draws": 100,
    "stages.results.baselines": [],
}


def test_a_recipe_asks_and_the_report_tells_beside_the_tasks(tmp_path):
    folder = tmp_path / "clinic"
    write_clinic(folder, n=80)
    key = "stages.results.confounders"
    about = {"recipe": "autobind_toy", "device": "cpu"}
    with pytest.raises(ConfigError, match="there is no confounder 'sexx'; did you mean 'sex'"):
        medmcl.pretrain(folder, out=tmp_path / "no", overrides={**QUICK, key: ["sexx"]}, **about)
    run = medmcl.pretrain(folder, out=tmp_path / "run", overrides={**QUICK, key: "all"}, **about)
    report = json.loads((run.path / "report.json").read_text(encoding="utf-8"))
    assert {row["confounder"] for row in report["confounders"]} == {"site", "sex", "age"}
    models = {row["method"] for row in report["confounders"]}
    assert models == {row["method"] for row in report["results"]} - {"majority"}
    page = both_pages(run.path)
    assert "What else the embeddings tell" in page
    assert set(pd.read_csv(run.path / "confounders.csv")["confounder"]) == {"site", "sex", "age"}
    assert set(pd.read_csv(run.path / "confounders_fitted_on.csv")["use"]) == {"fit"}
    # without them tasks, their ledger and the kept probes are the same
    kept = {p.name: p.read_bytes() for p in (run.path / "probes").iterdir()}
    spec = next(one for one in run.recipe.stages if isinstance(one, EvaluateSpec))
    record = Record(tmp_path / "metrics.jsonl", active=True)
    plain = run_evaluate(
        spec.asking({"confounders": None}), run, open_cohort(folder), torch.device("cpu"),
        record, keep_probes=True,
    )  # fmt: skip
    assert "confounders" not in plain.shown
    for line, row in zip(load_results(run.path / "results.csv"), plain.results, strict=True):
        hides = any(isinstance(one, Hidden) for one in vars(line).values())
        assert line == row or (hides and (line.method, line.metric) == (row.method, row.metric))
    assert [row["what"] for row in report["fitted_on"]] == [x.what for x in plain.fitted]
    assert {p.name: p.read_bytes() for p in (run.path / "probes").iterdir()} == kept
