"""External validation with kept probes, runs set beside each other, subgroups of a cohort."""

import json
import shutil
from contextlib import nullcontext

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from changed_files import changed_copy, rewrite
from safetensors.numpy import load_file
from short_runs import unreported, unwritten
from typed import answer

import medmcl
from medmcl.core.errors import ArtefactError, CohortError, LeakageError
from medmcl.data.loading.simple_features import simple_table
from medmcl.engine.record import Record
from medmcl.evaluation.models.probe import linear_probe
from medmcl.evaluation.protocol.evaluate import TaskEvaluation
from medmcl.evaluation.protocol.sample_subgroups import sample_subgroups
from medmcl.simulation.kinds import simulate
from medmcl.stages.evaluate.saved_probes import load_probes, save_probes, save_simple
from medmcl.stages.evaluate.spec import EvaluateSpec
from medmcl.stages.evaluate.stage import run_evaluate
from medmcl.stages.predict.predict import predict_people
from medmcl.stages.run.train_records import learned_from

pytestmark = pytest.mark.usefixtures("cache")
COHORT, TABLE = "cohort.yaml", "participants.tsv"


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory):
    """Other people, none of them for training, of another hospital."""
    folder = tmp_path_factory.mktemp("elsewhere") / "hospital"
    simulate("heart", folder, {"subjects": 70, "form": "shards", "seed": 9})
    rewrite(folder / COHORT, split_as({"everyone": "held_out"}))
    return folder


def split_as(split):
    """A change of cohort.yaml: another split."""
    return lambda tree: tree["subjects"].update(split=split)


def turned(hearts, folder):
    """The cohort in which those of train are held out, and the other way around."""
    split = {"train": "held_out", "held_out": "train", "tuning": "tuning"}
    return changed_copy(hearts, folder, TABLE, lambda t: t.assign(split=t["split"].map(split)))


def run_on(run, cohort, out, *, reports=False, **more):
    settings = {"tasks": ["infarct", "heart_failure"], "device": "cpu", **more}
    with nullcontext() if reports else unwritten():
        return medmcl.evaluate(run.path, cohort, out=out, **settings)


def test_a_run_keeps_its_probes_as_arrays_and_says_what_they_were_fitted_on(trained):
    kept = {(one.task, one.method): one for one in load_probes(trained)}
    assert ("infarct", "MDM + contrastive") in kept
    one = kept["infarct", "MDM + contrastive"]
    assert one.about["fitted_on"]["splits"] == ["train"]
    assert one.about["fitted_on"]["rows"] > 50
    assert one.about["modality"] == "ecg"
    assert one.about["chosen"]
    for path in (trained.path / "probes").glob("*.safetensors"):
        assert set(load_file(path)) >= {"weights", "offset"}
        assert json.loads(path.with_suffix(".json").read_text())["schema"] == "medmcl/probe@1"
    assert kept["heart_failure", "MDM + contrastive"].model.has_curves


def test_another_cohort_without_train_people_is_scored_by_the_kept_probes(
    trained, elsewhere, tmp_path
):
    done = run_on(trained, elsewhere, tmp_path / "x", reports=True)
    told = json.loads((tmp_path / "x" / "report.json").read_text(encoding="utf-8"))
    facts, name = told["provenance"], medmcl.open_cohort(elsewhere).name
    assert facts["cohort"] != name
    both = f"trained on cohort {facts['cohort']}, scored on cohort {name}. "
    assert both in " ".join(told["headline"])
    card = (tmp_path / "x" / "model_card.md").read_text(encoding="utf-8")
    (front,) = list(yaml.safe_load_all(card.split("---\n")[1]))
    assert {one["dataset"]["name"] for one in front["model-index"][0]["results"]} == {name}
    rows = {(r.task, r.method, r.metric): r for r in done.results if not r.versus}
    row = rows["infarct", "MDM + contrastive", "auroc"]
    assert row.protocol == "linear_probe, frozen"
    assert "nothing was fitted on this cohort" in row.note
    table = trained.embed(elsewhere, modality="ecg", stage="mmcl", device="cpu")
    one = next(
        p for p in load_probes(trained) if (p.task, p.method) == ("infarct", "MDM + contrastive")
    )
    people = pd.read_csv(elsewhere / "participants.tsv", sep="\t").set_index("subject_id")
    features = table[table["quality"] == "ok"].filter(regex=r"^e\d")
    chance = one.model.predict(features.to_numpy())[:, 0]
    outcome = people["infarct"].reindex(features.index.get_level_values(0)).to_numpy(float)
    assert row.value == pytest.approx(medmcl.evaluation.auroc(outcome, chance), abs=1e-6)
    assert row.n == len(features)
    assert rows["heart_failure", "MDM + contrastive", "integrated_brier"].value is not None
    assert ("infarct", "covariates", "auroc") in rows
    assert ("infarct", "majority", "brier") in rows
    benefit = rows["infarct", "MDM + contrastive", "net_benefit"]
    assert benefit.value is not None
    assert f"{one.about['thresholds']['infarct']:g}, the share" in benefit.note
    late = [r for (task, method, name), r in rows.items() if name.startswith("net_benefit_at")]
    assert [r for r in late if "in train of" in r.note and r.value is not None]
    fitted = done.fitted
    assert not [line for line in fitted if line.peeks]
    assert any("kept in the run" in line.what for line in fitted)
    # a split that calls everybody train changes nothing
    copy = changed_copy(elsewhere, tmp_path / "train", COHORT, split_as({"everyone": "train"}))
    again = run_on(trained, copy, tmp_path / "y")
    assert "all of its people are scored" in " ".join(again.notes)
    assert [r.value for r in again.results] == [r.value for r in done.results]


def test_simple_features_are_read_elsewhere_as_the_run_learned_them(
    trained, hearts, elsewhere, tmp_path
):
    copy = tmp_path / "run"
    shutil.copytree(trained.path, copy)
    run, cohort = medmcl.load(copy), medmcl.open_cohort(elsewhere)
    stage = next(stage for stage in run.recipe.stages if isinstance(stage, EvaluateSpec))
    spec = stage.model_copy(
        update={"baselines": ("simple",), "finetuned": {}, "retrieval": None, "maps": None,
                "tasks": ("infarct",)}
    )  # fmt: skip

    def scored():
        record = Record(tmp_path / "metrics.jsonl", active=True)
        device, frozen = torch.device("cpu"), load_probes(run)
        return run_evaluate(spec, run, cohort, device, record, frozen=frozen)

    assert "the run did not keep what they learned" in " ".join(scored().notes)
    home = run.prepare(medmcl.open_cohort(hearts), ("ecg",))
    learned = simple_table(home, "ecg").learn()
    save_simple(run, {"ecg": learned}, several=False)
    name, infarct = "simple features (ecg)", home.tasks("infarct")
    rows = np.flatnonzero((home.splits == "train") & home.present["ecg"] & infarct.known[:, 0])
    probe = linear_probe(
        simple_table(home, "ecg").matrix()[0], infarct, rows, rows[:0], strengths=[10.0]
    )
    done = TaskEvaluation(results=[], models={name: probe})
    save_probes(run, home.cohort, infarct, done, spec.probe)
    row = next(r for r in scored().results if (r.method, r.metric) == (name, "auroc"))
    assert "frozen" in row.protocol
    prepared = run.prepare(cohort, ("ecg",))
    table = simple_table(prepared, "ecg")
    outcome = prepared.tasks("infarct")
    use = outcome.known[:, 0] & table.present
    chance = probe.predict(table.matrix(reading=learned)[0])[use, 0]
    assert row.value == pytest.approx(medmcl.evaluation.auroc(outcome.values[use, 0], chance))
    (copy / "probes" / "simple_features.json").write_text("{}")
    with pytest.raises(ArtefactError, match=r"simple_features\.json.*is damaged"):
        scored()


def test_held_out_of_another_cohort_is_scored_alone(trained, elsewhere, tmp_path):
    copy = changed_copy(elsewhere, tmp_path / "split", COHORT, split_as("split"))
    done = run_on(trained, copy, tmp_path / "x", tasks=["infarct"])
    people = pd.read_csv(copy / "participants.tsv", sep="\t")
    held = int(((people["split"] == "held_out") & (people["has_ecg"] == 1)).sum())
    assert {r.n for r in done.results if r.metric == "auroc" and not r.versus} <= {held, held - 1}
    again = run_on(trained, copy, tmp_path / "y", tasks=["infarct"], probe="refit")
    assert not [r for r in again.results if "frozen" in r.protocol]


def test_people_the_run_learned_from_are_not_scored_under_another_name(trained, hearts, tmp_path):
    copy = changed_copy(hearts, tmp_path / "renamed", COHORT, split_as({"everyone": "held_out"}))
    table = pd.read_csv(copy / TABLE, sep="\t")
    learned = int(table["split"].isin(["train", "tuning"]).sum())
    rewrite(copy / TABLE, lambda t: t.assign(subject_id=[f"other-{k}" for k in t.index]))
    done = run_on(trained, copy, tmp_path / "x", tasks=["lvef"])
    assert f"{learned} subjects have a record that the run learned from" in " ".join(done.notes)
    rows = [r for r in done.results if r.method == "MDM + contrastive" and not r.versus]
    assert rows[0].n <= len(table) - learned


def saved_anew(hearts, folder):
    """The cohort with measurements that differ in the last digits, and everybody held out."""
    copy = changed_copy(hearts, folder, COHORT, split_as({"everyone": "held_out"}))
    for file in ("ecg.npy", "cmr.npy"):
        np.save(copy / "shards" / file, np.load(copy / "shards" / file) * 1.001)
    return copy


def test_people_saved_anew_are_known_by_their_ids_in_a_cohort_of_the_runs_name(
    trained, hearts, tmp_path
):
    table = pd.read_csv(hearts / TABLE, sep="\t")
    held = table[table["split"] == "held_out"]
    done = run_on(
        trained, saved_anew(hearts, tmp_path / hearts.name), tmp_path / "x", tasks=["lvef"]
    )
    said = " ".join(done.notes)
    assert f"{len(table) - len(held)} held-out subjects whom the run learned from: not" in said
    assert "give the folder of their cohort another name" in said
    assert max(r.subjects for r in done.results if r.n) <= len(held)


def test_people_saved_anew_under_another_name_are_told_by_their_ids(
    trained, hearts, tmp_path, caplog
):
    caplog.set_level("INFO")
    copy = saved_anew(hearts, tmp_path / "other")
    learned = int(pd.read_csv(hearts / TABLE, sep="\t")["split"].isin(["train", "tuning"]).sum())
    done = run_on(trained, copy, tmp_path / "x", tasks=["lvef"])
    told = f"{learned} of 160 subjects have ids of people that the run learned from"
    assert told in " ".join(done.strange)
    assert f"warning: {told}" in caplog.text
    assert told in " ".join(predict_people(trained, copy, tasks=["lvef"]).notes)
    said = trained.predict(copy, tasks=["lvef"]).drop_duplicates("subject")["in_training"]
    assert (int(said.isna().sum()), said.fillna(False).any()) == (learned, False)
    rewrite(copy / TABLE, lambda t: t.assign(subject_id=[f"new-{k}" for k in t.index]))
    done = run_on(trained, copy, tmp_path / "y", tasks=["lvef"])
    assert "have ids of people" not in " ".join(done.strange)


def test_a_run_without_kept_probes_says_so(trained, elsewhere, tmp_path):
    bare = tmp_path / "bare"
    shutil.copytree(trained.path, bare)
    shutil.rmtree(bare / "probes")
    with pytest.raises(ArtefactError, match=r"probes/\S+\.json: there is no such file"):
        run_on(medmcl.load(bare), elsewhere, tmp_path / "x", probe="frozen")
    (bare / "files.json").unlink()  # as of a run that kept none
    with pytest.raises(ArtefactError, match="kept no probe"):
        run_on(medmcl.load(bare), elsewhere, tmp_path / "x", probe="frozen")
    damaged = next((trained.path / "probes").glob("infarct.*.safetensors"))
    broken = tmp_path / "broken"
    shutil.copytree(trained.path, broken)
    (broken / "probes" / damaged.name).write_bytes(b"no")
    with pytest.raises(ArtefactError, match="is damaged"):
        run_on(medmcl.load(broken), elsewhere, tmp_path / "y")


def test_a_run_that_learned_from_people_held_out_here_is_not_set_beside(trained, hearts, tmp_path):
    copy = turned(hearts, tmp_path / "turned")
    other = tmp_path / "rival"
    shutil.copytree(trained.path, other)
    with pytest.raises(CohortError, match="learned from people who are held out here") as said:
        run_on(trained, copy, tmp_path / "x", compare=[other])
    assert "sub-" in str(said.value)
    with pytest.raises(CohortError, match=r"nobody can be scored(?s:.*)whom the run learned from"):
        run_on(trained, copy, tmp_path / "z", tasks=["lvef"], probe="refit")
    (other / "train_records.safetensors").unlink()
    with pytest.raises(ArtefactError, match="there is no such file"):
        run_on(trained, copy, tmp_path / "y", compare=[other], tasks=["lvef"], probe="refit")
    before = json.loads((other / "provenance.json").read_text())  # of a run made before it was kept
    (other / "provenance.json").write_text(json.dumps(before | {"first_files": [], "seal": None}))
    (other / "files.json").unlink()
    with pytest.raises(CohortError, match=r"nobody can be scored"):
        run_on(trained, copy, tmp_path / "y", compare=[other], tasks=["lvef"], probe="refit")


def test_runs_set_beside_have_paired_differences_on_the_same_rows(trained, hearts, tmp_path):
    other = tmp_path / "twin"
    shutil.copytree(trained.path, other)
    done = run_on(trained, hearts, tmp_path / "x", reports=True, compare=[other], tasks=["infarct"])
    gains = [r for r in done.results if r.method == "twin" and r.versus]
    assert {r.versus for r in gains} == {"MDM + contrastive"}
    few = [r for r in gains if r.value is None]  # six events make no calibration curve
    assert {r.metric for r in few} <= {"ici"}
    assert all(r.value == 0 for r in gains if r not in few)  # the same weights
    assert "unknown" not in " ".join(done.notes)


def test_a_risk_model_and_an_encoder_are_set_beside_each_other_either_way(
    trained, hearts, tmp_path
):
    few = {"stages.results.bootstrap_draws": 100}
    risk = unreported(hearts, recipe="risk_table_toy", out=tmp_path / "risk", overrides=few)
    encoder = tmp_path / "encoder"
    shutil.copytree(trained.path, encoder)
    quick = {"overrides": {"evaluate.bootstrap_draws": 100}, "tasks": ["infarct"]}
    one = run_on(trained, hearts, tmp_path / "x", compare=[risk.path], **quick)
    two = run_on(risk, hearts, tmp_path / "y", compare=[encoder], **quick)
    gains = []
    for done, method, versus in (
        (one, "risk", "MDM + contrastive"),
        (two, "encoder", "covariates"),
    ):
        rows = {(r.method, r.versus): r for r in done.results
                if r.metric == "auroc" and r.label_fraction == 1}  # fmt: skip
        gain = rows[method, versus]
        assert gain.value == pytest.approx(rows[method, ""].value - rows[versus, ""].value)
        assert gain.n == rows[method, ""].n == rows[versus, ""].n
        gains.append(gain.value)
    assert gains[0] == pytest.approx(-gains[1], abs=1e-6)  # the same models on the same people
    copy = turned(hearts, tmp_path / "turned")
    with pytest.raises(CohortError, match="learned from people who are held out here"):
        run_on(risk, copy, tmp_path / "z", compare=[encoder], probe="refit", **quick)


def test_the_evaluation_carries_figures_subgroups_and_ledger(trained, hearts, tmp_path):
    done = run_on(trained, hearts, tmp_path / "x")
    assert {(t.task, t.method) for t in done.evidence} >= {
        ("infarct", "MDM + contrastive"), ("infarct", "covariates"),
        ("heart_failure", "Kaplan-Meier"), ("infarct", "covariates + embedding"),
    }  # fmt: skip
    assert not [t for t in done.evidence if t.method == "untrained"]
    assert {r.attribute for r in done.subgroups} >= {"everyone", "sex", "age"}
    said = {line.what for line in done.fitted}
    assert {"weights of stage mmcl", "checkpoint of stage mmcl"} <= said
    assert any("clinic" in what or "covariates" in what or "ecg" in what for what in said)


def test_groups_are_read_from_the_usual_columns_or_from_cohort_yaml(hearts, tmp_path):
    cohort = medmcl.open_cohort(hearts)
    present = {name: cohort.samples[name].notna().to_numpy() for name in ("ecg", "cmr")}
    found = sample_subgroups(cohort, present)
    assert set(found) == {"sex", "age", "site", "modalities"}
    table = pd.read_csv(hearts / "participants.tsv", sep="\t").set_index("subject_id")
    person = table.loc[cohort.samples["subject"]]
    known = person["sex"].notna().to_numpy()
    assert (found["sex"][known] == person["sex"].to_numpy()[known]).all()
    young = (person["age"] < 50).to_numpy()
    assert (found["age"][young] == "<50").all()
    assert (found["age"][(person["age"] >= 70).to_numpy()] == ">=70").all()
    copy = shutil.copytree(hearts, tmp_path / "named")

    def groups_of(**asked):
        rewrite(copy / COHORT, lambda tree: tree.update(subgroups=asked))
        return sample_subgroups(medmcl.open_cohort(copy), present)

    found = groups_of(weight={"column": "bmi", "bands": [25, 30]}, old="age >= 65")
    assert set(found) == {"weight", "old", "site", "modalities"}
    assert set(found["weight"]) <= {"<25", "25 to <30", ">=30", "unknown"}
    assert set(found["old"]) <= {"yes", "no", "unknown"}
    found = groups_of(mi={"column": "infarct", "names": {0: "no infarct", 1: "infarct"}})
    infarct = (person["infarct"] == 1).to_numpy()
    assert (found["mi"] == np.where(infarct, "infarct", "no infarct")).all()
    with pytest.raises(CohortError, match="more than 30 groups"):
        groups_of(who="subject_id")
    with pytest.raises(CohortError, match="ascend"):
        groups_of(w={"column": "bmi", "bands": [3, 2]})


def test_groups_of_records_are_those_of_the_samples_own_record(hearts, tmp_path):
    table = pd.read_csv(hearts / TABLE, sep="\t")
    visits = table[["subject_id", "age", "sex"]].assign(visit=[f"v{n}" for n in range(len(table))])
    other = table.drop(columns=["age", "sex"])
    copy = changed_copy(hearts, tmp_path / "visits", TABLE, lambda _: other)
    visits.to_csv(copy / "visits.csv", index=False)

    def of_visits(tree):
        own = {"table": "visits.csv", "id": "subject_id", "record": "visit"}
        tree["modalities"]["clinic"] |= own
        tree["modalities"]["clinic"]["columns"].pop("bmi")

    rewrite(copy / COHORT, of_visits)
    cohort = medmcl.open_cohort(copy)
    found = sample_subgroups(cohort, {})
    person = visits.set_index("subject_id").loc[cohort.samples["subject"]]
    young, known = (person["age"] < 50).to_numpy(), person["sex"].notna().to_numpy()
    assert young.any()
    assert (found["age"][young] == "<50").all()
    assert (found["age"] == "<50").sum() == young.sum()
    assert (found["sex"][known] == person["sex"].to_numpy()[known]).all()


@pytest.mark.parametrize(
    ("cells", "no", "yes"), [([0, 1, 1], 0, 1), ([False, True, True], 0, 1),
                             ([False, True, True], False, True), ([False, True, True], "no", "yes")]
)  # fmt: skip
def test_groups_of_yes_and_no_are_called_as_codes_are(cells, no, yes, tmp_path):
    """A column of 0 and 1 that became true and false in a parquet: groups were yes and no."""
    people = pd.DataFrame({"id": ["a", "b", "c"], "woman": cells, "x": 1.5})
    people.to_parquet(tmp_path / "people.parquet")
    tree = {
        "schema": "medmcl/cohort@1",
        "subjects": {"table": "people.parquet", "id": "id", "split": {"everyone": "held_out"}},
        "modalities": {"m": {"reader": "table", "columns": ["x"]}},
        "subgroups": {"sex": {"column": "woman", "names": {no: "male", yes: "female"}}},
    }
    (tmp_path / "cohort.yaml").write_text(yaml.safe_dump(tree))
    found = sample_subgroups(medmcl.open_cohort(tmp_path), {})["sex"].tolist()
    assert found == ["male", "female", "female"]


def test_simple_features_learn_from_train_rows_only(trained, hearts):
    cohort = medmcl.open_cohort(hearts)
    table = simple_table(trained.prepare(cohort, ("ecg",)), "ecg")
    held = np.flatnonzero(cohort.samples["split"] == "held_out")[:2]
    with pytest.raises(LeakageError, match="what ecg features learn would see rows of held_out"):
        table.matrix(np.append(table.train, held))


def test_train_records_are_known_again(trained, hearts):
    cohort = medmcl.open_cohort(hearts)
    prepared = trained.prepare(cohort, ("ecg",))
    seen = learned_from(trained, prepared)
    has = prepared.present["ecg"]
    assert seen[has & (prepared.splits == "train")].all()
    assert not seen[prepared.splits == "held_out"].any()


def test_the_command_line_refuses_an_unknown_probe_mode(trained, hearts, tmp_path):
    words = ["evaluate", trained.path, "--cohort", hearts, "--probe", "frozn"]
    done = answer(*words, "--out", tmp_path / "x")
    assert done.returncode == 2
    assert "did you mean 'frozen'" in done.stderr
