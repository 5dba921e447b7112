"""Joined models: unit length first, similarities are means, absence and widths."""

import pytest
import torch
from made_batches import batch_of
from torch.nn import functional

from medmcl.core.batch import InputShape
from medmcl.core.errors import ConfigError
from medmcl.encoders.joined import Derived, Joined
from medmcl.encoders.shared.tower import SharedTower
from medmcl.encoders.towers import Towers

SHAPES = {
    name: InputShape(kind="tabular", shape=(2, 5), cardinalities=(0,) * 5, names=tuple("abcde"))
    for name in ("left", "right")
}


def towers(seed, width=6, out=4):
    torch.manual_seed(seed)
    settings = {
        name: {
            "encoder": {"name": "tabular_mlp", "hidden": 8, "width": width},
            "head": {"layers": 1, "out": out},
        }
        for name in SHAPES
    }
    return Towers.build(SHAPES, settings).eval()


def batch(rows=5):
    generator = torch.Generator(device="cpu").manual_seed(3)
    present = {"right": torch.arange(rows, device="cpu") != 1}
    x = {n: torch.randn(rows, 2, 5, generator=generator, device="cpu") for n in SHAPES}
    for one in x.values():
        one[:, 1] = 1.0
    return batch_of(x, present)


def test_concatenation_is_each_part_at_unit_length_side_by_side():
    parts = [towers(0), towers(1, width=3, out=7)]
    joined = Joined(parts, ["left", "right"], "concatenation").eval()
    with torch.no_grad():
        seen = joined(batch())
        alone = [part(batch()) for part in parts]
    for name in SHAPES:
        for space in ("features", "pooled"):
            wanted = [functional.normalize(getattr(one, space)[name], dim=1) for one in alone]
            got = getattr(seen, space)[name] * 2**0.5
            assert torch.allclose(got, torch.cat(wanted, 1), atol=1e-6)
    assert (joined.tower("left").facts.width, joined.tower("left").head.width) == (9, 11)
    cosines = [a.pooled["left"] @ a.pooled["left"].T for a in alone]
    assert torch.allclose(seen.pooled["left"] @ seen.pooled["left"].T, sum(cosines) / 2, atol=1e-6)


def test_a_stage_with_longer_features_does_not_outweigh_the_other():
    parts = [towers(0), towers(1)]
    before = Joined(parts, ["left"], "concatenation").eval()(batch()).features["left"]
    with torch.no_grad():
        last = [m for m in parts[1].tower("left").encoder.modules() if hasattr(m, "weight")][-1]
        last.weight *= 100
        if last.bias is not None:
            last.bias *= 100
    after = Joined(parts, ["left"], "concatenation").eval()(batch()).features["left"]
    assert torch.allclose(before, after, atol=1e-5)


def test_average_is_the_mean_at_unit_length_and_needs_equal_widths():
    parts = [towers(0), towers(1)]
    seen = Joined(parts, ["left"], "average").eval()(batch())
    wanted = sum(functional.normalize(p(batch()).features["left"], dim=1) for p in parts)
    assert torch.allclose(seen.features["left"], functional.normalize(wanted, dim=1), atol=1e-6)
    with pytest.raises(ConfigError, match="different widths"):
        Joined([towers(0), towers(1, width=3)], ["left"], "average")


def test_absent_rows_are_zeros():
    joined = Joined([towers(0), towers(1)], ["left", "right"], "concatenation").eval()
    seen = joined(batch())
    assert not seen.pooled["right"][1].any()
    assert not seen.features["right"][1].any()


def test_a_modality_that_a_part_lacks_is_refused_and_others_are_left_alone():
    only = Towers({"left": towers(0).tower("left")})
    with pytest.raises(ConfigError, match="right"):
        Joined([towers(0), only], ["left", "right"], "concatenation")
    assert set(Joined([towers(0), only], ["left"], "concatenation")(batch()).pooled) == {"left"}


def test_shared_towers_join_too():
    words = {"note": InputShape(kind="text", shape=(5,), vocabulary=11)}
    settings = {"width": 8, "depth": 1, "heads": 2, "experts": None, "out": 6}
    parts = []
    for seed in range(2):
        torch.manual_seed(seed)
        parts.append(SharedTower.build(words, settings).eval())
    joined = Joined(parts, ["note"], "concatenation").eval()
    tokens = torch.tensor([[2, 3, 4, 0, 0], [5, 6, 7, 8, 9]], device="cpu")
    one = batch_of({"note": tokens})
    seen = joined(one)
    assert (seen.features["note"].shape, seen.pooled["note"].shape) == ((2, 16), (2, 12))
    again = Joined(parts, ["note"], "concatenation")
    again.load_state_dict(joined.state_dict())
    assert torch.equal(again.eval()(one).pooled["note"], seen.pooled["note"])


class Doubled(torch.nn.Module):
    """Derives the features twice as long."""

    width = 6

    def forward(self, x):
        return 2 * x


@pytest.mark.parametrize("space", ["features", "pooled"])
@pytest.mark.parametrize(
    "model",
    [towers(0), Joined([towers(0), towers(1)], ["left"], "concatenation"),
     Joined([towers(0), towers(1)], ["left"], "average"), Derived(towers(0), {"left": Doubled()})],
)  # fmt: skip
def test_one_modality_alone_is_what_the_model_gives_of_it(model, space):
    alone = model.alone("left", space).eval()
    with torch.no_grad():
        own = getattr(model.eval()(batch()), space)["left"]
        assert torch.equal(alone(batch().inputs["left"]), own)
    assert not any("right" in name for name, _ in alone.named_parameters())
