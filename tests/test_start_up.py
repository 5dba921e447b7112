"""What commands import, and so what they cost before they begin: only what they need.

Sets of modules are the proof. Processor seconds stand under bounds that a busy machine keeps, far
below those of torch alone; the times themselves are in benchmarks/engine/start_up.md.
"""

import re

import pytest
import yaml
from small_brains import write_brains
from small_tables import whas, write_whas
from started import started

from medmcl.core.errors import ConfigError
from medmcl.core.lazy import Parts
from medmcl.encoders.build import ENCODERS, INPUT_PROJECTIONS
from medmcl.modalities import ADAPTERS
from medmcl.objectives.build import OBJECTIVES
from medmcl.selection.settings import SCORERS, SELECTORS

HEAVY = {"torch", "pandas", "sklearn", "scipy", "monai", "torch_geometric", "wfdb", "timm",
         "torchvision", "matplotlib", "nibabel", "pyarrow", "pydicom", "transformers"}  # fmt: skip
LIGHT_SECONDS = 1.5
"""Of a list or a refusal: 0.3 to 0.6 on a quiet machine; importing torch alone takes 1.6."""
TABLE_SECONDS = 3.0
"""Of `check` of a small table: 0.9 to 1.3 on a quiet machine, 4 with torch, scipy and the rest."""


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    folder = tmp_path_factory.mktemp("table")
    write_whas(folder / "cohort", whas()[0])
    return folder / "cohort"


NO_SPECS = ("medmcl.data.cohort.spec", "medmcl.encoders.settings", "medmcl.stages.train",
            "medmcl.stages.evaluate", "medmcl.objectives.settings")  # fmt: skip
LISTS = (
    (["cohorts"], ("medmcl.encoders", "medmcl.modalities", "medmcl.stages")),
    (["recipes"], (*NO_SPECS, "medmcl.encoders", "medmcl.evaluation")),
    (["parts"], NO_SPECS),
    (["parts", "encoders"], NO_SPECS),
    (["models"], NO_SPECS),
    (["models", "ecgfounder:1_lead"], NO_SPECS),
    (["cohorts", "demo"], NO_SPECS),
    (["recipes", "ecg_cmr"], ()),
    (["recipes", "ecg_cmr", "stages.mdm.objectives.masked"], ()),
    (["recipes", "ecg_cmr", "towers.ecg.encoder"], ()),
    (["recipes", "ecg_cmr", "inputs.ecg"], ()),
    (["recipes", "risk_table", "stages.results"], ()),
)
"""What is typed, and what none of it and of those before it loads."""


def test_a_list_is_printed_without_what_takes_long_to_import(tmp_path):
    told = started(tmp_path, *(words for words, _ in LISTS))
    for (words, unread), done in zip(LISTS, told, strict=True):
        assert done.code == 0, done.said
        assert done.packages(HEAVY | {"numpy"}) == set(), words
        assert not (unread and done.below(*unread)), words
        assert done.seconds < LIGHT_SECONDS, words


def listed(folder, *words):
    """Words of each command that a help lists."""
    said = started(folder, [*words, "--help"])[0].said.partition("Commands:")[2]
    return [[*words, name] for name in re.findall(r"^  ([a-z][\w-]*)  ", said, re.M)]


def test_help_of_every_command_imports_nothing_heavy(tmp_path):
    """Not even pydantic and numpy."""
    commands = [[], *listed(tmp_path), *listed(tmp_path, "cooccur")]
    assert len(commands) > 20
    told = started(tmp_path, *([*words, "--help"] for words in commands))
    for done in told:
        assert done.code == 0, done.said
        assert done.said.count("Usage: medmcl") == 1
    assert told[-1].packages(HEAVY | {"pydantic", "numpy", "yaml"}) == set()


REFUSED = [
    (["pretrain", "--cohort", "nowhere"], "there is no cohort 'nowhere'"),
    (["pretrain", "--cohort", "demo", "--recipe", "ecg_cmr_ty"], "did you mean 'ecg_cmr_toy'"),
    (["pretrain", "--cohort", "demo", "--set", "stages.mdm.epoch=2"], "did you mean 'epochs'"),
    (["pretrain", "--cohort", "demo", "--set", "stages.mdm.objectives.masked.ncc_wight=1"],
     "write --set stages.mdm.objectives.masked.ncc_weight=1"),
    (["pretrain", "--cohort", "demo", "--set", "towers.ecg.encoder.dept=2"],
     "write --set towers.ecg.encoder.depth=2"),
    (["pretrain", "--cohort", "demo", "--set", "inputs.ecg.rate=100"],
     "write --set inputs.ecg.rate_hz=100"),
    (["pretrain", "--cohort", "demo", "--set", "views.augmented.augment.ecg.jiter=.1"],
     "did you mean 'jitter'"),
    (["pretrain", "--cohort", "demo", "--set", "nonsense"], "a.b=c"),
    (["pretrain", "--cohort", "demo", "--set", "stages.mdm.steps=twenty"],
     "got:      'twenty'\n  expected: a whole number"),
    (["check", "--cohort", "demo", "--set", "stages.mdm.step=3"], "did you mean 'steps'"),
    (["pretrain", "--cohort", "demo", "--set", "cohort.on_bad_recrod=exclude"],
     "did you mean 'on_bad_record'"),
    (["pretrain", "--cohort", "demo", "--set", "recipe.stages.mdm.steps=3"],
     "to fix:   write --set stages.mdm.steps=3"),
    (["evaluate", "run", "--cohort", "demo", "--set", "stages.mdm.steps=3"],
     "'stages.mdm.steps' is a value of the recipe, and this command reads none"),
    (["evaluate", "run", "--cohort", "demo", "--set", "stages.results.draws=3"],
     "write --set evaluate.draws=3"),
    (["embed", "run", "--cohort", "demo", "--out", "x.csv", "--set", "recipe.stages.mdm.steps=3"],
     "'recipe.stages.mdm.steps' is a value of the recipe, and this command reads none"),
    (["check", "--cohort", "nowhere"], "there is no cohort 'nowhere'"),
    (["check", "--cohort", "demo", "--recipe", "nothing"], "there is no recipe 'nothing'"),
    (["check", "--cohort", "demo", "--screen", "nowhere"], "is not a run folder"),
    (["evaluate", "nowhere", "--cohort", "demo"], "is not a run folder"),
    (["evaluate", "vectors.parquet", "--cohort", "demo"], "--embeddings vectors.parquet"),
    (["evaluate", "nowhere", "--cohort", "demo", "--set", "evaluate.drws=3"], "evaluate.draws=3"),
    (["embed", "nowhere", "--cohort", "demo", "--out", "x.csv"], "is not a run folder"),
    (["embed", "--model", "ecgfoundr:w.pth", "--cohort", "demo", "--out", "x.csv"],
     "did you mean 'ecgfounder'"),
    (["models", "nothing"], "there is no published model 'nothing'"),
    (["select", "nowhere", "--cohort", "demo", "--out", "x.parquet"], "is not a run folder"),
    (["predict", "nowhere", "--cohort", "demo", "--out", "x.csv"], "is not a run folder"),
    (["predict", "nowhere", "--record", "ecg=a.hea"], "is not a run folder"),
    (["poison", "--cohort", "nowhere", "--out", "x"], "there is no cohort 'nowhere'"),
    (["shards", "--cohort", "nowhere", "--out", "x"], "there is no cohort 'nowhere'"),
    (["pretain"], "did you mean 'pretrain'"),
    (["simulate", "hart", "--out", "x"], "did you mean 'heart'"),
    (["simulate", "heart", "--out", "x", "--set", "nonsense"], "a.b=c"),
    (["simulate", "heart", "--out", "x", "--set", "copling=1"], "write --set coupling=1"),
    (["simulate", "ehr", "--out", "x", "--set", "code=1"], "did you mean 'codes'"),
]  # fmt: skip


def test_a_refusal_comes_before_what_takes_seconds_to_import(tmp_path):
    told = started(tmp_path, *(words for words, _ in REFUSED))
    for (words, said), done in zip(REFUSED, told, strict=True):
        assert done.code == 2, words
        assert said in done.said
        assert "Traceback" not in done.said
        light = {"numpy"} if words[0] != "simulate" else set()  # these stand last
        assert done.packages(HEAVY | light) == set(), words
        assert done.seconds < LIGHT_SECONDS, words
    assert not list(tmp_path.iterdir())


UNREAD = (
    "medmcl.cooccurrence", "medmcl.encoders.image",
    *(f"medmcl.evaluation.{name}" for name in ("metrics", "models", "protocol", "report")),
)  # fmt: skip
"""Of evaluation only what a recipe may say of its aspects is read."""


def test_check_of_a_table_imports_neither_torch_nor_scipy(table, tmp_path):
    (done,) = started(tmp_path, ["check", "--cohort", table])
    assert done.code == 0, done.said
    assert "0 errors" in done.said
    assert done.packages(HEAVY) == {"pandas", "pyarrow"}
    assert done.below(*UNREAD) == {"medmcl.evaluation.models"}, "the map, and no model of it"
    assert done.seconds < TABLE_SECONDS


@pytest.mark.parametrize("command", ["check", "pretrain"])
def test_a_table_that_is_not_there_is_told_before_torch_is_imported(command, table, tmp_path):
    text = (table / "cohort.yaml").read_text()
    (tmp_path / "cohort.yaml").write_text(text.replace("table.csv", "nobody.csv"))
    (done,) = started(tmp_path, [command, "--cohort", "cohort.yaml"])
    assert done.code == 2, done.said
    assert "nobody.csv: there is no such file" in done.said
    assert done.packages(HEAVY) == {"pandas", "pyarrow"}
    assert done.seconds < TABLE_SECONDS


IMAGES = {
    "schema": "medmcl/recipe@1",
    "inputs": {"axial": {"size": 24}},
    "towers": {
        "axial": {
            "encoder": {"name": "small_cnn", "widths": [8]},
            "head": {"hidden": 8, "out": 8},
        }
    },
    "views": {
        name: {"augment": {"axial": {"rotation_deg": 5}}} for name in ("augmented", "augmented_2")
    },
    "stages": [
        {
            "stage": "train",
            "name": "contrast",
            "towers": ["axial"],
            "objectives": {"in_modal": {"modality": "axial"}},
            "batch_size": 8,
            "steps": 2,
        },
        {
            "stage": "evaluate",
            "name": "results",
            "tasks": ["dementia"],
            "probe": {"modality": "axial", "models": {"contrastive": "contrast"}},
            "label_fractions": [1.0],
            "bootstrap_draws": 100,
        },
    ],
}


def test_pretraining_on_images_imports_nothing_of_other_modalities(tmp_path):
    write_brains(tmp_path / "data", people=28)
    (tmp_path / "images.yaml").write_text(yaml.safe_dump(IMAGES))
    (done,) = started(
        tmp_path,
        ["pretrain", "--cohort", "oasis1", "--recipe", "images.yaml", "--out", "run",
         "--set", f"data_root={tmp_path / 'data'}", "--device", "cpu", "--workers", "0"],
    )  # fmt: skip
    assert done.code == 0, done.said
    assert (tmp_path / "run" / "report.html").is_file()
    others = [f"medmcl.modalities.{kind}" for kind in ("ecg", "genetics", "cmr", "graph")]
    assert done.below("medmcl.modalities.image.adapter") != set()
    assert done.below("medmcl.cooccurrence", "medmcl.data.cohort.genotype", *others) == set()
    assert done.packages({"monai", "torch_geometric", "wfdb", "timm", "nibabel"}) == set()


@pytest.mark.parametrize(
    "parts",
    [ADAPTERS, ENCODERS, INPUT_PROJECTIONS, OBJECTIVES, SCORERS, SELECTORS],
    ids=["adapters", "encoders", "input_projections", "objectives", "scorers", "selectors"],
)
def test_settings_that_stand_apart_are_those_of_the_part(parts):
    for name, part in parts.items():
        assert part.Settings is parts.settings[name], name


def test_a_map_of_parts_imports_what_is_asked_for_alone():
    parts = Parts({"ordered": "collections:OrderedDict", "gone": "this_is_no_module:Thing"})
    assert list(parts) == ["ordered", "gone"]
    assert len(parts) == 2
    assert "gone" in parts
    assert "other" not in parts
    assert parts["ordered"].__name__ == "OrderedDict"
    with pytest.raises(ConfigError, match="cannot be imported"):
        parts["gone"]
    with pytest.raises(KeyError):
        parts["other"]
    assert parts.get("other") is None
    parts["gone"] = int
    assert parts["gone"] is int
