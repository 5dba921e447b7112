import pytest
import yaml

from medmcl.core.errors import ConfigError, OverrideError
from medmcl.stages.recipe.file import list_recipes, read_recipe
from medmcl.stages.recipe.needs import kinds
from medmcl.stages.train.spec import TrainSpec, fill


@pytest.mark.parametrize("name", sorted(list_recipes()))
def test_every_shipped_recipe_is_valid_and_expands(name):
    recipe = read_recipe(name)
    assert recipe.about
    stages = recipe.expanded(["hf", "mi"]).stages
    assert len({stage.name for stage in stages}) == len(stages)
    for stage in stages:
        if isinstance(stage, TrainSpec):
            built = set(recipe.towers if recipe.shared is None else recipe.inputs)
            by_kind = set() if recipe.modalities == "all" else set(recipe.modalities)
            assert set(stage.towers) <= built | by_kind
            assert set(stage.towers) <= set(recipe.inputs) | by_kind


def test_every_recipe_has_a_toy_twin():
    names = set(list_recipes())
    for name in names:
        assert name.endswith("_toy") or f"{name}_toy" in names


def test_a_stage_for_each_task_and_fraction_is_filled_in():
    recipe = read_recipe("ecg_cmr")
    made = {s.name: s for s in recipe.expanded(["hf"]).stages if isinstance(s, TrainSpec)}
    spec = made["finetune-hf-0.1"]
    assert spec.task == "hf"
    assert spec.label_fraction == 0.1
    assert spec.objectives["supervised"].settings["task"] == "hf"
    assert not spec.for_each


def test_stages_for_each_that_are_named_alike_say_what_to_name_them():
    recipe = read_recipe("ecg_cmr")
    named = recipe.model_copy(
        update={
            "stages": tuple(
                s.model_copy(update={"name": "finetune"}) if s.name.startswith("finetune") else s
                for s in recipe.stages
            )
        }
    )
    with pytest.raises(ConfigError, match="two stages are named 'finetune'") as told:
        named.expanded(["hf", "mi"])
    assert "name: finetune-{task}-{label_fraction}" in str(told.value)


def test_overrides_reach_a_stage_by_name():
    recipe = read_recipe("ecg_cmr_toy", {"stages.mmcl.steps": 7, "inputs.ecg.rate_hz": 50})
    assert next(s for s in recipe.stages if s.name == "mmcl").steps == 7
    assert recipe.inputs["ecg"]["rate_hz"] == 50


def write(tmp_path, text):
    path = tmp_path / "r.yaml"
    path.write_text(text)
    return path


def test_a_stage_that_needs_a_later_one_is_refused(tmp_path):
    path = write(tmp_path, "extends: ecg_cmr_toy\ndrop: [mdm]\n")
    with pytest.raises(ConfigError, match="needs the stage 'mdm' before it"):
        read_recipe(path).expanded([])


def test_dropping_what_is_not_there_and_extending_oneself_are_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"not there: 'mmdl'.*did you mean.*\n.*expected: mdm"):
        read_recipe(write(tmp_path, "extends: ecg_cmr_toy\ndrop: [mmdl]\n"))
    with pytest.raises(ConfigError, match=r"not there: 'inputs\.egc'.*\n.*expected: ecg, cmr"):
        read_recipe(write(tmp_path, "extends: ecg_cmr_toy\ndrop: [inputs.egc]\n"))
    for below_a_value in ("mdm.steps.x", "mdm.stage.x", "mdm.towers.x", "nope.x"):
        with pytest.raises(ConfigError, match="drops what is not there"):
            read_recipe(write(tmp_path, f"extends: ecg_cmr_toy\ndrop: [{below_a_value}]\n"))
    path = tmp_path / "r.yaml"
    with pytest.raises(ConfigError, match="extends itself"):
        read_recipe(write(tmp_path, f"extends: {path}\n"))


@pytest.mark.parametrize(
    "change",
    ["set: towers", "set: [1]", "drop: mdm", "drop: {mdm: 1}", "insert: results",
     "insert: {results: [again]}", "extends: [ecg_cmr_toy]"],
)  # fmt: skip
def test_a_change_of_another_form_is_refused_by_its_key(tmp_path, change):
    text = change if change.startswith("extends") else f"extends: ecg_cmr_toy\n{change}"
    with pytest.raises(ConfigError, match=change.partition(":")[0]):
        read_recipe(write(tmp_path, text))


def test_a_stage_is_dropped_and_inserted_before_by_the_name_that_overrides_know_it_by(tmp_path):
    text = "extends: ecg_cmr_toy\ndrop: [finetune, results.finetuned]\n"
    assert [one.name for one in read_recipe(write(tmp_path, text)).stages] == [
        "mdm", "mmcl", "results"
    ]  # fmt: skip
    extra = "{stage: train, name: more, towers: [ecg], steps: 3, objectives: {masked: {}}}"
    text = f"extends: ecg_cmr_toy\ninsert: {{finetune: [{extra}]}}\n"
    names = [one.name for one in read_recipe(write(tmp_path, text)).stages]
    assert names[:3] == ["mdm", "mmcl", "more"]
    assert names[3].startswith("finetune-")


def test_what_is_null_is_set_by_none_and_can_be_dropped(tmp_path):
    plain = read_recipe("ecg_mdm_toy")
    assert (
        read_recipe(write(tmp_path, "extends: ecg_mdm_toy\nset:\ndrop:\n")).stages == plain.stages
    )
    without = read_recipe(write(tmp_path, "extends: ecg_mdm_toy\ndrop: [inputs.ecg.clip_sigma]\n"))
    assert plain.inputs["ecg"]["clip_sigma"] is None
    assert "clip_sigma" not in without.inputs["ecg"]


def test_filling_keeps_the_type_of_a_value_that_stands_alone():
    assert fill({"a": ["{x}", "n-{x}"]}, {"x": 0.1}) == {"a": [0.1, "n-0.1"]}


def test_the_weight_of_an_objective_and_that_of_a_direction_are_two_things():
    recipe = read_recipe("ecg_cmr", {"stages.mmcl.objectives.cross_modal.loss_weight": 2.0})
    spec = next(s for s in recipe.stages if s.name == "mmcl").objectives["cross_modal"]
    assert spec.loss_weight == 2.0
    assert spec.settings["weight"] == 0.5


@pytest.mark.parametrize(
    ("dotted", "value", "words"),
    [
        ("stages.mmcl.epochz", 3, "unknown key 'stages.mmcl.epochz'; did you mean 'epochs'?"),
        ("stages.mmcl.epochs", "many", "'stages.mmcl.epochs' cannot be used"),
        ("stages.mmlc.epochs", 3, "no stage 'mmlc'; did you mean 'mmcl'? (known: "),
        ("stages.mmcl.label_fraction", 10, "expected: a number of at most 1"),
        ("stages.results.draaws", 3, "did you mean 'draws'? (known: attack, baselines"),
        ("name", "/data/jane/study", "files are called by it"),
        ("stages", 3, "'stages'"),
        ("stage.mmcl.steps", 7, "did you mean 'stages'"),
        ("stages.mmcl", 3, "expected: a mapping"),
        ("stages.mmcl.batch_size.x", 3, "what stands before it is a plain value"),
        ("data_rot", "/x", "did you mean 'data_root'"),
        ("on_bad_record", "exclude", "did you mean 'cohort.on_bad_record'"),
        ("on_bad_recrod", "exclude", "did you mean 'cohort.on_bad_record'"),
    ],
)
def test_what_is_wrong_with_an_override_is_said_of_it_and_not_of_the_file(dotted, value, words):
    with pytest.raises(OverrideError) as caught:
        read_recipe("ecg_cmr_toy", {dotted: value})
    assert str(caught.value).startswith(f"--set {dotted}={value}: ")
    assert words in str(caught.value)
    assert "ecg_cmr_toy.yaml" not in str(caught.value)


def test_a_fault_of_the_file_stays_a_fault_of_the_file(tmp_path):
    path = write(tmp_path, "extends: ecg_cmr_toy\nset: {stages.mmcl.epochz: 3}\n")
    with pytest.raises(ConfigError, match=r"r\.yaml: is not valid(?s:.*)stages\.mmcl\.epochz"):
        read_recipe(path, {"stages.mmcl.steps": 3})
    path = write(tmp_path, "extends: ecg_cmr_toy\nset: {stages.mmlc.steps: 3}\n")
    with pytest.raises(ConfigError, match=r"r\.yaml, set: stages\.mmlc\.steps: there is no"):
        read_recipe(path)


def test_a_recipe_says_which_kinds_it_reads():
    assert kinds(read_recipe("ecg_text_toy")) == {"ecg": "ecg", "report": "text"}
    assert kinds(read_recipe("ecg_mdm")) == {"ecg": "ecg"}


@pytest.mark.parametrize(
    ("key", "wrong", "one", "other"),
    [("level", 95, 0.9, 0.95), ("resample", "hospital", "site", "subject")],
)
def test_the_level_of_intervals_and_what_is_drawn_are_one_for_the_whole_report(
    key, wrong, one, other
):
    with pytest.raises(OverrideError, match=key):
        read_recipe("ecg_cmr_toy", {f"stages.results.{key}": wrong})
    recipe = read_recipe("ecg_cmr_toy", {f"stages.results.{key}": one})
    (spec,) = [stage for stage in recipe.stages if stage.stage == "evaluate"]
    assert getattr(spec, key) == one
    again = spec.model_copy(update={"name": "again", key: other})
    with pytest.raises(ConfigError, match=f"differ in '{key}'"):
        recipe.model_copy(update={"stages": (*recipe.stages, again)}).expanded(["hf"])


def test_what_is_set_at_one_place_of_an_anchor_leaves_the_others_as_they_are():
    recipe = read_recipe("mcl", {"stages.base.optimiser.lr": 5e-5})
    rates = {s.name: s.optimiser.lr for s in recipe.stages if isinstance(s, TrainSpec)}
    assert rates == {"base": 5e-5, "stage_1": 1e-3, "stage_2": 1e-3, "distilled": 1e-3}


def test_a_join_stage_refuses_what_it_would_not_read():
    for key, value in {"restart": 1, "start_from": {"record": "base"}, "task": "hf"}.items():
        with pytest.raises(ConfigError, match=key):
            read_recipe("mcl", {f"stages.joined.{key}": value})


def test_stages_are_put_before_one_of_the_extended_recipe(tmp_path):
    extra = "{stage: train, name: more, towers: [ecg], steps: 3, objectives: {masked: {}}}"
    path = write(tmp_path, f"extends: ecg_cmr_toy\ninsert: {{results: [{extra}]}}\n")
    names = [stage.name for stage in read_recipe(path).stages]
    base = [stage.name for stage in read_recipe("ecg_cmr_toy").stages]
    assert names == [*base[: base.index("results")], "more", *base[base.index("results") :]]
    with pytest.raises(ConfigError, match="before 'resluts', which is not there; did you mean"):
        read_recipe(write(tmp_path, f"extends: ecg_cmr_toy\ninsert: {{resluts: [{extra}]}}\n"))


ATTACK = "stages.attack."


@pytest.mark.parametrize(
    ("asked", "left"),
    [
        ({"share": 0.01}, (None, 0.01, None)),
        ({"count": 3}, (3, None, None)),
        ({"manifest": "m.parquet"}, (None, None, "m.parquet")),
        ({"share": 0.01, "count": None}, (None, 0.01, None)),
        ({"share": None}, (250, None, None)),
        ({"label": "blue"}, (250, None, None)),
    ],
)
def test_a_key_that_is_set_takes_out_those_that_it_excludes(asked, left, tmp_path):
    def said(recipe, overrides=None):
        attack = read_recipe(recipe, overrides).stages[0]
        return attack.count, attack.share, attack.manifest

    dotted = {f"{ATTACK}{key}": value for key, value in asked.items()}
    assert said("poisoned_toy", dotted) == left
    lines = "".join(f"  {key}: {'null' if one is None else one}\n" for key, one in dotted.items())
    path = write(tmp_path, f"extends: poisoned_toy\nset:\n{lines}")
    assert said(path) == left
    for last in ({"count": 7}, {"share": 0.5}, {"manifest": "n.parquet"}):
        ((key, value),) = last.items()
        found = said(path, {f"{ATTACK}{key}": value})
        assert [one for one in found if one is not None] == [value]


@pytest.mark.parametrize("other", ["share: 0.1", "manifest: m.parquet"])
def test_two_keys_that_exclude_each_other_are_refused_wherever_both_are_said(other, tmp_path):
    key, value = other.split(": ")
    both = {f"{ATTACK}count": 5, f"{ATTACK}{key}": 0.1 if key == "share" else value}
    with pytest.raises(OverrideError, match=r"both given|says who is poisoned"):
        read_recipe("poisoned_toy", both)
    file = f"extends: poisoned_toy\nset: {{{ATTACK}count: 5, {ATTACK}{other}}}\n"
    with pytest.raises(ConfigError, match=r"both given|says who is poisoned"):
        read_recipe(write(tmp_path, file))


def test_an_attack_may_be_judged_without_recall_but_not_without_a_way_to_ask():
    recipe = read_recipe("poisoned_toy", {"stages.results.attack.ks": []})
    assert recipe.stages[-1].attack.ks == ()
    with pytest.raises(OverrideError, match="how is a model asked"):
        read_recipe("poisoned_toy", {"stages.results.attack.by": []})


@pytest.mark.parametrize("name", ["../../gone", "/tmp/gone", "a/b", "..", ".hidden", "", "x" * 300])
def test_the_name_of_a_stage_is_no_path(name, tmp_path):
    file = tmp_path / "recipe.yaml"
    tree = {"extends": "clip_toy", "set": {"stages.contrast.name": name}}
    file.write_text(yaml.safe_dump(tree))
    with pytest.raises(ConfigError, match="files are called by it"):
        read_recipe(file)


@pytest.mark.parametrize("name", ["RESULTS", "re\u0301sults"])
def test_stages_whose_names_are_one_file_on_some_disks_are_refused(name, tmp_path):
    file = tmp_path / "recipe.yaml"
    other = "r\u00e9sults" if name != "RESULTS" else "results"
    tree = {
        "extends": "clip_toy",
        "set": {"stages.contrast.name": name, "stages.results.name": other},
    }
    file.write_text(yaml.safe_dump(tree))
    with pytest.raises(ConfigError, match="one file on disks"):
        read_recipe(file).expanded(["colour"])


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("key", ["optimiser.lr", "optimiser.warmup", "evaluate_every"])
def test_no_setting_is_nan_or_infinite(key, value, tmp_path):
    """They were tracebacks, of as many kinds, once records were prepared."""
    file = tmp_path / "recipe.yaml"
    tree = {"extends": "clip_toy", "set": {f"stages.contrast.{key}": value}}
    file.write_text(yaml.safe_dump(tree))
    with pytest.raises(ConfigError, match=rf"stages.contrast.{key}' must be a finite number"):
        read_recipe(file)
