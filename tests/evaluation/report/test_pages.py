"""The first page answers five questions in few words; all else is in the appendix."""

from __future__ import annotations

import dataclasses
import re

import pytest
from made_report import binary_evidence, full_report, result_rows, survival_evidence
from read_pages import QUESTIONS, check_pages, questions, visible

from medmcl.evaluation.aspects.retrieval import figures as retrieval_figures
from medmcl.evaluation.aspects.tasks import result_figures
from medmcl.evaluation.aspects.tasks.calibration_figures import calibration_plot
from medmcl.evaluation.aspects.tasks.tables import not_shown
from medmcl.evaluation.aspects.tasks.target_figures import targets_overview
from medmcl.evaluation.metrics.metric import NotEstimable
from medmcl.evaluation.protocol.evaluation import Evaluation
from medmcl.evaluation.report import figures
from medmcl.evaluation.report.page import pages, write_report
from medmcl.evaluation.report.sections import headline, sections_of

LOST = NotEstimable("7 people with the event: a curve needs at least 10")


def crowded():
    """Many tasks, methods, shares of labels and notes, as a large recipe on a rich cohort has."""
    tasks = [f"outcome number {k} of many" for k in range(25)]
    methods = ("contrastive, then fine-tuned", "contrastive", "covariates", "untrained", "majority")
    rows = result_rows(tasks, methods)
    rows += [dataclasses.replace(row, label_fraction=0.01, train_subjects=11, train_events=3)
             for row in rows]  # fmt: skip
    return dataclasses.replace(
        full_report(("contrastive, then fine-tuned", "contrastive"), n=60),
        results=rows,
        notes=[f"note {k}: " + "a remark of some length " * 12 for k in range(60)],
        flow=[(f"step {k}", 900 - k, 990 - k) for k in range(25)],
    )


@pytest.fixture(scope="module")
def written(report, tmp_path_factory):
    """A whole report and a crowded one, each in a folder."""
    folders = {}
    for name, data in (("whole", report), ("crowded", crowded())):
        folders[name] = tmp_path_factory.mktemp(name)
        write_report(folders[name] / "report.html", data)
    return folders


@pytest.mark.parametrize("name", ["whole", "crowded"])
def test_the_first_page_is_short_and_answers_five_questions(written, name):
    first, appendix = check_pages(written[name])
    assert "TRIPOD+AI checklist</h2>" in appendix
    assert "TRIPOD+AI checklist</h2>" not in first
    assert 'id="ledger"' in appendix
    assert "<details" not in first  # nothing is hidden: it is all counted
    assert "Behind the figure: What can be predicted" in appendix


def test_nothing_is_lost_between_the_pages(report, sections, both):
    """Every cell of every table and figure, and every note, stands on one of the pages."""
    both = visible(both.replace("<body>", " ", 1).replace("<html", "<body>", 1))
    for section in sections.values():
        for part in (*section.pictures, *section.tables):
            for row in part.rows:
                for cell in row:
                    assert " ".join(cell.split()) in both, (section.key, part.title)
    for note in report.notes:
        assert note in both


def test_what_is_empty_vanishes_from_page_and_menu():
    first, appendix = pages(Evaluation(title="t"))
    assert re.findall(r'<section[^>]* id="([^"]*)"', first) == ["summary", "more"]
    assert set(re.findall(r'<section[^>]* id="([^"]*)"', appendix)) == {"tripod", "card"}
    assert re.findall(r'href="([^"]*)"', appendix) == ["#tripod", "#card", "report.html"]


def test_who_counts_the_people_scored_and_not_the_split(report):
    rows = [dataclasses.replace(row, n=61, subjects=61, events=14) for row in report.results]
    rows += [dataclasses.replace(row, task="stroke", target="stroke", n=40, subjects=38, events=6)
             for row in rows if row.task == "af"]  # fmt: skip
    data = dataclasses.replace(report, results=rows, flow=[("held_out", 100, 110)])
    said = {q: " ".join(one.text for one in headline(data) if one.question == q) for q in QUESTIONS}
    assert (
        "61 held-out people were scored: mi (14 events), af (14 events), death (14 events)"
        in (said["Who"])
    )
    assert "38 held-out people were scored (40 records): stroke (6 events)" in said["Who"]
    assert "100" not in said["Who"]
    assert (
        "Few people decide: mi (14 events), af (14 events), death (14 events)" in (said["How sure"])
    )
    assert all(said.values())


def test_runs_without_tasks_answer_what_they_can(report):
    data = dataclasses.replace(report, results=[], evidence=[], subgroups=[], fitted=[])
    assert questions(pages(data)[0]) == ["Who"]


def test_what_could_not_be_shown_says_why_once():
    one = dataclasses.replace(binary_evidence("mi", "ours"), calibration=LOST, decision=LOST)
    two = dataclasses.replace(one, method="b")
    three = dataclasses.replace(one, task="af", target="af")
    data = Evaluation(
        title="t",
        evidence=[one, two, three],
        notes=["maps left out: no scored sample has both modalities", "a remark"],
    )
    assert not_shown(data) == [f"Calibration curve and decision curve of mi, af: {LOST.reason}."]
    made = dataclasses.replace(binary_evidence("mi", "ours"), decision=LOST)
    lacks = dataclasses.replace(made, method="b", calibration=LOST)  # of one method alone
    assert not_shown(Evaluation(title="t", evidence=[made, lacks])) == [
        f"Decision curve of mi: {LOST.reason}.",
        f"Calibration curve of mi (b): {LOST.reason}.",
    ]
    first, appendix = pages(data)
    assert "calibration" not in re.findall(r'id="([^"]*)"', first)
    assert LOST.reason not in first
    assert appendix.count("maps left out") == 1
    assert re.search(r'id="notes">\s*<h2>Notes</h2>\s*<ul class="notes">\s*<li>a remark</li>',
                     appendix)  # fmt: skip


def labels(figure):
    return [
        [text.get_text().strip() for text in axes.get_yticklabels()]
        for axes in figure.axes
        if axes.axison
    ]


def test_rows_on_different_people_never_share_a_panel(drawn):
    rows = [row for row in result_rows(["mi"], ["a", "b", "c"], metrics=("auroc",))
            if not row.versus]  # fmt: skip
    rows[2] = dataclasses.replace(rows[2], n=120, subjects=118, events=12)
    assert result_figures.task_forest(rows) is not None
    assert [set(one) for one in labels(drawn[-1])] == [{"a", "b"}, {"c"}]
    titles = [axes.get_title("left") for axes in drawn[-1].axes]
    assert titles == ["mi (290 people, 60 events)", "mi (118 people, 12 events)"]
    evidence = [binary_evidence("mi", "a"), binary_evidence("mi", "b"),
                binary_evidence("mi", "c", n=200)]  # fmt: skip
    assert "2 others" not in calibration_plot(evidence, "a").aid
    assert len([axes for axes in drawn[-1].axes if axes.get_title("left").strip()]) >= 2
    many = [dataclasses.replace(row, task=f"t{k}", target=f"t{k}", method=m,
                                n=300 if m == "a" or k else 77)
            for k in range(8) for m, row in (("a", rows[0]), ("b", rows[1]))]  # fmt: skip
    table = targets_overview(many, "a").rows
    assert {row[0]: row[-2] for row in table}["t0"] == "-"  # b was scored on others there
    assert {row[0]: row[-2] for row in table}["t1"] == "b"


def test_labels_are_the_names_of_the_run(drawn):
    names = ["MDM + contrastive", "covariates", "my own name"]
    rows = result_rows(["mi"], names, metrics=("auroc",))
    rows = [dataclasses.replace(row, protocol="linear_probe, 5 x 5-fold by subject")
            if row.method == names[0] else row for row in rows]  # fmt: skip
    result_figures.task_forest(rows)
    assert labels(drawn[-1]) == [names]
    result_figures.gain_forest(rows, names[0])
    assert labels(drawn[-1]) == [[f"over {name}" for name in names[1:]]]


STEPS = [{"step": s, "split": split, "loss": 3.0 / (s + 1), "effective_rank/ecg": 2.0 + s,
          "effective_rank/cmr": 5.0, "gradient_norm": 1.0 + s, "largest_gradient_norm": 2.0 + s,
          "gradient_spikes": s // 2, "skipped_steps": 0}
         for s in range(6) for split in ("train", "tuning")]  # fmt: skip


def every_legend(report):
    """Draw every figure with a legend."""
    recall = dataclasses.replace(report.results[0], kind="retrieval", metric="recall@1",
                                 target="ecg → cmr")  # fmt: skip
    sections_of(dataclasses.replace(
        report, curves={"one": STEPS, "two": STEPS},
        results=[*report.results, *(dataclasses.replace(recall, method=m) for m in ("a", "b"))],
        embedding_map={"points": [[0.0, 1.0], [1.0, 0.0], [0.5, 0.2]] * 9, "modality": "ecg",
                       "colours": {"mi": ["yes", "no", "unknown"] * 9}},
    ))  # fmt: skip


def test_legends_never_cover_plots(report, legends_beside):
    every_legend(report)
    assert legends_beside() >= 7  # calibration, decisions, survival, loss, gradients, shape,
    # retrieval, map


def looks(axes):
    return [(line.get_linestyle(), line._unscaled_dash_pattern, line.get_marker())
            for line in axes.get_lines() if len(line.get_xdata()) > 2]  # fmt: skip


def test_lines_and_bars_are_told_apart_without_colour(drawn):
    figures.loss_curves({"one": STEPS})
    assert len(set(looks(drawn[-1].axes[0]))) == 2
    rows = [dataclasses.replace(row, kind="retrieval", metric="recall@1", target="a → b")
            for row in result_rows(["x"], ["ours", "mine", "theirs"], metrics=("auroc",))
            if not row.versus]  # fmt: skip
    retrieval_figures.retrieval_bars(rows)
    assert len({bar.get_hatch() for bar in drawn[-1].axes[0].patches}) == 3
    evidence = [survival_evidence("death", m, seed=k) for k, m in enumerate("abcde")]
    calibration_plot(evidence, "a")
    assert len({dashes for _, dashes, _ in looks(drawn[-1].axes[0])}) >= 5
