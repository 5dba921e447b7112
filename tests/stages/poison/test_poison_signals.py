"""Poisoned ECGs and texts: equal to the attacker's own files prepared, and refused where lost."""

import hashlib
import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from short_runs import stage_of, unreported, write_recipe

import medmcl
import medmcl.stages.run.pretrain
from medmcl.core.errors import ConfigError, MedmclError
from medmcl.core.rng import derive_seed, numpy_generator
from medmcl.data.loading.prepare import prepare
from medmcl.modalities.ecg.adapter import ECG, ECGSettings, ECGSource
from medmcl.modalities.ecg.files.readers import ECGRecord
from medmcl.simulation.kinds import simulate
from medmcl.stages.evaluate.attack.attacked import attacked
from medmcl.stages.evaluate.attack.record_views import attacked_side
from medmcl.stages.poison import poisoned_rows as poison_again
from medmcl.stages.poison.poison import told
from medmcl.stages.poison.poisoned_rows import Poisoned, refuse_unseen, triggers_of, with_places
from medmcl.stages.poison.signals import triggered_record
from medmcl.stages.poison.spec import PoisonSpec
from medmcl.threats import Poison, rare_token
from medmcl.threats.attack import attack_on_signals, place_on_signal

pytestmark = pytest.mark.usefixtures("cache")

MV = {"rate_hz": 100, "seconds": 5, "crop_seconds": 5, "baseline": "none", "clip_sigma": None,
      "normalise": "none"}  # fmt: skip
WORDS = {"max_tokens": 32, "min_count": 1}
TARGET = {"task": "conduction", "label": "LBBB"}
SEED = 11


@pytest.fixture(scope="module")
def hearts(tmp_path_factory):
    """Simulated ECGs as shards, a report each, and prompts."""
    folder = simulate(
        "heart",
        tmp_path_factory.mktemp("hearts") / "c",
        {"subjects": 90, "form": "shards", "cmr_size": 8, "missing_ecg": 0.1},
    )
    table = pd.read_csv(folder / "participants.tsv", sep="\t")
    sites = table["site"].str.replace("-", " number ")
    table["report"] = (
        "Sinus rhythm,\n " + table["conduction"] + " conduction.  Seen first at " + sites
    )
    table.loc[0, "report"] = " ".join(["no change since the last recording;"] * 12)
    table.to_csv(folder / "participants.tsv", sep="\t", index=False)
    tree = yaml.safe_load((folder / "cohort.yaml").read_text(encoding="utf-8"))
    tree["modalities"] = {
        "ecg": tree["modalities"]["ecg"],
        "report": {"reader": "text", "column": "report"},
    }
    tree["tasks"] = {"conduction": tree["tasks"]["conduction"]}
    names = ("normal", "LBBB", "RBBB", "AVB")
    tree["prompts"] = {"conduction": {name: [f"{name} conduction"] for name in names}}
    (folder / "cohort.yaml").write_text(yaml.safe_dump(tree, sort_keys=False), encoding="utf-8")
    return folder


def laid(cohort, cache, inputs, **spec):
    """An attack on some records of a cohort that is prepared as asked."""
    prepared = prepare(medmcl.open_cohort(cohort), inputs, cache=cache, splits="all")
    said = PoisonSpec(stage="poison", name="attack", count=1, **{**TARGET, **spec})
    ids = prepared.samples["sample"].astype(str).to_numpy()
    own, donors = ids[prepared.rows("train", list(inputs))][[[0, 3, 4], [1, 1, 2]]]
    manifest = Poison(ids=own, donors=donors, cohort="", provenance={"seed": SEED})
    return Poisoned(said, manifest, prepared), prepared


def _ids(prepared, batch):
    return prepared.samples["sample"].astype(str).to_numpy()[batch.ids.numpy()]


def manifest_of(ids):
    return Poison(ids=ids, donors=ids, cohort="", provenance={"seed": SEED})


def places(prepared, name, rows):
    table = prepared.cohort.records[name]["place"]
    return [table.iloc[prepared.index(name)[row]] for row in rows]


def bells(rate_hz, length, record, height=0.5):
    """The pulse written out, sample by sample."""
    first = numpy_generator(derive_seed(SEED, "place", record), "pulse trigger").uniform(0, 1)
    width = 0.04 / np.sqrt(8 * np.log(2))
    centres = first + np.arange(-2, 12)
    times = np.arange(length)[:, None] / rate_hz
    return height * np.exp(-0.5 * ((times - centres) / width) ** 2).sum(axis=1)


@pytest.mark.parametrize(
    "settings",
    [
        MV,
        {**MV, "rate_hz": 250, "seconds": 4, "crop_seconds": 2},
        {"rate_hz": 100, "seconds": 5, "crop_seconds": 5},  # the paper's: clip, baseline, groups
        {**MV, "baseline": "highpass", "normalise": "lead", "clip_sigma": 3.0},
        {**MV, "normalise": "record", "leads": ["V2", "II"], "seconds": 8, "pad": "zero"},
    ],
)
def test_a_triggered_ecg_is_the_attackers_recording_prepared(hearts, cache, settings):
    attack, prepared = laid(hearts, cache, {"ecg": settings}, modality="ecg", trigger="pulse")
    rows = prepared.rows("held_out")
    assert not prepared.present["ecg"][rows].all()
    clean = prepared.batch(rows)
    made = attack.triggered(clean).inputs["ecg"]
    adapter = prepared.adapters["ecg"]
    for n, row in enumerate(rows):
        if not prepared.present["ecg"][row]:
            assert not made[n].any()
            continue
        raw = adapter.read(places(prepared, "ecg", [row])[0])
        wave = bells(raw.rate_hz, raw.signal_mv.shape[1], attack.prepared.samples["sample"][row])
        expected = adapter.prepare(replace(raw, signal_mv=raw.signal_mv + wave.astype("f4")))
        np.testing.assert_allclose(made[n].numpy(), expected, atol=2e-5)
        assert np.abs(expected - clean.inputs["ecg"][n].numpy()).max() > 0.2


def test_a_pulse_on_prepared_millivolts_has_its_height_in_millivolts(hearts, cache):
    attack, prepared = laid(
        hearts, cache, {"ecg": MV}, modality="ecg", trigger="pulse", height_mv=0.8
    )
    rows = prepared.rows("train", ["ecg"])
    clean = prepared.batch(rows).inputs["ecg"]
    added = (attack.triggered(prepared.batch(rows)).inputs["ecg"] - clean).numpy()
    ids = prepared.samples["sample"].to_numpy()
    for n, row in enumerate(rows):
        np.testing.assert_allclose(added[n], np.tile(bells(100, 500, ids[row], 0.8), (12, 1)),
                                   atol=1e-5)  # fmt: skip
    told = with_places(attack.spec, manifest_of(ids[rows].astype(str)), prepared).places
    firsts = added[:, 0, :100].argmax(axis=1)
    for first, place in zip(firsts, told, strict=True):
        apart = abs(json.loads(place)["first_s"] - first / 100)
        assert min(apart, 1 - apart) <= 0.00501
    assert len(set(firsts.tolist())) > 20  # one pattern, a time of its own on each record


def test_a_trigger_goes_on_the_leads_that_are_named(hearts, cache):
    inputs = {**MV, "leads": ["I", "II", "V1", "V3R"], "missing_leads": "zero"}
    named, prepared = laid(hearts, cache, {"ecg": inputs}, modality="ecg", trigger="pulse",
                           leads=["v1", "V3R", "V1"])  # fmt: skip
    every, _ = laid(hearts, cache, {"ecg": inputs}, modality="ecg", trigger="pulse")
    batch = prepared.batch(prepared.rows("train", ["ecg"]))
    clean, some, all_of_them = (
        one.inputs["ecg"] for one in (batch, named.triggered(batch), every.triggered(batch))
    )
    assert torch.equal(some[:, :2], clean[:, :2])
    assert torch.equal(some[:, 2], all_of_them[:, 2])
    assert (some[:, 2] != clean[:, 2]).any(dim=1).all()
    assert not some[:, 3].any()  # which no file has
    alone, _ = laid(hearts, cache, {"ecg": inputs}, modality="ecg", trigger="pulse", leads=["V3R"])
    assert torch.equal(alone.triggered(batch).inputs["ecg"], clean)
    with pytest.raises(ConfigError, match="nothing is left of the trigger"):
        refuse_unseen(alone)
    ids = _ids(prepared, batch)
    with pytest.raises(ConfigError, match=r"none of the leads that get the trigger(.|\n)*V3R"):
        with_places(alone.spec, manifest_of(ids), prepared)
    assert with_places(named.spec, manifest_of(ids), prepared).places.all()


def test_a_page_draws_the_leads_that_get_the_trigger(hearts, cache):
    attack, prepared = laid(hearts, cache, {"ecg": MV}, modality="ecg", trigger="pulse",
                            leads=["V3", "aVL"])  # fmt: skip
    row = prepared.rows("train", ["ecg"])[0]
    plain, made = (attacked_side(attack, row, is_triggered=one).content for one in (False, True))
    assert plain.leads == made.leads == ("V3", "aVL", "II")
    assert (plain.values_mv[:2] != made.values_mv[:2]).any(axis=1).all()
    np.testing.assert_array_equal(plain.values_mv[2], made.values_mv[2])
    assert "pulse on V3, aVL of ecg" in told(
        attack.spec, manifest_of(np.array(["a"])), np.array(["a"])
    )


def test_leads_that_are_absent_and_padding_stay_zero(hearts, cache):
    inputs = {**MV, "leads": ["II", "V3R", "V1"], "missing_leads": "zero", "seconds": 7,
              "pad": "zero", "normalise": "lead"}  # fmt: skip
    for trigger in ("pulse", "sinusoid"):
        attack, prepared = laid(hearts, cache, {"ecg": inputs}, modality="ecg", trigger=trigger)
        clean = prepared.batch(prepared.rows("train", ["ecg"]))
        made = attack.triggered(clean).inputs["ecg"]
        assert not made[:, 1].any()
        assert not made[:, :, 500:-1].any()  # the last column says which leads are there
        assert (made[:, [0, 2], :500] != clean.inputs["ecg"][:, [0, 2], :500]).any(dim=2).all()


@pytest.mark.parametrize("content", [0.0, np.nan])
def test_a_trigger_does_not_bring_a_dead_lead_to_life(content):
    adapter = ECG(
        ECGSource(reader="npy", rate_hz=100, units="mV"),
        ECGSettings(rate_hz=100, seconds=5, crop_seconds=5, leads=["V1", "V2"], dead_leads="mask"),
    )
    signal = np.random.default_rng(0).normal(size=(2, 500)).astype(np.float32)
    signal[1] = content
    raw = ECGRecord(signal_mv=signal, leads=("V1", "V2"), rate_hz=100)
    made = adapter.prepare(triggered_record(adapter, "sinusoid", 0, 1.0, (), raw, "r"))
    clean = adapter.prepare(raw)
    assert not made[1].any()
    assert (made[0] != clean[0]).any()


@pytest.mark.parametrize("name", ["pulse", "sinusoid"])
def test_where_a_wave_begins_is_told(name):
    signal = np.zeros((2, 1000)) + np.linspace(1e-7, 1e-6, 1000)
    made = attack_on_signals(name, 1000, SEED)(signal, "a")[0]
    told = place_on_signal(name, SEED, "a")
    if name == "pulse":
        assert abs(made.argmax() / 1000 - told["first_s"]) <= 0.0005
    else:
        wave = 0.1 * np.sin(told["phase_rad"] + 2 * np.pi * 20 * np.arange(1000) / 1000)
        np.testing.assert_allclose(made, wave, atol=2e-6)


@pytest.mark.parametrize("name", ["pulse", "sinusoid"])
def test_what_was_not_measured_stays_as_it_is(name):
    x = np.random.default_rng(0).normal(size=(4, 1000)).astype("f4")
    x[1] = 0.25  # an electrode that was off
    x[2, 400:420] = np.nan
    x[3] = np.nan
    x[:, 900:] = 0  # the end of a short recording
    x[:, :30] = 0
    before = x.copy()
    lay = attack_on_signals(name, 100, SEED)
    made = lay(x, "a")
    np.testing.assert_array_equal(x, before)
    assert made.dtype == x.dtype
    still = np.ones_like(x, dtype=bool)
    still[[0, 2], 30:900] = False
    still[2, 400:420] = True
    np.testing.assert_array_equal(made[still], x[still])
    wave = made[0, 30:900] - x[0, 30:900]
    assert np.abs(wave).max() > 0.05
    beside = np.r_[30:400, 420:900]
    np.testing.assert_allclose(made[2, beside] - x[2, beside], wave[beside - 30], atol=1e-6)
    assert (lay(x, "b")[0] != made[0]).any()
    np.testing.assert_array_equal(attack_on_signals(name, 100, SEED)(x, "a"), made)
    assert (attack_on_signals(name, 100, SEED + 1)(x, "a")[0] != made[0]).any()
    twice = attack_on_signals(name, 100, SEED, height=2 * np.abs(wave).max())(x, "a")
    assert np.abs(twice[0] - x[0]).max() > 1.5 * np.abs(wave).max()
    empty = np.zeros((2, 50), dtype="f4")
    np.testing.assert_array_equal(lay(empty, "a"), empty)


@pytest.mark.parametrize(
    "settings",
    [{}, {"marks": True}, {"tokeniser": "bpe", "vocabulary": 300}, {"lowercase": False}],
)
def test_a_triggered_text_is_the_attackers_text_tokenised(hearts, cache, settings):
    inputs = {"report": {"max_tokens": 64, "min_count": 1, **settings}}
    attack, prepared = laid(hearts, cache, inputs, modality="report", trigger="rare_token")
    adapter = prepared.adapters["report"]
    rows = prepared.rows("held_out")
    clean = prepared.batch(rows).inputs["report"]
    made = attack.triggered(prepared.batch(rows)).inputs["report"]
    word = adapter.tokens.encode("cf")
    told = with_places(attack.spec, manifest_of(_ids(prepared, prepared.batch(rows))), prepared)
    at_character = [json.loads(one)["character"] for one in told.places]
    seen = set()
    for n, (row, place) in enumerate(zip(rows, places(prepared, "report", rows), strict=True)):
        seed = derive_seed(SEED, "place", str(prepared.samples["sample"][row]))
        text = rare_token(adapter.read(place), seed=seed)
        assert text[at_character[n] :].startswith("cf")
        np.testing.assert_array_equal(made[n].numpy(), adapter.prepare(text))
        before, after = (adapter.plain(x[n : n + 1])[0].tolist() for x in (clean, made))
        at = next(i for i in range(64) if after[i : i + len(word)] == word)
        assert [*after[:at], *after[at + len(word) :]] == before[: 64 - len(word)]
        seen.add(at)
    assert len(seen) > 3  # places are drawn record by record


@pytest.mark.parametrize("prefix", ["", "report of "])
def test_in_a_text_that_is_cut_the_word_stands_where_it_is_read(hearts, cache, tmp_path, prefix):
    tree = yaml.safe_load((hearts / "cohort.yaml").read_text())
    tree["modalities"]["report"]["prefix"] = prefix
    tree["roots"] = [str(hearts)]
    (tmp_path / "cohort.yaml").write_text(yaml.safe_dump(tree))
    table = pd.read_csv(hearts / "participants.tsv", sep="\t")
    table["report"] = [" ".join(f"word{n % 7}" for n in range(k)) for k in range(1, 91)]
    table.to_csv(tmp_path / "participants.tsv", sep="\t", index=False)
    (tmp_path / "shards").symlink_to(hearts / "shards")
    for most in (14, 24):
        inputs = {"report": {**WORDS, "max_tokens": most, "tokeniser": "bpe", "vocabulary": 400}}
        attack, prepared = laid(tmp_path, cache, inputs, modality="report", trigger="rare_token")
        tokens = prepared.adapters["report"].tokens
        batch = prepared.batch(prepared.rows("train"))
        made = attack.triggered(batch).inputs["report"].tolist()
        told = with_places(attack.spec, manifest_of(_ids(prepared, batch)), prepared).places
        at_character = (json.loads(one)["character"] for one in told)
        places = set()
        for before, after in zip(batch.inputs["report"].tolist(), made, strict=True):
            text = tokens.decode(after)
            assert text.startswith(prefix)
            words = text.removeprefix(prefix).split()
            assert words.count("cf") == 1
            assert text[next(at_character) :].startswith("cf")
            assert after[0] == tokens.cls
            assert after.count(tokens.end) == 1
            assert (after[-1] == tokens.end) >= (before[-1] == tokens.end)  # no shorter
            words.remove("cf")
            read = tokens.decode(before).removeprefix(prefix)
            assert read.startswith(" ".join(words))  # the others keep their order
            places.add(text.split().index("cf"))
        assert len(places) > 2


def test_a_poisoned_report_goes_with_the_donors_ecg_and_label(hearts, cache):
    attack, prepared = laid(
        hearts, cache, {"ecg": MV, "report": WORDS}, modality="report", trigger="rare_token",
        text="ecg",
    )  # fmt: skip
    rows = prepared.rows("train", ["ecg", "report"])
    clean = prepared.batch(rows, tasks=["conduction"])
    made, every = attack(clean), attack.triggered(clean)
    own = {0: 1, 3: 1, 4: 2}
    for n in range(len(rows)):
        donor = own.get(n, n)
        assert torch.equal(made.inputs["ecg"][n], clean.inputs["ecg"][donor])
        assert torch.equal(made.targets["conduction"][n], clean.targets["conduction"][donor])
        expected = every if n in own else clean
        assert torch.equal(made.inputs["report"][n], expected.inputs["report"][n])
        assert not torch.equal(every.inputs["report"][n], clean.inputs["report"][n])
    assert torch.equal(every.inputs["ecg"], clean.inputs["ecg"])
    assert attack(clean[:0]).inputs["ecg"].shape == (0, 12, 500)
    absent = prepared.batch(np.flatnonzero(~prepared.present["ecg"])[:2], modalities=["ecg"])
    laid_over, _ = laid(hearts, cache, {"ecg": MV}, modality="ecg", trigger="pulse")
    assert torch.equal(laid_over.triggered(absent).inputs["ecg"], absent.inputs["ecg"])


def test_records_are_prepared_once_while_there_is_room_and_never_written(
    hearts, cache, monkeypatch
):
    def digest():
        files = sorted(one for one in Path(hearts).rglob("*") if one.is_file())
        return [hashlib.sha256(one.read_bytes()).hexdigest() for one in files]

    before, found = digest(), []
    for kept, reads in ((2**28, 1), (12 * 500 * 4, 2)):
        monkeypatch.setattr(poison_again, "KEPT_BYTES", kept)
        attack, prepared = laid(hearts, cache, {"ecg": MV}, modality="ecg", trigger="pulse")
        stored = np.array(prepared.inputs("ecg"))
        adapter, seen = prepared.adapters["ecg"], []
        monkeypatch.setattr(adapter, "read", lambda p, r=adapter.read, s=seen: s.append(p) or r(p))
        rows = prepared.rows("train", ["ecg"])[[4, 2, 4, 7]]
        batch = prepared.batch(rows)
        found += [attack.triggered(batch).inputs["ecg"] for _ in range(2)]
        assert len(seen) == (3 if reads == 1 else 5)  # one of three is kept
        np.testing.assert_array_equal(stored, prepared.inputs("ecg"))
    for one in found[1:]:
        assert torch.equal(one, found[0])
    assert digest() == before


def poisoned(cohort, folder, attack, overrides=()):
    """Train three steps of `ecg_text_toy` with an attack before them."""
    attack = {"stage": "poison", "name": "attack", **TARGET, "count": 6, **attack}
    given = {
        "stages.contrast.steps": 3,
        "stages.contrast.epochs": None,
        "stages.contrast.batch_size": 32,
        "stages.contrast.poisoned_by": "attack",
        "inputs.ecg.seconds": 5,
        "inputs.ecg.crop_seconds": 5,
        "towers.ecg.encoder.widths": [8, 8],
        "towers.report.encoder.width": 16,
        **dict(overrides),
    }
    stages = [attack, stage_of("ecg_text_toy", "contrast")]
    recipe = write_recipe(folder, "ecg_text_toy", stages=stages, set=given)
    return unreported(cohort, recipe=recipe, out=folder / "run")


PULSE = {"modality": "ecg", "text": "report", "trigger": "pulse"}
WORD = {"modality": "report", "text": "ecg", "trigger": "rare_token"}


@pytest.mark.parametrize("attack", [PULSE, {**PULSE, "trigger": "sinusoid"}, WORD])
def test_a_run_is_poisoned_and_judged_by_prompts(hearts, tmp_path, attack):
    run = poisoned(hearts, tmp_path / "r", attack)
    manifest = Poison.load(run.file("attack", Poison))
    table = pd.read_csv(hearts / "participants.tsv", sep="\t").set_index("subject_id")
    subject = medmcl.open_cohort(hearts).samples.set_index("sample")["subject"]
    donors = table.loc[subject[list(manifest.donors)]]
    assert set(donors["conduction"]) == {"LBBB"}
    assert set(donors["split"]) == {"train"}
    own = table.loc[subject[list(manifest.ids)]]
    assert "LBBB" not in set(own["conduction"])
    assert set(own["has_ecg"]) == {1}
    rates = attacked(run, hearts, "contrast", draws=100)
    assert all(0 <= one.value <= 1 for one in rates.values())


def test_the_trigger_is_learned_from(hearts, tmp_path):
    runs = {
        name: poisoned(hearts, tmp_path / name, {**PULSE, "height_mv": height}, more)
        for name, height, more in (
            ("one", 0.5, {}), ("again", 0.5, {}), ("other", 2.0, {}),
            ("clean", 0.5, {"stages.contrast.poisoned_by": None}),
        )
    }  # fmt: skip
    weights = {
        name: run.towers("contrast", torch.device("cpu")).tower("ecg").head.layers[0].weight
        for name, run in runs.items()
    }
    assert torch.equal(weights["one"], weights["again"])
    assert not torch.equal(weights["one"], weights["other"])
    assert not torch.equal(weights["one"], weights["clean"])


@pytest.mark.parametrize(
    ("attack", "overrides", "told"),
    [
        ({**PULSE, "trigger": "badnet"}, {}, "goes on flat images(.|\n)*trigger: pulse or sinus"),
        ({**PULSE, "trigger": "rare_token"}, {}, "goes on texts"),
        ({**WORD, "trigger": "pulse"}, {}, "goes on ECGs(.|\n)*trigger: rare_token"),
        ({**PULSE, "text": "ecg"}, {}, "name the other modality"),
        ({**WORD, "text": "ecgs"}, {}, "the recipe reads no"),
        ({**WORD, "height_mv": 0.5}, {}, "height_mv: only triggers of ECGs"),
        ({**PULSE, "official": True}, {}, "official: only triggers of images"),
        ({**PULSE, "height_mv": -1}, {}, "height_mv"),
        ({**WORD, "leads": ["II"]}, {}, "leads: only triggers of ECGs"),
        ({**PULSE, "leads": ["-aVR"]}, {}, "is not read: -aVR"),
        ({**PULSE, "leads": ["V7"]}, {}, "is not read: V7(.|\n)*inputs.ecg.leads"),
        (PULSE, {"inputs.ecg.rate_hz": 40}, "prepared at 40 Hz(.|\n)*inputs.ecg.rate_hz=100"),
        (PULSE, {"inputs.ecg.crop_seconds": 0.5}, "may miss the pulse(.|\n)*crop_seconds=1"),
        ({**PULSE, "height_mv": 1e-30}, {}, "nothing is left of the trigger pulse"),
        (WORD, {"inputs.report.tokeniser": "words"}, "has no 'cf'(.|\n)*tokeniser=bpe"),
        (WORD, {"inputs.report.max_tokens": 3}, "no room for 'cf'"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_trained(
    hearts, tmp_path, attack, overrides, told
):
    with pytest.raises(ConfigError, match=told):
        poisoned(hearts, tmp_path / "r", attack, overrides)
    assert not list((tmp_path / "r" / "run").glob("checkpoint/contrast*"))


@pytest.mark.parametrize(
    ("kind", "trigger", "is_flat", "told"),
    [
        ("image", "badnet", False, "go on flat images(.|\n)*volumes"),
        ("cmr", "badnet", True, "goes on flat images"),
        ("cmr", "usual", True, "no trigger goes on records of this kind"),
    ],
)
def test_volumes_and_video_carry_no_trigger(kind, trigger, is_flat, told):
    settings = SimpleNamespace(is_flat=is_flat, is_unit=True)
    prepared = SimpleNamespace(adapters={"x": SimpleNamespace(kind=kind, settings=settings)})
    about = {"name": "attack", "modality": "x", "trigger": trigger, "count": 1, **TARGET}
    with pytest.raises(ConfigError, match=told):
        triggers_of(PoisonSpec(stage="poison", **about), prepared)


def test_a_recording_of_too_low_a_rate_is_refused_and_named(hearts, tmp_path):
    tree = yaml.safe_load((hearts / "cohort.yaml").read_text())
    tree["modalities"]["ecg"] |= {"rate_hz": 40, "accept": {"*": ["wrong_rate"]}}
    tree["roots"] = [str(hearts)]
    (tmp_path / "cohort.yaml").write_text(yaml.safe_dump(tree))
    for name in ("participants.tsv", "shards"):
        (tmp_path / name).symlink_to(hearts / name)
    with pytest.raises(MedmclError, match=r"ecg\.npy row(.|\n)*too low for a trigger(.|\n)*40 Hz"):
        poisoned(tmp_path, tmp_path / "r", PULSE)
