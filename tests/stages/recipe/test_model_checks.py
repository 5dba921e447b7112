"""A slip in a tower, a stage or an objective is told before any record is read."""

from __future__ import annotations

import pytest
import yaml
from changed_files import rewrite
from small_squares import write_squares

import medmcl
from medmcl.core.errors import ConfigError, OverrideError
from medmcl.core.overrides import naming_overrides
from medmcl.stages.recipe.file import list_recipes, read_recipe
from medmcl.stages.recipe.model_checks import faults_of_models
from medmcl.stages.recipe.needs import kinds as kinds_of_recipe
from medmcl.stages.recipe.resolve_modalities import for_cohort

KINDS = {"cxr": "image", "report": "text"}
RUN = "checkpoint/contrast/step-00000003"


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    """Pictures that are called cxr, texts that are called report."""
    folder = write_squares(tmp_path_factory.mktemp("squares") / "cohort", people=12, side=8)

    def renamed(tree):
        own = tree["modalities"]
        tree["modalities"] = {"cxr": own["image"], "report": own["caption"]}

    rewrite(folder / "cohort.yaml", renamed)
    return folder


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A folder with a run that kept weights, and a file."""
    folder = tmp_path_factory.mktemp("files")
    (folder / "run" / RUN).mkdir(parents=True)
    (folder / "run" / RUN / "weights.safetensors").write_bytes(b"")
    return folder


SHARED = [
    ("shared.experts.k", 9, "k 9 is above the number of experts, 8"),
    ("shared.experts", {"expert": 4}, "did you mean 'experts'"),
    ("shared.wdith", 8, "did you mean 'width'"),
    ("shared.input_projections", {"picture": "patch"}, "projections.picture: must be a mapping"),
    ("shared.input_projections", ["picture"], "shared.input_projections: must be a mapping"),
    ("shared.input_projections", {"cxrr": {}}, "unknown modality 'cxrr'; did you mean 'cxr'"),
    ("shared.input_projections", {"picture": {"patsh": 8}}, "did you mean 'patch'"),
    ("shared.input_projections", {"picture": {"name": "pathces"}}, "did you mean 'patches'"),
    ("shared.input_projections", {"picture": {"encoder": {"name": "vitt"}}}, "encoder 'vitt'"),
    ("shared.input_projections", {"picture": {"encoder": {}}}, "an encoder needs a 'name'"),
    ("stages.contrast.encoder", {"shared": {"experts": {"experts": 4, "k": 5}}}, "k 5 is above"),
    ("stages.contrast.encoder", {"report": {"patch": 2}}, "'stages.contrast.encoder.report.patch'"),
    ("stages.contrast.encoder", {"shard": {"experts": None}}, "did you mean 'shared'"),
    ("stages.contrast.frozen", ["shard"], "did you mean 'shared'"),
    ("stages.contrast.weights", {"shard": {"path": "{files}/x"}}, "did you mean 'shared'"),
    ("stages.contrast.weights", {"shared": {"path": "{files}/x"}}, "RUN/checkpoint/STAGE/step-"),
    ("stages.contrast.weights", {"shared": {"path": "{files}/run"}}, f"files/run/{RUN}/weights"),
    ("stages.contrast.weights",
     {"shared": {"path": f"{{files}}/run/{RUN}/weights.safetensors", "names": "runn"}},
     "unknown name map 'runn'; did you mean 'run'"),
    ("stages.contrast.weights", {"shared": {"path": "{files}/x", "head": True}}, "head: true"),
    ("stages.contrast.objectives.router.loss_wieght", 0.1, "did you mean 'loss_weight'"),
    ("stages.contrast.objectives.router.improtance", True, "did you mean 'importance'"),
    ("stages.contrast.objectives.router.knid", "router", "did you mean 'kind'"),
    ("stages.contrast.objectives.router.z", "perhaps", "router.z' must be true or false"),
    ("stages.contrast.objectives.router.min_experts", {"report": 9}, "at most 8"),
    ("stages.contrast.objectives.router.min_experts", {"reprot": 2}, "did you mean 'report'"),
    ("stages.contrast.objectives.rotuer", {}, "unknown objective 'rotuer'"),
    ("shared.experts", None, "--set 'stages.contrast.objectives.router=null'"),
    ("stages.contrast.encoder", {"shared": {"experts": None}}, "no routers to charge"),
    ("stages.contrast.accumulate", 2, "cannot be encoded in parts where a shared tower has exp"),
    ("stages.contrast.towers", ["picture", "captoin"], "the recipe reads no 'captoin'"),
    ("views.augmented.augment.reprot", {"dropout": 0.1}, "did you mean 'report'"),
    ("views.augmented.augment.picture.rotatoin_deg", 3, "did you mean 'rotation_deg'"),
]  # fmt: skip
APART = [
    ("towers.image.encoder.width", 8, "did you mean 'cxr', which is of kind image"),
    ("towers.reprot.encoder.width", 8, "did you mean 'report'"),
    ("towers.cxr.encoder.name", "tim", "unknown encoder 'tim'; did you mean 'timm'"),
    ("towers.report.encoder.widht", 8, "did you mean 'width'"),
    ("towers.picture.encoder", {"model": "resnet18"}, "an encoder needs a 'name'"),
    ("towers.cxr.encoder", "timm", "'towers.cxr.encoder' must be a mapping"),
    ("towers.cxr.haed", {"out": 8}, "did you mean 'head'"),
    ("stages.contrast.encoder", {"cxr": {"modle": "resnet18"}}, "did you mean 'model'"),
    ("stages.contrast.encoder", {"shared": {"width": 8}}, "the stage has no tower 'shared'"),
    ("stages.contrast.frozen", ["cxrr"], "did you mean 'cxr'"),
    ("stages.contrast.weights", {"cxr": {"path": "{files}/x", "head": True}}, "no projections"),
    ("stages.contrast.objectives.router", {"loss_weight": 0.04}, "no routers to charge"),
    ("stages.contrast.accumulate", 65, "at most 64"),
    ("stages.contrast.accumulate", 0, "a number of at least 1"),
]
CASES = [*(("limoe_toy", *one) for one in SHARED), *(("clip_toy", *one) for one in APART)]


def filled(value, files):
    """Put the folder of files into a value."""
    return yaml.safe_load(yaml.safe_dump(value).replace("{files}", str(files)))


@pytest.fixture
def unread(monkeypatch):
    """Fail where a record would be read."""

    def read(*_, **__):
        pytest.fail("records were read")

    monkeypatch.setattr("medmcl.stages.recipe.on_cohort.prepare", read)


@pytest.mark.parametrize(("recipe", "dotted", "value", "words"), CASES)
def test_what_needs_no_record_is_refused_before_any_is_read(
    cohort, files, tmp_path, unread, recipe, dotted, value, words
):
    overrides = {dotted: filled(value, files)}
    with pytest.raises(ConfigError) as caught:
        medmcl.pretrain(
            cohort, recipe=recipe, out=tmp_path / "run", overrides=overrides, device="cpu"
        )
    said = words.replace("files/", f"{files}/") if words.startswith("files/") else words
    assert said in str(caught.value)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("recipe", "given", "wanted"),
    [
        ("limoe_toy", {"shared.input_projections": ["picture"]}, ["must be a mapping"]),
        ("limoe_toy", {"shared.experts.k": 9, "stages.contrast.frozen": ["shard"]},
         ["no tower 'shard'; did you mean 'shared'", "k 9 is above"]),
        ("clip_toy", {"towers.image.encoder.width": 8, "towers.cxr.encoder.name": "tim"},
         ["which is of kind image", "did you mean 'timm'"]),
    ],
)  # fmt: skip
def test_check_tells_all_faults_of_the_models(cohort, recipe, given, wanted):
    found = [one for one in medmcl.check(cohort, recipe=recipe, overrides=given)
             if one.code == "recipe"]  # fmt: skip
    assert len(found) == len(wanted)
    assert {one.level for one in found} == {"error"}
    for words in wanted:
        assert [one for one in found if words in one.what], words


def resolved(recipe, overrides=None, kinds=None):
    kinds = kinds or KINDS
    found = for_cohort(read_recipe(recipe, overrides), kinds).expanded(["a", "b"])
    return found, faults_of_models(found, kinds)


def test_the_mend_of_a_dense_tower_with_a_router_works():
    (fault,) = resolved("limoe_toy", {"shared.experts": None})[1]
    key, _, value = (
        fault.fix.partition("'")[2].partition("'")[0].removeprefix("--set ").partition("=")
    )
    assert value == "null"
    recipe, faults = resolved("limoe_toy", {"shared.experts": None, key: None})
    assert faults == []
    assert list(recipe.stages[0].objectives) == ["cross_modal"]


@pytest.mark.parametrize(
    "key",
    ["stages.contrast.encoder.shared", "stages.contrast.start_from", "stages.contrast.frozen",
     "stages.results.retrieval"],
)  # fmt: skip
def test_null_takes_an_entry_of_a_stage_out(key):
    assert resolved("limoe_toy", {key: None})[1] == []


def test_a_fault_of_a_stage_for_each_task_is_told_once_and_as_it_is_written():
    key = "stages.finetune-{task}-{label_fraction}.frozen"
    kinds = {"ecg": "ecg", "cmr": "cmr"}
    (fault,) = resolved("ecg_cmr_toy", {key: ["ecgg"]}, kinds)[1]
    assert fault.where == "stage finetune-{task}-{label_fraction}, frozen"


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("start_from", {"cmr": "mdm"}, "stage 'mdm' has no tower 'cmr' to start from"),
        ("vectors", {"ecg": "mdm"}, "stage 'mdm' has no table of vectors for 'ecg'"),
        ("vectors", {"shared": "mdm"}, "the stage has no tower 'shared'"),
    ],
)
def test_a_tower_starts_from_a_stage_that_has_it(key, value, words):
    given = {f"stages.mmcl.{key}": value}
    faults = resolved("ecg_cmr_toy", given, {"ecg": "ecg", "cmr": "cmr"})[1]
    assert words in str(faults[0])


@pytest.mark.parametrize("name", sorted(list_recipes()))
def test_every_shipped_recipe_passes(name):
    recipe = read_recipe(name)
    kinds = {one: f"my_{one}" for one in recipe.kinds}
    made = {own: one for one, own in kinds.items()} if recipe.modalities == "all" else {}
    for modality, kind in kinds_of_recipe(recipe).items():
        assert kind is not None
        made[f"my_{modality}" if modality in recipe.roles else modality] = kind
    assert resolved(name, kinds=made)[1] == []


def test_a_stage_may_have_fewer_towers_than_the_recipe_has_input_projections():
    given = {"shared.input_projections": {"picture": {"patch": 8}, "caption": {}},
             "stages.contrast.towers": ["caption"]}  # fmt: skip
    recipe, faults = resolved("limoe_toy", {**given, "stages.contrast.objectives.router": None})
    assert faults == []
    shape = medmcl.core.batch.InputShape(kind="text", shape=(4,), vocabulary=9)
    towers = recipe.stages[0].build(recipe, {"report": shape}, 0)
    assert list(towers.towers) == ["report"]


EXPERTS = {"shared.experts.k": 9, "stages.results.experts": None}


@pytest.mark.parametrize(
    ("overrides", "where", "what", "blamed"),
    [
        (EXPERTS, "shared", "is not valid:\n  - 'experts': k 9 is above 8", "shared.experts.k=9"),
        (dict(reversed(EXPERTS.items())), "shared", "'experts': k 9", "shared.experts.k=9"),
        ({"stages.results.experts": None}, "shared", "'experts': k 9", None),
        ({"stages.a.frozen": ["x"], "stages.b.frozen": ["y"]}, "stage b, frozen", "no 'y'",
         "'stages.b.frozen=[y]'"),
        ({"shared.input_projections.cxr.patch": 50}, "shared.input_projections.cxr",
         "unknown key 'path'; did you mean 'patch'?", None),
        ({"towers.a.encoder.width": 1, "towers.b.encoder.width": 2}, "towers.b.encoder",
         "is not valid:\n  - 'width' must be above 8", "towers.b.encoder.width=2"),
        ({"cohort.on_bad_record": "x"}, None, "'on_bad_record' is not known",
         "cohort.on_bad_record=x"),
    ],
)  # fmt: skip
def test_an_error_names_the_override_it_is_about(overrides, where, what, blamed):
    named = naming_overrides(ConfigError(what, where=where), overrides)
    assert isinstance(named, OverrideError) is (blamed is not None)
    if blamed is not None:
        assert str(named).startswith(f"--set {blamed}")
