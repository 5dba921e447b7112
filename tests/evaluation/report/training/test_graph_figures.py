from __future__ import annotations

import base64

from medmcl.core.findings import LEARNED_GRAPH, Finding
from medmcl.evaluation.protocol.evaluation import Evaluation
from medmcl.evaluation.report.sections import sections_of
from medmcl.evaluation.report.training.graph_figures import graph_pictures


def row(step, phase, edges, scores, isolated=()):
    return {
        "stage": "bind", "split": "probe", "step": step, "phase": phase,
        "edges": [[*edge, 1.0] for edge in edges], "scores": scores, "fresh": scores,
        "null_sds": dict.fromkeys(scores, 4.0), "isolated": list(isolated), "changed": 2,
        "jaccard": 0.5,
    }  # fmt: skip


EVERY = [("a<b", "c"), ("a<b", "d"), ("c", "d")]
ROWS = [
    {"stage": "bind", "split": "train", "step": 1, "loss": 2.0},
    row(10, "warm-up", EVERY, {"a<b~c": 0.4, "a<b~d": 0.01, "c~d": None}),
    row(20, "learned", EVERY[:1], {"a<b~c": 0.9, "a<b~d": 0.02, "c~d": None}, ["d"]),
]


def test_the_last_graph_and_all_scores_are_drawn_with_their_numbers():
    final, over_time = graph_pictures({"bind": ROWS, "other": ROWS[:1]})
    assert final.rows[0] == ("a<b ~ c", "yes", "0.900", "0.900", "4.0", "-", "100%")
    assert final.rows[-1][:3] == ("c ~ d", "no", "-")
    assert "a<b and c: 0.90" in final.alt
    assert [cells[:3] for cells in over_time.rows] == [
        ("10", "warm-up", "2"),
        ("20", "learned", "2"),
    ]
    for picture in (final, over_time):
        drawn = base64.b64decode(picture.src.partition(",")[2])
        assert drawn.startswith(b"<?xml")
    assert graph_pictures({"bind": ROWS})[0] == final


def test_what_speaks_against_a_graph_stands_below_it():
    against = Finding(code="graph.faded", where=LEARNED_GRAPH, what="it fell", fix="m")
    other = Finding(code="graph.nan", where="s1/r1", what="a matrix with NaN", fix="m")
    final, over_time = graph_pictures({"bind": ROWS}, [other, against])
    assert final.aid.endswith("Warning: it fell (graph.faded).")
    assert "NaN" not in final.aid
    assert "Warning" not in over_time.aid
    data = Evaluation(title="t", curves={"bind": ROWS}, findings=[against])
    (section,) = [one for one in sections_of(data) if one.key == "graph"]
    assert "it fell" in section.pictures[0].aid


def test_a_report_has_the_section_only_where_a_graph_was_learned():
    keys = [one.key for one in sections_of(Evaluation(title="t", curves={"bind": ROWS}))]
    assert "graph" in keys
    keys = [one.key for one in sections_of(Evaluation(title="t", curves={"bind": ROWS[:1]}))]
    assert "graph" not in keys


def test_graphs_without_an_edge_or_of_many_modalities_can_be_drawn():
    nothing = row(0, "no edge", EVERY, dict.fromkeys(("a<b~c", "a<b~d", "c~d")))
    assert "says nothing" in graph_pictures({"s": [nothing]})[0].aid
    names = [f"m{k}" for k in range(12)]
    pairs = [(a, b) for a in names for b in names if a < b]
    many = row(5, "learned", pairs[:20], {f"{a}~{b}": 0.1 for a, b in pairs})
    assert len(graph_pictures({"s": [many]})[0].rows) == 66
