"""What recipes say differs from the authors' code is what their settings are."""

import torch

from medmcl.engine.optimiser import build_optimiser
from medmcl.stages.recipe.file import list_recipes, read_recipe
from medmcl.stages.recipe.listing import one_recipe


def said(name):
    """What `medmcl recipes NAME` says of a recipe before its stages, on one line."""
    return " ".join(one_recipe(name).partition("stages, in order")[0].split())


def only(values):
    """The one value that all have."""
    first, *rest = values
    assert all(one == first for one in rest)
    return first


def test_mcl_clip_says_each_difference_from_the_authors_code_as_its_settings_are():
    recipe = read_recipe("mcl_clip")
    stages = {one.name: one for one in recipe.stages}
    base, *later = [stages[name] for name in stages["joined"].of]
    assert not base.weights
    assert len({one.restart for one in (base, *later)}) == len(later) + 1
    for one in later:
        assert one.frozen == ("caption",)
        assert set(one.start_from.values()) == {base.name}
        assert not one.objectives["cross_modal"].settings["scale"]["learned"]
    taught = (*later, stages["distilled"])
    optimiser = only(one.optimiser for one in taught)
    parameters = build_optimiser(torch.nn.Linear(1, 1), optimiser, {}).defaults
    groups = [stages[name] for name in ("groups_1", "groups_2")]
    assert all(one.stop for one in groups)
    image = recipe.views["augmented"].augment["picture"]
    assert {"rotation_deg": 0, "zoom": [1.0, 1.0]}.items() <= image.items()
    scale = only(one.objectives["cross_modal"].settings["scale"]["init"] for one in later)
    batch = only(one.batch_size for one in (base, *taught))
    text = said("mcl_clip")
    for words in (
        f"image features in K = {only(one.clusters for one in groups)} clusters",
        f"betas {optimiser.betas[0]} and {optimiser.betas[1]}, "
        f"weight decay {optimiser.weight_decay};",
        f"from the seed, {base.epochs:g} epochs (theirs: CLIP",
        f"Stages: {len(later)} after the base (theirs: 3;",
        f"Epochs: {only(one.epochs for one in taught):g} a stage (theirs: 20)",
        f"Rate: {optimiser.lr:.0e}, that".replace("e-0", "e-"),
        f"by {optimiser.schedule} after a warm-up of {optimiser.warmup} of the steps",
        f"norm at most {optimiser.clip_norm:g}, epsilon of AdamW {parameters['eps']:.0e}".replace(
            "e-0", "e-"
        ),
        f"held at {scale} as in CLIP-MoE",
        f"crops of {image['crop'][0]} to {image['crop'][1]:g} of the image, brightness and "
        f"contrast by {only(image[key] for key in ('brightness', 'contrast'))} (theirs",
        f"Batches: {batch} on one device",
        f"a group below {only(one.smallest for one in groups)} people joins the nearest",
    ):
        assert words in text


def test_what_masks_the_ecg_says_the_authors_later_cosine_term_and_has_none():
    recipe = read_recipe("ecg_mdm")
    assert {one for stage in recipe.stages for one in getattr(stage, "objectives", ())} == {
        "masked",
        "supervised",
    }
    (share,) = (
        one.objectives["masked"].settings["ncc_weight"]
        for one in recipe.stages
        if "masked" in getattr(one, "objectives", ())
    )
    text = said("ecg_mdm")
    assert f"{1 - share:g} of the squared error and {share:g} of the correlation" in text
    assert "0.1 of a cosine term" in text
    assert "this recipe leaves it out" in text


def test_every_recipe_says_where_it_comes_from():
    for name in list_recipes():
        assert "source: not stated" not in said(name), name
