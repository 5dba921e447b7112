"""From a cohort and a keep file to what a person looks at: the right rows, records and groups."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from made_targets import targets_of

from medmcl.core.errors import ArtefactError, ConfigError
from medmcl.core.shown import ShownCells
from medmcl.data.cohort.cohort import open_cohort
from medmcl.data.loading.prepare import build_adapters, prepare
from medmcl.evaluation.aspects.selection.section import selection_page
from medmcl.modalities.cmr.adapter import CMR
from medmcl.modalities.cmr.readers import CMRVolume
from medmcl.modalities.cmr.settings import CMRSettings, CMRSource
from medmcl.modalities.codes.adapter import Codes, CodeSequence
from medmcl.modalities.codes.settings import CodesSettings, CodesSource
from medmcl.modalities.ecg.adapter import ECG
from medmcl.modalities.ecg.files.readers import ECGRecord
from medmcl.modalities.ecg.settings import ECGSettings, ECGSource
from medmcl.modalities.image.adapter import Image
from medmcl.modalities.image.files import ImageRecord
from medmcl.modalities.image.settings import ImageSettings, ImageSource
from medmcl.modalities.tabular.adapter import Tabular
from medmcl.modalities.tabular.settings import Column, TabularSettings, TabularSource
from medmcl.selection.keep import Keep
from medmcl.simulation.kinds import simulate
from medmcl.stages.run.record_views import side_of
from medmcl.stages.select.report import rows_to_show, selection_evidence, task_groups

PAIR = ("image", "caption")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    out = tmp_path_factory.mktemp("shapes") / "cohort"
    simulate("shapes", out, {"subjects": 80, "shapes": 3, "size": 32})
    return out


@pytest.fixture(scope="module")
def prepared(folder, tmp_path_factory):
    return prepare(
        open_cohort(folder),
        {"image": {"size": [16, 16]}, "caption": {}},
        cache=tmp_path_factory.mktemp("cache"),
    )


def kept(prepared, rows, **changes):
    """The upper half by score, which falls with the number of the sample."""
    scores = -rows.astype(np.float64)
    about = {
        "ids": prepared.samples["sample"].to_numpy(object)[rows],
        "kept": scores >= np.median(scores),
        "rule": "the upper half by clip_score",
        "cohort": prepared.cohort.fingerprint,
        "scores": {"clip_score": scores, "other": scores[::-1].copy()},
    }
    return Keep(**{**about, **changes})


def test_pairs_shown_are_the_records_of_their_rows(prepared, folder):
    from PIL import Image as Picture

    rows = prepared.rows("train", PAIR)[::-1].copy()  # any order
    keep = kept(prepared, rows)
    found = selection_evidence(prepared, keep, rows, PAIR, name="select", shown=3)
    table = pd.read_csv(folder / "participants.tsv", sep="\t", dtype=str)
    captions = dict(zip(table.iloc[:, 0], table["caption"], strict=True))
    half = int(keep.kept.sum())
    order = np.sort(rows)
    wanted = {
        "best": order[:3],
        "borderline": order[[half - 2, half - 1, half]],
        "worst": order[::-1][:3],
    }
    assert list(found.pairs) == list(wanted)
    for line, shown in found.pairs.items():
        assert [one.id for one in shown] == prepared.samples["sample"][wanted[line]].tolist()
        for one, row in zip(shown, wanted[line], strict=True):
            subject = prepared.samples["subject"][row]
            image, caption = one.sides
            assert (image.name, caption.name) == PAIR
            assert caption.content == captions[subject]
            with Picture.open(folder / "images" / f"{subject}.png") as file:
                np.testing.assert_array_equal(image.content.pixels, np.asarray(file))
            assert one.numbers["clip_score"] == -row
            assert (one.look == "kept") == (row <= order[half - 1])
    assert found.sheet_by == "clip_score"
    assert "the upper half by clip_score" in selection_page(found)


def test_groups_are_the_classes_of_the_cohort(prepared):
    rows = prepared.rows("train", PAIR)
    found = selection_evidence(prepared, kept(prepared, rows), rows, PAIR, name="s", shown=0)
    targets = prepared.tasks("shape")
    for place, name in enumerate(targets.classes):
        members = found.subgroups["shape"][name]
        assert members.tolist() == [targets.values[row, 0] == place for row in rows]
    assert not found.subgroups["shape"]["unknown"].any()
    assert found.pairs == {}


def test_another_score_can_choose_and_an_unknown_one_is_refused(prepared):
    rows = prepared.rows("train", PAIR)
    keep = kept(prepared, rows)
    found = selection_evidence(prepared, keep, rows, PAIR, name="s", shown=1, score="other")
    assert found.pairs["best"][0].id == keep.ids[np.argmax(keep.scores["other"])]
    with pytest.raises(ConfigError, match="no score 'clip_scor'"):
        selection_evidence(prepared, keep, rows, PAIR, name="s", score="clip_scor")
    with pytest.raises(ConfigError, match="no modality 'imag'"):
        selection_evidence(prepared, keep, rows, ("imag", "caption"), name="s")


def test_without_scores_nothing_is_shown(prepared):
    rows = prepared.rows("train", PAIR)
    keep = kept(prepared, rows, scores={})
    found = selection_evidence(prepared, keep, rows, PAIR, name="s")
    assert found.pairs == {}
    assert "No pairs are shown" in selection_page(found)


def test_rows_of_a_closed_split_are_not_read(prepared):
    rows = np.flatnonzero(prepared.splits == "held_out")
    with pytest.raises(ArtefactError, match="held_out"):
        selection_evidence(prepared, kept(prepared, rows), rows, PAIR, name="s")


def test_an_absent_record_and_one_that_is_gone_say_so(prepared, folder, tmp_path):
    row = int(prepared.rows("train", PAIR)[0])
    path = folder / "images" / f"{prepared.samples['subject'][row]}.png"
    aside = path.rename(tmp_path / path.name)
    try:
        said = side_of(prepared, "image", row).content
    finally:
        aside.rename(path)
    assert said.startswith("(cannot be read any more: ")
    numbers = prepared.numbers["image"]
    before, numbers[row] = numbers[row], -1
    try:
        assert side_of(prepared, "image", row).content == "(absent)"
    finally:
        numbers[row] = before


def naive(scores, kept, count):
    """The rows by sorting a list of pairs, each person alone."""
    order = sorted(range(len(scores)), key=lambda at: (-scores[at], not kept[at], at))
    best = order[:count]
    rest = [at for at in order if at not in best]
    cut = sum(kept)
    above = [at for at in order[:cut] if at in rest][-((count + 1) // 2) :]
    below = [at for at in order[cut:] if at in rest][: count // 2]
    near = [*above, *below] if 0 < cut < len(order) else []
    worst = [at for at in order[::-1] if at in rest and at not in near][:count]
    return {"best": best, "borderline": near, "worst": worst}


@pytest.mark.parametrize("n", [1, 2, 3, 5, 30])
@pytest.mark.parametrize("count", [1, 2, 5])
def test_rows_are_those_of_a_sorted_list_and_none_stands_twice(n, count):
    rng = np.random.default_rng(n)
    for scores in (rng.normal(size=n), rng.integers(0, 3, n) * 1.0, np.full(n, np.inf)):
        for flags in (scores >= np.median(scores), rng.random(n) < 0.5, np.zeros(n, dtype=bool)):
            found = rows_to_show(scores, flags, [np.arange(n)], count)
            assert found == naive(scores.tolist(), flags.tolist(), count)
            every = [at for places in found.values() for at in places]
            assert len(set(every)) == len(every)


def test_a_person_and_a_duplicate_stand_once_in_a_line():
    scores, flags = np.arange(10.0)[::-1], np.arange(10) < 5
    people = np.array([0, 0, 1, 2, 3, 3, 4, 5, 6, 6])
    copies = np.array([0, 1, 0, 3, 4, 5, 6, 7, 8, 9])
    found = rows_to_show(scores, flags, [people, copies], 2)
    assert found == {"best": [0, 3], "borderline": [4, 6], "worst": [9, 7]}


def targets(kind, values, known=None, columns=("mi",)):
    return targets_of(kind, values, known, name="mi", columns=columns)


def test_members_of_each_kind_of_task():
    binary = task_groups(targets("binary", [[1], [0], [0]], [[True], [True], [False]]))
    assert {name: rows.tolist() for name, rows in binary.items()} == {
        "mi": [True, False, False], "not mi": [False, True, False],
        "unknown": [False, False, True],
    }  # fmt: skip
    labels = task_groups(targets("multilabel", [[1, 1], [0, 0]], columns=("a", "b")))
    assert {name: rows.tolist() for name, rows in labels.items()} == {
        "a": [True, False], "b": [True, False], "none of them": [False, True],
        "unknown": [False, False],
    }  # fmt: skip
    assert task_groups(targets("regression", [[1.5]])) == {}


def test_a_slice_of_a_volume_stands_upright_with_its_spacing():
    voxels = np.arange(2 * 3 * 4.0).reshape(1, 2, 3, 4)
    raw = ImageRecord(pixels=voxels, spacing_mm=(4.0, 2.0, 1.0), where="x")
    source = ImageSource(reader="nifti")
    flat = ImageSettings(size=(4, 4), plane="coronal", slice_at=0.5)
    found = Image(source, flat).show(raw)
    np.testing.assert_array_equal(found.pixels, voxels[0, ::-1, 1])
    assert (found.aspect, found.note) == (4.0, "coronal slice 2 of 3")
    deep = Image(source, ImageSettings(size=(4, 4, 4))).show(raw)
    np.testing.assert_array_equal(deep.pixels, voxels[0, 1, ::-1])
    assert deep.aspect == 2.0


def test_a_heart_is_shown_at_end_diastole():
    voxels = np.arange(3 * 2 * 2 * 2.0).reshape(3, 2, 2, 2)
    raw = CMRVolume(
        voxels=voxels, frames={"ed": 2}, where="x", spacing_mm=(8.0, 1.5, 1.5), orientation="SAR"
    )
    found = CMR(CMRSource(reader="nifti", axes="xyzt"), CMRSettings(slice_at=0.5)).show(raw)
    np.testing.assert_array_equal(found.pixels, voxels[2, 1])
    assert (found.aspect, found.note) == (1.0, "slice 2 of 2, frame 3 of 3")


def test_leads_are_the_usual_ones_or_the_first_three():
    signal = np.arange(4)[:, None] + np.zeros((4, 1000), dtype=np.float32)
    raw = ECGRecord(signal_mv=signal, leads=("V5", "I", "II", "V1"), rate_hz=100)
    adapter = ECG(ECGSource(reader="ecg"), ECGSettings())
    found = adapter.show(raw)
    assert found.leads == ("II", "V1", "V5")
    assert found.values_mv[:, 0].tolist() == [2, 3, 0]
    assert found.values_mv.shape == (3, 500)
    assert found.note == "first 5 of 10 s"
    few = ECGRecord(signal_mv=signal[:, :400], leads=("V2", "I", "II", "V1"), rate_hz=100)
    assert adapter.show(few).leads == ("V2", "I", "II")
    assert adapter.show(few).note == ""


def test_tables_have_units_and_codes_their_days():
    columns = {"age": Column(kind="number", unit="years"), "sex": Column(kind="category")}
    source = TabularSource(reader="table", columns=columns)
    table = Tabular(source, TabularSettings()).show({"age": 61.0, "sex": None})
    assert table == ShownCells(cells=(("age", "61 years"),), note="1 cell missing")
    said = CodeSequence(("A", "B", "C"), np.array([-1, 30, 2]))
    codes = Codes(CodesSource(reader="meds"), CodesSettings()).show(said)
    assert codes.cells == (("C", "2 days before"), ("B", "30 days before"), ("A", "undated"))
    assert codes.note == "the latest 3 of 3 codes"


PTBXL = Path(os.environ.get("MEDMCL_DATA") or "none") / "ptbxl"


@pytest.mark.skipif(not PTBXL.is_dir(), reason="needs MEDMCL_DATA with a folder ptbxl")
def test_an_ecg_of_ptbxl_is_in_millivolt_and_its_report_is_whole():
    cohort, found = open_cohort("ptbxl"), {}
    for name in ("ecg", "report"):
        adapter = build_adapters(cohort, {name: {}})[name]
        place = cohort.records[name].loc["464", "place"]
        found[name] = adapter.show(adapter.read(place))
    signal = found["ecg"]
    assert signal.leads == ("II", "V1", "V5")
    (file,) = PTBXL.rglob("00464_lr.dat")
    stored = np.fromfile(file, dtype="<i2").reshape(-1, 12)[:500, [1, 6, 10]]  # 1000 a mV
    np.testing.assert_allclose(signal.values_mv, stored.T / 1000, atol=1e-6)
    words = "sinusrhythmus rechtstyp qrs(t) abnormal septaler infarkt nicht auszuschliessen"
    assert found["report"].split() == words.split()
