"""Every kind of file that one person's record may come in, read as the run reads a cohort's."""

import shutil
from types import SimpleNamespace

import nibabel
import numpy as np
import pandas as pd
import pytest
import torch
import wfdb
import yaml
from ecg_files import EIGHT, muse_waveform, ukb_waves, write_dicom, write_muse, write_ukb
from image_dicom import write_dicom_image
from PIL import Image
from series_dicom import write_series, zipped
from short_runs import unreported
from small_squares import SMALL, write_squares
from typed import typed

import medmcl
from medmcl.core.errors import CohortError, ConfigError
from medmcl.core.findings import LEAVE_OUT
from medmcl.stages.predict.one_person import fix_of_person, taken_from_training, write_person
from medmcl.stages.predict.predict import predict_person
from medmcl.stages.run.store import Store


@pytest.fixture(scope="module")
def files(trained, hearts):
    """The same people as WFDB and NIfTI files, as the run prepares them."""
    cohort = medmcl.open_cohort(hearts / "cohort_files.yaml")
    return cohort, trained.prepare(cohort, ("ecg", "cmr"))


def array_of(prepared, name, row=0):
    return np.asarray(prepared.inputs(name))[prepared.index(name)[row]]


def alone(run, folder, records, values=None, overrides=None):
    """The one person of single files, as the run prepares them."""
    folder.mkdir()
    written = write_person(run, [], folder, records, values or {}, overrides)
    cohort = medmcl.open_cohort(written, overrides)
    return run.prepare(cohort, tuple(records))


@pytest.mark.parametrize("form", ["dicom", "muse", "ukb", "csv"])
def test_an_ecg_of_any_format_is_that_of_the_cohort(trained, hearts, files, tmp_path, form):
    cohort, home = files
    header = sorted((hearts / "ecg").glob("*.hea"))[0]
    record = wfdb.rdrecord(str(header.with_suffix("")))
    mv, leads, more = record.p_signal.T, record.sig_name, {}
    counts = np.round(mv * 1000 / (5 if form == "ukb" else 4.88)).astype(int)
    rows = dict(zip(leads, counts, strict=True))
    if form == "dicom":
        path = write_dicom(tmp_path / "a.dcm", counts, leads)
    elif form == "muse":
        wave = muse_waveform("Rhythm", {lead: rows[lead] for lead in EIGHT}, rate=record.fs)
        path = write_muse(tmp_path / "a.xml", wave)
    elif form == "ukb":
        path = write_ukb(tmp_path / "a.xml", ukb_waves(rows), samples=counts.shape[1])
    else:
        path = tmp_path / "a.csv"
        pd.DataFrame(mv.T, columns=leads).to_csv(path, index=False)
        more = {"modalities.ecg.rate_hz": record.fs, "modalities.ecg.units": "mV"}
    found = array_of(alone(trained, tmp_path / "p", {"ecg": path}, overrides=more), "ecg")
    row = cohort.samples["subject"].tolist().index(header.stem)
    assert found == pytest.approx(array_of(home, "ecg", row), abs=0.005)  # a step is 4.88 uV


@pytest.mark.parametrize(
    "fix",
    ["give it: --set 'inputs.image.range=[LOW, HIGH]', or another inputs.image.intensity",
     "ask for fewer seconds (inputs.ecg.seconds), or set pad: zero or repeat" + LEAVE_OUT],
)  # fmt: skip
def test_a_setting_of_training_is_no_way_out_for_one_person(fix):
    said = fix_of_person(fix)
    assert "inputs." not in said
    assert "of the kind that the run was trained on" in said
    assert fix_of_person("--set cohort.modalities.ecg.units=uV" + LEAVE_OUT) == (
        "--set cohort.modalities.ecg.units=uV"
    )


def test_what_a_file_of_numbers_cannot_say_is_asked_for_at_once(tmp_path):
    said = {"ecg": {"kind": "ecg", "source": {"reader": "wfdb"}}}
    run = SimpleNamespace(preprocessing=said, tree=Store(tmp_path).tree)
    for file in (tmp_path / "a.csv", tmp_path / "a.npy"):
        file.write_text("I,II\n0,1\n")
        with pytest.raises(ConfigError) as told:
            write_person(run, [], tmp_path, {"ecg": file}, {})
        keys = "--set cohort.modalities.ecg.rate_hz=500 --set cohort.modalities.ecg.units=mV"
        assert keys in str(told.value.fix)
        assert str(told.value.where) == f"--record ecg={file}"
        half = {"cohort.modalities.ecg.rate_hz": 100}
        with pytest.raises(ConfigError) as told:
            write_person(run, [], tmp_path, {"ecg": file}, {}, half)
        assert str(told.value.fix).startswith("--set cohort.modalities.ecg.units=mV,")
        more = {**half, "cohort.modalities.ecg.units": "uV"}
        assert write_person(run, [], tmp_path, {"ecg": file}, {}, more).exists()
    file = tmp_path / "told.csv"
    file.write_text("time,I (uV),II (uV)\n0.000,0,1\n0.002,1,2\n0.004,0,3\n")
    assert write_person(run, [], tmp_path, {"ecg": file}, {}).exists()


def test_a_value_beside_another_in_the_file_is_refused(tmp_path):
    """The one of the file went, and nothing said so."""
    source = {"reader": "table", "columns": {"age": {"kind": "number"}, "bmi": {"kind": "number"}}}
    said = {"clinic": {"kind": "tabular", "source": source}}
    run = SimpleNamespace(preprocessing=said, tree=Store(tmp_path).tree)
    file = tmp_path / "her.csv"
    file.write_text("age,bmi\n82.5,\n")
    assert write_person(run, [], tmp_path, {"clinic": file}, {"age": "82.5", "bmi": "30"}).exists()
    with pytest.raises(ConfigError, match="'age' is given twice") as told:
        write_person(run, [], tmp_path, {"clinic": file}, {"age": "30"})
    assert str(told.value.got) == f"82.5 in {file}"


def test_what_a_file_of_numbers_takes_from_the_run_is_said(tmp_path):
    source = {"reader": "parquet", "rate_hz": 500.0, "units": "mV"}
    run = SimpleNamespace(preprocessing={"ecg": {"kind": "ecg", "source": source}})
    file = tmp_path / "a.csv"
    file.write_text("I,II\n0,1\n")
    (note,) = taken_from_training(run, {"ecg": file}, {"cohort.modalities.ecg.units": "uV"})
    assert note.startswith("a.csv does not say its sampling rate: taken as of the run's own files")
    assert note.endswith("--set cohort.modalities.ecg.rate_hz=500.0")
    said = {f"cohort.modalities.ecg.{key}": "1" for key in ("rate_hz", "units")}
    assert not taken_from_training(run, {"ecg": file}, said)
    file.write_text("time,I (uV),II (uV)\n0.000,0,1\n0.002,1,2\n0.004,0,3\n")
    assert not taken_from_training(run, {"ecg": file}, {})


def test_an_ecg_without_beats_lies_outside_however_near_its_embedding_is(trained, hearts, tmp_path):
    record = wfdb.rdrecord(str(sorted((hearts / "ecg").glob("*.hea"))[0].with_suffix("")))
    rng, shape = np.random.default_rng(0), record.p_signal.shape
    one, two = rng.normal(0, 0.3, (2, shape[0]))
    rows = {"I": one, "II": two, "III": two - one, "aVR": -(one + two) / 2}
    rows |= {"aVL": one - two / 2, "aVF": two - one / 2}
    signal = np.stack([rows.get(name, rng.normal(0, 0.3, shape[0])) for name in record.sig_name], 1)
    said = {"rate_hz": record.fs, "units": "mV"}
    more = {f"cohort.modalities.ecg.{key}": one for key, one in said.items()}
    pd.DataFrame(signal, columns=record.sig_name).to_csv(tmp_path / "noise.csv", index=False)
    told = predict_person(trained, {"ecg": tmp_path / "noise.csv"}, overrides=more, device="cpu")
    assert (told.table["quality"] == "ok").all()
    assert told.table["outside"].all()
    assert told.table["outside_of"].str.contains("ecg: no heart beats are found").all()
    pd.DataFrame(record.p_signal, columns=record.sig_name).to_csv(tmp_path / "a.csv", index=False)
    told = predict_person(trained, {"ecg": tmp_path / "a.csv"}, overrides=more, device="cpu")
    assert not told.table["outside_of"].str.contains("beats").any()


def test_the_command_predicts_one_person_from_one_file(trained, hearts, tmp_path, capsys):
    header = sorted((hearts / "ecg").glob("*.hea"))[0]
    out = tmp_path / "her.csv"
    words = ["predict", trained.path, "--record", f"ecg={header}", "--device", "cpu"]
    assert not typed(*words, "--workers", 0, "--out", out)
    told = capsys.readouterr().out
    assert "1 person: 1 predicted, 0 without a prediction" in told
    assert "infarct: probability " in told
    assert "heart_failure: risk by 1 year " in told
    assert "this file is about people" in told
    rows = pd.read_csv(out, dtype={"subject": str})
    assert set(rows["subject"]) == {header.stem}
    assert rows.loc[rows["kind"] != "value", "predicted"].between(0, 1).all()
    whole = trained.predict(hearts / "cohort_files.yaml", device="cpu").merge(
        rows, on=["subject", "task", "target", "horizon_years"], suffixes=("", "_file")
    )
    assert len(whole) == len(rows)
    assert whole["predicted_file"].to_numpy() == pytest.approx(whole["predicted"], rel=1e-14)
    own = tmp_path / "NA.hea"  # of somebody with these initials: no missing id
    own.write_text(header.read_text().replace(header.stem, "NA"))
    shutil.copy(header.with_suffix(".dat"), own.with_suffix(".dat"))
    assert not typed(*words[:3], f"ecg={own}", "--device", "cpu", "--workers", 0, "--out", out,
                     "--overwrite")  # fmt: skip
    again = pd.read_csv(out, keep_default_na=False)
    assert set(again["subject"]) == {"NA.hea"}
    bare = own.with_suffix("")
    assert not typed(*words[:3], f"ecg={bare}", "--device", "cpu", "--workers", 0, "--out", out,
                     "--overwrite")  # fmt: skip
    assert set(pd.read_csv(out, keep_default_na=False)["subject"]) == {"record NA"}
    assert again["predicted"].tolist() == rows["predicted"].tolist()
    capsys.readouterr()
    assert not typed(*words, "--workers", 0, "--value", "age=63")
    assert "age: not read by '" in "".join(capsys.readouterr())  # the model is of ECGs alone
    assert typed(*words, "--value", "age=old") == 2
    assert typed("predict", trained.path, "--record", f"ecg={tmp_path}/none.hea") == 2
    assert "there is no such file" in capsys.readouterr().err


def test_a_cine_is_read_by_its_frames_and_a_guess_is_said(trained, hearts, files, tmp_path):
    cohort, home = files
    people = pd.read_csv(hearts / "participants.tsv", sep="\t", dtype={"subject_id": str})
    path = next(one for one in sorted((hearts / "cmr").glob("*.nii.gz")) if "mask" not in one.name)
    subject = path.name.removesuffix(".nii.gz")
    who = people.set_index("subject_id").loc[subject]
    told = {f"shard_{name}": str(int(who[f"cine_{name}"])) for name in ("es", "mid", "ed")}
    stored = {"modalities.cmr.orient": "stored"}
    found = alone(trained, tmp_path / "p", {"cmr": path}, told, stored)
    row = cohort.samples["subject"].tolist().index(subject)
    assert (array_of(found, "cmr") == array_of(home, "cmr", row)).all()
    assert not found.warnings
    image = nibabel.load(path)
    voxels = np.asarray(image.dataobj).T
    assert (voxels == voxels.astype(np.uint16)).all()
    write_series(tmp_path / "cine", voxels.astype(np.uint16), image.affine)
    for number, form in enumerate(
        (tmp_path / "cine", zipped(tmp_path / "cine", tmp_path / "a.zip"))
    ):
        dicom = alone(trained, tmp_path / f"d{number}", {"cmr": form}, told, stored)
        assert array_of(dicom, "cmr") == pytest.approx(array_of(home, "cmr", row), abs=1e-6)
    with pytest.raises(ConfigError, match="did you mean 'shard_es'"):
        alone(trained, tmp_path / "r", {"cmr": path}, {"shard_e": "3"})
    ecg = hearts / "ecg" / subject
    one = predict_person(trained, {"ecg": ecg, "cmr": path}, device="cpu")
    guessed = alone(trained, tmp_path / "q", {"cmr": path})
    assert [finding.code for finding in guessed.warnings] == ["cmr.es_guessed"]
    assert not any("end-systole" in note for note in one.notes)  # the method reads ecg alone
    (tmp_path / "bad.nii.gz").write_bytes(b"none")
    with pytest.raises(CohortError, match="cannot be read"):
        alone(trained, tmp_path / "s", {"cmr": tmp_path / "bad.nii.gz"})


@pytest.fixture(scope="module")
def by_cine(hearts, tmp_path_factory):
    """A run whose probe reads cines, after a step of training."""
    tree = {
        "schema": "medmcl/recipe@1",
        "inputs": {"cmr": {"mode": "multi_frame_2d", "size": 32, "crop": "none"}},
        "towers": {"cmr": {"encoder": {"name": "small_cnn", "widths": [8, 16]},
                           "head": {"hidden": 16, "out": 8}}},
        "views": {"one": {"modalities": ["cmr"]}, "two": {"modalities": ["cmr"]}},
        "stages": [{"stage": "train", "name": "brief", "towers": ["cmr"], "steps": 1,
                    "objectives": {"in_modal": {"modality": "cmr", "views": ["one", "two"]}},
                    "batch_size": 16},
                   {"stage": "evaluate", "name": "results", "tasks": ["infarct"],
                    "probe": {"modality": "cmr", "models": {"brief": "brief"}},
                    "bootstrap_draws": 100}],
    }  # fmt: skip
    recipe = tmp_path_factory.mktemp("cine") / "recipe.yaml"
    recipe.write_text(yaml.safe_dump(tree), encoding="utf-8")
    return unreported(hearts, recipe=recipe, out=recipe.parent / "run")


def test_one_cine_alone_is_predicted_and_a_guess_stands_in_its_row_with_the_way_out(
    by_cine, hearts, tmp_path, capsys
):
    people = pd.read_csv(hearts / "participants.tsv", sep="\t", dtype={"subject_id": str})
    path = next(one for one in sorted((hearts / "cmr").glob("*.nii.gz")) if "mask" not in one.name)
    who = people.set_index("subject_id").loc[path.name.removesuffix(".nii.gz")]
    home = by_cine.predict(hearts / "cohort_files.yaml", device="cpu").set_index("subject")
    words = ["predict", by_cine.path, "--record", f"cmr={path}", "--device", "cpu", "--workers", 0]
    words += ["--set", "cohort.modalities.cmr.orient=stored"]

    def told(name, *more):
        assert not typed(*words, *more, "--out", tmp_path / name)
        (row,) = pd.read_csv(tmp_path / name, keep_default_na=False).to_dict("records")
        return row, capsys.readouterr().out

    named = [f"--value=shard_{name}={int(who[f'cine_{name}'])}" for name in ("es", "mid", "ed")]
    row, said = told("named.csv", *named)
    assert row["predicted"] == pytest.approx(home.loc[who.name, "predicted"], rel=1e-14)
    assert (row["quality"], row["remarks"]) == ("ok", "")
    assert "end-systole" not in said
    row, said = told("guessed.csv")
    assert row["quality"] == "ok"
    assert row["remarks"].startswith("cmr: end-systole is not named; frame ")
    assert said.count("if you know it: --value shard_es=NUMBER (the first frame is 0)") == 1
    row, said = told("out.csv", named[0])  # the way out works as it is told
    assert row["remarks"] == ""
    assert "end-systole" not in said


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """A cohort of pictures with captions, and a run that has seen next to nothing of it."""
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("pictures")
    cohort = write_squares(folder / "squares", people=72, side=24)
    quick = {
        **SMALL, "stages.contrast.batch_size": 32, "stages.contrast.epochs": None,
        "stages.contrast.steps": 1, "stages.contrast.evaluate_every": 1,
        "stages.results.retrieval": None, "stages.results.zero_shot": None,
        "stages.results.tasks": ["colour"],
    }  # fmt: skip
    return medmcl.pretrain(cohort, out=folder / "run", overrides=quick, device="cpu"), cohort


def test_a_picture_and_a_text_are_read_as_those_of_the_cohort(pictures, tmp_path):
    run, cohort = pictures
    source = cohort / "images" / "s0003.png"
    caption = pd.read_csv(cohort / "pictures.csv").set_index("subject_id")["caption"]["s0003"]
    (tmp_path / "a.txt").write_text(caption, encoding="utf-8")
    told = run.predict(cohort, device="cpu").set_index("subject").loc["s0003", "predicted"]
    one = predict_person(run, {"image": source, "caption": tmp_path / "a.txt"}, device="cpu")
    assert one.table["predicted"].tolist() == told.tolist()
    home = run.prepare(medmcl.open_cohort(cohort), ("caption",))
    words = array_of(alone(run, tmp_path / "p", {"caption": tmp_path / "a.txt"}), "caption")
    assert (words == array_of(home, "caption", 3)).all()
    for ending in ("bmp", "tif"):
        copy = tmp_path / f"a.{ending}"
        Image.open(source).save(copy)
        one = predict_person(run, {"image": copy}, device="cpu").table
        assert one["predicted"].tolist() == told.tolist()


def test_a_grey_picture_is_the_same_as_dicom_and_a_flat_nifti_is_read(pictures, tmp_path):
    run, cohort = pictures
    grey = np.asarray(Image.open(cohort / "images" / "s0003.png").convert("L"))
    Image.fromarray(grey).save(tmp_path / "a.png")
    write_dicom_image(tmp_path / "a.dcm", grey, bits=8)
    wanted = array_of(alone(run, tmp_path / "p", {"image": tmp_path / "a.png"}), "image")
    found = array_of(alone(run, tmp_path / "q", {"image": tmp_path / "a.dcm"}), "image")
    assert found == pytest.approx(wanted, abs=0.005)  # PNG is resized in steps of 1/255
    affine = np.diag([-1.0, -1.0, 1.0, 1.0])
    image = nibabel.Nifti1Image(np.ascontiguousarray(grey.T).astype(np.uint8), affine)
    nibabel.save(image, tmp_path / "a.nii.gz")
    with pytest.raises(CohortError, match="does not say which range"):  # 0 to 255 of a photograph?
        predict_person(run, {"image": tmp_path / "a.nii.gz"}, device="cpu")
    (tmp_path / "bad.png").write_bytes(b"none")
    with pytest.raises(CohortError, match="cannot be read as an image"):
        predict_person(run, {"image": tmp_path / "bad.png"}, device="cpu")


def test_a_header_without_its_signals_says_which_file_is_missing_beside_it(
    trained, hearts, tmp_path
):
    header = sorted((hearts / "ecg").glob("*.hea"))[0]
    alone = tmp_path / header.name
    alone.write_bytes(header.read_bytes())
    with pytest.raises(CohortError) as caught:
        predict_person(trained, {"ecg": alone}, device="cpu")
    said = str(caught.value)
    assert f"put {header.stem}.dat beside {header.name}" in said
    assert "cohort.yaml" not in said
