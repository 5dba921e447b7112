"""``medmcl embed --model``: a cohort by a published model; in shards, killed, resumed, twice."""

import logging
import os
import re
import shutil
import threading
from contextlib import contextmanager
from pathlib import Path

import nibabel
import numpy as np
import pandas as pd
import pytest
import yaml
from processes import Command, finish
from published_weights import filled, save
from safetensors.torch import save_file
from small_encoder import weights_of

import medmcl
from medmcl import models
from medmcl.core.config import fingerprint
from medmcl.core.errors import ArtefactError, CohortError, ConfigError
from medmcl.data.loading import shared_work
from medmcl.encoders.published.card import split_model
from medmcl.modalities.ecg.adapter import ECG, ECGSettings
from medmcl.stages.benchmark.contenders import disturbed
from medmcl.stages.run import embedding, embedding_parts
from medmcl.stages.run.embed import EmbedCommand
from medmcl.stages.run.embedding import provenance_of_table


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cohort") / "heart"
    medmcl.simulate("heart", folder, {"subjects": 24, "cmr_file_size": 16})
    return folder


@pytest.fixture(scope="module")
def file(encoder_file):
    return encoder_file


@pytest.fixture(autouse=True)
def small_parts(monkeypatch, tmp_path_factory):
    monkeypatch.setattr(embedding, "MODEL_BATCH", 4)
    monkeypatch.setenv("MEDMCL_CACHE", str(tmp_path_factory.getbasetemp() / "prepared"))


def embed(cohort, file, out, **more):
    given = {"model": f"turgut_ecg:global_pool:{file}", "device": "cpu", **more}
    return EmbedCommand(cohort=str(cohort), out=out, **given).write()


@pytest.fixture(scope="module")
def whole(cohort, file, tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(embedding, "MODEL_BATCH", 4)
        out = tmp_path_factory.mktemp("whole") / "e.parquet"
        embed(cohort, file, out)
    return out


def test_each_record_is_what_the_model_makes_of_it(cohort, file, whole):
    table = pd.read_parquet(whole)
    opened = medmcl.open_cohort(cohort)
    assert list(table.columns[:3]) == ["subject", "record", "quality"]
    assert len(table) == len(opened.records["ecg"])
    model = models.load("turgut_ecg:global_pool", weights=file)
    reader = ECG(opened.spec.modalities["ecg"].source, ECGSettings())
    for row in (0, 5, len(table) - 1):
        raw = reader.read(opened.records["ecg"]["place"].loc[table["record"][row]])
        x = model.prepare(raw.signal_mv, leads=raw.leads, rate_hz=raw.rate_hz)
        stored = model.features(x[None])[0]
        found = table.iloc[row, 3:].to_numpy(np.float64)
        assert np.abs(found - stored).max() < 1e-5 * stored.std()


@pytest.mark.parametrize(("name", "tag", "under"), [
    ("hubert_ecg:tiny", "tiny", "model_state_dict"), ("ecg_fm:tiny", "tiny_pretrained", "model"),
])  # fmt: skip
def test_leads_in_a_row_and_windows_are_embedded_too(cohort, tmp_path, name, tag, under):
    file = save(filled(name.partition(":")[0], tag), tmp_path / "w.pt", under)
    embed(cohort, file, tmp_path / "e.parquet", model=f"{name}:{file}")
    table = pd.read_parquet(tmp_path / "e.parquet")
    opened = medmcl.open_cohort(cohort)
    reader = ECG(opened.spec.modalities["ecg"].source, ECGSettings(steps=[]))
    raw = reader.read(opened.records["ecg"]["place"].loc[table["record"][7]])
    model = models.load(name, weights=file)
    x = model.prepare(raw.signal_mv, leads=raw.leads, rate_hz=raw.rate_hz)
    stored = model.features(x[None])[0]
    assert np.abs(table.iloc[7, 3:].to_numpy(np.float64) - stored).max() < 1e-5 * stored.std()


def test_the_table_says_who_made_it(file, whole):
    said = provenance_of_table(whole)["made_by"]
    assert (said["model"], said["variant"]) == ("turgut_ecg", "global_pool")
    assert said["weights_sha256"] == models.load(
        "turgut_ecg:global_pool", weights=file
    ).provenance["weights_sha256"]  # fmt: skip
    assert said["licence"] == "CC BY-NC 4.0"
    assert said["commercial"] is False
    assert said["seen"] == models.card("turgut_ecg").seen


def test_shards_join_to_the_same_bytes(cohort, file, whole, tmp_path):
    out = tmp_path / "e.parquet"
    first = embed(cohort, file, out, shard="1/3")[0]
    assert first == (
        "shard 1/3 is done (2 of 6 parts); 4 parts of other shards are missing, and whoever makes "
        f"the last of them writes {out}"
    )
    assert not out.exists()
    assert embed(cohort, file, out, shard="1/3")[0] == first  # started twice
    embed(cohort, file, out, shard="3/3")
    assert "24 records" in embed(cohort, file, out, shard="2/3")[0]
    assert out.read_bytes() == whole.read_bytes()
    assert not out.with_name("e.parquet.parts").exists()
    assert "whole already" in embed(cohort, file, out, shard="1/3")[0]


def test_a_shard_that_gets_no_records_says_why(cohort, file, tmp_path):
    said = embed(cohort, file, tmp_path / "e.parquet", shard="7/8")[0]
    assert said.startswith("shard 7/8 has nothing to do: 6 parts of whole batches cannot be shared")
    assert "6 parts of other shards are missing" in said


def test_a_log_file_is_told_how_far_it_is(cohort, file, tmp_path, monkeypatch, caplog):
    now = [0.0]

    def tick():
        now[0] += 4
        return now[0]

    monkeypatch.setattr("medmcl.core.progress.time.monotonic", tick)
    monkeypatch.setattr(logging.getLogger("medmcl"), "propagate", True)
    monkeypatch.setenv("MEDMCL_CACHE", str(tmp_path / "cold"))
    with caplog.at_level(logging.INFO, logger="medmcl"):
        embed(cohort, file, tmp_path / "e.parquet")
    said = [one.message for one in caplog.records]
    assert any(re.match(r"reading records: \d+ of 24, .* left$", one) for one in said)
    assert "embedding 24 records of ecg" in said
    line = r"embedding ecg: (\d+) of 24, [\d.]+ a second, \d+ s gone, about \d+ s left$"
    done = [int(found[1]) for one in said if (found := re.match(line, one))]
    assert done == sorted(set(done)) != []


def test_shards_at_the_same_time_each_started_twice(cohort, file, whole, tmp_path):
    out, faults = tmp_path / "e.parquet", []

    def start(shard):
        try:
            embed(cohort, file, out, shard=shard)
        except BaseException as error:
            faults.append(error)

    threads = [threading.Thread(target=start, args=(one,)) for one in ("1/2", "2/2") * 2]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert not faults
    assert out.read_bytes() == whole.read_bytes()


@pytest.mark.parametrize("doing", ["an embedding is being begun", "a part is being embedded"])
def test_parts_that_another_shard_joins_meanwhile_are_no_fault(
    cohort, file, whole, tmp_path, monkeypatch, doing
):
    out = tmp_path / "e.parquet"
    embed(cohort, file, out, shard="1/2")
    real = shared_work.claim

    @contextmanager
    def joined_after(path, said, **more):
        with real(path, said, **more):
            yield
        if said == doing:
            shutil.copy(whole, out)
            shutil.rmtree(f"{out}.parts")

    for module in (embedding_parts, shared_work):
        monkeypatch.setattr(module, "claim", joined_after)
    embed(cohort, file, out, shard="2/2")
    assert out.read_bytes() == whole.read_bytes()


def test_killed_and_resumed_is_the_same_as_never_killed(cohort, file, whole, tmp_path, monkeypatch):
    out, made = tmp_path / "e.parquet", []
    own = embedding.Embedding.vectors

    def some(self, records, bar):
        if len(made) == 2:
            raise KeyboardInterrupt
        made.append(records)
        return own(self, records, bar)

    monkeypatch.setattr(embedding.Embedding, "vectors", some)
    with pytest.raises(KeyboardInterrupt):
        embed(cohort, file, out)
    assert not out.exists()
    with pytest.raises(ArtefactError, match="--resume goes on"):
        embed(cohort, file, out)
    begun = []
    monkeypatch.setattr(
        embedding.Embedding, "vectors", lambda *given: begun.append(1) or own(*given)
    )
    shutil.copytree(out.with_name("e.parquet.parts"), tmp_path / "f.parquet.parts")
    (damaged,) = (tmp_path / "f.parquet.parts").glob("000001-*.npy")
    (sound,) = damaged.parent.glob("000000-*.npy")
    sound.rename(sound.with_name(f"000002-{sound.name[7:]}"))  # of other records
    damaged.write_bytes(damaged.read_bytes()[:-3] + b"abc")
    damaged.with_name(f"000003-{damaged.name[7:]}").mkdir()
    embed(cohort, file, out, resume=True)
    assert len(begun) == 4
    assert out.read_bytes() == whole.read_bytes()
    embed(cohort, file, tmp_path / "f.parquet", resume=True)
    assert len(begun) == 10
    assert (tmp_path / "f.parquet").read_bytes() == whole.read_bytes()


def test_parts_of_earlier_versions_are_gone_on_with(cohort, file, tmp_path, monkeypatch):
    model = f"turgut_ecg:global_pool:{file}"
    found = embedding.embedding_of_model(model, cohort, beside=tmp_path, device="cpu")
    monkeypatch.setattr(embedding, "ROWS_AT_ONCE", 7)
    them = [*found.prepared.cohort.records["ecg"].index, *range(24)]
    assert found.identity == fingerprint({**found.provenance, "of": [*them, found.batch]})


def test_parts_that_do_not_say_whose_they_are_are_named(cohort, file, tmp_path):
    about = tmp_path / "e.parquet.parts" / "about.json"
    embed(cohort, file, tmp_path / "e.parquet", shard="1/2")
    for text in ("{}", "[]", ""):
        about.write_text(text)
        with pytest.raises(ArtefactError, match=r"about.json: is damaged\n.*remove .*parts"):
            embed(cohort, file, tmp_path / "e.parquet", shard="2/2")


def test_parts_of_another_embedding_are_not_gone_on_with(cohort, file, tmp_path):
    out = tmp_path / "e.parquet"
    embed(cohort, file, out, shard="1/2")
    other = save(weights_of("cls"), tmp_path / "cls.pth", "model")
    with pytest.raises(ArtefactError, match="are of another embedding") as refused:
        embed(cohort, file, out, shard="2/2", model=f"turgut_ecg:cls:{other}")
    assert "global_pool" in str(refused.value.got)  # what differs, and nothing else
    assert "licence" not in str(refused.value.got)
    embed(cohort, file, out, overwrite=True)
    assert out.exists()
    with pytest.raises(ArtefactError, match="there already"):
        embed(cohort, file, out)
    with pytest.raises(ArtefactError, match="there already"):
        embed(cohort, file, out, resume=True, model=f"turgut_ecg:cls:{other}")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"model": None}, "a run or a published model"),
        ({"run": "run"}, "a run or a published model"),
        ({"stage": "tune"}, "--stage is of a run"),
        ({"shard": "3/2"}, "is no shard"),
        ({"shard": "1/2", "overwrite": True}, "--overwrite of one shard"),
        ({"variant": "cls"}, "two variants are named"),
        ({"model": "turgut_ecg:cls"}, "the file of the weights is not named"),
        ({"model": "turgut:w.pth"}, "did you mean 'turgut_ecg'"),
        ({"modality": "cmr"}, "reads ecg, and 'cmr' is none of it"),
    ],
)
def test_what_cannot_be_embedded_is_refused(cohort, file, tmp_path, change, words):
    with pytest.raises((ConfigError, ArtefactError), match=words):
        embed(cohort, file, tmp_path / "e.parquet", **change)
    assert not (tmp_path / "e.parquet").exists()


def test_records_that_cannot_be_embedded_are_told_with_a_reason(cohort, file, tmp_path):
    folder = Path(
        shutil.copytree(Path(cohort).parent if Path(cohort).is_file() else cohort, tmp_path / "c")
    )
    files = sorted(folder.rglob("*.dat"))
    files[0].write_bytes(files[0].read_bytes()[:100])
    done = embed(folder, file, tmp_path / "e.parquet")
    assert re.match(r"24 records, 1 without an embedding: .*\n.*quality.*; record .*: ", done[0])
    for one in files[1:]:
        one.write_bytes(one.read_bytes()[:100])
    with pytest.raises(CohortError, match=r"none of 24 records of ecg can be embedded; record "):
        embed(folder, file, tmp_path / "none.parquet")
    assert not (tmp_path / "none.parquet").exists()


def test_volumes_that_lie_otherwise_than_the_authors_are_told(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(logging.getLogger("medmcl"), "propagate", True)
    save_file(filled("cinema", "tiny"), tmp_path / "w.safetensors")
    (tmp_path / "c").mkdir()
    voxels = np.random.default_rng(0).random((40, 40, 6)).astype(np.float32)
    for name, sign in (("a", -1), ("b", 1)):
        image = nibabel.Nifti1Image(voxels, np.diag([sign * 1.5, 1.5, 10, 1]))
        nibabel.save(image, tmp_path / "c" / f"{name}.nii")
    (tmp_path / "c" / "people.csv").write_text("id,split\na,train\nb,train\n")
    section = {"reader": "nifti", "path": "{id}.nii", "axes": "xyz"}
    tree = {"schema": "medmcl/cohort@1", "modalities": {"cmr": section},
            "subjects": {"table": "people.csv", "id": "id", "split": "split"}}  # fmt: skip
    (tmp_path / "c" / "cohort.yaml").write_text(yaml.safe_dump(tree))
    model = f"cinema:tiny:{tmp_path / 'w.safetensors'}"
    embed(tmp_path / "c" / "cohort.yaml", None, tmp_path / "e.parquet", model=model)
    said = [one.message for one in caplog.records if one.levelno == logging.WARNING]
    assert any(
        re.match(r"warning: CineMA: 1 record, the first a: turned by its header", one)
        for one in said
    )


def test_a_model_is_named_with_its_file():
    assert split_model("turgut_ecg:a:b.pth") == ("turgut_ecg", Path("a:b.pth"))
    assert split_model("turgut_ecg:cls:b.pth") == ("turgut_ecg:cls", Path("b.pth"))
    assert split_model("turgut_ecg:b.pth", "cls") == ("turgut_ecg:cls", Path("b.pth"))


def test_the_command(cohort, file, whole, tmp_path, monkeypatch):
    monkeypatch.setattr("medmcl.encoders.published.model._said", set())  # as in a new process
    words = ["embed", "--model", f"turgut_ecg:{file}", "--variant", "global_pool"]
    out = tmp_path / "e.csv"
    said, _ = finish(Command([*words, "--cohort", cohort, "--out", out]))
    assert "24 records, 0 without an embedding" in said
    assert said.count("no commercial use") == 1
    found, stored = pd.read_csv(out, dtype={"subject": str}), pd.read_parquet(whole)
    assert np.allclose(found.iloc[:, 3:], stored.iloc[:, 3:], atol=1e-5)


def test_check_tells_before_what_would_get_no_vector(cohort, file, tmp_path):
    """By the card alone, or with the file; as `embed` does, whose table has the same records."""
    folder = Path(shutil.copytree(cohort, tmp_path / "c"))
    short = sorted(folder.rglob("*.dat"))[0]
    short.write_bytes(short.read_bytes()[:100])
    for model in ("turgut_ecg", "turgut_ecg:global_pool", f"turgut_ecg:global_pool:{file}"):
        found = embedding.check_for_model(model, folder)
        assert not [one for one in found if one.level == "error"]
        (told,) = [one for one in found if one.code == "ecg.unreadable"]
        assert "will be excluded" in told.what
    table = embed(folder, file, tmp_path / "e.parquet")
    assert "24 records, 1 without" in table[0]
    said, _ = finish(Command(["check", "--cohort", folder, "--model", "ecg_fm:tiny"]))
    assert "ecg.too_short" not in said  # simulated ECGs last 5 s, or more
    assert "1 of 24 left out" in said
    for model, words in (("turgut", "did you mean"), (f"turgut_ecg:{short}", "weights")):
        with pytest.raises((ConfigError, ArtefactError), match=words):
            embedding.check_for_model(model, folder)


def test_evaluate_scores_a_model(file, tmp_path):
    folder = tmp_path / "heart"
    medmcl.simulate("heart", folder, {"subjects": 60, "cmr_file_size": 16})
    quick = {
        "evaluate.bootstrap_draws": 100,
        "evaluate.draws": 1,
        "evaluate.baselines": ["majority"],
        "cohort.dataset": "ukb",
    }
    out = tmp_path / "out"
    with pytest.raises(ConfigError, match="no evidence of transfer") as refused:
        medmcl.evaluate(
            cohort=folder, models=[f"turgut_ecg:global_pool:{file}"], out=out, overrides=quick
        )
    assert "--allow-overlap" in str(refused.value)
    assert not out.exists()
    done = medmcl.evaluate(
        cohort=folder, models=[f"turgut_ecg:global_pool:{file}"], tasks=["infarct"],
        label_fractions=[1.0], out=out, overrides=quick, device="cpu",
        allow_overlap=True,
    )  # fmt: skip
    assert done.folder == out
    report = (out / "report.html").read_text()
    assert "turgut_ecg:global_pool" in report
    assert "NO COMMERCIAL USE" in report
    marked = "turgut_ecg:global_pool (may have seen these data: no evidence of transfer)"
    methods = {row.method for row in done.results}
    assert marked in methods
    assert "turgut_ecg:global_pool" not in methods
    assert marked in report
    for page in (report, (out / "model_card.md").read_text()):
        assert "whether the encoder saw these people" not in page
        assert "the card of the encoder says that it may have seen these people" in page
    table = pd.DataFrame(np.eye(60), columns=[f"e{n}" for n in range(60)])
    table.attrs["medmcl"] = {"made_by": {"seen": {"ukb": ""}, "clean": []}}
    table.insert(0, "subject_id", [f"{n}" for n in range(60)])
    table.to_parquet(tmp_path / "v.parquet")
    with pytest.raises(ConfigError, match=r"trained on ukb"):
        medmcl.evaluate(
            cohort=folder, embeddings=tmp_path / "v.parquet", out=tmp_path / "2", overrides=quick
        )
    with pytest.raises(ArtefactError, match="is a run folder already"):
        medmcl.evaluate(cohort=folder, models=["turgut_ecg:absent.pth"], out=out)


def test_a_pipe_in_the_place_of_vectors_is_not_opened(tmp_path):
    os.mkfifo(tmp_path / "vectors.parquet")
    with pytest.raises(ArtefactError, match="is a named pipe, not a file"):
        provenance_of_table(tmp_path / "vectors.parquet")


def test_all_pieces_of_a_record_are_embedded_as_the_model_does(tmp_path):
    """Of 10, 27, 15 and 7 s: the mean over 2, 5, 3 segments and one, in passes of any size."""
    signals = {
        str(n): np.random.default_rng(n).standard_normal((12, seconds * 500)).cumsum(1) / 50
        for n, seconds in enumerate((10, 27, 15, 7))
    }
    table = ["subject_id,split,path"]
    for name, signal in signals.items():
        np.save(tmp_path / f"{name}.npy", signal)
        table.append(f"{name},held_out,{name}.npy")
    (tmp_path / "people.csv").write_text("\n".join(table))
    ecg = {
        "kind": "ecg",
        "reader": "npy",
        "path": "{path}",
        "rate_hz": 500,
        "units": "mV",
        "accept": {"*": ["wrong_rate"]},
    }
    (tmp_path / "cohort.yaml").write_text(yaml.safe_dump({
        "schema": "medmcl/cohort@1",
        "subjects": {"table": "people.csv", "id": "subject_id", "split": "split"},
        "modalities": {"ecg": ecg},
    }))  # fmt: skip
    file = save(filled("ecg_fm", "tiny_pretrained"), tmp_path / "w.pt", "model")
    found = embedding.check_for_model("ecg_fm:tiny", tmp_path)
    assert [one.where.split(",")[0] for one in found if one.code == "ecg.pieces"] == [
        "subject 1", "subject 2", "subject 3"
    ]  # fmt: skip
    embed(tmp_path, file, tmp_path / "e.parquet", model=f"ecg_fm:tiny:{file}")
    found = pd.read_parquet(tmp_path / "e.parquet").set_index("record").drop(columns="subject")
    model = models.load("ecg_fm:tiny", weights=file)
    for name, signal in signals.items():
        assert found.loc[name, "quality"] == "ok"
        pieces = model.prepare(signal, rate_hz=500.0)
        assert len(pieces) == signal.shape[1] // 2500
        expected = model.features(pieces).mean(0)
        got = found.loc[name].drop("quality").to_numpy(np.float64)
        assert np.abs(got - expected).max() < 1e-5 * expected.std(), name
    ours = embedding.embedding_of_model(f"ecg_fm:tiny:{file}", tmp_path, beside=tmp_path)
    again, has = disturbed(ours, {"through_hz": 500})  # as they were recorded
    assert has.all()
    assert np.abs(again - ours.vectors(ours.records)).max() < 1e-5
