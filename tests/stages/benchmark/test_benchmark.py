"""``medmcl benchmark`` on a simulated cohort, by a suite of its own."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from published_weights import save
from small_encoder import weights_of
from typed import answer

import medmcl
from medmcl.core.errors import ArtefactError, ConfigError
from medmcl.data.cohort.cohort import dataset_under
from medmcl.encoders.published.card import find_variant
from medmcl.encoders.published.ecg_jepa import ECGJEPA
from medmcl.encoders.published.overlap import overlap_of, overlap_of_provenance
from medmcl.stages.benchmark import contenders
from medmcl.stages.benchmark.benchmark import Benchmark
from medmcl.stages.benchmark.board import Row, read_board
from medmcl.stages.evaluate.overlap import AskedModel, dataset_of, scored_dataset
from medmcl.stages.recipe.settings import with_settings
from medmcl.stages.run.outputs import write_table

MODEL, RANDOM = "turgut_ecg:global_pool", "random turgut_ecg:global_pool"
SIMPLE = "simple features (ecg)"


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cohort") / "heart"
    medmcl.simulate("heart", folder, {"subjects": 60, "cmr_file_size": 16})
    return folder


@pytest.fixture(scope="module")
def suite(tmp_path_factory):
    tree = {
        "schema": "medmcl/suite@1",
        "about": "A simulated heart",
        "cohort": "none",
        "modality": "ecg",
        "dataset": "ukb:all",
        "tasks": {"large": {"kind": "binary", "column": "lv_ef > 55"}},
        "label_fractions": [0.5, 1.0],
        "draws": 2,
        "random_seeds": 2,
        "bootstrap_draws": 100,
        "scratch": {
            "inputs": {"rate_hz": 100, "seconds": 5},
            "encoder": {"name": "resnet1d", "widths": [8]},
            "train": {"epochs": 1, "batch_size": 16},
        },
        "finetune": {"epochs": 1, "batch_size": 16},
        "disturbances": {"flat": {"flat_leads": ["V1", "V2"]}, "noise": {"noise_mv": 0.2}},
    }
    file = tmp_path_factory.mktemp("suite") / "heart.yaml"
    file.write_text(yaml.safe_dump(tree))
    return file


@pytest.fixture(scope="module")
def weights(encoder_file):
    return encoder_file


@pytest.fixture(autouse=True)
def prepared_once(monkeypatch, tmp_path_factory):
    monkeypatch.setenv("MEDMCL_CACHE", str(tmp_path_factory.getbasetemp() / "prepared"))


def benchmark(suite, cohort, out, **more):
    given = {"device": "cpu", "command": "medmcl benchmark", **more}
    return Benchmark(suite=str(suite), cohort=str(cohort), out=out, **given).run()


@pytest.fixture(scope="module")
def disturbances():
    """What was embedded anew for `board`, a pair of encoder and disturbance each."""
    return []


@pytest.fixture(scope="module")
def scored():
    """The rows of `board` as they were found: files withhold numbers of few people."""
    return []


@pytest.fixture(scope="module")
def board(cohort, suite, weights, tmp_path_factory, disturbances, scored):
    out = tmp_path_factory.mktemp("board") / "out"
    embed = contenders.disturbed

    def told(found, how):
        disturbances.append((str(found.made_by), str(how)))
        return embed(found, how)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(contenders, "disturbed", told)
        patch.setenv("MEDMCL_CACHE", str(tmp_path_factory.getbasetemp() / "prepared"))
        scored += benchmark(
            suite, cohort, out, models=[f"{MODEL}:{weights}"], allow_overlap=True, disturbed=True
        )
    return out


def test_a_model_stands_beside_a_random_encoder_and_simple_features(board, scored):
    rows = scored
    assert [(r.name, r.metric) for r in read_board(board / "leaderboard.json")] == [
        (r.name, r.metric) for r in rows
    ]
    scores = [
        r for r in rows if r.metric == "auroc" and not r.versus and r.condition == "as recorded"
    ]
    assert {(r.name, r.kind, r.protocol) for r in scores} == {
        (MODEL, "model", "linear_probe"),
        (MODEL, "model", "knn"),
        (RANDOM, "random", "linear_probe"),
        (RANDOM, "random", "knn"),
        (SIMPLE, "simple features", "linear_probe"),
    }
    assert {r.label_fraction for r in scores} == {0.5, 1.0}
    assert len({(r.people, r.records, r.events) for r in scores}) == 1  # the same people
    assert {r.seeds for r in scores if r.name == RANDOM and r.label_fraction == 1} == {2}
    assert all(r.seed_spread is not None for r in scores if r.name == RANDOM)
    assert all(r.command == "medmcl benchmark" for r in rows)
    apart = [r for r in rows if r.versus]
    assert {(r.name, r.versus) for r in apart} == {(MODEL, RANDOM)}
    assert {"calibration_slope", "brier"} <= {r.metric for r in rows}


def test_kept_vectors_that_are_not_what_was_written_are_made_again(
    board, cohort, suite, weights, caplog
):
    out = board.parent / "again"
    shutil.copytree(board, out)
    file = next(file for file in (out / "vectors").glob("*.parquet"))
    table = pd.read_parquet(file)
    table[[name for name in table if name[1:].isdecimal()]] = 0.0
    table.to_parquet(file)
    benchmark(suite, cohort, out, models=[f"{MODEL}:{weights}"], allow_overlap=True, overwrite=True)
    assert f"{file} is not what was written" in caplog.text

    def values(folder):
        rows = read_board(folder / "leaderboard.json")
        return {(r.name, r.protocol, r.label_fraction, r.target, r.metric, r.versus): r.value
                for r in rows if r.condition == "as recorded"}  # fmt: skip

    assert values(out) == values(board)


@pytest.mark.usefixtures("board")
def test_disturbed_records_are_scored_by_the_same_probes_on_the_same_people(scored):
    rows = [r for r in scored if r.metric == "auroc" and not r.versus]
    for condition in ("flat", "noise"):
        found = {(r.name, r.protocol): r for r in rows if r.condition == condition}
        assert {name for name, _ in found} == {MODEL, RANDOM}
        for (name, protocol), row in found.items():
            (plain,) = [
                r for r in rows
                if (r.name, r.protocol, r.condition) == (name, protocol, "as recorded")
                and r.label_fraction == 1
            ]  # fmt: skip
            assert (row.people, row.events) == (plain.people, plain.events)
    noisy = {r.condition: r.value for r in rows if r.name == MODEL and r.protocol == "linear_probe"}
    assert len(set(noisy.values())) > 1


def test_disturbed_records_are_embedded_once_for_all_protocols(board, disturbances):
    assert len(disturbances) == len(set(disturbances)) == 2 * 2  # encoders and disturbances


def test_what_may_have_been_seen_is_marked_in_rows_and_page_and_refused_otherwise(
    board, cohort, suite, weights, tmp_path
):
    rows = read_board(board / "leaderboard.json")
    assert all(("NO EVIDENCE OF TRANSFER" in r.mark) == (r.name == MODEL) for r in rows)
    assert {r.overlap for r in rows if r.name == MODEL} == {"seen"}
    assert "no commercial use" in next(r.terms for r in rows if r.name == MODEL)
    page = (board / "leaderboard.md").read_text()
    assert "NO EVIDENCE OF TRANSFER" in page.split("## ")[0]
    assert f"{MODEL} (!)" in page
    with pytest.raises(ConfigError, match="no evidence of transfer") as refused:
        benchmark(suite, cohort, tmp_path / "out", models=[f"{MODEL}:{weights}"])
    assert "--allow-overlap" in str(refused.value)
    assert not (tmp_path / "out" / "leaderboard.json").exists()


def test_vectors_keep_whose_they_are_and_are_refused_like_the_model(
    board, scored, cohort, suite, tmp_path
):
    kept = sorted((board / "vectors").glob("*.parquet"))
    made = {one: pd.read_parquet(one).attrs for one in kept}
    (own,) = [one for one, said in made.items() if "seen" in said["medmcl"]["made_by"]]
    with pytest.raises(ConfigError, match="no evidence of transfer"):
        benchmark(suite, cohort, tmp_path / "out", embeddings=[f"mine={own}"])
    rows = benchmark(
        suite, cohort, tmp_path / "out", embeddings=[f"mine={own}"], allow_overlap=True
    )
    again = {
        (r.name, r.protocol): r.value for r in rows if r.metric == "auroc" and r.label_fraction == 1
    }
    plain = [r for r in scored if r.metric == "auroc" and r.condition == "as recorded"]
    for row in plain:
        if (row.name, row.label_fraction, row.versus) == (MODEL, 1, ""):
            assert again["mine", row.protocol] == pytest.approx(row.value, abs=1e-12)
    with pytest.raises(ArtefactError, match="holds a leaderboard"):
        benchmark(suite, cohort, tmp_path / "out", random=["turgut_ecg"])


def test_vectors_of_other_files_are_marked_in_rows_and_page(board, cohort, suite, tmp_path):
    kept = [pd.read_parquet(one) for one in sorted((board / "vectors").glob("*.parquet"))]
    table = next(one for one in kept if "seen" not in one.attrs["medmcl"]["made_by"])
    records = table.attrs["medmcl"]["records"]
    table.attrs["medmcl"]["records"] = [[who, record, "0"] for who, record, _ in records]
    write_table(table, tmp_path / "x.parquet")
    given = {"embeddings": [f"x={tmp_path / 'x.parquet'}"], "protocols": ["linear_probe"]}
    rows = benchmark(suite, cohort, tmp_path / "out", label_fractions=[1.0], **given)
    said = "made of other files of these records than the cohort has now"
    assert {row.mark.endswith(said) for row in rows if row.name == "x"} == {True}
    assert not any(said in row.mark for row in rows if row.name != "x")
    head = (tmp_path / "out" / "leaderboard.md").read_text().partition("## large")[0]
    assert head.count(said) == 1


def test_the_command_may_name_another_modality(suite, cohort, tmp_path):
    tree = yaml.safe_load(suite.read_text())
    for key in ("scratch", "finetune", "disturbances"):
        del tree[key]
    (tmp_path / "any.yaml").write_text(yaml.safe_dump(tree))
    given = {"label_fractions": [1.0], "protocols": ["linear_probe"]}
    out = tmp_path / "out"
    rows = benchmark(tmp_path / "any.yaml", cohort, out, modality="cmr", **given)
    assert {row.name for row in rows} == {"simple features (cmr)"}
    with pytest.raises(ConfigError, match=r"(?s)about 'ekg'.*mean 'ecg'.*--modality NAME"):
        benchmark(tmp_path / "any.yaml", cohort, tmp_path / "other", modality="ekg")


def test_networks_trained_for_the_task_stand_beside(suite, cohort, weights, tmp_path):
    out = tmp_path / "out"
    given = {"models": [f"{MODEL}:{weights}"], "allow_overlap": True, "protocols": ["linear_probe"]}
    rows = benchmark(suite, cohort, out, scratch=True, finetune=True, **given)
    scores = [r for r in rows if r.metric == "auroc" and not r.versus]
    found = {r.name: r for r in scores if r.kind == "trained"}
    assert set(found) == {"from scratch", f"{MODEL} fine-tuned"}
    assert {r.protocol for r in found.values()} == {"trained for the task"}
    assert len({(r.people, r.events) for r in scores}) == 1
    assert found[f"{MODEL} fine-tuned"].overlap == "seen"
    assert found["from scratch"].mark == ""
    again = benchmark(suite, cohort, out, scratch=True, protocols=["linear_probe"], overwrite=True)
    assert {r.value for r in again if (r.name, r.metric) == ("from scratch", "auroc")} == {
        found["from scratch"].value
    }


def test_a_file_that_changed_is_fine_tuned_anew(suite, cohort, tmp_path):
    out, file = tmp_path / "out", tmp_path / "w.pth"

    def fine_tuned(seed):
        save(weights_of("global_pool", seed), file, "model")
        rows = benchmark(suite, cohort, out, models=[f"{MODEL}:{file}"], finetune=True,
                         allow_overlap=True, overwrite=True, label_fractions=[1.0])  # fmt: skip
        return [row.value for row in rows if row.name == f"{MODEL} fine-tuned"]

    first = fine_tuned(1)
    assert first
    assert fine_tuned(2) != first
    assert fine_tuned(1) == first
    assert len(list((out / "trained").iterdir())) == 2


def test_the_command_lists_suites_and_refuses_an_unknown_task(suite, cohort, tmp_path):
    assert "ptbxl: The six tasks" in answer("benchmark").stdout
    found = answer("benchmark", suite, "--out", tmp_path / "o", "--task", "larg")
    assert found.returncode == 2
    assert "no task 'larg'" in found.stderr


def test_a_row_is_written_whole(board):
    table = pd.read_csv(board / "leaderboard.csv")
    kept = json.loads((board / "leaderboard.json").read_text())
    assert len(table) == len(kept)
    assert list(table.columns) == list(Row.__dataclass_fields__)
    assert not np.isinf(table["value"]).any()
    row = read_board(board / "leaderboard.json")[0]
    same = replace(row, value=0.5, low=0.5, high=0.5, versus="", note="constant prediction")
    assert same.shown == "0.500 (0.500 to 0.500), constant prediction"
    assert "constant" not in replace(same, note="").shown


@pytest.mark.parametrize(
    ("dataset", "status"),
    [
        ("ptbxl:fold 10", "other parts seen"),
        ("ptbxl:fold 3", "seen"),
        ("ptbxl", "seen"),
        ("mnist", "not known"),
        ("sph", "not seen"),
        (None, "not known"),
    ],
)
def test_parts_of_a_data_set_may_be_clean(dataset, status):
    seen, clean = {"ptbxl": "folds 1 to 8"}, ["ptbxl:fold 9", "ptbxl:fold 10", "sph"]
    assert overlap_of(dataset, seen, clean).status == status
    of_run = {"recipe": "mine", "published": {"ecg": {"seen": seen, "clean": clean}}}
    of_its_own = "seen" if status == "seen" else "not known"  # whom the run itself learned from
    assert overlap_of_provenance(dataset, of_run).status == of_its_own
    assert overlap_of_provenance(dataset, {}).status == "not known"


@pytest.mark.parametrize(
    ("dataset", "status"),
    [("cinc2021", "seen"), ("PTB-XL", "seen"), ("ptb-xl:fold 10", "seen"), ("code15", "not seen"),
     ("CODE-15", "not seen"), ("mine", "not known"), ("chapman", "seen"), ("CPSC", "seen"),
     ("g12ec", "seen"), ("ptbdb", "seen"), ("cinc 2020", "seen"), ("physionet2021", "seen"),
     ("ptbxl_100:fold 10", "seen"), ("MIMIC IV", "seen"), ("UK Biobank", "not known")],
)  # fmt: skip
def test_a_data_set_is_known_by_any_spelling_and_by_what_it_is_made_of(dataset, status):
    card, _ = find_variant("ecg_fm")
    assert overlap_of(dataset, card.seen, card.clean).status == status


@pytest.mark.parametrize(
    ("overrides", "said"),
    [({}, "a:fold 1"), ({"cohort.on_bad_record": "exclude"}, "a:fold 1"),
     ({"cohort.subjects.split": {"column": "x"}}, "a"), ({"subjects.split.held_out": ["1"]}, "a"),

     ({"cohort.subjects.split": "x", "cohort.dataset": "b:c"}, "b:c")],
)  # fmt: skip
def test_a_part_of_a_data_set_is_scored_by_the_split_of_the_file_alone(
    overrides, said, cohort, tmp_path
):
    assert dataset_under("a:fold 1", overrides) == said


@pytest.mark.parametrize(
    ("overrides", "in_recipe", "said"),
    [({}, None, "ukb:fold 1"), ({"evaluate.folds": "5 x 1"}, None, "ukb"), ({}, "5 x 2", "ukb"),
     ({"evaluate.folds": "none"}, "5 x 2", "ukb:fold 1")],
)  # fmt: skip
def test_in_folds_anybody_of_a_data_set_is_scored(overrides, in_recipe, said, cohort, tmp_path):
    tree = yaml.safe_load((cohort / "cohort.yaml").read_text())
    file = tmp_path / "cohort.yaml"
    file.write_text(yaml.safe_dump({**tree, "dataset": "ukb:fold 1"}))
    given = {} if in_recipe is None else {"folds": in_recipe}
    spec = with_settings({"stage": "evaluate", "name": "results", **given}, overrides)
    assert dataset_of(file, overrides, [spec]) == said
    opened = medmcl.open_cohort(file, {"data_root": str(cohort)})
    assert scored_dataset(opened, spec) == said


def test_a_random_encoder_has_the_sizes_of_the_file_it_stands_beside(cohort, suite, tmp_path):
    sizes = {"width": 24, "depth": 2, "heads": 2}
    torch.manual_seed(0)
    net = ECGJEPA(**sizes).state_dict()
    config = {"channel_size": 5000, "patch_size": 25, "dim": 24, "depth": 2, "num_heads": 2,
              "mlp_ratio": 4.0}  # fmt: skip
    file = tmp_path / "w.pth"
    torch.save(
        {"model": {f"target_encoder.{n}": x for n, x in net.items()}, "config": config}, file
    )
    rows = benchmark(suite, cohort, tmp_path / "out", models=[f"ecg_jepa:{file}"],
                     label_fractions=[1.0], allow_overlap=True)  # fmt: skip
    beside = "random ecg_jepa of the sizes of its file"
    assert {row.versus for row in rows if row.versus} == {beside}
    widths = [pd.read_parquet(one).filter(regex=r"^e\d+$").shape[1]
              for one in (tmp_path / "out" / "vectors").glob("*.parquet")]  # fmt: skip
    assert widths == [24] * 3  # the model, and two draws of first weights


def test_a_cohort_opened_by_another_split_is_no_part_of_its_data_set(cohort, tmp_path):
    tree = yaml.safe_load((cohort / "cohort.yaml").read_text())
    file = tmp_path / "cohort.yaml"
    file.write_text(yaml.safe_dump({**tree, "dataset": "ukb:fold 1"}))
    opened = medmcl.open_cohort(file, {"data_root": str(cohort)})
    assert opened.spec.keys.dataset == "ukb:fold 1"
    split = {"random": {"seed": 3, "tuning": 0.2, "held_out": 0.3}}
    opened = medmcl.open_cohort(file, {"data_root": str(cohort), "cohort.subjects.split": split})
    assert opened.spec.keys.dataset == "ukb"


def test_data_sets_are_compared_whatever_they_are_called():
    assert overlap_of("UK Biobank", {"ukb": "x"}, []).status == "seen"
    assert overlap_of("ukbb", {"UKB": ""}, []).status == "seen"
    assert (
        overlap_of("ptbxl:Fold-10", {"ptbxl": ""}, ["PTB-XL:fold 10"]).status == "other parts seen"
    )
    assert overlap_of("ningbo", {"PhysioNet 2021": ""}, []).status == "seen"  # which has it
    assert "did you mean 'ptbxl'" in overlap_of("ptb_xll", {}, []).said
    assert "did you mean" not in overlap_of("sph", {}, []).said
    assert "did you mean" not in overlap_of("stpauls", {"ours": ""}, []).said


def test_every_card_says_of_ptbxl_what_the_literature_does():
    said = {name: medmcl.models.card(name) for name in medmcl.models.names()}
    found = {name: overlap_of("ptbxl:fold 10", c.seen, c.clean).status for name, c in said.items()}
    assert found["ecg_fm"] == found["hubert_ecg"] == "seen"
    assert found["ecg_jepa"] == "other parts seen"
    for name in ("ecgfounder", "merl", "st_mem", "turgut_ecg"):
        assert found[name] == "not seen"


def test_two_files_of_one_model_stand_beside_each_other_by_their_labels(
    suite, cohort, weights, tmp_path
):
    other = save(weights_of("global_pool"), tmp_path / "other.pth", "model")
    twins = [f"{MODEL}:{weights}", f"{MODEL}:{other}"]
    with pytest.raises(ConfigError, match="two models are called alike") as refused:
        benchmark(suite, cohort, tmp_path / "out", models=twins, allow_overlap=True)
    assert f"--model LABEL={MODEL}:{other}" in str(refused.value)
    with pytest.raises(ConfigError, match=r"mine \(trained on ukb"):
        benchmark(suite, cohort, tmp_path / "out", models=[twins[0], f"mine={twins[1]}"])
    rows = benchmark(suite, cohort, tmp_path / "out", models=[twins[0], f"mine={twins[1]}"],
                     allow_overlap=True, label_fractions=[1.0], protocols=["knn"])  # fmt: skip
    value = {row.name: row.value for row in rows if row.metric == "auroc" and not row.versus}
    assert value["mine"] == value[MODEL]
    assert {row.versus for row in rows if row.name == "mine"} == {"", RANDOM}
    with pytest.raises(ConfigError, match="linear_probe"):
        benchmark(suite, cohort, tmp_path / "no", random=["turgut_ecg"], protocols=["lin"])


@pytest.mark.parametrize(
    ("text", "label"),
    [("ecg_jepa:vitxs:a=b.pth", ""), ("mine=ecg_jepa:f.pth", "mine"), ("ecg_jepa:f.pth", "")],
)
def test_a_label_stands_before_the_model(text, label):
    assert AskedModel.of(text) == AskedModel(label, text.removeprefix(f"{label}="))


def test_tasks_without_classes_are_left_out_and_told_or_refused_by_name(
    cohort, suite, tmp_path, caplog
):
    tree = yaml.safe_load(suite.read_text()) | {"tasks": {}, "protocols": ["linear_probe"]}
    file = tmp_path / "own.yaml"
    file.write_text(yaml.safe_dump(tree))
    kinds = {name: one.kind for name, one in medmcl.open_cohort(cohort).spec.tasks.items()}
    event = next(name for name, kind in kinds.items() if kind == "survival")
    with pytest.raises(ConfigError, match=rf"tasks of classes(.|\n)*{event} \(survival\)"):
        Benchmark(suite=str(file), out=tmp_path / "a", cohort=str(cohort), tasks=[event]).run()
    rows = Benchmark(suite=str(file), out=tmp_path / "b", cohort=str(cohort)).run()
    assert {row.task for row in rows} == {
        name for name, kind in kinds.items() if kind not in ("survival", "regression")
    }
    said = f"{event}: left out, a task of survival"
    assert said in caplog.text
    assert said in (tmp_path / "b" / "leaderboard.md").read_text()
