"""The graph adapter: what files hold, what is wrong with them, and what an encoder is shown."""

import itertools
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from row_draws import row_generator

from medmcl.core.contracts import RecordRef, SimpleFeatures
from medmcl.core.errors import ConfigError, RecordError
from medmcl.core.graph_rows import unpack
from medmcl.modalities.graph.adapter import Graph
from medmcl.modalities.graph.build import build_graphs, connectivity
from medmcl.modalities.graph.readers import Connectome
from medmcl.modalities.graph.settings import GraphAugment, GraphSettings, GraphSource

R = 6
NAMES = tuple(f"area_{letter}" for letter in "fbdace")


def correlations(seed=0, regions=R):
    found = np.corrcoef(np.random.default_rng(seed).normal(size=(regions, 30)))
    return (found + found.T) / 2


def series(seed=0, frames=80, regions=R):
    made = np.random.default_rng(seed)
    return made.normal(size=(frames, regions)) + made.normal(size=(frames, 1))


def place(path=None, record="s1", values=None, **paths):
    files = {"path": path, **paths}
    found = {name: Path(file) for name, file in files.items() if file is not None}
    return RecordRef(subject=record, record=record, paths=found, values=values or {})


def adapter(reader="connectivity", fit=None, settings=None, **source):
    made = Graph(GraphSource(reader=reader, **source), GraphSettings(**(settings or {})))
    if fit is not None:
        made.fit(fit)
    return made


def codes(made, raw):
    return [(one.code, one.level) for one in made.inspect(raw, place())]


# --- readers


def test_one_matrix_is_read_from_every_format(tmp_path):
    a = correlations()
    np.save(tmp_path / "a.npy", a)
    np.savez(tmp_path / "a.npz", fc=a)
    np.savez(tmp_path / "two.npz", fc=a, other=a)
    np.savetxt(tmp_path / "a.txt", a)
    np.savetxt(tmp_path / "a.csv", a, delimiter=",")
    named = pd.DataFrame(a, index=NAMES, columns=NAMES)
    named.to_csv(tmp_path / "named.tsv", sep="\t")
    named.to_csv(tmp_path / "unindexed.csv.gz", index=False)
    named.to_parquet(tmp_path / "a.parquet")
    np.save(tmp_path / "upper.npy", a[np.triu_indices(R, 1)])
    np.savetxt(tmp_path / "lower.csv", a[np.tril_indices(R, -1)][None], delimiter=",")
    np.savetxt(tmp_path / "column.txt", a[np.triu_indices(R, 1)])
    for name, source, names in (
        ("a.npy", {}, None),
        ("a.npz", {}, None),
        ("two.npz", {"array": "fc"}, None),
        ("a.txt", {}, None),
        ("a.csv", {}, None),
        ("named.tsv", {}, NAMES),
        ("unindexed.csv.gz", {}, NAMES),
        ("a.parquet", {}, NAMES),
        ("upper.npy", {"layout": "upper"}, None),
        ("lower.csv", {"layout": "lower"}, None),
        ("column.txt", {"layout": "upper"}, None),
    ):
        raw = adapter(**source).read(place(tmp_path / name))
        np.testing.assert_allclose(raw.weights, a, atol=1e-12, err_msg=name)
        assert raw.names == names, name


def test_everybody_in_one_array_is_found_by_row_or_by_id(tmp_path):
    every = np.stack([correlations(k) for k in range(3)])
    upper = every[:, *np.triu_indices(R, 1)]
    stored = np.rint(127 * upper).astype(np.int8)
    np.save(tmp_path / "all.npy", every)
    np.savez_compressed(tmp_path / "all.npz", q=stored, who=[51, 7, 9])
    (tmp_path / "ids.txt").write_text("51\n7\n9\n")
    (tmp_path / "atlas.txt").write_text("\n".join(NAMES))
    frame = pd.DataFrame(upper, columns=[f"e{k}" for k in range(15)])
    frame.insert(0, "who", [51.0, 7.0, 9.0])
    frame.to_parquet(tmp_path / "all.parquet")
    by_row = adapter(row="row").read(place(tmp_path / "all.npy", values={"row": 1.0}))
    np.testing.assert_array_equal(by_row.weights, every[1])
    listed = adapter().read(
        place(tmp_path / "all.npy", "7", ids=tmp_path / "ids.txt", regions=tmp_path / "atlas.txt")
    )
    np.testing.assert_array_equal(listed.weights, every[1])
    assert listed.names == NAMES
    packed = adapter(layout="upper", array="q", ids="who", divide_by=127)
    np.testing.assert_allclose(
        packed.read(place(tmp_path / "all.npz", "7")).weights, every[1], atol=0.5 / 127 + 1e-9
    )
    table = adapter(layout="upper", ids="who").read(place(tmp_path / "all.parquet", "9"))
    np.testing.assert_allclose(table.weights, every[2])
    frame["who"] = ["051", "51", "9"]
    frame.to_csv(tmp_path / "all.csv", index=False)
    text = adapter(layout="upper", ids="who").read(place(tmp_path / "all.csv", "51"))
    np.testing.assert_allclose(text.weights, every[1])


def test_time_series_are_read_with_their_names(tmp_path):
    x = series()
    np.save(tmp_path / "x.npy", x.T)
    pd.DataFrame(x, columns=NAMES).to_csv(tmp_path / "x.tsv", sep="\t", index=False)
    head = "#" + "\t#".join(str(2001 + k) for k in range(R))
    np.savetxt(tmp_path / "x.1D", x, delimiter="\t", header=head[1:].replace("#", ""))
    for name, source, names in (
        ("x.npy", {"axes": "RT"}, None),
        ("x.tsv", {}, NAMES),
        ("x.1D", {}, tuple(str(2001 + k) for k in range(R))),
    ):
        raw = adapter("timeseries", **source).read(place(tmp_path / name))
        np.testing.assert_allclose(raw.series, x, atol=1e-12)
        assert raw.names == names


def test_edge_lists_need_no_order_and_list_a_pair_once_or_twice(tmp_path):
    rows = [("b", "a", 0.5), ("c", "b", -0.2), ("b", "c", -0.2)]
    frame = pd.DataFrame(rows, columns=["source", "target", "weight"])
    frame.to_csv(tmp_path / "one.csv", index=False)
    frame.assign(who=["x", "y", "y"]).to_parquet(tmp_path / "all.parquet")
    np.savetxt(tmp_path / "bare.txt", [[1, 2, 0.5], [10, 2, 0.1]])
    raw = adapter("edge_list").read(place(tmp_path / "one.csv"))
    assert raw.names == ("a", "b", "c")
    expected = [[1, 0.5, 0], [0.5, 1, -0.2], [0, -0.2, 1]]
    assert raw.weights.tolist() == expected
    assert adapter("edge_list").read(place(tmp_path / "bare.txt")).names == ("1", "2", "10")
    shared = adapter("edge_list", ids="who")
    one, two = (shared.read(place(tmp_path / "all.parquet", who)) for who in "xy")
    shared.fit([one, two])
    assert shared.atlas.names == ("a", "b", "c")
    assert shared.prepare(two)[0].tolist() == [
        [1, 0, 0, 0],
        [1, 0, 0, pytest.approx(-0.2)],
        [1, 0, pytest.approx(-0.2), 0],
    ]
    assert codes(shared, one) == []
    other = Connectome(weights=np.eye(2) + 0.1, names=("a", "z"))
    assert ("graph.names", "error") in codes(shared, other)
    frame.loc[2, "weight"] = 0.3
    frame.to_csv(tmp_path / "two.csv", index=False)
    raw = adapter("edge_list").read(place(tmp_path / "two.csv"))
    assert codes(adapter("edge_list"), raw) == [("graph.asymmetric", "error")]


def test_files_that_do_not_fit_are_named(tmp_path):
    np.save(tmp_path / "wide.npy", np.ones((5, 7)))
    np.save(tmp_path / "vector.npy", np.ones(14))
    np.save(tmp_path / "all.npy", np.ones((2, 4, 4)))
    np.savez(tmp_path / "two.npz", a=np.eye(3), b=np.eye(3))
    np.save(tmp_path / "text.npy", np.array(["a"]))
    (tmp_path / "a.mat").write_bytes(b"x")
    (tmp_path / "words.csv").write_text("p,q\n1,x\n2,3\n")
    (tmp_path / "two.txt").write_text("1\n1\n")
    (tmp_path / "short.txt").write_text("a\nb\n")
    swapped = pd.DataFrame(correlations(), index=NAMES[::-1], columns=NAMES)
    swapped.to_csv(tmp_path / "swapped.csv")

    def at(name, **more):
        return place(tmp_path / name, **more)

    for source, where, words in (
        ({}, at("none.npy"), "no such file"),
        ({}, at("wide.npy"), "no square matrix(?s:.*)5 x 7(?s:.*)reader: timeseries"),
        ({"layout": "upper"}, at("vector.npy"), "no triangle(?s:.*)14 numbers"),
        ({}, at("vector.npy"), "axes that do not fit"),
        ({}, at("all.npy"), "nobody says which(?s:.*)row: COLUMN"),
        ({"row": "n"}, at("all.npy", values={"n": 2}), "no such row(?s:.*)0 to 1"),
        ({"row": "n"}, at("all.npy", values={"n": 0.5}), "column .n. must be a whole number"),
        ({}, at("all.npy", ids=tmp_path / "two.txt"), "no row of this record"),
        ({}, at("all.npy", record="1", ids=tmp_path / "two.txt"), "several rows of this"),
        ({}, at("two.npz"), "several arrays(?s:.*)modalities.NAME.array"),
        ({"array": "c"}, at("two.npz"), "no array 'c'(?s:.*)a, b"),
        ({}, at("text.npy"), "does not hold numbers"),
        ({}, at("a.mat"), "no format(?s:.*)npz"),
        ({}, at("words.csv"), "column 'q' does not hold numbers"),
        ({}, at("swapped.csv"), "different orders"),
        ({}, at("two.npz", regions=tmp_path / "short.txt"), "several arrays"),
        ({"array": "a"}, at("two.npz", regions=tmp_path / "short.txt"), "3 regions(?s:.*)2 names"),
    ):
        with pytest.raises(RecordError, match=words):
            adapter(**source).read(where)


@pytest.mark.parametrize(
    ("source", "settings", "words"),
    [
        ({}, {"windows": 2}, "no time series"),
        ({}, {"estimate": "partial"}, "no time series"),
        ({"measure": "other"}, {"fisher_z": True}, "fisher_z is of correlations"),
    ],
)
def test_settings_that_mean_nothing_here_are_refused(source, settings, words):
    with pytest.raises(ConfigError, match=words):
        adapter(settings=settings, **source)


def test_settings_that_contradict_each_other_are_refused():
    for settings in ({"density": 0.1, "neighbours": 3}, {"nodes": ("degree", "degree")}):
        with pytest.raises(ValueError, match=r"one threshold|stands twice"):
            GraphSettings(**settings)
    for source in (
        {"reader": "edge_list", "row": "r"},
        {"reader": "connectivity", "row": "r", "ids": "i"},
        {"reader": "timeseries", "layout": "upper"},
        {"reader": "timeseries", "measure": "other"},
        {"reader": "connectivity", "axes": "RT"},
    ):
        with pytest.raises(ValueError):
            GraphSource(**source)


# --- checks


def test_a_sound_graph_has_no_finding():
    made = adapter(fit=[Connectome(correlations(k)) for k in range(3)])
    assert codes(made, Connectome(correlations(5))) == []
    timed = adapter("timeseries", fit=[Connectome(series=series())])
    assert codes(timed, Connectome(series=series(1))) == []


def test_every_fault_of_a_matrix_is_found_at_once():
    made = adapter(fit=[Connectome(correlations(k, 8)) for k in range(2)])
    a = correlations()
    a[0, 1] += 0.5  # one direction only
    a[2, 3] = a[3, 2] = np.nan
    a[4, 5] = a[5, 4] = -1.7
    assert codes(made, Connectome(a)) == [
        ("graph.regions", "error"),
        ("graph.nan", "error"),
        ("graph.asymmetric", "error"),
        ("graph.range", "error"),
    ]
    (regions, nan, asymmetric, beyond) = made.inspect(Connectome(a), place())
    assert "has 6 regions, the cohort 8" in regions.what
    assert "NaN or infinite: 2 weights" in nan.what
    assert "1 pair with two weights" in asymmetric.what
    assert "furthest -1.7" in beyond.what
    assert nan.where == "subject s1, record s1"


@pytest.mark.parametrize(
    ("change", "found"),
    [
        (lambda a: np.eye(R), "graph.empty"),
        (lambda a: np.zeros((R, R)), "graph.empty"),
        (lambda a: np.full((R, R), 0.3), "graph.empty"),
        (lambda a: np.where(np.arange(R) == 2, 0.0, a) * (np.arange(R) != 2)[:, None], "constant"),
        (lambda a: a * np.where(np.arange(R) == 2, np.nan, 1), "graph.nan"),
        (lambda a: a * 1e-5 + np.triu(np.full((R, R), 1e-6), 1), "graph.asymmetric"),
        (lambda a: 127 * a, "graph.range"),
        (lambda a: np.arctanh(np.clip(9 * a, -0.999, 0.999)), "graph.range"),
    ],
)
def test_a_fault_of_a_matrix_is_an_error(change, found):
    errors = [one.code for one in adapter().inspect(Connectome(change(correlations())), place())]
    assert any(found in code for code in errors), errors


def test_rounding_is_no_asymmetry_and_a_covariance_is_only_doubted():
    a = correlations()
    assert codes(adapter(), Connectome(a + np.triu(np.full((R, R), 1e-6), 1))) == []
    assert codes(adapter(), Connectome(a * 0.5)) == [("graph.diagonal", "warning")]
    assert codes(adapter(measure="other"), Connectome(a * 500)) == []
    z = np.arctanh(a - 0.0 * np.eye(R), where=~np.eye(R, dtype=bool), out=np.full((R, R), np.inf))
    assert codes(adapter(measure="fisher_z"), Connectome(z)) == []  # its diagonal is infinite


def test_every_fault_of_time_series_is_found_at_once():
    x = series(frames=30)
    x[:, 1] = 4.0
    x[3, 2] = np.nan
    made = adapter("timeseries")
    assert codes(made, Connectome(series=x)) == [
        ("graph.constant", "error"),
        ("graph.nan", "error"),
        ("graph.short", "error"),
    ]
    constant, *_ = made.inspect(Connectome(series=x, names=NAMES), place())
    assert "1 region without signal (constant, or all NaN): area_b" in constant.what
    turned = adapter("timeseries", fit=[Connectome(series=series())])
    (wrong, *_) = turned.inspect(Connectome(series=series().T), place())
    assert "axes: RT" in wrong.fix


def test_records_that_hold_next_to_nothing_are_faults_and_break_nothing():
    made, timed = adapter(), adapter("timeseries")
    for size in (0, 1, 2):
        assert ("graph.regions", "error") in codes(made, Connectome(np.eye(size)))
        assert ("graph.regions", "error") in codes(timed, Connectome(series=series()[:, :size]))
    assert codes(made, Connectome(np.full((R, R), np.nan))) == [("graph.constant", "error")]
    assert codes(timed, Connectome(series=np.full((60, R), np.nan))) == [
        ("graph.constant", "error")
    ]
    assert codes(timed, Connectome(series=np.zeros((0, R)))) == [("graph.short", "error")]
    made.fit([])
    assert made.prepared_shape == (1, 0, 1)
    with pytest.raises(RecordError, match="a sound train record"):
        made.prepare(Connectome(correlations()))


def test_regions_without_signal_are_masked_where_the_cohort_says_so():
    x = series()
    x[:, 1], x[:, 4] = 4.0, np.nan
    made = adapter("timeseries", fit=[Connectome(series=series())], absent_regions="mask")
    assert codes(made, Connectome(series=x)) == [("graph.constant", "warning")]
    row = made.prepare(Connectome(series=x))
    there = [0, 2, 3, 5]
    assert row[0, :, 0].tolist() == [1, 0, 1, 1, 0, 1]
    expected = np.corrcoef(x[:, there].T) - np.eye(4)
    np.testing.assert_allclose(row[0][np.ix_(there, np.add(there, 1))], expected, atol=1e-6)
    assert not row[0, [1, 4]].any()
    assert not row[0][:, [2, 5]].any()
    x[:, 2:4] = 1.0
    assert ("graph.constant", "error") in codes(made, Connectome(series=x))  # two are left


def test_names_in_another_order_are_brought_into_the_order_of_the_cohort():
    a, order = correlations(), [3, 0, 5, 2, 1, 4]
    made = adapter(fit=[Connectome(correlations(k), names=NAMES) for k in range(3)])
    turned = Connectome(a[np.ix_(order, order)], names=tuple(NAMES[k] for k in order))
    assert codes(made, turned) == [("graph.order", "warning")]
    np.testing.assert_array_equal(made.prepare(turned), made.prepare(Connectome(a, names=NAMES)))
    foreign = Connectome(a, names=("x", *NAMES[1:]))
    assert codes(made, foreign) == [("graph.names", "error")]
    with pytest.raises(RecordError, match="does not fit the regions"):
        made.prepare(foreign)


def test_records_of_different_sizes_are_told_before_anything_is_fitted():
    raws = [Connectome(correlations(k)) for k in range(3)] + [Connectome(correlations(0, 8))]
    (found,) = adapter().inspect_together(iter(raws))
    assert "1 of 4 records read have 8 regions, the others 6" in found.what
    fitted = adapter(fit=raws)
    assert fitted.inspect_together(iter(raws)) == []  # each is an error of its own then
    with pytest.raises(RecordError, match="does not fit"):
        fitted.prepare(raws[-1])


# --- estimates


def test_estimates_are_their_formulas():
    x = series(frames=40)
    np.testing.assert_allclose(connectivity(x, "pearson"), np.corrcoef(x.T), atol=1e-12)
    z = (x - x.mean(0)) / x.std(0)
    t, s = len(z), z.T @ z / len(z)
    target = np.trace(s) / R * np.eye(R)
    spread = ((s - target) ** 2).sum()
    noise = sum(((np.outer(row, row) - s) ** 2).sum() for row in z) / t**2
    shrink = min(noise, spread) / spread
    assert 0.01 < shrink < 0.9
    cov = shrink * target + (1 - shrink) * s
    expected = cov / np.sqrt(np.outer(np.diag(cov), np.diag(cov)))
    np.testing.assert_allclose(connectivity(x, "ledoit_wolf"), expected, atol=1e-10)
    partial = connectivity(x, "partial")
    inverse = np.linalg.inv(cov)
    for i, j in itertools.combinations(range(R), 2):
        found = -inverse[i, j] / np.sqrt(inverse[i, i] * inverse[j, j])
        assert partial[i, j] == pytest.approx(found, abs=1e-10)
    assert np.diag(partial).tolist() == [1.0] * R


def test_fisher_z_is_taken_off_the_diagonal_and_stays_finite():
    a = correlations()
    a[0, 1] = a[1, 0] = 1.0
    made = adapter(fit=[Connectome(a)], settings={"fisher_z": True})
    row = made.prepare(Connectome(a))[0, :, 1:]
    assert row[0, 1] == pytest.approx(np.arctanh(1 - 1e-6), rel=1e-6)
    assert row[2, 3] == pytest.approx(np.arctanh(a[2, 3]))
    assert not np.diag(row).any()


# --- what an encoder is shown


def shown(settings, weights=None, present=None):
    weights = correlations() if weights is None else weights
    present = np.ones(R, bool) if present is None else present
    return build_graphs(
        torch.from_numpy(weights)[None], torch.from_numpy(present)[None], GraphSettings(**settings)
    )


@pytest.mark.parametrize("absent", [None, 2])
def test_thresholds_keep_what_they_say(absent):
    a, present = correlations(), np.arange(R) != (R if absent is None else absent)
    pairs = [p for p in itertools.combinations(range(R), 2) if present[list(p)].all()]
    sizes = sorted((abs(a[p]) for p in pairs), reverse=True)

    def kept(**settings):
        edges = shown(settings, a, present).edges[0, 0]
        assert torch.equal(edges, edges.T)
        return {p for p in itertools.combinations(range(R), 2) if edges[p] != 0}

    assert kept() == set(pairs)
    assert kept(min_weight=0.2) == {p for p in pairs if abs(a[p]) >= 0.2}
    limit = sizes[round(0.3 * len(pairs)) - 1]
    assert kept(density=0.3) == {p for p in pairs if abs(a[p]) >= limit}
    assert len(kept(density=0.3)) == round(0.3 * len(pairs))
    near = set()
    for i in np.flatnonzero(present):
        others = sorted((j for j in np.flatnonzero(present) if j != i), key=lambda j: -abs(a[i, j]))
        near |= {tuple(sorted((int(i), int(j)))) for j in others[:2]}
    assert kept(neighbours=2) == near
    assert kept(signs="positive") == {p for p in pairs if a[p] > 0}


def test_signs_and_features_are_what_they_say():
    a, off = correlations(), ~np.eye(R, dtype=bool)
    kept = a * (np.abs(a) >= 0.15) * off
    assert (kept > 0).any()
    assert (kept < 0).any()
    split = shown({"signs": "split", "min_weight": 0.15, "nodes": ("strength", "degree")}, a)
    np.testing.assert_allclose(split.edges[0, 0] - split.edges[0, 1], kept)
    assert (split.edges >= 0).all()
    plus, minus = np.maximum(kept, 0), np.maximum(-kept, 0)
    expected = [plus.sum(1), minus.sum(1), (plus > 0).sum(1), (minus > 0).sum(1)]
    np.testing.assert_allclose(split.nodes[0], np.stack(expected, 1) / (R - 1))
    size = shown({"signs": "absolute", "min_weight": 0.15}, a)
    np.testing.assert_allclose(size.edges[0, 0], np.abs(kept))
    np.testing.assert_allclose(size.nodes[0], np.abs(a * off))  # the profile is not thinned
    local = shown({"min_weight": 0.15, "nodes": ("local_degree", "identity")}, a).nodes[0]
    degree = (kept != 0).sum(1) / (R - 1)
    for i in range(R):
        near = degree[kept[i] != 0]
        told = [near.min(), near.max(), near.mean(), near.std()] if len(near) else [0] * 4
        np.testing.assert_allclose(local[i, :5], [degree[i], *told])
    assert torch.equal(local[:, 5:], torch.eye(R).double())


def rows(count=3, settings=None, reader="connectivity"):
    raws = [
        Connectome(series=series(k)) if reader == "timeseries" else Connectome(correlations(k))
        for k in range(count)
    ]
    made = adapter(reader, fit=raws, settings=settings)
    return made, torch.from_numpy(np.stack([made.prepare(raw) for raw in raws]))


def test_shapes_are_what_the_adapter_says():
    made, x = rows(settings={"signs": "split", "nodes": ("profile", "strength", "local_degree")})
    assert x.shape[1:] == made.prepared_shape == (1, R, R + 1)
    assert made.plain(x).shape[1:] == made.input_shape.shape == (R, 1 + 2 * R + R + 7)
    assert made.input_shape.channels == 2
    again = adapter(settings=dict(made.settings))
    again.load_state(made.state())
    assert again.input_shape == made.input_shape
    assert isinstance(made, SimpleFeatures)


def connected(seed, regions=20):
    """Correlations of people whose first regions go together the more, the earlier they are."""
    draw = np.random.default_rng(seed)
    shared = draw.normal(size=(1, 200)) * np.linspace(1.5, 0, regions)[:, None]
    return np.corrcoef(shared + draw.normal(size=(regions, 200)))


@pytest.mark.parametrize("people", [1, 12])
@pytest.mark.parametrize(
    ("written", "said", "times", "told"),
    [
        ("upper", "upper", 1.0, None),
        ("lower", "upper", 1.0, "layout: lower"),
        ("upper", "lower", 1.0, "layout: upper"),
        ("upper", "upper", 100.0, "divide_by: 100"),
        ("upper", "upper", 0.001, "divide_by: 0.001"),
        ("upper", "upper", 5.0, None),
    ],
)
def test_weights_of_another_unit_or_triangle_than_in_training_are_told(
    tmp_path, people, written, said, times, told
):
    home = adapter(fit=[Connectome(connected(k)) for k in range(40)], measure="other")
    turn, back = (np.triu_indices, 1) if written == "upper" else (np.tril_indices, -1)
    for k in range(people):
        np.save(tmp_path / f"{k}.npy", times * connected(100 + k)[turn(20, back)])

    def found(**source):
        new = adapter(**{"measure": "other", "layout": said, **source})
        new.load_state(home.state())
        raws = [new.read(place(tmp_path / f"{k}.npy")) for k in range(people)]
        return new.inspect_together(raws)

    hits = found()
    assert [told in one.fix for one in hits] == [True] * (told is not None)
    if told is not None:  # the fix works as it is told
        key, value = told.split(": ")
        assert found(**{key: value if key == "layout" else float(value)}) == []
    older = adapter(layout=said, measure="other")
    older.load_state({key: home.state()[key] for key in ("regions", "names")})
    assert older.inspect_together([]) == []


def seen(made, x):
    return unpack(x, made.input_shape.channels)


def test_cut_edges_are_gone_in_both_directions_and_in_the_features():
    made, x = rows(60, {"nodes": ("profile", "degree")})
    view = made.augment(x, GraphAugment(edge_dropout=0.3), row_generator(1))
    one, whole = seen(made, view), seen(made, made.plain(x))
    edges = one.edges[:, 0]
    assert torch.equal(edges, edges.transpose(1, 2))
    gone = (edges == 0) & (whole.edges[:, 0] != 0)
    assert gone.float().mean() == pytest.approx(0.3 * (R - 1) / R, abs=0.03)
    assert torch.equal(one.nodes[..., :R], edges)
    assert torch.equal(edges[~gone], whole.edges[:, 0][~gone])
    again = made.augment(x, GraphAugment(edge_dropout=0.3), row_generator(1))
    assert torch.equal(view, again)


def test_regions_taken_out_are_absent_and_noise_is_alike_both_ways():
    made, x = rows(60)
    options = GraphAugment(edge_dropout=0, node_dropout=0.4)
    one = seen(made, made.augment(x, options, row_generator(1)))
    assert one.present.float().mean() == pytest.approx(0.6, abs=0.06)
    assert not one.edges[:, 0][~one.present].any()
    assert not one.edges[:, 0].transpose(1, 2)[~one.present].any()
    assert not one.nodes[~one.present].any()
    options = GraphAugment(edge_dropout=0, noise=0.1)
    noisy = seen(made, made.augment(x, options, row_generator(1))).edges[:, 0]
    apart = noisy - seen(made, made.plain(x)).edges[:, 0]
    assert torch.equal(noisy, noisy.transpose(1, 2))
    off = ~torch.eye(R, dtype=torch.bool)
    assert apart[:, off].std() == pytest.approx(0.1, rel=0.1)
    assert not apart[:, ~off].any()


def test_a_view_may_show_a_part_of_the_time_series():
    made, x = rows(5, {"windows": 2, "window": 0.5}, "timeseries")
    assert x.shape[1:] == made.prepared_shape == (3, R, R + 1)
    parts = [series(0), series(0)[:40], series(0)[40:]]
    for k, part in enumerate(parts):
        expected = np.corrcoef(part.T) - np.eye(R)
        np.testing.assert_allclose(x[0, k, :, 1:], expected, atol=1e-6)
    options = GraphAugment(edge_dropout=0, window=1)
    big = x[:1].expand(40, -1, -1, -1)
    edges = seen(made, made.augment(big, options, row_generator())).edges[:, 0]
    shares = [sum(torch.equal(one, x[0, k, :, 1:]) for one in edges) for k in range(3)]
    assert shares[0] == 0
    assert min(shares[1:]) > 8
    assert sum(shares) == 40
    still, y = rows()
    with pytest.raises(ConfigError, match="none are prepared"):
        still.augment(y, options, row_generator())


def test_what_stands_beside_absent_regions_cannot_be_seen():
    made, x = rows(2, {"density": 0.4, "nodes": ("profile", "strength", "local_degree")})
    x[:, :, 1, 0] = 0
    other = x.clone()
    other[:, :, 1, 1:], other[:, :, :, 2] = 7.0, torch.nan
    assert torch.equal(made.plain(x), made.plain(other))
    views = [made.augment(one, GraphAugment(), row_generator()) for one in (x, other)]
    assert torch.equal(*views)


def test_simple_features_are_every_edge_or_strengths():
    a = correlations()
    made = adapter(fit=[Connectome(a, names=NAMES)])
    found = made.simple_features(Connectome(a, names=NAMES))
    assert len(found) == R * (R - 1) // 2
    assert found[f"{NAMES[1]}~{NAMES[4]}"] == pytest.approx(a[1, 4])
    gap = adapter("timeseries", fit=[Connectome(series=series())], absent_regions="mask")
    x = series()
    x[:, 1] = 0
    told = gap.simple_features(Connectome(series=x))
    assert sum(np.isnan(value) for value in told.values()) == R - 1
    strength = adapter(fit=[Connectome(a)], settings={"simple": "strength"})
    found = strength.simple_features(Connectome(a))
    row = np.delete(a[2], 2)
    assert found["region 2+"] == pytest.approx(row[row > 0].sum() / (R - 1))
    assert found["region 2-"] == pytest.approx(-row[row < 0].sum() / (R - 1))
