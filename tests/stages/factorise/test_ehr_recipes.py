"""Recipes over codes: factorised counts and the contrastive comparison, from events to a report."""

import json

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from processes import weights
from read_pages import both_pages
from short_runs import unreported
from small_hospital import PEOPLE, write_hospital
from tiny_runs import TINY_EHR

import medmcl
from medmcl.cooccurrence.embed.token_vectors import TokenVectors
from medmcl.core.errors import CohortError, ConfigError
from medmcl.encoders import towers
from medmcl.encoders.by_length import encode_by_length
from medmcl.engine.record import read_metrics
from medmcl.stages.factorise.factorise import counted_on
from medmcl.stages.predict.cohort import check_people
from medmcl.stages.predict.predict import predict_people
from medmcl.stages.run.ledger import run_ledger

RECIPES = ("claime_toy", "ehr_contrastive_toy")


def pretrain(cohort, out, recipe="claime_toy", overrides=None, by=medmcl.pretrain, **more):
    given = TINY_EHR[recipe] if overrides is None else overrides
    return by(cohort, recipe=recipe, out=out, overrides=given, **more)


SHRUNK_CONCATE = {
    "stage": "factorise", "name": "pmi_svd", "towers": ["codes", "concepts"],
    "estimator": "concate", "shrink": True,
}  # fmt: skip
NOT_SCORED = {"stages.results.tasks": [], "stages.results.retrieval": None}


@pytest.fixture(scope="module")
def claime(hospital, tmp_path_factory):
    torch.set_num_threads(1)
    return pretrain(hospital, tmp_path_factory.mktemp("runs") / "claime")


def test_tables_are_the_factors_of_the_train_subjects_counts(claime, hospital):
    events = pd.read_parquet(hospital / "events.parquet")
    people = pd.read_csv(hospital / "people.tsv", sep="\t")
    train = set(people["subject_id"][people["split"] == "train"])
    saved = weights(claime.path, "pmi_svd")
    tables, words = [], []
    for name in ("codes", "concepts"):
        tables.append(saved[f"model.towers.{name}.encoder.table.weight"].double().numpy())
        words.append(claime.preprocessing[name]["state"]["codes"])
        assert not tables[-1][:2].any()  # padding and unknown codes
    own = [events["code"].isin(one) & events["subject_id"].isin(train) for one in words]
    counts = [
        np.array([[((mine["subject_id"] == p) & (mine["code"] == w)).sum() for w in one[2:]]
                  for p in sorted(train)])
        for one, mine in zip(words, (events[rows] for rows in own), strict=True)
    ]  # fmt: skip
    pmi = slow_pmi(*counts)
    u, s, vt = np.linalg.svd(pmi)
    best = (u[:, :4] * s[:4]) @ vt[:4]
    np.testing.assert_allclose(tables[0][2:] @ tables[1][2:].T, best, atol=1e-4)


def slow_pmi(x1, x2):
    """The paper's estimator, cell by cell."""
    d = np.zeros((x1.shape[1], x2.shape[1]))
    for one, two in zip(x1, x2, strict=True):
        d += np.outer(one, two)
    g1, g2 = ((x * (x.sum(1, keepdims=True) - 1)).sum(0) for x in (x1, x2))
    apart = x1.sum() * x2.sum() - d.sum()
    crossed = np.outer(x1.sum(0), x2.sum(0)) - d
    return g1.sum() * g2.sum() / np.outer(g1, g2) * (d / d.sum() - crossed / apart)


def test_the_trait_is_found_without_a_gradient(claime):
    rows = pd.read_csv(claime.path / "results.csv")
    rows = rows[(rows["metric"] == "auroc") & (rows["label_fraction"] == 1.0)]
    value = rows.drop_duplicates("method").set_index("method")["value"]
    assert value["CLAIME"] > 0.85
    assert value["CLAIME"] > value["untrained"] - 0.05


def test_people_who_are_held_out_change_nothing(claime, hospital, tmp_path):
    _, people = write_hospital(tmp_path / "other")
    events = pd.read_parquet(tmp_path / "other" / "events.parquet")
    held = events["subject_id"].isin(people["subject_id"][people["split"] != "train"])
    events.loc[held, "code"] = events.loc[held, "code"].str[:4] + "//0"
    events.to_parquet(tmp_path / "other" / "events.parquet", index=False)
    again = pretrain(tmp_path / "other", tmp_path / "run", overrides=NOT_SCORED, by=unreported)
    first, second = weights(claime.path, "pmi_svd"), weights(again.path, "pmi_svd")
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_the_run_embeds_and_says_what_it_did(claime, hospital):
    table = medmcl.load(claime.path).embed(hospital, modality="codes")
    assert len(table) == PEOPLE
    report = both_pages(claime.path)
    assert "24 codes and 24 concepts counted over" in report
    assert "rank 4" in report


def test_resume_goes_on_from_the_factors(claime, hospital, monkeypatch):
    def never(*_):
        raise AssertionError("counted again")

    monkeypatch.setattr("medmcl.stages.factorise.factorise.count_records", never)
    pretrain(hospital, claime.path, resume=True)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("towers.codes.encoder.width", 5, "both tables have one rank"),
        ("towers.codes.encoder", {"name": "code_transformer"}, "cannot be filled with factors"),
        ("stages.pmi_svd.objectives", {"cross_modal": {}}, "objectives"),
        ("stages.pmi_svd.estimator", "claim", "claime"),
        ("stages.pmi_svd.towers", ["codes"], "two modalities"),
        ("stages.pmi_svd", SHRUNK_CONCATE, "only of the estimator claime"),
    ],
)
def test_what_cannot_be_factorised_is_refused_before_anything_is_written(
    key, value, message, hospital, tmp_path
):
    with pytest.raises(ConfigError, match=message):
        pretrain(hospital, tmp_path / "run", overrides={key: value})
    assert not (tmp_path / "run" / "config.yaml").exists()


@pytest.mark.parametrize("estimator", ["concate", "cl", "within_only"])
def test_the_baselines_of_the_paper_are_a_word_in_the_recipe(estimator, hospital, tmp_path):
    given = {"stages.pmi_svd.estimator": estimator, **NOT_SCORED}
    run = pretrain(hospital, tmp_path / "run", overrides=given, by=unreported)
    assert estimator in run.facts("pmi_svd")["sentence"]


def test_codes_and_notes_train_with_the_ordinary_contrastive_objective(
    hospital, tmp_path, monkeypatch
):
    cut = []

    def encoded(encoder, x, lengths, most):
        cut.append((most, lengths.max() <= x.shape[1]))
        return encode_by_length(encoder, x, lengths, most)

    monkeypatch.setattr(towers, "encode_by_length", encoded)
    own = {**TINY_EHR["ehr_contrastive_toy"], "stages.contrast.length_groups": 3}
    run = pretrain(hospital, tmp_path / "run", "ehr_contrastive_toy", overrides=own)
    assert run.facts("contrast")["steps"] == 8
    assert set(cut) == {(3, True)}
    assert len(cut) > 2 * 8  # both modalities; tuning losses as well
    assert "codes → notes" in set(pd.read_csv(run.path / "results.csv")["target"])


TRANSFORMER = {"encoder": {"name": "code_transformer", "width": 16, "heads": 2, "depth": 1}}


def with_vectors(folder, encoder="code_transformer"):
    """CLAIME's vectors, then a transformer over the same codes that starts from them."""
    inputs = {"max_events": 64, "min_patients": 2}
    tower = {"encoder": {"name": "lookup", "width": 4}}
    own = {"codes": TRANSFORMER["encoder"]} if encoder == "code_transformer" else {}
    tree = {
        "schema": "medmcl/recipe@1",
        "inputs": {"codes": inputs, "concepts": inputs},
        "towers": {"codes": tower, "concepts": tower},
        "stages": [
            {"stage": "factorise", "name": "pmi", "towers": ["codes", "concepts"]},
            {
                "stage": "train", "name": "tuned", "towers": ["codes"], "encoder": own,
                "vectors": {"codes": "pmi"}, "task": "died", "steps": 1, "batch_size": 16,
                "optimiser": {"name": "adamw", "lr": 1e-12, "weight_decay": 0.0},
                "objectives": {
                    "supervised": {"task": "died", "modalities": ["codes"], "view": "plain"},
                },
            },
        ],
    }  # fmt: skip
    path = folder / "recipe.yaml"
    path.write_text(yaml.safe_dump(tree))
    return path


def test_a_transformer_starts_from_the_vectors(hospital, tmp_path):
    run = unreported(hospital, recipe=with_vectors(tmp_path), out=tmp_path / "run")
    table = weights(run.path, "pmi")["model.towers.codes.encoder.table.weight"]
    started = weights(run.path, "tuned")["model.towers.codes.encoder.embed.weight"]
    ratio = started[2:, :4] / table[2:]
    torch.testing.assert_close(ratio, ratio[0, 0].expand_as(ratio), rtol=1e-3, atol=1e-5)
    assert started[:2].std() > 0  # padding and unknown codes have no vector: from the seed
    assert started[2:, :4].std() == pytest.approx(started[2:, 4:].std().item(), rel=0.3)


def test_an_encoder_without_code_embeddings_takes_no_vectors(hospital, tmp_path):
    recipe = with_vectors(tmp_path, encoder="lookup")
    with pytest.raises(ConfigError, match="takes no vectors"):
        medmcl.pretrain(hospital, recipe=recipe, out=tmp_path / "run")


def released(folder, hospital):
    """Vectors of a network: the codes' own, and those of a code nobody here has."""
    codes = medmcl.open_cohort(hospital).records["codes"]["place"]
    tokens = sorted({code for place in codes for code in place.values["codes"]})[:-1]
    vectors = np.random.default_rng(0).normal(size=(len(tokens) + 1, 4))
    table = TokenVectors.join({"codes": [*tokens, "ICD//elsewhere"]}, {"codes": vectors})
    folder.mkdir()
    table.save(folder / "vectors.parquet")
    facts = {"schema": "medmcl/token_vectors@1", "splits": ["held_out", "train"]}
    (folder / "embedding.json").write_text(json.dumps(facts), encoding="utf-8")
    return table


def test_vectors_of_a_network_embed_the_people_of_a_hospital(hospital, tmp_path, caplog):
    table = released(tmp_path / "vectors", hospital)
    overrides = {
        "stages.pmi_svd.embedded": str(tmp_path / "vectors"),
        "stages.pmi_svd.towers": ["codes"],
        **NOT_SCORED,
    }
    run = pretrain(hospital, tmp_path / "run", overrides=overrides, by=unreported)
    kept = weights(run.path, "pmi_svd")["model.towers.codes.encoder.table.weight"].numpy()
    for number, code in enumerate(run.preprocessing["codes"]["state"]["codes"]):
        row = table.find(code)
        expected = np.zeros(4) if row is None else table.vectors[row]
        np.testing.assert_allclose(kept[number], expected, atol=1e-6)
    assert not kept.any(axis=1).all()  # one code of this hospital has no vector
    said = "counted on splits held_out, train of their source"
    assert said in run.facts("pmi_svd")["sentence"]
    (line,) = (one for one in run_ledger(run, ["pmi_svd"]) if one.what.startswith("vectors"))
    assert line.note.endswith(said)
    assert "their held-out records went into the vectors" in caplog.text
    assert counted_on(["train"]) == "counted on split train of their source"
    assert counted_on(None).endswith("is not known here")
    assert "have no vector in" not in caplog.text
    narrow = {**overrides, "towers.codes.encoder.width": 3}
    with pytest.raises(ConfigError, match="another length"):
        pretrain(hospital, tmp_path / "other", overrides=narrow)


def test_codes_that_vectors_have_under_another_spelling_are_not_zeros_in_silence(
    hospital, tmp_path, caplog
):
    table = released(tmp_path / "vectors", hospital)
    tokens = [without_dots(one) if one[-2].isdigit() else one for one in table.tokens]
    other = TokenVectors.join({"codes": tokens}, {"codes": table.vectors})
    other.save(tmp_path / "vectors" / "vectors.parquet")
    overrides = {
        "stages.pmi_svd.embedded": str(tmp_path / "vectors"),
        "stages.pmi_svd.towers": ["codes"],
        **NOT_SCORED,
    }
    run = pretrain(hospital, tmp_path / "run", overrides=overrides, by=unreported)
    kept = weights(run.path, "pmi_svd")["model.towers.codes.encoder.table.weight"].numpy()
    none = int((~kept[2:].any(axis=1)).sum())
    (said,) = [one for one in caplog.messages if "have no vector in" in one]
    assert said.startswith(f"{none} of {len(kept) - 2} codes have no vector")
    assert "'ICD//12' is 'ICD//1.2'" in said or "'ICD//10' is 'ICD//1.0'" in said


def test_a_factorised_run_is_evaluated_on_another_hospital(claime, tmp_path):
    write_hospital(tmp_path / "other", seed=1)
    done = medmcl.evaluate(claime.path, tmp_path / "other", out=tmp_path / "report")
    assert {row.task for row in done.results} >= {"died"}


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("recipe", RECIPES)
def test_toy_recipes_of_codes_run_in_bf16_on_a_gpu(recipe, hospital, tmp_path):
    run = pretrain(hospital, tmp_path / "run", recipe, device="cuda", precision="bf16")
    rows = read_metrics(run.path / "metrics.jsonl")
    assert rows or recipe == "claime_toy"  # factors have no loss
    assert all(row["loss"] is not None and np.isfinite(row["loss"]) for row in rows)
    stage = "pmi_svd" if recipe == "claime_toy" else "contrast"
    assert all(torch.isfinite(value).all() for value in weights(run.path, stage).values())


def test_a_simulated_hospital_is_a_cohort_that_its_recipe_takes(tmp_path):
    """From codes to a report; its subjects have no column beside the split to describe."""
    settings = {"subjects": 200, "codes": 20, "concepts": 15}
    folder = medmcl.simulate("ehr", tmp_path / "ehr", settings)
    checked = medmcl.check(folder)
    assert [one for one in checked if one.level == "error"] == []
    events = pd.read_parquet(folder / "data")
    for name, prefix in (("codes", "CODE//"), ("concepts", "CUI//")):
        read = next(one for one in checked.overview.records if one.modality == name)
        assert read.read == events.subject_id[events.code.str.startswith(prefix)].nunique()
    run = medmcl.pretrain(
        folder, out=tmp_path / "run", overrides=TINY_EHR["claime_toy"], device="cpu"
    )
    assert (run.path / "report.html").is_file()
    assert medmcl.open_cohort(folder).spec.keys.recipe == "claime_toy"


def rewritten(folder, change, share=1.0):
    """Another hospital, of other ids, that writes a share of its people's ICD codes otherwise."""
    events, people = write_hospital(folder, seed=1)
    own = events["code"].str.startswith("ICD") & (events["subject_id"] < share * PEOPLE)
    events.loc[own, "code"] = events["code"][own].map(change)
    events["subject_id"] += 10_000
    people["subject_id"] += 10_000
    events.to_parquet(folder / "events.parquet", index=False)
    people.to_csv(folder / "people.tsv", sep="\t", index=False)
    return events[events["code"].str.startswith("ICD")]


def without_dots(code):
    """ICD//12 as ICD//1.2, which is a code of training but for its dot."""
    return f"{code[:-1]}.{code[-1]}"


def test_codes_that_are_spelt_otherwise_elsewhere_are_refused_with_their_spelling(
    claime, tmp_path, caplog
):
    events = rewritten(tmp_path / "c", without_dots)
    with pytest.raises(CohortError) as error:
        medmcl.evaluate(claime, tmp_path / "c", out=tmp_path / "x", device="cpu")
    said = str(error.value)
    assert f"{len(events):,} of {len(events):,} events have a code that training had not" in said
    first = events["code"].value_counts().index[0]
    assert f"{first!r} is {first.replace('.', '')!r}" in said
    with pytest.raises(CohortError, match="spelt otherwise"):
        claime.predict(tmp_path / "c", device="cpu")
    caplog.clear()
    claime.embed(tmp_path / "c", modality="codes", device="cpu")
    assert any("spelt otherwise" in one for one in caplog.messages)


@pytest.mark.parametrize(("events", "is_refused"), [(3, True), (4, False)])
def test_one_person_of_few_codes_that_are_spelt_otherwise_is_told(
    claime, tmp_path, events, is_refused
):
    folder = tmp_path / "c"
    rewritten(folder, without_dots)
    rows = [(10_000, without_dots("ICD//12"))] * 3 + [(10_000, "ICD//3"), (10_000, "CUI//3")]
    found = pd.DataFrame([*rows[:events], rows[4]], columns=["subject_id", "code"])
    found["time"] = pd.Timestamp("2019-01-01")
    found.to_parquet(folder / "events.parquet", index=False)
    people = pd.read_csv(folder / "people.tsv", sep="\t")
    people[:1].to_csv(folder / "people.tsv", sep="\t", index=False)
    if is_refused:
        with pytest.raises(CohortError, match=r"'ICD//1\.2' is 'ICD//12'"):
            claime.predict(folder, device="cpu")
        return
    notes = predict_people(claime, folder, device="cpu").notes
    assert any("3 of 4 events have a code that training had not" in one for one in notes)


def test_people_of_unknown_codes_alone_lie_outside_and_are_told(claime, tmp_path):
    rewritten(tmp_path / "c", lambda code: code.replace("ICD//", "ICD//Z"), share=0.4)
    found = predict_people(claime, tmp_path / "c", device="cpu")
    odd = found.table["subject"].astype(int) < 10_000 + 0.4 * PEOPLE
    assert found.table["outside"][odd].all()
    assert found.table["outside_of"][odd].str.contains("none of the codes of 30 events").all()
    assert not found.table["outside_of"][~odd].str.contains("none of the codes").any()
    share = f"{30 * int(0.4 * PEOPLE):,} of {30 * PEOPLE:,} events have a code"
    assert any(share in note for note in found.notes)
    codes = [one.code for one in check_people(claime, tmp_path / "c")]
    assert "codes.other_coding" in codes


def test_nothing_is_said_of_a_few_rare_codes(claime, tmp_path):
    rewritten(tmp_path / "c", lambda code: code.replace("ICD//", "ICD//Z"), share=0.1)
    found = predict_people(claime, tmp_path / "c", device="cpu")
    assert not any("a code that training had not" in note for note in found.notes)
    assert found.table["outside_of"].str.contains("none of the codes").sum() == 0.1 * PEOPLE
