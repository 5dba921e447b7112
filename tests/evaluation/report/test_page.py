from __future__ import annotations

import dataclasses
import json
import re

import numpy as np
import pandas as pd
import pytest
from made_report import binary_evidence, one_row

from medmcl.core.findings import Finding
from medmcl.evaluation.aspects.retrieval.measure import retrieval
from medmcl.evaluation.metrics.calibration_curve import calibration
from medmcl.evaluation.metrics.intervals import Resampling
from medmcl.evaluation.models.strength import ALIKE
from medmcl.evaluation.protocol.evaluation import Evaluation
from medmcl.evaluation.protocol.evidence import SubgroupRow, TaskEvidence
from medmcl.evaluation.report.files import as_json
from medmcl.evaluation.report.model_card import model_card
from medmcl.evaluation.report.page import pages, write_report
from medmcl.evaluation.report.sections import headline
from medmcl.evaluation.report.tripod import checklist

EVIL = '<script>alert("x")</script> & $\\frac{1}{$ 心 --> {{ 7 * 7 }}'


def full(text="ecg"):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(30, 4))
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    return Evaluation(
        title=text,
        subtitle=text,
        provenance={"recipe": text, "cohort": text, "versions": {text: 1.0}},
        flow=[(text, 10, 12), ("all", 8, 9)],
        missingness=pd.DataFrame({text: [True, False] * 6, "cmr": [True] * 12}),
        findings=[Finding(code=text, where=text, what=text, fix=text)],
        curves={
            text: [
                {"step": 1, "split": "train", "loss": 2.0},
                {"step": 2, "split": "train", "loss": float("nan")},
                {"step": 2, "split": "tuning", "loss": 1.5, f"effective_rank/{text}": 3.0},
            ]
        },
        geometry=[{"stage": text, "step": 1, "modality": text, "effective_rank": 2.0}],
        embedding_map={
            "points": x,
            "modality": text,
            "colours": {text: [text, None, "b"] * 10, "ef": rng.normal(size=30)},
        },
        results=[
            *retrieval(x, x, names=(text, "cmr"), method=text, resampling=Resampling(draws=20)),
            one_row(method=text, task=text, target=text, note=text),
            one_row(method="scratch", task=text, target=text, value=None, low=None, high=None),
            one_row(method="scratch", task=text, target=text, versus=text, value=-0.1, low=-0.2,
                   high=0.0),
        ],
        shown={"maps": [(rng.random((2, 8, 8)), rng.normal(size=(2, 4, 4)))]},
        notes=[text],
    )  # fmt: skip


@pytest.fixture(scope="module")
def usual():
    return "".join(pages(full()))


def said(data, question):
    return [one.text for one in headline(data) if one.question == question]


def test_what_many_records_have_in_common_is_one_line_of_the_appendix_and_counts_stay():
    def unseen(who, category, level="warning"):
        what = f"column 'sex' has '{category}'"
        return Finding(code="tabular.unseen", where=who, what=what, fix="correct it", level=level)

    several = [unseen(f"p{n}", "w") for n in range(7)] + [unseen("p8", "x")]
    lost = [unseen("p9", "y", "error"), unseen("p10", "y", "error")]
    first, appendix = pages(Evaluation(title="t", findings=[*several, *lost]))
    assert "tabular.unseen: 10" in first
    assert appendix.count("column &#39;sex&#39; has &#39;w&#39;") == 1
    assert "7 records, the first p0" in appendix
    assert "p8" in appendix
    for who in ("p9", "p10"):  # who lost a record stands by name
        assert f">{who}<" in appendix


def test_an_empty_report_says_so():
    first, appendix = pages(Evaluation(title="nothing yet"))
    assert "nothing yet: nothing has been evaluated yet" in first
    assert "nothing was excluded" in first
    assert "<img" not in first + appendix


def test_a_full_report_holds_every_figure_with_table_and_aid(usual):
    assert usual.count("<figure>") == usual.count("<img") == 9
    assert usual.count("How to read this:") == usual.count('<figcaption class="aid">') == 9
    assert usual.count("<h3>Behind the figure: ") == 9


def test_hostile_text_is_escaped_everywhere(tmp_path):
    html = write_report(tmp_path / "report.html", full(EVIL)).read_text(encoding="utf-8")
    assert "<script" not in html
    assert "&lt;script&gt;" in html
    assert "{{ 7 * 7 }}" in html
    html += (tmp_path / "appendix.html").read_text(encoding="utf-8")
    assert "<script" not in html
    assert "49" not in re.sub(r"base64,[^\"]*|<style>.*?</style>", "", html, flags=re.DOTALL)


def test_the_report_needs_nothing_outside_itself(usual):
    html = re.sub(r"base64,[^\"]*", "", usual)
    assert not re.search(r"https?:|//[a-z]|url\(|@import|<link|<script|<iframe", html)
    assert all(src.startswith("data:image/") for src in re.findall(r'src="([^"]*)"', html))


def test_json_beside_holds_every_number_and_no_nan(tmp_path):
    write_report(tmp_path / "deep" / "report.html", full())
    text = (tmp_path / "deep" / "report.json").read_text(encoding="utf-8")
    found = json.loads(text, parse_constant=lambda name: pytest.fail(name))
    assert found["results"][0]["value"] == 0.8
    assert found["flow"][0] == {"step": "ecg", "subjects": "9 to 12", "samples": "10 to 13"}
    assert found["curves"]["ecg"][1]["loss"] is None
    assert found["missingness"][0]["samples"] == 6
    assert not list(tmp_path.rglob("*.part"))


def test_the_headline_names_the_gain_with_its_interval_and_verdict():
    rows = [
        one_row(),
        one_row(method="scratch", value=0.7),
        one_row(method="other", value=0.75),
        one_row(method="scratch", versus="ours", value=-0.1, low=-0.15, high=-0.05),
        one_row(method="other", versus="ours", value=-0.05, low=-0.1, high=0.01),
    ]
    data = Evaluation(title="t", results=rows, flow=[("with ECG", 1000, 1200)])
    assert said(data, "Who") == ["50 held-out people were scored: mi (20 events)."]
    assert said(data, "How well") == ["mi: ours reaches AUROC 0.800 (0.700 to 0.900)."]
    (line,) = said(data, "Against what")
    assert "the best of the 2 others, other, +0.050 (-0.010 to +0.100)" in line
    assert "no clear difference" in line
    assert f"Against what: {line}" in as_json(data)["headline"]


def test_the_headline_compares_with_methods_that_do_not_hold_the_embedding():
    beside = "covariates + embedding"
    rows = [
        one_row(),
        one_row(method="covariates", value=0.7),
        one_row(method=beside, value=0.85),
        one_row(method="covariates", versus="ours", value=-0.1, low=-0.15, high=-0.05),
        one_row(method=beside, versus="ours", value=0.05, low=0.02, high=0.08),
    ]
    (line,) = said(Evaluation(title="t", results=rows), "Against what")
    assert "against covariates +0.100 (+0.050 to +0.150), better." in line
    assert "worse" not in line
    assert "adds" not in line
    rows.append(one_row(method=beside, versus="covariates", value=0.15, low=0.1, high=0.2))
    (line,) = said(Evaluation(title="t", results=rows), "Against what")
    assert line.endswith(
        "; beside covariates the embedding adds +0.150 (+0.100 to +0.200), better."
    )


def test_the_headline_gives_no_verdict_of_few_events():
    rows = [one_row(events=6), one_row(events=6, versus="covariates", value=0.3, low=0.1, high=0.5)]
    (line,) = said(Evaluation(title="t", results=rows), "Against what")
    assert line.endswith("+0.300 (+0.100 to +0.500), too few events (6) for a verdict.")


def test_the_headline_gives_no_verdict_out_of_fold_and_says_why_once():
    about = {"split": "cross-validation", "protocol": "linear_probe, 5 x 2 by subject"}
    gain = {"versus": "covariates", "value": 0.3, "low": 0.1, "high": 0.5}
    rows = [
        one_row(**about, task=task, target=task, **more)
        for task in ("mi", "stroke")
        for more in ({}, {"method": "covariates"}, gain)
    ]
    data = Evaluation(title="t", results=rows)
    for line in said(data, "Against what"):
        assert line.endswith("+0.300 (+0.100 to +0.500).")
    assert sum("Bengio & Grandvalet 2004" in line for line in said(data, "How sure")) == 1
    assert "Not where the note says: no test out of fold" in "".join(pages(data))


def test_the_headline_tells_a_model_that_is_wrong_everywhere_by_a_shift():
    rng = np.random.default_rng(0)
    logit = rng.normal(size=4000)
    y = rng.random(4000) < 1 / (1 + np.exp(-logit))
    low = calibration(y, 1 / (1 + np.exp(-logit + 1.5)), Resampling(np.arange(4000), draws=100))
    one = TaskEvidence(
        task="mi", target="mi", kind="binary", method="ours", protocol="x", calibration=low
    )
    (line,) = [
        text
        for text in said(Evaluation(title="t", results=[one_row()], evidence=[one]), "How sure")
        if "Observed over predicted risk (1 is best): mi " in text
    ]
    assert abs(low.slope.value - 1) < 0.15  # the slope alone says that all is well
    assert line.endswith(f"mi {low.observed_expected}.")
    assert low.observed_expected.value > 1.7
    assert len(line.split()) <= 16


@pytest.mark.parametrize("target", ["mi", "macro"])
def test_the_headline_claims_nothing_of_a_method_that_gives_everyone_the_same(target):
    note = f"few; {ALIKE}" if target == "mi" else f"a: {ALIKE}; b: {ALIKE}"
    group = {"task": "mi", "target": target, "method": "ours", "metric": "auroc", "value": 0.3,
             "direction": "higher", "attribute": "sex", "n": 30}  # fmt: skip
    rows = [
        *(
            one_row(target=name, value=0.22, note=note)
            for name in dict.fromkeys([target, "a", "b"])
        ),
        one_row(target=target, method="other", versus="ours", value=0.3, low=0.2, high=0.4),
    ]
    data = Evaluation(
        title="t",
        results=rows,
        subgroups=[SubgroupRow(**group, group=name) for name in ("f", "m")],
        evidence=[binary_evidence("mi", "ours", target="a" if target == "macro" else "mi")],
    )
    told = [one.text for one in headline(data)]
    same = "ours gives nearly the same prediction for everyone: no discrimination is claimed."
    assert f"mi: {same}" in told
    for never in (
        "0.220",
        "0.3",
        "worse",
        "Calibration slope (",
        "Observed over",
        "by sex",
        "no other method",
    ):
        assert not any(never in line for line in told), never
    alone = dataclasses.replace(data, results=[dataclasses.replace(r, note=f"a: {ALIKE}")
                                               for r in rows])  # fmt: skip
    assert any("reaches" in one.text for one in headline(alone))  # one column of several


def test_the_headline_claims_no_gain_over_a_method_that_gives_everyone_the_same():
    gain = {"value": 0.58, "low": 0.4, "high": 0.7}
    rows = [
        one_row(),
        one_row(method="covariates", value=0.22, note=ALIKE),
        one_row(versus="covariates", **gain),
        one_row(method="covariates + embedding", versus="covariates", **gain),
    ]
    assert said(Evaluation(title="t", results=rows), "Against what") == []
    rows.append(one_row(versus="other", value=0.1, low=0.05, high=0.2))
    (line,) = said(Evaluation(title="t", results=rows), "Against what")
    assert line == (
        "mi: ours against other +0.100 (+0.050 to +0.200), better; passed over, as nearly the same "
        "prediction for everyone: covariates."
    )


def test_the_headline_says_what_prompts_reach_without_labels():
    rows = [one_row(method="probe"), one_row(method="zero-shot", protocol="zero_shot", value=0.61)]
    lines = said(Evaluation(title="t", results=rows), "How well")
    assert lines[-1].startswith(f"{rows[0].task} without any label, by prompts: 0.61")
    alone = said(Evaluation(title="t", results=rows[1:]), "How well")
    assert not any("by prompts" in line for line in alone)  # it is the line of the task itself


def test_the_headline_names_the_cohort_that_was_scored():
    facts = {"recipe": "r", "cohort": "here"}
    own = Evaluation(title="t", provenance=facts, flow=[("held_out", 60, 60)])
    assert said(own, "Who")[0].startswith("Recipe r on cohort here. 60 subjects")
    other = dataclasses.replace(own, provenance={**facts, "scored cohort": "there"})
    assert said(other, "Who")[0].startswith(
        "Recipe r trained on cohort here, scored on cohort there. 60 subjects"
    )


def test_lower_is_better_turns_the_verdict():
    rows = [
        one_row(metric="mae", direction="lower", value=2.0, low=1.9, high=2.1),
        one_row(metric="mae", direction="lower", versus="scratch", value=-1, low=-1.5, high=-0.5),
    ]
    assert said(Evaluation(title="t", results=rows), "Against what")[0].endswith("better.")


def test_geometry_is_read_from_metric_lines():
    data = Evaluation(
        title="t",
        curves={"a": [{"step": 3, "uniformity/ecg": -2.0, "alignment/ecg~cmr": 0.5, "loss": 1.0}]},
    )
    rows = as_json(data)["geometry"]
    assert {row["modality"] for row in rows} == {"ecg", "ecg~cmr"}
    assert "Shape of the embedding space" in "".join(pages(data))


def test_many_stages_and_patterns_are_capped_with_a_word():
    curves = {f"s{i}": [{"step": 1, "split": "train", "loss": 1.0}] for i in range(15)}
    names = [f"m{i}" for i in range(6)]
    bits = [[bool(k >> i & 1) for i in range(6)] for k in range(40)]
    html = "".join(
        pages(Evaluation(title="t", curves=curves, missingness=pd.DataFrame(bits, columns=names)))
    )
    assert "The first 12 of 15 stages" in html
    assert "24 rarer patterns" in html


def test_the_same_data_give_the_same_report_and_leave_no_trace_in_matplotlib(usual):
    import matplotlib

    before = dict(matplotlib.rcParams)
    assert "".join(pages(full())) == usual
    assert dict(matplotlib.rcParams) == before
    assert "matplotlib.pyplot" not in vars(matplotlib) or not matplotlib.pyplot.get_fignums()


def test_every_text_says_the_level_of_its_intervals(report, both):
    other = dataclasses.replace(report, level=0.9)
    for page in ("".join(pages(other)), model_card(other).markdown(), str(checklist(other).cited)):
        assert "90 % interval" in page
        assert "95 % interval" not in page
        assert "95 % bootstrap" not in page
    assert "95 % interval" in both
    assert as_json(other)["level"] == 0.9
