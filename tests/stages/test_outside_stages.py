"""Stages of a package outside: what they may read, what is kept of them, what is said of them."""

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
import pandas as pd
import pytest

import medmcl
from medmcl.core.atomic import write_atomically
from medmcl.core.errors import ArtefactError, ConfigError, ContractError
from medmcl.core.lazy import package_digest
from medmcl.stages.recipe import spec as recipe_spec
from medmcl.stages.run.ledger import run_ledger
from medmcl.stages.run.run import embed_samples
from medmcl.stages.run.store import KEPT_IN
from medmcl.stages.stage import STAGES, Stage, StageSpec
from medmcl.stages.train.spec import TowersSpec

COHORT = """
schema: medmcl/cohort@1
subjects: {table: people.csv, id: id}
modalities:
  clinic: {reader: table, columns: [age, height]}
  blood: {reader: table, columns: [iron, salt]}
tasks:
  ill: {kind: binary, column: ill}
"""
TRAIN = {
    "stage": "train", "name": "align", "towers": ["clinic", "blood"], "batch_size": 8,
    "steps": 2, "objectives": {"cross_modal": {"view": "plain"}}, "optimiser": {"lr": 0.001},
}  # fmt: skip
EVALUATE = {
    "stage": "evaluate", "name": "results", "baselines": ["majority"], "bootstrap_draws": 100,
    "probe": {"modality": "clinic", "models": {"aligned": "align"}},
}  # fmt: skip


def recipe(*stages):
    tower = {"encoder": {"name": "tabular_mlp"}, "head": {"hidden": 8, "out": 4}}
    return {
        "schema": "medmcl/recipe@1", "name": "outside", "inputs": {"clinic": {}, "blood": {}},
        "towers": {"clinic": tower, "blood": tower}, "stages": [*stages],
    }  # fmt: skip


@pytest.fixture(scope="module")
def people(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("people")
    generator = np.random.default_rng(0)
    table = pd.DataFrame(generator.normal(size=(60, 4)), columns=["age", "height", "iron", "salt"])
    table["id"], table["ill"] = [f"p{n}" for n in range(60)], np.arange(60) % 2
    table.to_csv(folder / "people.csv", index=False)
    (folder / "cohort.yaml").write_text(COHORT, encoding="utf-8")
    return folder


@pytest.fixture
def bring(monkeypatch):
    """Add a stage as a package outside adds it, for one test."""

    def add(kind: str, part: type) -> None:
        monkeypatch.setitem(STAGES, kind, part)
        recipe_spec._stages.cache_clear()

    yield add
    recipe_spec._stages.cache_clear()


def pretrain(people, out, *stages, **more):
    return medmcl.pretrain(people, recipe=recipe(*stages), out=out, device="cpu", **more)


class PeekSpec(StageSpec):
    """Look at everybody."""

    stage: Literal["peek"]
    way: str = "none"
    of: str = "align"

    def sources(self) -> list[str]:
        return [self.of]


def everybody(prepared):
    return np.arange(len(prepared.splits))


WAYS = {
    "rows": lambda prepared, run, of: prepared.rows("held_out"),
    "batch": lambda prepared, run, of: prepared.batch(everybody(prepared)),
    "inputs": lambda prepared, run, of: np.asarray(prepared.inputs("clinic")).mean(),
    "some inputs": lambda prepared, run, of: prepared.inputs("clinic")[everybody(prepared)],
    "stored": lambda prepared, run, of: prepared.stored["clinic"].rows[:, 0],
    "embeddings": lambda prepared, run, of: embed_samples(
        run.towers(of, "cpu"), prepared, "clinic", everybody(prepared), "features", "cpu"
    ),
    "prepared anew": lambda prepared, run, of: run.prepare(prepared.cohort, ("clinic",)).batch(
        everybody(prepared)
    ),
}


class Peek(Stage[PeekSpec]):
    Settings = PeekSpec

    def run(self, prepared, context):
        if self.spec.way in WAYS:
            WAYS[self.spec.way](prepared, context.run, self.spec.of)
        seen = prepared.rows("train"), prepared.rows("tuning")
        values = prepared.inputs("clinic")[prepared.index("clinic")[np.concatenate(seen)]]
        labels = prepared.tasks("ill").known[prepared.splits == "held_out"]
        counted = {name: int(has.sum()) for name, has in prepared.present.items()}
        return {"labels": int(labels.sum()), "rows": len(values), "counted": counted}


@pytest.fixture(scope="module")
def aligned(people, tmp_path_factory):
    return pretrain(people, tmp_path_factory.mktemp("aligned") / "run", TRAIN)


@pytest.mark.parametrize("way", WAYS)
def test_a_stage_that_peeks_at_held_out_is_refused_by_name(way, people, aligned, bring, tmp_path):
    bring("peek", Peek)
    peek = {"stage": "peek", "name": "white", "way": way}
    with pytest.raises(ArtefactError, match=r"stage white \(peek\): the split 'held_out'"):
        pretrain(people, tmp_path / "run", TRAIN, peek, reuse=aligned)


class Slip(Peek):
    def dry_run(self, prepared, context):
        if self.spec.way == "slip in dry_run":
            raise KeyError("oops")

    def run(self, prepared, context):
        raise KeyError("oops")


@pytest.mark.parametrize("method", ["dry_run", "run"])
def test_a_stage_that_fails_unexpectedly_is_named_with_its_line(
    method, people, aligned, bring, monkeypatch, tmp_path
):
    bring("peek", Slip)
    peek = {"stage": "peek", "name": "white", "way": f"slip in {method}"}
    with pytest.raises(KeyError):  # one that ships shows where
        pretrain(people, tmp_path / "own", TRAIN, peek, reuse=aligned)
    monkeypatch.setattr(STAGES, "outside", {"peek": "elsewhere:Peek"})
    monkeypatch.setattr(STAGES, "package", lambda name: "elsewhere")
    with pytest.raises(ContractError) as caught:
        pretrain(people, tmp_path / "run", TRAIN, peek, reuse=aligned)
    assert f"stage white (peek, package elsewhere) failed in {method}" in str(caught.value)
    assert "KeyError: 'oops' (test_outside_stages.py, line" in str(caught.value)


def test_a_stage_counts_everybody_and_what_it_does_not_say_is_not_claimed(
    people, aligned, bring, tmp_path
):
    bring("peek", Peek)
    run = pretrain(
        people, tmp_path / "run", TRAIN, {"stage": "peek", "name": "white"}, reuse=aligned
    )
    facts = run.facts("white")
    assert facts["labels"] == 0
    assert facts["rows"] < facts["counted"]["clinic"] == 60
    (line,) = [line for line in run_ledger(run, ["white"]) if "white" in line.what]
    assert line.splits == ()
    assert "not said by the stage" in line.note
    assert TowersSpec.fitted is StageSpec.fitted, "what makes towers outside inherits no claim"


@dataclass(frozen=True)
class Note:
    """An artefact of a package outside, in a folder of its own."""

    text: str
    kept_in: ClassVar[str] = "notes"

    @property
    def fingerprint(self) -> str:
        return self.text

    def save(self, path: Path) -> None:
        write_atomically(path, self.text)

    @classmethod
    def load(cls, path: Path, *, cohort: str | None = None) -> "Note":
        return cls(path.read_text(encoding="utf-8"))


class NotingSpec(StageSpec):
    """Keep a note."""

    stage: Literal["noting"]


class Noting(Stage[NotingSpec]):
    Settings = NotingSpec

    def run(self, prepared, context):
        note = Note("read me")
        context.run.save(self.spec.name, note)
        return {"fingerprint": note.fingerprint}


def test_an_artefact_of_another_package_is_taken_over_and_missed(people, bring, tmp_path):
    bring("noting", Noting)
    noting = {"stage": "noting", "name": "white"}
    first = pretrain(people, tmp_path / "first", noting)
    assert first.facts("white")[KEPT_IN] == ["notes"]
    second = pretrain(people, tmp_path / "second", noting, reuse=first)
    assert second.artefact("white", Note) == Note("read me")
    with pytest.raises(ConfigError, match=r"stage 'white' \(noting\) gives no embeddings"):
        second.stage("white")
    second.file("white", Note).unlink()
    for ask in (
        lambda: second.artefact("white", Note),
        lambda: pretrain(people, second.path, noting, resume=True),
        lambda: pretrain(people, tmp_path / "third", noting, reuse=second),
    ):
        with pytest.raises(
            ArtefactError, match=r"notes/white\.parquet: there is no such file"
        ) as said:
            ask()
        assert "put the file back, or delete" in str(said.value)
    shutil.rmtree(second.checkpoints("white").folder)
    again = pretrain(people, second.path, noting, resume=True)
    assert again.artefact("white", Note) == Note("read me")


def test_a_probe_of_a_stage_without_embeddings_is_refused_before_anything_is_trained(
    people, bring, tmp_path
):
    bring("noting", Noting)
    probe = {"modality": "clinic", "models": {"whitened": "white", "aligned": "align"}}
    stages = [TRAIN, {"stage": "noting", "name": "white"}, {**EVALUATE, "probe": probe}]
    said = r"stage results, probe: stage 'white' \(noting\) gives no embeddings(.|\n)*one of: align"
    with pytest.raises(ConfigError, match=said):
        pretrain(people, tmp_path / "run", *stages)
    assert not (tmp_path / "run" / "checkpoint").exists()


class Odd(Noting):
    found: ClassVar[object] = None

    def run(self, prepared, context):
        return self.found


@pytest.mark.parametrize(
    ("facts", "got"),
    [(None, "None"), ({"rows": np.int64(3)}, r"rows: numpy\.int64"),
     ({"mean": np.zeros(2)}, r"mean: numpy\.ndarray")],
)  # fmt: skip
def test_facts_that_cannot_be_kept_are_refused_by_stage_and_package(
    facts, got, people, bring, monkeypatch, tmp_path
):
    bring("noting", Odd)
    monkeypatch.setattr(Odd, "found", facts)
    package = __name__.partition(".")[0]
    said = rf"stage white \(noting\), of the package {package}(.|\n)*{got}"
    with pytest.raises(ConfigError, match=said):
        pretrain(people, tmp_path / "run", {"stage": "noting", "name": "white"})


class TowersOfNothingSpec(TowersSpec):
    """Give towers and keep none."""

    stage: Literal["hollow"]


class Hollow(Stage[TowersOfNothingSpec]):
    Settings = TowersOfNothingSpec

    def run(self, prepared, context):
        return {"keep": "last"}


def test_a_finished_stage_that_saved_no_weights_is_not_told_to_finish(people, bring, tmp_path):
    bring("hollow", Hollow)
    hollow = {"stage": "hollow", "name": "white", "towers": ["clinic"]}
    run = pretrain(people, tmp_path / "run", hollow)
    with pytest.raises(ArtefactError, match="has no 'last' checkpoint") as said:
        run.model("white")
    assert "--resume" not in str(said.value)
    assert "save_learner" in str(said.value)


def test_a_run_whose_package_is_gone_says_which_one_it_was(people, bring, monkeypatch, tmp_path):
    bring("noting", Noting)
    packages = {"medmcl-notes": {"version": "0.3", "parts": {"medmcl.stages": ["noting"]}}}
    monkeypatch.setattr("medmcl.stages.run.pretrain.packages_with_parts", lambda: packages)
    run = pretrain(people, tmp_path / "run", {"stage": "noting", "name": "white"})
    assert medmcl.load(run.path).facts("white")
    monkeypatch.delitem(STAGES, "noting")
    with pytest.raises(ArtefactError, match="the stage 'noting', which is not installed") as said:
        medmcl.load(run.path)
    assert "pip install 'medmcl-notes==0.3'" in str(said.value)
    monkeypatch.setitem(STAGES, "noting", Noting)
    kept = run.tree("preprocessing")
    run.save_tree("preprocessing", {**kept, "wrist": {**kept["clinic"], "kind": "actigraphy"}})
    with pytest.raises(ArtefactError, match="the modality 'actigraphy', which is not installed"):
        medmcl.load(run.path)


def test_a_run_whose_package_has_changed_says_so(people, bring, monkeypatch, tmp_path, caplog):
    bring("noting", Noting)
    about = {"version": "0.3", "code": "a", "parts": {"medmcl.stages": ["noting"]}}
    now = {"medmcl-notes": about, "medmcl-unused": {**about, "parts": {"medmcl.stages": ["dot"]}}}
    monkeypatch.setattr("medmcl.stages.run.pretrain.packages_with_parts", lambda: dict(now))
    run = pretrain(people, tmp_path / "run", {"stage": "noting", "name": "white"})
    for code, times in (("a", 0), ("b", 1)):
        newer = {name: {**one, "code": code} for name, one in now.items()}
        monkeypatch.setattr("medmcl.stages.run.run.packages_with_parts", lambda: newer)  # noqa: B023
        medmcl.load(run.path)
        medmcl.load(run.path)
        told = [one for one in caplog.messages if "its code is another now" in one]
        assert len(told) == times
    assert "was made with medmcl-notes 0.3" in told[0]
    assert "what noting give" in told[0]


def test_code_of_a_package_is_told_by_its_files(tmp_path, monkeypatch):
    (tmp_path / "glucose_parts").mkdir()
    file = tmp_path / "glucose_parts" / "__init__.py"
    file.write_text("x = 1\n")
    monkeypatch.syspath_prepend(tmp_path)
    first = package_digest("glucose_parts")
    file.write_text("x = 2\n")
    assert len(first) == 16
    assert package_digest.__wrapped__("glucose_parts") != first
    assert package_digest("not_there_at_all") == ""
