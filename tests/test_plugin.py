"""A package outside adds parts by its entry points, and everything treats them as its own."""

import json
import os

import pandas as pd
import pytest
from plugin_package import PLUGIN, installed, medmcl, write_lungs
from started import started

from medmcl.selection import Keep

RECIPE = PLUGIN / "recipe.yaml"


@pytest.fixture(scope="module")
def environment(tmp_path_factory):
    return installed(tmp_path_factory.mktemp("package"))


def test_its_copied_files_are_found(environment, tmp_path):
    cohort = write_lungs(tmp_path / "cohort", people=30, copies=10)
    done = medmcl(environment, "check", "--cohort", cohort, "--recipe", RECIPE)
    assert done.returncode == 2, done.stderr
    assert "has exactly the content of record" in done.stdout + done.stderr


def test_it_is_trained_scored_and_predicted_like_what_ships(environment, tmp_path):
    cohort = write_lungs(tmp_path / "cohort")
    run = tmp_path / "run"
    done = pretrain(environment, tmp_path, "stages.results.bootstrap_draws=100",
                    "stages.results.probe.protocol=two_means")  # fmt: skip
    assert done.returncode == 0, done.stderr
    told = json.loads((run / "report.json").read_text(encoding="utf-8"))
    scored = {row["method"]: row["value"] for row in told["results"]
              if row["metric"] == "auroc" and not row["versus"]}  # fmt: skip
    assert {"aligned", "untrained"} <= {*scored}
    assert any(method.startswith("simple") for method in scored), "its plain features"
    assert scored["aligned"] > 0.8
    assert scored["whitened"] > 0.8
    ledger = (run / "fitted_on.csv").read_text(encoding="utf-8")
    assert "what stage white (whiten) learns from embeddings of align,train" in ledger
    ways = {row["protocol"] for row in told["results"] if row["method"] == "aligned"}
    assert ways == {"two_means"}
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert any("uniform/lungs" in row for row in lines)
    curve = run / "checkpoint" / "usual" / "mean_curve.csv"
    assert len(curve.read_text(encoding="utf-8").splitlines()) == 1 + 150
    pages = [(run / name).read_text(encoding="utf-8") for name in ("report.html", "appendix.html")]
    assert "Stage usual: mean_curve: keep the mean curve of train people." in "".join(pages)
    assert "what lungs (spirometry) learns: mean, deviation" in json.dumps(told)
    (likeness,) = told["likeness"]
    assert -1 <= likeness["value"] < 1
    assert "Two people are as alike as" in " ".join(told["headline"])
    assert "How alike people are" in "".join(pages)
    out = tmp_path / "people.csv"
    done = medmcl(environment, "predict", run, "--cohort", cohort, "--out", out, "--device", "cpu")
    assert done.returncode == 0, done.stderr
    predicted = pd.read_csv(out)
    assert len(predicted) == 80
    assert {*predicted["protocol"]} == {"two_means"}
    assert predicted["predicted"].between(0, 1).all()
    one = ("predict", run, "--record", f"lungs={cohort / 'lungs' / 'p3.csv'}", "--device", "cpu")
    done = medmcl(environment, *one, "--value", "calibration=1", "--out", tmp_path / "one.csv")
    assert done.returncode == 0, done.stderr
    assert pd.read_csv(tmp_path / "one.csv")["predicted"][0] == predicted["predicted"][3]
    without = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = medmcl(without, "predict", run, "--cohort", cohort, "--out", tmp_path / "no.csv")
    assert done.returncode == 2
    assert "pip install 'medmcl-spirometry==0.1.0'" in done.stderr


def test_its_scorer_chooses_pairs_and_its_selector_rows_of_batches(environment, tmp_path):
    recipe, run = PLUGIN / "selection.yaml", tmp_path / "run"
    write_lungs(tmp_path / "cohort")
    done = pretrain(environment, tmp_path, recipe=recipe)
    assert done.returncode == 0, done.stderr
    keep = Keep.load(run / "selection" / "chosen.parquet")
    scores = keep.scores["typical"]
    assert keep.kept.sum() == int(0.8 * len(keep))
    assert scores[keep.kept].min() >= scores[~keep.kept].max()
    assert "middle" in keep.provenance["teachers"]["teacher"]["scores"]["typical"]
    said = (run / "report.json").read_text(encoding="utf-8") + done.stdout + done.stderr
    assert "rows kept" in said
    slip = words_of(tmp_path, "stages.chosen.scores.typical.quantil=0.5", recipe=recipe, out="no")
    shown = ["recipes", recipe, "stages.chosen.scores.typical"]
    listed, refused = started(tmp_path, shown, slip, environment=environment)
    assert "quantile = 0.6" in listed.said
    assert refused.code == 2
    assert "did you mean 'quantile'" in refused.said


def test_parts_lists_it_and_says_whose_it_is(environment, tmp_path):
    names = ("flow_cnn", "spirometry", "two_means", "flow_cn")
    commands = [["parts"], *(["parts", name] for name in names)]
    every, *each = started(tmp_path, *commands, environment=environment)
    told = dict(zip(names, each, strict=True))
    assert [one.code for one in (every, *each)] == [0, 0, 0, 0, 2]
    for name in ("spirometry", "flow_cnn", "uniform", "mean_curve", "whiten", "two_means",
                 "likeness"):  # fmt: skip
        (line,) = [one for one in every.said.splitlines() if one.strip().startswith(name)]
        assert "medmcl-spirometry" in line
    assert "width" in told["flow_cnn"].said
    sections = ["in cohort.yaml", "time  (", "in a recipe", "seconds  (", "in a view", "effort  ("]
    places = [told["spirometry"].said.index(one) for one in sections]
    assert places == sorted(places)
    kinds = "for tasks of kind: binary, multilabel; probe: {protocol: two_means}"
    assert kinds in told["two_means"].said
    assert "did you mean 'flow_cnn'" in told["flow_cn"].said
    assert told["flow_cn"].said.count("clip_score,") == 1


def words_of(folder, *settings, recipe=RECIPE, out="run"):
    """Words that train on the cohort of a folder, with settings."""
    words = [word for one in settings for word in ("--set", one)]
    return ["pretrain", "--cohort", folder / "cohort", "--recipe", recipe, "--out", folder / out,
            "--device", "cpu", *words]  # fmt: skip


def pretrain(environment, folder, *settings, **more):
    """Train on the cohort of a folder, with settings."""
    return medmcl(environment, *words_of(folder, *settings, **more))


SLIPS = (
    (["inputs.lungs.rate_hertz=50"], "rate_hz"),
    (["towers.lungs.encoder.widht=8"], "did you mean 'width'"),
    (["stages.results.probe.protocol=two_mean"], "did you mean 'two_means'"),
    (["stages.results.likeness.modalty=lungs"], "did you mean 'modality'"),
    (["stages.usual.modality=lung"], "did you mean 'lungs'"),
    ([f"cohort.subjects.split.random.{split}=0.4" for split in ("tuning", "held_out")],
     "could show one of them"),
)  # fmt: skip


def test_a_mistake_in_its_settings_is_told_before_anything_is_read(environment, tmp_path):
    cohort = write_lungs(tmp_path / "cohort", people=12)
    check = ["check", "--cohort", cohort, "--recipe", RECIPE, "--set", *SLIPS[0][0]]
    commands = [words_of(tmp_path, *settings) for settings, _ in SLIPS]
    *each, checked = started(tmp_path, *commands, check, environment=environment)
    for (settings, told), done in zip(SLIPS, each, strict=True):
        assert done.code == 2, settings
        assert told in done.said
    assert checked.said.count("unknown key 'inputs.lungs.rate_hertz'") == 1


@pytest.mark.parametrize(
    ("changed", "words", "told"),
    [
        ({"medmcl.encoders": {"vit3": "medmcl_spirometry.nowhere:FlowCNN"}}, ["parts"],
         "cannot be imported"),
        ({"medmcl.encoders": {"small_cnn": "medmcl_spirometry.encoder:FlowCNN"}},
         ["parts"], "two parts are called 'small_cnn'"),
        ({"medmcl.modalities": {"spirometry": "broken_module:Spirometry"}}, ["parts"],
         "(package medmcl-spirometry): a part of another package cannot be imported: SyntaxError"),
        ({"medmcl.modalities": {"lung": "medmcl_spirometry.adapter:Spirometry"}}, ["parts"],
         "kind must be 'lung', as its entry point is called: it is 'spirometry'"),
        ({"medmcl.stages": {"mean_curves": "medmcl_spirometry.stage:MeanCurve"}}, ["parts"],
         "stage of its Settings must be Literal"),
        ({"medmcl.scorers": {"usual": "medmcl_spirometry.selection:Typical"}}, ["parts"],
         "kind of its Settings must be Literal"),
        ({"medmcl.stages": {"curve": "medmcl_spirometry.encoder:FlowCNN"}}, ["parts"],
         "the method run is missing"),
        ({"medmcl.encoders": {"mean": "medmcl_spirometry.stage:MeanCurve"}}, ["parts"],
         "the method forward is missing"),
        ({"medmcl.modality": {"lung": "medmcl_spirometry.adapter:Spirometry"}}, ["parts"],
         "nothing reads the entry points 'medmcl.modality'; did you mean 'medmcl.modalities'?"),
        ({"medmcl.aspects": {"far": "medmcl_spirometry.aspect:Far"}}, ["parts"],
         "cannot be imported"),
        ({"medmcl.aspects": {"folds": "medmcl_spirometry.aspect:Likeness"}},
         ["parts", "evaluate"], "called as something else of the evaluate stage is: 'folds'"),
    ],
)  # fmt: skip
def test_a_broken_package_is_named(changed, words, told, tmp_path):
    environment = installed(tmp_path, changed)
    (tmp_path / "site" / "broken_module.py").write_text("class Spirometry\n", encoding="utf-8")
    done = medmcl(environment, *words)
    assert done.returncode == 2
    assert told in done.stderr
    assert "Traceback" not in done.stderr
