"""What may be asked of encoders and objectives is declared, and what ships keeps what it says."""

import pytest

from medmcl.core.contracts import AsksForProbe, ComparesPairs, LearnsFromTeacher, TakesGroups
from medmcl.encoders import ENCODERS
from medmcl.encoders.encoded import LayerDepths, ReadsPixels, ResizesWeights, TakesVectors
from medmcl.objectives import OBJECTIVES


@pytest.mark.parametrize(
    ("protocol", "names"),
    [
        (TakesVectors, {"code_transformer"}),
        (ResizesWeights, {"timm"}),
        (ReadsPixels, {"timm"}),
        (LayerDepths, {"timm", "hf_text", "monai3d", "cine", "lookup", "snp_pathway"}),
    ],
)
def test_encoders_keep_what_they_add(protocol, names):
    assert {name for name, one in ENCODERS.items() if issubclass(one, protocol)} == names


@pytest.mark.parametrize(
    ("protocol", "names"),
    [
        (ComparesPairs, {"cross_modal", "symile", "gram", "centrobind"}),
        (TakesGroups, {"cross_modal", "in_modal"}),
    ],
)
def test_objectives_keep_what_they_add(protocol, names):
    assert {name for name, one in OBJECTIVES.items() if isinstance(one, protocol)} == names


def test_settings_of_objectives_say_what_these_ask_for():
    models = OBJECTIVES.settings.items()
    assert {n for n, one in models if isinstance(one, LearnsFromTeacher)} == {"par", "distil"}
    assert {n for n, one in models if isinstance(one, AsksForProbe)} == {"cross_modal"}
