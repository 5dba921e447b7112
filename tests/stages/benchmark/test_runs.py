"""``medmcl benchmark --run`` and ``--embeddings`` on small real runs, as a user types them."""

import shutil

import pandas as pd
import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file
from typed import answer

import medmcl
from medmcl.core.errors import ConfigError
from medmcl.stages.benchmark import board as board_file
from medmcl.stages.benchmark.benchmark import Benchmark
from medmcl.stages.benchmark.board import read_board
from medmcl.stages.benchmark.contenders import Field
from medmcl.stages.benchmark.suite import read_suite
from medmcl.stages.evaluate.overlap import began_with
from medmcl.stages.run.embed import EmbedCommand

NO_EVIDENCE = "NO EVIDENCE OF TRANSFER"
PLAIN = {"name": "resnet1d", "widths": [8, 16]}


@pytest.fixture(autouse=True)
def prepared_once(monkeypatch, tmp_path_factory):
    monkeypatch.setenv("MEDMCL_CACHE", str(tmp_path_factory.getbasetemp() / "prepared"))


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A cohort and a suite on it."""
    folder = tmp_path_factory.mktemp("runs")
    medmcl.simulate("heart", folder / "heart", {"subjects": 60, "cmr_file_size": 16})
    suite = {
        "schema": "medmcl/suite@1",
        "about": "A simulated heart",
        "cohort": str(folder / "heart"),
        "modality": "ecg",
        "dataset": "ukb:all",
        "tasks": {"large": {"kind": "binary", "column": "lv_ef > 55"}},
        "label_fractions": [1.0],
        "protocols": ["linear_probe"],
        "bootstrap_draws": 100,
    }
    (folder / "suite.yaml").write_text(yaml.safe_dump(suite))
    shutil.copytree(folder / "heart", folder / "ukb")
    said = (folder / "heart" / "cohort.yaml").read_text()
    (folder / "ukb" / "cohort.yaml").write_text(f"{said}\ndataset: ukb\n")
    return folder


def pretrained(place, name, encoder, inputs, steps=3, then=(), cohort=None, **overrides):
    """A run of a few small steps of SimCLR; ``then``: what a further stage changes, each."""
    views = {
        name: {"modalities": ["ecg"], "augment": {"ecg": {"noise": 0.05}}} for name in ("a", "b")
    }
    stage = {
        "stage": "train",
        "name": "alone",
        "towers": ["ecg"],
        "objectives": {"in_modal": {"modality": "ecg", "views": ["a", "b"]}},
        "batch_size": 16 if steps > 1 else 4,
        "steps": steps,
        "evaluate_every": 1000,
    }
    tower = {"encoder": encoder, "head": {"out": 8}}
    recipe = {
        "schema": "medmcl/recipe@1", "name": "tiny", "inputs": {"ecg": inputs}, "views": views,
        "towers": {"ecg": tower}, "stages": [stage, *({**stage, **more} for more in then)],
    }  # fmt: skip
    out = place / name
    given = {"recipe": recipe, "out": out, "device": "cpu", "overrides": overrides or None}
    medmcl.pretrain(cohort or place / "heart", **given)
    return out


@pytest.fixture(scope="module")
def mine(place):
    return pretrained(place, "mine", PLAIN, {"rate_hz": 100, "seconds": 5, "crop_seconds": 5})


@pytest.fixture(scope="module")
def board(place, mine):
    """The run, its vectors as `embed` writes them, and vectors of which nothing is known."""
    made, given = place / "made.parquet", place / "given.csv"
    asked = ["--cohort", place / "heart", "--out", made, "--modality", "ecg", "--device", "cpu"]
    assert answer("embed", mine, *asked).returncode == 0
    table = pd.read_parquet(made)
    columns = [name for name in table if name.startswith("e")]
    table[["subject", *columns]].round(3).to_csv(given, index=False)
    with pytest.MonkeyPatch.context() as patch:  # 8 people are scored: values would be withheld
        patch.setattr(board_file, "hidden_rows", lambda rows, *_: [*rows])
        said = answer(
            "benchmark", place / "suite.yaml", "--out", place / "board", "--run", mine,
            "--embeddings", f"made={made}", "--embeddings", given, "--device", "cpu",
        )  # fmt: skip
    assert said.returncode == 0, said.stderr
    return said, place / "board"


def test_a_run_stands_beside_itself_before_any_step(board):
    rows = read_board(board[1] / "leaderboard.json")
    scores = [row for row in rows if row.metric == "auroc" and not row.versus]
    assert {(row.name, row.kind) for row in scores} == {
        ("mine", "run"), ("random mine", "random"), ("made", "embeddings"),
        ("given", "embeddings"), ("simple features (ecg)", "simple features"),
    }  # fmt: skip
    assert len({(row.people, row.records, row.events) for row in scores}) == 1
    assert {(row.name, row.versus) for row in rows if row.versus} == {("mine", "random mine")}
    value = {row.name: row.value for row in scores}
    assert value["made"] == pytest.approx(value["mine"], abs=1e-12)  # the same vectors, by a file
    assert value["random mine"] != value["mine"]
    assert {row.command for row in rows} != {""}


def test_what_is_known_of_each_stands_in_every_row_and_first_on_the_page(board):
    said, folder = board
    rows = read_board(folder / "leaderboard.json")
    known = {row.name: (row.overlap, bool(row.mark)) for row in rows}
    assert known == {
        "mine": ("other parts seen", True),
        "random mine": ("not seen", False),
        "made": ("not known", True),
        "given": ("not known", True),
        "simple features (ecg)": ("not seen", False),
    }
    for name in known:
        assert len({row.mark for row in rows if row.name == name}) == 1
    head, *rest = (folder / "leaderboard.md").read_text().split("## ")
    for name in ("mine", "made", "given"):
        assert f"- {name}: {next(row.mark for row in rows if row.name == name)}" in head
        assert any(f"| {name} (!) |" in part for part in rest)
        assert f"mind {name}: " in said.stdout
    assert NO_EVIDENCE not in head


def test_a_run_is_fine_tuned_from_its_own_weights(place, mine, tmp_path):
    tree = yaml.safe_load((place / "suite.yaml").read_text())
    tree["finetune"] = {"steps": 2, "batch_size": 16, "frozen": ["ecg"]}  # nothing may move
    (tmp_path / "suite.yaml").write_text(yaml.safe_dump(tree))
    out = tmp_path / "board"
    asked = {"runs": [mine], "finetune": True, "device": "cpu"}
    rows = Benchmark(suite=str(tmp_path / "suite.yaml"), out=out, **asked).run()
    (tuned,) = {r.overlap for r in rows if (r.name, r.kind) == ("mine fine-tuned", "trained")}
    assert tuned == next(row.overlap for row in rows if row.name == "mine")
    (folder,) = {one.parent for one in out.glob("trained/*/config.yaml")}
    run, prefix = medmcl.load(folder), "encoder."
    found = run.tower(run.recipe.stages[0].name, "ecg")
    own = medmcl.load(mine).tower("alone", "ecg")
    assert any(key.startswith(prefix) for key in own)
    moves = ("running_mean", "running_var", "num_batches_tracked")
    for key in own:
        if key.startswith(prefix) and not key.endswith(moves):
            assert torch.equal(found[key], own[key])


@pytest.fixture(scope="module")
def insider(place):
    """A run that was pretrained on another split of the same people."""
    split = {"random": {"seed": 5, "tuning": 0.1, "held_out": 0.1}}
    inputs = {"rate_hz": 100, "seconds": 5, "crop_seconds": 5}
    return pretrained(place, "insider", PLAIN, inputs, **{"cohort.subjects.split": split})


@pytest.fixture(scope="module")
def later(place, encoder_file):
    """A run whose last stage goes on from one that began with weights whose card says: seen."""
    encoder = {"name": "turgut_ecg", "variant": "global_pool", "weights": str(encoder_file)}
    then = [{"name": "after", "start_from": {"ecg": "alone"}}]
    return pretrained(place, "later", encoder, {}, steps=1, then=then)


def test_vectors_of_a_run_say_with_which_weights_its_stages_began_first_of_all(
    later, place, tmp_path
):
    made, given = tmp_path / "made.parquet", {"modality": "ecg", "device": "cpu"}
    EmbedCommand(run=later, cohort=str(place / "heart"), out=made, **given).write()
    asked = {"embeddings": [f"made={made}"], "device": "cpu"}
    with pytest.raises(ConfigError, match="ECG-CMR pairs of UK Biobank"):
        Benchmark(suite=str(place / "suite.yaml"), out=tmp_path / "board", **asked).run()
    with pytest.raises(ConfigError, match="ECG-CMR pairs of UK Biobank"):
        medmcl.evaluate(None, place / "ukb", out=tmp_path / "out", **asked)


def test_a_tower_that_has_weights_before_any_step_is_not_called_random(
    place, mine, tmp_path, monkeypatch
):
    encoder = medmcl.load(mine).towers("alone", torch.device("cpu")).tower("ecg").encoder
    monkeypatch.setattr(type(encoder), "pretrained", True, raising=False)
    cohort = read_suite(place / "suite.yaml")[1].open()
    asked = {"modality": "ecg", "folder": tmp_path, "records": cohort.fingerprint, "device": "cpu"}
    own, first = Field(cohort=cohort, **asked).run(mine)
    assert (own.beside, first.kind, first.overlap.status) == (first.name, "model", "not known")
    assert first.name == "mine before training"


def test_of_weights_of_no_card_nothing_is_known(place, mine, tmp_path):
    (saved,) = mine.glob("checkpoint/alone/step-*/weights.safetensors")
    own = {
        name.removeprefix("model.towers.ecg.encoder."): x for name, x in load_file(saved).items()
    }
    save_file(own, tmp_path / "w.safetensors")
    then = [{"name": "own", "weights": {"ecg": {"path": str(tmp_path / "w.safetensors")}}}]
    inputs = {"rate_hz": 100, "seconds": 5, "crop_seconds": 5}
    run = medmcl.load(pretrained(place, "other", PLAIN, inputs, steps=1, then=then))
    assert run.began_with("own") == {"ecg": {}}
    assert {k: one.status for k, one in began_with(run, "ukb").items()} == {"own": "not known"}


@pytest.mark.parametrize(
    ("who", "why"),
    [("insider", "trained on"), ("later", "ECG-CMR pairs of UK Biobank")],
)
def test_a_run_that_saw_who_is_scored_is_refused_and_else_marked_everywhere(
    who, why, place, request, tmp_path
):
    run = request.getfixturevalue(who)
    asked = ["benchmark", place / "suite.yaml", "--run", run, "--device", "cpu"]
    refused = answer(*asked, "--out", tmp_path / "board")
    assert refused.returncode == 2
    assert "no evidence of transfer" in refused.stderr
    assert "--allow-overlap" in refused.stderr
    said = answer(*asked, "--out", tmp_path / "board", "--allow-overlap")
    assert said.returncode == 0, said.stderr
    assert f"mind {who}: {NO_EVIDENCE}" in said.stdout
    rows = read_board(tmp_path / "board" / "leaderboard.json")
    own = [row for row in rows if row.name == who]
    assert own
    assert all(row.overlap == "seen" and row.mark.startswith(NO_EVIDENCE) for row in own)
    assert all(why in row.mark for row in own)
    assert all(not row.mark for row in rows if row.name == f"random {who}")
    assert f"- {who}: {NO_EVIDENCE}" in (tmp_path / "board" / "leaderboard.md").read_text()


def test_a_list_names_a_run_as_rows_do(place, mine, tmp_path):
    cohort = medmcl.open_cohort(place / "heart")
    held = cohort.samples[cohort.samples["split"] == "held_out"]["subject"]
    (tmp_path / "ids.csv").write_text("subject\n" + "\n".join(held[:2]) + "\n")
    asked = ["benchmark", place / "suite.yaml", "--out", tmp_path / "board", "--run", mine]
    refused = answer(*asked, "--pretrained-on", f"mine={tmp_path / 'ids.csv'}", "--device", "cpu")
    assert refused.returncode == 2
    assert f"mine (pretrained on 2 of {len(held)} people scored" in refused.stderr


def test_evaluate_refuses_and_marks_a_run_by_a_list_alike(place, mine, tmp_path):
    cohort = medmcl.open_cohort(place / "heart")
    held = cohort.samples[cohort.samples["split"] == "held_out"]["subject"]
    (tmp_path / "ids.csv").write_text("subject\n" + "\n".join(held[:2]) + "\n")
    asked = ["evaluate", mine, "--cohort", place / "heart", "--out", tmp_path / "report"]
    asked += ["--pretrained-on", tmp_path / "ids.csv", "--device", "cpu", "--task", "lvef"]
    refused = answer(*asked)
    assert refused.returncode == 2
    assert f"pretrained on 2 of {len(held)} people scored" in refused.stderr
    said = answer(*asked, "--allow-overlap")
    assert said.returncode == 0, said.stderr
    rows = pd.read_csv(tmp_path / "report" / "results.csv")
    marked = rows["note"].fillna("").str.contains(NO_EVIDENCE)
    assert set(rows["method"][marked & rows["versus"].isna()]) == {"tiny"}
    assert marked[rows["versus"] == "tiny"].all()
    assert NO_EVIDENCE in (tmp_path / "report" / "report.html").read_text()
