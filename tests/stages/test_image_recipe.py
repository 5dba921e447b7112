"""Three views and a table, contrastively, end to end on a handful of small brains; and a volume."""

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from read_pages import check_pages
from row_draws import row_generator
from small_brains import write_brains

import medmcl
from medmcl.data.cohort.cohort import open_cohort
from medmcl.encoders import build_encoder
from medmcl.modalities.image.adapter import Image, ImageSettings, ImageSource

VIEWS = ("axial", "coronal", "sagittal")
HEAD = {"hidden": 16, "out": 8}
ROTATED = {"rotation_deg": 5, "crop": [0.9, 1.0]}
RECIPE = {
    "schema": "medmcl/recipe@1",
    "about": "three views and a table",
    "inputs": {**{view: {"size": 24} for view in VIEWS}, "clinic": {}},
    "towers": {
        **{v: {"encoder": {"name": "small_cnn", "widths": [8, 16]}, "head": HEAD} for v in VIEWS},
        "clinic": {"encoder": {"name": "tabular_mlp", "hidden": 16, "width": 16}, "head": HEAD},
    },
    "views": {"augmented": {"augment": {**dict.fromkeys(VIEWS, ROTATED), "clinic": {}}}},
    "stages": [
        {
            "stage": "train",
            "name": "contrast",
            "towers": [*VIEWS, "clinic"],
            "objectives": {
                "cross_modal": {
                    "pairs": [["axial", "clinic"], ["axial", "coronal"], ["coronal", "sagittal"]],
                    "loss": "info_nce",
                }
            },
            "rows": "any",
            "batch_size": 16,
            "steps": 8,
            "optimiser": {"name": "adamw", "lr": 1.0e-2},
        },
        {
            "stage": "evaluate",
            "name": "results",
            "probe": {"modality": "axial", "models": {"contrastive": "contrast"}},
            "covariates": "clinic",
            "baselines": ["covariates"],
            "label_fractions": [1.0],
            "bootstrap_draws": 100,
            "retrieval": {"stage": "contrast", "pairs": [["axial", "coronal"]]},
        },
    ],
}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("brains")
    write_brains(folder / "data", people=28)
    (folder / "views.yaml").write_text(yaml.safe_dump(RECIPE, sort_keys=False))
    cohort = open_cohort("oasis1", {"data_root": str(folder / "data")})
    recipe = folder / "views.yaml"
    made = medmcl.pretrain(cohort, recipe=recipe, out=folder / "run", device="cpu")
    return made, cohort


def test_three_views_and_a_table_are_aligned_and_evaluated(run, tmp_path):
    made, cohort = run
    found = medmcl.evaluate(made.path, cohort, out=tmp_path / "out", device="cpu").results
    auroc = [
        row for row in found if (row.metric, row.task, row.versus) == ("auroc", "dementia", "")
    ]
    assert {row.method for row in auroc} == {"contrastive", "covariates"}
    # the volume of the brain is made of the label, and the slice of it
    assert all(row.value > 0.8 for row in auroc)
    assert {row.split for row in auroc} == {"held_out"}
    check_pages(made.path, has_tasks=False)  # few people: nothing to draw


def test_who_has_an_image_has_an_embedding_and_what_is_usual_travels(run):
    made, cohort = run
    table = made.embed(cohort, modality="sagittal", space="pooled")
    assert len(table) == len(cohort.records["sagittal"]) == 21
    assert (table["quality"] == "ok").all()
    vectors = table.drop(columns="quality").to_numpy(float)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, rtol=1e-5)
    pd.testing.assert_frame_equal(
        table, medmcl.load(made.path).embed(cohort, modality="sagittal", space="pooled")
    )
    assert made.preprocessing["axial"]["state"] == {"usual": {"channels": 1, "shape": [52, 44]}}


@pytest.mark.parametrize(
    ("encoder", "settings", "size"),
    [
        ("small_cnn", {"widths": [8]}, [20, 16]),
        ("timm", {"model": "resnet10t"}, [32, 32]),
        ("monai3d", {"network": "resnet10", "widen": 0.125, "stem_pool": False}, [12, 24, 20]),
    ],
)
def test_encoders_read_what_the_adapter_says(encoder, settings, size):
    adapter = Image(ImageSource(reader="image"), ImageSettings(size=size, channels="colour"))
    tower = build_encoder(encoder, adapter.input_shape, settings).eval()
    x = torch.rand((2, *adapter.prepared_shape), device="cpu")
    views = adapter.augment(x, adapter.Augment(), row_generator())
    encoded = tower(views)
    assert encoded.features.shape == (2, tower.width)
    assert encoded.tokens.shape[1] == np.prod(tower.grid)
    assert torch.isfinite(encoded.features).all()
