"""Each damage of an ECG file, through real files, the real reader and the real check."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import yaml

from medmcl.core.errors import CohortError
from medmcl.data.check.check import check_cohort
from medmcl.data.cohort.cohort import open_cohort
from medmcl.data.loading.prepare import prepare
from medmcl.modalities.ecg.leads import TWELVE
from medmcl.simulation.heart.settings import HeartSettings
from medmcl.simulation.heart.subjects import BLOCK, draw_block

HEARTS, RATE_HZ, BAD = 9, 250, "h8"
COHORT = {
    "schema": "medmcl/cohort@1",
    "subjects": {"table": "people.csv", "id": "id", "split": "split"},
    "modalities": {"ecg": {"reader": "wfdb", "path": "{id}"}},
}
SCANT = {"cohort.few_held_out", "cohort.few_tuning", "cohort.empty_split"}


def write(folder, name, rows, rate_hz=RATE_HZ, gain="1000/mV", names=TWELVE):
    steps = np.where(np.isfinite(rows), np.round(rows * 1000), -32768).astype("<i2")
    lines = [f"{name} 12 {rate_hz:g} {rows.shape[1]}"]
    lines += [
        f"{name}.dat 16 {gain} 16 0 {row[0]} {int(row.astype(int).sum()) % 65536} 0 {lead}"
        for lead, row in zip(names, steps, strict=True)
    ]
    (folder / f"{name}.hea").write_text("\n".join(lines) + "\n")
    (folder / f"{name}.dat").write_bytes(steps.T.tobytes())


@pytest.fixture(scope="module")
def hearts():
    settings = HeartSettings(subjects=BLOCK)
    signals = draw_block(settings, 0).ecg_signal(settings, np.arange(HEARTS), RATE_HZ, 10)
    return dict(zip((f"h{n}" for n in range(HEARTS)), np.stack(signals).astype(float), strict=True))


@pytest.fixture(scope="module")
def sound(hearts, tmp_path_factory):
    folder = tmp_path_factory.mktemp("sound")
    for name, rows in hearts.items():
        write(folder, name, rows)
    splits = ["train"] * 5 + ["tuning"] * 2 + ["held_out"] * 2
    rows = [f"{name},{split}" for name, split in zip(hearts, splits, strict=True)]
    (folder / "people.csv").write_text("id,split\n" + "\n".join(rows) + "\n")
    (folder / "cohort.yaml").write_text(yaml.safe_dump(COHORT))
    return folder


@pytest.fixture
def folder(sound, tmp_path):
    return Path(shutil.copytree(sound, tmp_path / "cohort"))


def check(folder):
    return [finding for finding in check_cohort(folder) if finding.code not in SCANT]


def accept(folder, judgements):
    """Write the cohort anew: these judgements are accepted."""
    ecg = {**COHORT["modalities"]["ecg"], "accept": judgements}
    (folder / "cohort.yaml").write_text(yaml.safe_dump({**COHORT, "modalities": {"ecg": ecg}}))


def exchanged(*pair):
    turned = dict([pair, pair[::-1]])
    return tuple(turned.get(name, name) for name in TWELVE)


def electrodes(rows, one, two):
    i, ii = np.array([one, two]) @ rows[:2]
    return np.concatenate([[i, ii, ii - i, -(i + ii) / 2, i - ii / 2, ii - i / 2], rows[6:]])


def with_nan(rows, samples=slice(300, 310)):
    rows = rows.copy()
    rows[7, samples] = np.nan
    return rows


def arms(rows):
    return electrodes(rows, [-1, 0], [-1, 1])


IN_FILE = {
    "uV said to be mV": ({"gain": "1/mV"}, "wrong_units", "in uV"),
    "mV said to be uV": ({"gain": "1000/uV"}, "wrong_units", "in mV"),
    "mV said to be V": ({"gain": "1000/V"}, "wrong_units", "in mV"),
    "twice the rate": ({"rate_hz": 500}, "wrong_rate", "likely 250 Hz"),
    "half the rate": ({"rate_hz": 125}, "wrong_rate", "likely 250 Hz"),
    "four times the rate": ({"rate_hz": 1000}, "wrong_rate", "250 Hz"),
    "I, II": ({"names": exchanged("I", "II")}, "swapped_leads", "correct the lead names"),
    "aVR, aVL": ({"names": exchanged("aVR", "aVL")}, "swapped_leads", "correct the lead names"),
    "II, V4": ({"names": exchanged("II", "V4")}, "swapped_leads", "correct the lead names"),
    "V1, V6": ({"names": exchanged("V1", "V6")}, "swapped_leads", "correct the names"),
    "arms": ({"change": arms}, "swapped_leads", "correct limb leads"),
    "NaN": ({"change": with_nan}, "nan", "missing_samples: interpolate"),
    "constant": ({"change": lambda rows: 0 * rows}, "flat", "export it again"),
}


def test_sound_hearts_have_no_finding(folder):
    assert check(folder) == []
    inputs = {"ecg": {"rate_hz": 100, "seconds": 10}}
    assert prepare(open_cohort(folder), inputs, cache=folder / "cache").usable("ecg").all()


@pytest.mark.parametrize("name", IN_FILE)
def test_one_damaged_file_has_one_finding_with_its_fix(folder, hearts, name):
    options, code, fix = IN_FILE[name]
    options = dict(options)
    change = options.pop("change", lambda rows: rows)
    write(folder, BAD, change(hearts[BAD]), **options)
    about = [finding for finding in check(folder) if finding.scope == "record"]
    assert [(finding.code, finding.level) for finding in about] == [(f"ecg.{code}", "error")]
    assert BAD in about[0].where
    assert fix in about[0].fix


@pytest.mark.parametrize(
    ("left", "code", "fix"),
    [
        (0.5, "ecg.unreadable", "copy it again"),
        (0, "ecg.unreadable", "copy it again"),
        (None, "ecg.missing_file", "correct the path in cohort.yaml"),
    ],
)
def test_files_that_end_early_or_are_not_there_are_named(folder, left, code, fix):
    file = folder / f"{BAD}.dat"
    if left is None:
        file.unlink()
        file.with_suffix(".hea").unlink()
    else:
        file.write_bytes(file.read_bytes()[: int(left * file.stat().st_size)])
    (finding,) = check(folder)
    assert (finding.code, finding.level) == (code, "error")
    assert BAD in finding.where
    assert fix in finding.fix


def test_one_recording_under_two_ids_and_a_subject_in_two_splits_are_named(folder, hearts):
    write(folder, BAD, hearts["h0"])
    table = folder / "people.csv"
    table.write_text(f"{table.read_text()}h1,held_out\n")
    found = {finding.code: finding for finding in check(folder)}
    assert set(found) == {"ecg.duplicate", "cohort.split_leak"}
    assert {finding.level for finding in found.values()} == {"error"}
    assert "take the other row out" in found["ecg.duplicate"].fix
    assert "h1" in found["cohort.split_leak"].where


@pytest.mark.parametrize(
    ("options", "code", "fix"),
    [
        ({"rate_hz": 500}, "ecg.wrong_rate", "correct rate_hz"),
        ({"rate_hz": 125}, "ecg.wrong_rate", "correct rate_hz"),
        ({"names": exchanged("V2", "V3")}, "ecg.swapped_leads", "correct leads: in cohort.yaml"),
        ({"names": exchanged("V1", "V2")}, "ecg.swapped_leads", "correct leads: in cohort.yaml"),
    ],
)
def test_what_is_wrong_in_every_file_is_an_error_of_the_cohort(folder, hearts, options, code, fix):
    for name, rows in hearts.items():
        write(folder, name, rows, **options)
    found = [f for f in check(folder) if f.scope == "cohort" and f.level == "error"]
    assert [finding.code for finding in found] == [code]
    assert fix in found[0].fix
    assert found[0].where == "modalities.ecg, all ECGs"
    cohort = open_cohort(folder, {"on_bad_record": "exclude"})  # it does not pass over these
    for _ in range(2):  # the second is from the cache
        with pytest.raises(CohortError, match=found[0].code):
            prepare(cohort, {"ecg": {"rate_hz": 100}}, cache=folder / "cache")


def test_a_record_that_looks_wrong_and_is_right_can_be_accepted_and_is_counted(folder, hearts):
    write(folder, BAD, arms(hearts[BAD]))
    inputs = {"ecg": {"rate_hz": 100, "baseline": "none"}}
    with pytest.raises(CohortError, match="swapped_leads"):
        prepare(open_cohort(folder), inputs, cache=folder / "cache")
    (before,) = check(folder)
    assert "accept: {RECORD: [swapped_leads]}" in before.fix
    assert "--set cohort.on_bad_record=exclude" in before.fix
    accept(folder, {BAD: ["swapped_leads"]})
    (after,) = check(folder)
    assert (after.code, after.level) == (before.code, "warning")
    assert "accepted in cohort.yaml" in after.what
    prepared = prepare(open_cohort(folder), inputs, cache=folder / "cache")
    assert prepared.usable("ecg").all()
    assert prepared.warnings == [after]
    write(folder, "h1", arms(hearts["h1"]))
    levels = {finding.where[:10]: finding.level for finding in check(folder)}
    assert levels == {"subject h1": "error", f"subject {BAD}": "warning"}


def test_a_mend_that_leaves_a_record_out_is_not_given_where_it_is_left_out(folder, hearts):
    write(folder, BAD, arms(hearts[BAD]))
    (folder / "cohort.yaml").write_text(yaml.safe_dump({**COHORT, "on_bad_record": "exclude"}))
    (finding,) = check(folder)
    assert "will be excluded" in finding.what
    assert "exclude" not in finding.fix


def test_a_judgement_about_the_whole_cohort_can_be_accepted(folder, hearts):
    for name, rows in hearts.items():
        write(folder, name, rows, names=exchanged("V2", "V3"))
    assert "accept: {'*': [swapped_leads]}" in next(
        finding.fix for finding in check(folder) if finding.scope == "cohort"
    )
    accept(folder, {"*": ["swapped_leads"]})
    found = check(folder)
    assert {finding.level for finding in found} == {"warning"}
    assert any(finding.scope == "cohort" for finding in found)


def test_what_is_accepted_must_be_a_record_and_a_judgement(folder):
    accept(folder, {"h88": ["wrong_rate"]})
    (found,) = check(folder)
    assert (found.code, found.level) == ("cohort.accept", "warning")
    assert "h88" in found.what
    accept(folder, {"h8": ["nan"]})
    assert "config.invalid" in {finding.code for finding in check(folder)}


@pytest.mark.parametrize("pair", [("II", "V4"), ("V1", "V6")])
def test_exchanges_with_two_explanations_are_told_as_the_likelier_one(folder, hearts, pair):
    for name in ("h0", "h3", "h6"):  # V4 is much like II there, and V1 like exchanged electrodes
        write(folder, name, hearts[name], names=exchanged(*pair))
    about = [finding for finding in check(folder) if finding.scope == "record"]
    assert [finding.code for finding in about] == ["ecg.swapped_leads"] * 3
    assert all(finding.what.startswith(f"{' and '.join(pair)} are swapped") for finding in about)


def test_what_is_said_of_the_whole_cohort_reaches_the_run_also_from_the_cache(folder, hearts):
    for name, rows in hearts.items():
        write(folder, name, rows, rate_hz=500)
    accept(folder, {"*": ["wrong_rate"]})
    inputs = {"ecg": {"rate_hz": 100, "seconds": 5}}
    for _ in range(2):
        prepared = prepare(open_cohort(folder), inputs, cache=folder / "cache")
        about = [finding for finding in prepared.warnings if finding.scope == "cohort"]
        assert [(finding.code, finding.level) for finding in about] == [
            ("ecg.wrong_rate", "warning")
        ]
        assert "accepted in cohort.yaml" in about[0].what


@pytest.mark.parametrize(
    ("change", "options", "codes"),
    [
        (lambda rows: with_nan(rows, slice(None)), {}, ["flat"]),
        (lambda rows: np.nan * rows, {}, ["nan"]),
        (lambda rows: rows.clip(-0.2, 0.2), {}, ["clipped"]),
        (lambda rows: 0 * rows + 0.1, {"gain": "1/mV"}, ["flat"]),
        (with_nan, {"gain": "1/mV"}, ["nan", "wrong_units"]),
        (with_nan, {"names": exchanged("I", "II")}, ["nan", "swapped_leads"]),
        (lambda rows: rows, {"gain": "1/mV", "names": exchanged("I", "II")},
         ["swapped_leads", "wrong_units"]),
        (lambda rows: rows.clip(-0.2, 0.2), {"gain": "1/mV"}, ["clipped", "wrong_units"]),
    ],
)  # fmt: skip
def test_each_cause_has_one_finding_also_where_two_meet(folder, hearts, change, options, codes):
    write(folder, BAD, change(hearts[BAD]), **options)
    about = [finding for finding in check(folder) if finding.scope == "record"]
    assert sorted(finding.code for finding in about) == [f"ecg.{code}" for code in codes]
