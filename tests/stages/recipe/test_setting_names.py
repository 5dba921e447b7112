"""Whatever is misspelt in a recipe, the message names the whole key and what was probably meant."""

import copy
import re
import shlex

import pytest

from medmcl.core.errors import ConfigError, MedmclError, OverrideError
from medmcl.core.overrides import naming_overrides, parse_overrides
from medmcl.stages.recipe import file as recipe_file
from medmcl.stages.recipe.file import find_recipe, list_recipes, read_recipe
from medmcl.stages.recipe.model_checks import faults_of_models
from medmcl.stages.recipe.needs import kinds
from medmcl.stages.recipe.resolve_modalities import for_cohort

NAMED_FREELY = {
    "augment", "columns", "encoder", "finetuned", "for_each", "input_projections", "inputs",
    "kinds", "mask", "models", "objectives", "options", "roles", "scores", "start_from", "towers",
    "vectors", "views", "weights",
}  # fmt: skip
"""Keys below which names stand: of modalities, views, models, or arguments of another library."""
TASKS = ["outcome"]
PICTURE, ECG = "views.augmented.augment.picture", "stages.mmcl.encoder.ecg"


def keys_of(node, path=()):
    """Every dotted key of a tree, as tuples."""
    pairs = node.items() if isinstance(node, dict) else enumerate(node)
    for key, value in pairs:
        if isinstance(node, dict):
            yield (*path, key)
        if isinstance(value, (dict, list)):
            yield from keys_of(value, (*path, key))


def misspelt(tree, path):
    """The tree with the last letter of one key twice, and how that key is written in messages."""
    tree = copy.deepcopy(tree)
    node, names = tree, []
    for key in path[:-1]:
        node = node[key]
        names.append(str(node.get("name", key)) if isinstance(key, int) else key)
    key, wrong = path[-1], path[-1] + path[-1][-1]
    entries = [(wrong if one == key else one, value) for one, value in node.items()]
    node.clear()
    node.update(entries)
    if key == "name" and isinstance(path[-2], int):
        names[-1] = str(path[-2])  # the name itself is gone
    return tree, ".".join([*names, wrong])


def modalities(recipe):
    """Modality to its kind, of a cohort that the recipe can be used on."""
    if recipe.modalities == "all":
        return {kind: kind for kind in recipe.kinds}
    return {one: kind or "tabular" for one, kind in kinds(recipe).items()}


def messages(name, overrides=None, have=None):
    """What is said of a recipe before any record is read, as a user of ``pretrain`` would see."""
    have = modalities(read_recipe(name)) if have is None else have
    try:
        spec = for_cohort(read_recipe(name, overrides), have).expanded(TASKS)
    except MedmclError as error:
        return [error]
    return faults_of_models(spec, have)


def test_a_misspelt_key_of_any_shipped_recipe_is_named_whole_with_its_right_spelling(monkeypatch):
    seen, missed = set(), []
    for name in list_recipes():
        if name.endswith("_toy") and name.removesuffix("_toy") in list_recipes():
            continue  # the same keys as its twin
        tree = recipe_file._extended(find_recipe(name), ())
        have = modalities(read_recipe(name))
        for path in keys_of(tree):
            kind = ".".join("*" if isinstance(part, int) else part for part in path)
            if kind in seen or (len(path) > 1 and path[-2] in NAMED_FREELY):
                continue
            seen.add(kind)
            wrong, dotted = misspelt(tree, path)
            monkeypatch.setattr(recipe_file, "_extended", lambda *_, t=wrong: copy.deepcopy(t))
            said = [str(one) for one in messages(name, have=have)]
            monkeypatch.undo()
            if not any(f"'{dotted}'" in one and f"mean '{path[-1]}'" in one for one in said):
                missed.append((name, dotted, said))
    assert len(seen) > 300
    assert missed == []


@pytest.mark.parametrize(
    ("recipe", "text", "meant"),
    [
        ("clip", "stages.contrast.stepz=6", "stages.contrast.steps=6"),
        ("clip", "stages.contrast.optimizer.lr=1", "stages.contrast.optimiser.lr=1"),
        ("clip", "stages.contrast.optimiser.name=adamww", "stages.contrast.optimiser.name=adamw"),
        ("clip", "towers.picture.head.outt=3", "towers.picture.head.out=3"),
        ("clip", "inputs.picture.sizee=32", "inputs.picture.size=32"),
        ("clip", f"{PICTURE}.zooom=[0.9, 1.1]", f"{PICTURE}.zoom=[0.9, 1.1]"),
        ("ecg_cmr", "stages.mdm.objectives.masked.decoder.wide=3", None),
        ("ecg_cmr", "stages.finetune-outcome-0.1.epoch=3", "stages.finetune-outcome-0.1.epochs=3"),
        ("ecg_cmr", f"{ECG}.drop_paths=0.1", f"{ECG}.drop_path=0.1"),
        ("limoe", "shared.experts.expert=4", "shared.experts.experts=4"),
        ("autobind", "inputs.ecg.rate=100", "inputs.ecg.rate_hz=100"),
    ],
)  # fmt: skip
def test_a_misspelt_override_is_answered_with_the_text_to_type(recipe, text, meant):
    overrides = parse_overrides([text])
    (error, *_) = [naming_overrides(one, overrides) for one in messages(recipe, overrides)]
    assert str(error).startswith(f"--set {shlex.quote(text)}")
    if meant is None:
        assert "'stages.mdm.objectives.masked.decoder.wide'" in str(error)
        return
    assert error.fix == f"write --set {shlex.quote(meant)}"
    typed = parse_overrides(shlex.split(error.fix)[2:])
    assert messages(recipe, typed) == []


def lengths(recipe, **overrides):
    """Stage to epochs and steps; overrides with __ for dots."""
    made = read_recipe(recipe, overrides.pop("dotted", overrides)).expanded(["af", "hf"])
    return {one.name: (one.epochs, one.steps) for one in made.stages if one.stage == "train"}


def test_an_override_of_finetune_reaches_every_stage_that_comes_of_it_and_one_name_that_alone():
    usual = lengths("ecg_cmr")
    tuned = [name for name in usual if name.startswith("finetune-")]
    assert len(tuned) == 6
    changed = lengths("ecg_cmr", dotted={"stages.finetune.epochs": 3})
    assert changed == {**usual, **dict.fromkeys(tuned, (3.0, None))}
    one = lengths("ecg_cmr", dotted={"stages.finetune-hf-0.01.epochs": 3})
    assert one == {**usual, "finetune-hf-0.01": (3.0, None)}
    both = {"stages.finetune.epochs": 3, "stages.finetune-hf-1.0.steps": 5}
    expected = {**changed, "finetune-hf-1.0": (None, 5)}
    assert lengths("ecg_cmr", dotted=both) == expected
    assert lengths("ecg_cmr", dotted=dict(reversed(both.items()))) == expected


def test_deep_settings_of_one_stage_leave_what_stands_beside_them():
    deep = {
        "stages.finetune-hf-0.01.optimiser.lr": 1e-3,
        "stages.finetune-hf-0.01.objectives.supervised.heads": 2,
    }
    stages = {one.name: one for one in read_recipe("ecg_cmr", deep).expanded(["af", "hf"]).stages}
    one, other = stages["finetune-hf-0.01"], stages["finetune-af-0.01"]
    assert (one.optimiser.lr, other.optimiser.lr) == (1e-3, 6e-6)
    assert one.optimiser.layer_decay == other.optimiser.layer_decay == 0.75
    mine, theirs = (each.objectives["supervised"].settings for each in (one, other))
    assert {**theirs, "task": "hf", "heads": 2} == mine
    assert theirs["heads"] == 6


@pytest.mark.parametrize(
    ("dotted", "said"),
    [
        ("stages.finetun.epochs", r"no stage 'finetun'; did you mean 'finetune'\? .*mdm, mmcl"),
        ("stages.finetune-hf-0.2.epochs", r"no stage 'finetune-hf-0\.2'; did you mean 'finetune"),
        ("stages.finetune-hx-0.1.epochs", r"'finetune-hx-0\.1'; did you mean 'finetune-hf-0\.1'"),
        ("stages.nonsense.epochs", r"no stage 'nonsense' \(known: finetune, .*results\)"),
    ],
)
def test_an_override_of_no_stage_is_refused_with_the_names_there_are(dotted, said):
    with pytest.raises(ConfigError, match=said):
        lengths("ecg_cmr", dotted={dotted: 3})


def test_steps_and_epochs_replace_one_another_but_not_where_both_are_said(tmp_path):
    assert lengths("clip", dotted={"stages.contrast.steps": 10}) == {"contrast": (None, 10)}
    assert lengths("ecg_cmr_toy", dotted={"stages.mdm.epochs": 2})["mdm"] == (2.0, None)
    with pytest.raises(ConfigError, match="both epochs and steps"):
        lengths("clip", dotted={"stages.contrast.steps": 10, "stages.contrast.epochs": 3})
    with pytest.raises(ConfigError, match="neither epochs nor steps"):
        lengths("clip", dotted={"stages.contrast.epochs": None})
    text = find_recipe("clip").read_text()
    both = re.sub(r"( +)epochs: \d+", r"\g<0>\n\1steps: 10", text)
    assert both != text
    (tmp_path / "both.yaml").write_text(both)
    with pytest.raises(ConfigError, match="both epochs and steps"):
        lengths(tmp_path / "both.yaml")
    again = lengths(tmp_path / "both.yaml", dotted={"stages.contrast.steps": 7})
    assert again == {"contrast": (None, 7)}


def test_a_single_stage_that_is_at_fault_is_told_by_its_own_name():
    said = r"'stages\.finetune-hf-0\.1\.epochs' cannot be used(?s:.*)a number above 0"
    with pytest.raises(OverrideError, match=said):
        read_recipe("ecg_cmr", {"stages.finetune-hf-0.1.epochs": -1})


def test_a_place_that_names_a_column_is_text_and_no_mapping():
    given = ["a={filename_hr}", "b={x: 1}", "c={folder}/x.npy"]
    assert parse_overrides(given) == {"a": "{filename_hr}", "b": {"x": 1}, "c": "{folder}/x.npy"}
