"""What every simulated cohort keeps: same seed, same bytes; no truth told; nothing overwritten."""

from __future__ import annotations

import re

import pytest

from medmcl.core.errors import CohortError, ConfigError
from medmcl.simulation.ehr.tokens import BLOCK
from medmcl.simulation.kinds import SIMULATORS, simulate

TOLD = {
    "ehr": "truth",
    "heart": "truth",
    "modalities": "truth",
    "shapes": "truth|noisy|swapped|unseen|caption_of",
    "trifactor": "truth|unseen|names_|like|digit_row|z0",
}
"""What nobody but the truth may say."""

CASES = {
    "ehr": (
        {"subjects": BLOCK + 40, "codes": 20, "concepts": 15, "case": 2, "sites": 3},
        "data/0.parquet",
    ),
    "heart": (
        {"subjects": 3, "form": "both", "cmr_file_size": 16},
        "shards/ecg.npy",
        "participants.tsv",
    ),
    "modalities": ({"subjects": 60, "modalities": 4, "missing": 0.3}, "participants.tsv"),
    "shapes": ({"subjects": 30, "noisy_pairs": 0.4, "unseen": 4, "size": 32}, "images/s000000.png"),
    "trifactor vectors": (
        {"subjects": 60, "pairs": 2},
        "tables/vector.parquet",
        "participants.tsv",
    ),
    "trifactor digits": ({"subjects": 40, "world": "digits", "pairs": 2}, "images/s000000.png"),
    "trifactor pictures": (
        {"subjects": 40, "world": "pictures", "size": 16, "pairs": 2},
        "images/s000000.png",
    ),
}
"""Name to settings and the files that another seed surely changes."""


def written(folder):
    """Bytes of every file below a folder."""
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


@pytest.mark.parametrize("case", CASES)
def test_same_seed_same_bytes_and_the_cohort_does_not_know_the_truth(case, tmp_path):
    kind, (settings, *changed) = case.split()[0], CASES[case]
    first = simulate(kind, tmp_path / "a", {**settings, "seed": 5})
    files = written(first)
    assert files == written(simulate(kind, tmp_path / "b", {**settings, "seed": 5}))
    other = written(simulate(kind, tmp_path / "c", {**settings, "seed": 6}))
    assert all(files[name] != other[name] for name in changed)
    told = [files[name].decode() for name in ("cohort.yaml", "participants.tsv") if name in files]
    assert told
    assert not re.search(TOLD[kind], "".join(told))


@pytest.mark.parametrize("kind", SIMULATORS)
def test_only_an_earlier_cohort_is_overwritten_and_only_if_asked(kind, tmp_path):
    settings = {"subjects": 60}
    if kind == "heart":
        settings["form"] = "shards"
    folder = simulate(kind, tmp_path / "out", settings)
    before = written(folder)
    with pytest.raises(CohortError, match=r"(?s)not empty.*overwrite=true"):
        simulate(kind, folder, settings)
    assert written(folder) == before
    simulate(kind, folder, {**settings, "subjects": 61, "overwrite": True})
    assert written(folder) != before
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("mine")
    with pytest.raises(CohortError, match="not empty"):
        simulate(kind, tmp_path / "mine", settings)
    with pytest.raises(CohortError, match=r"only an earlier simulated .*, and this is none"):
        simulate(kind, tmp_path / "mine", {**settings, "overwrite": True})
    with pytest.raises(CohortError, match="is a file"):
        simulate(kind, tmp_path / "mine" / "notes.txt", settings)
    assert written(tmp_path / "mine") == {"notes.txt": b"mine"}


REFUSED = {
    "ehr": [({"codes": 4}, "dimensions must be fewer")],
    "heart": [
        ({"coupling": 1.5}, "coupling"),
        ({"form": "files", "files_subset": 3}, "files_subset"),
        ({"ecg_rate_hz": 99}, "ecg_rate_hz"),
    ],
    "modalities": [
        ({"modalities": 3, "noise_modalities": 2}, "at least two"),
        ({"modalities": 4, "tree": [[0, 1], [1, 2]]}, "3 edges"),
        ({"modalities": 4, "tree": [[0, 1], [0, 1], [2, 3]]}, "3 edges"),
        ({"rho": 1.5}, "rho"),
    ],
    "shapes": [
        ({"missing_captions": 0.6, "missing_images": 0.4}, "leave pairs"),
        ({"caption_detail": ["colour", "colour"]}, "twice"),
        ({"caption_detail": ["size"]}, "caption_detail"),
        ({"shapes": 11}, "shapes"),
        ({"size": 8}, "size"),
        ({"noisy_pairs": 1.2}, "noisy_pairs"),
        ({"noisy_within": "shape"}, "noisy_within"),
        ({"filler": 13}, "filler"),
        ({"unseen": 33}, "more than half"),
        ({"unseen": 1, "colours": 1}, "two colours"),
        ({"unseen": 1, "held_out": 0}, "held_out"),
        ({"subjects": 1, "noisy_pairs": 1, "tuning": 0, "held_out": 0}, "too few train pairs"),
        (
            {"subjects": 12, "noisy_pairs": 1, "noisy_within": "within", "imbalance": 0.5},
            "0 pairs|1 pairs|[2-9] pairs",
        ),
    ],
    "trifactor": [
        ({"world": "sounds"}, "world"),
        ({"bits": 3}, "bits: the world vectors has none, only digits"),
        ({"world": "digits", "keep": [1, 1, 1]}, "keep: the world digits has none"),
        ({"world": "pictures", "ease": [1, 1, 1]}, "ease: the world pictures has none"),
        ({"world": "digits", "bits": 17}, "bits"),
        ({"levels": 11}, "levels"),
        ({"levels": 1}, "levels"),
        ({"ease": [1.0, 0.5]}, "ease"),
        ({"ease": [0.5, 0.7, 0.1]}, "easy comes first"),
        ({"ease": [1.0, 0.5, 0.0]}, "ease"),
        ({"noise": float("inf")}, "noise"),
        ({"keep": [1.2, 0.5, 0.5]}, "keep"),
        ({"world": "pictures", "held_out": 0}, "unseen=0"),
        ({"world": "pictures", "unseen": 0.7}, "unseen"),
        ({"world": "pictures", "levels": 2, "unseen": 0.25, "pairs": 1}, "differ in colour alone"),
        ({"world": "digits", "subjects": 1798}, "1,797 at most"),
        ({"world": "digits", "subjects": 1700, "pairs": 50}, "--subjects 1697"),
        ({"pairs": -1}, "pairs"),
    ],
}
"""Kind to settings that make no world, and what is said of them."""

EVERYWHERE = [({"subject": 3}, "'subjects'"), ({"tuning": 0.5, "held_out": 0.5}, "leave something")]


@pytest.mark.parametrize(
    ("kind", "settings", "says"),
    [(kind, *row) for kind in SIMULATORS for row in (*EVERYWHERE, *REFUSED[kind])],
)
def test_settings_that_make_no_world_are_refused(kind, settings, says, tmp_path):
    with pytest.raises(ConfigError, match=says):
        simulate(kind, tmp_path / "x", settings)
    assert not list(tmp_path.iterdir())


def test_kinds_are_named():
    assert set(SIMULATORS) == {"ehr", "heart", "modalities", "shapes", "trifactor"}
    with pytest.raises(ConfigError, match="heart"):
        simulate("hart", "out")
    for model in SIMULATORS.settings.values():
        assert "subjects" in model.model_json_schema()["properties"]
