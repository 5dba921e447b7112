"""CLIP's two towers from a local file: against open_clip, and CLIP's definition by hand."""

from __future__ import annotations

import math

import pytest
import torch
from golden_numbers import case, golden
from safetensors.torch import save_file

from medmcl.core.batch import InputShape
from medmcl.core.errors import ArtefactError, ConfigError
from medmcl.encoders import Towers, build_encoder
from medmcl.encoders.weights import load_tower

GOLDEN = golden("open_clip_towers")
HEAD = {"layers": 1, "bias": False, "out": 6}
NAMES = ("gelu", "quick_gelu")


@pytest.fixture(params=(0, 1), ids=NAMES)
def number(request):
    return request.param


def state_of(number):
    return {
        k: x.clone() for k, x in case(GOLDEN, f"c{number}_state_").items() if torch.is_tensor(x)
    }


def towers(number, *, head=HEAD, length=7, rows=16, **text):
    quick = "quickgelu_" if number else ""
    vit = {"embed_dim": 16, "depth": 2, "num_heads": 2, "patch_size": 8}
    image = {"name": "timm", "model": f"vit_base_patch32_clip_{quick}224", "options": vit}
    sizes = {"width": 12, "depth": 2, "heads": 3, "activation": NAMES[number]}
    torch.manual_seed(5)
    return Towers.build(
        {
            "image": InputShape(kind="image", shape=(3, rows, rows)),
            "caption": InputShape(kind="text", shape=(length,), vocabulary=21),
        },
        {
            "image": {"encoder": image, "head": head},
            "caption": {"encoder": {"name": "clip_text", **sizes, **text}, "head": head},
        },
    ).eval()


def write(tmp_path, state):
    save_file({k: x.contiguous() for k, x in state.items()}, tmp_path / "w.safetensors")
    return tmp_path / "w.safetensors"


def ours(tokens):
    """Numbers of CLIP, padded with its 0 behind the end token 19, as this package has them."""
    behind = (tokens == 19).long().cumsum(1) - (tokens == 19).long()
    return torch.where(behind > 0, 0, tokens + 1)


def test_both_towers_give_what_open_clip_gives(tmp_path, number):
    path, model = write(tmp_path, state_of(number)), towers(number)
    for name in ("image", "caption"):
        report = load_tower(model.tower(name), path, "open_clip", head=True)
        assert report.share == 1
        assert not report.missing
        assert not report.mismatched
    given = case(GOLDEN, f"c{number}_")
    rows = {"image": given["pixels"], "caption": ours(given["tokens"])}
    for name, key in (("image", "image"), ("caption", "text")):
        tower = model.tower(name)
        found = tower.head(tower.encoder(rows[name]).features)
        torch.testing.assert_close(found, given[key], rtol=1e-5, atol=1e-5)


def test_the_other_activation_gives_other_numbers(tmp_path):
    path, model = write(tmp_path, state_of(1)), towers(0)
    given = case(GOLDEN, "c1_")
    load_tower(model.tower("caption"), path, "open_clip", head=True)
    load_tower(model.tower("image"), path, "open_clip", head=True)
    for name, rows, key in (
        ("caption", ours(given["tokens"]), "text"),
        ("image", given["pixels"], "image"),
    ):
        tower = model.tower(name)
        found = tower.head(tower.encoder(rows).features)
        assert (found - given[key]).abs().max() > 1e-3


def test_the_names_of_a_custom_text_tower_are_known(tmp_path, number):
    image = {k: x for k, x in state_of(number).items() if k.startswith("visual.")}
    text = {f"text.{k}": x for k, x in state_of(number).items() if not k.startswith("visual.")}
    model = towers(number)
    load_tower(model.tower("caption"), write(tmp_path, image | text), "open_clip", head=True)
    given = case(GOLDEN, f"c{number}_")
    tower = model.tower("caption")
    found = tower.head(tower.encoder(ours(given["tokens"])).features)
    torch.testing.assert_close(found, given["text"], rtol=1e-5, atol=1e-5)


def norm(row, weight, bias):
    mean = sum(row) / len(row)
    deviation = math.sqrt(sum((v - mean) ** 2 for v in row) / len(row) + 1e-5)
    return [(v - mean) / deviation * w + b for v, w, b in zip(row, weight, bias, strict=True)]


def linear(row, weight, bias):
    return [
        sum(a * b for a, b in zip(row, w, strict=True)) + c
        for w, c in zip(weight, bias, strict=True)
    ]


def activate(value, number):
    if number:
        return value / (1 + math.exp(-1.702 * value))
    return value * 0.5 * (1 + math.erf(value / math.sqrt(2)))


def attend(rows, weight, bias, heads):
    """Each place looks at itself and at what stands before it."""
    width = len(rows[0])
    size = width // heads
    mixed = []
    qkv = [linear(row, weight, bias) for row in rows]
    for place in range(len(rows)):
        out = []
        for head in range(heads):
            q = qkv[place][head * size : (head + 1) * size]
            scores = []
            for other in range(place + 1):
                k = qkv[other][width + head * size : width + (head + 1) * size]
                scores.append(math.exp(sum(a * b for a, b in zip(q, k, strict=True)) / size**0.5))
            for part in range(size):
                values = [qkv[o][2 * width + head * size + part] for o in range(place + 1)]
                total = sum(s * v for s, v in zip(scores, values, strict=True))
                out.append(total / sum(scores))
        mixed.append(out)
    return mixed


def by_hand(state, numbers, heads, number):
    s = {k: x.tolist() for k, x in state.items()}
    rows = [
        [
            a + b
            for a, b in zip(
                s["token_embedding.weight"][n], s["positional_embedding"][p], strict=True
            )
        ]
        for p, n in enumerate(numbers)
    ]
    for block in range(2):
        at = f"transformer.resblocks.{block}."
        normed = [norm(r, s[at + "ln_1.weight"], s[at + "ln_1.bias"]) for r in rows]
        mixed = attend(normed, s[at + "attn.in_proj_weight"], s[at + "attn.in_proj_bias"], heads)
        for row, more in zip(rows, mixed, strict=True):
            out = linear(more, s[at + "attn.out_proj.weight"], s[at + "attn.out_proj.bias"])
            row[:] = [a + b for a, b in zip(row, out, strict=True)]
        for row in rows:
            inner = norm(row, s[at + "ln_2.weight"], s[at + "ln_2.bias"])
            hidden = linear(inner, s[at + "mlp.c_fc.weight"], s[at + "mlp.c_fc.bias"])
            hidden = [activate(value, number) for value in hidden]
            out = linear(hidden, s[at + "mlp.c_proj.weight"], s[at + "mlp.c_proj.bias"])
            row[:] = [a + b for a, b in zip(row, out, strict=True)]
    end = norm(rows[-1], s["ln_final.weight"], s["ln_final.bias"])
    columns = list(zip(*s["text_projection"], strict=True))
    return linear(end, columns, [0.0] * len(columns))


def test_the_text_tower_is_clip_s_definition_as_loops(tmp_path, number):
    generator = torch.Generator(device="cpu").manual_seed(number)
    state = {
        k: torch.randn(x.shape, generator=generator, device="cpu") * 0.4
        for k, x in state_of(number).items()
    }
    model = towers(number)
    load_tower(model.tower("caption"), write(tmp_path, state), "open_clip", head=True)
    numbers = [18, 0, 3, 0, 19]  # 0 is CLIP's '!', and no padding
    x = torch.tensor([[n + 1 for n in numbers] + [0, 0]], device="cpu")
    tower = model.tower("caption")
    found = tower.head(tower.encoder(x).features)[0]
    expected = torch.tensor(by_hand(state, numbers, 3, number), device="cpu")
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


def test_nothing_behind_a_token_changes_it():
    shape = InputShape(kind="text", shape=(6,), vocabulary=30)
    torch.manual_seed(0)
    encoder = build_encoder("clip_text", shape, {"width": 16, "heads": 2, "depth": 2}).eval()
    x = torch.tensor([[5, 7, 9, 11, 29, 0]], device="cpu")
    other = torch.tensor([[5, 7, 9, 12, 13, 29]], device="cpu")
    one, two = encoder(x), encoder(other)
    torch.testing.assert_close(one.tokens[:, :3], two.tokens[:, :3])
    assert (one.tokens[:, 3] - two.tokens[:, 3]).abs().max() > 1e-3
    assert torch.equal(one.features, one.tokens[:, 4])
    assert torch.equal(two.features, two.tokens[:, 5])
    assert not one.tokens[:, 5].any()


def test_a_shorter_row_takes_the_first_positions_and_a_longer_one_is_refused(tmp_path):
    path = write(tmp_path, state_of(0))
    model = towers(0, length=5)
    report = load_tower(model.tower("caption"), path, "open_clip", head=True)
    assert report.resized == ("positions",)
    found = model.tower("caption").encoder.positions
    assert torch.equal(found, state_of(0)["positional_embedding"][:5])
    with pytest.raises(ArtefactError, match=r"positions \(7, 12\) -> \(9, 12\)"):
        load_tower(towers(0, length=9).tower("caption"), path, "open_clip")


def test_positions_of_another_image_size_are_resized_as_timm_does(tmp_path):
    from timm.layers import resample_abs_pos_embed

    model = towers(0, rows=32)
    report = load_tower(model.tower("image"), write(tmp_path, state_of(0)), "open_clip", head=True)
    assert report.resized == ("model.pos_embed",)
    old = state_of(0)["visual.positional_embedding"][None]
    expected = resample_abs_pos_embed(old, new_size=[4, 4], num_prefix_tokens=1)
    assert torch.equal(model.tower("image").encoder.model.pos_embed, expected)
    assert torch.equal(expected[:, 0], old[:, 0])


def test_weights_of_another_architecture_are_refused(tmp_path):
    path = write(tmp_path, state_of(0))
    for sizes, words in (({"depth": 3}, "not in the file"), ({"width": 24}, "of another shape")):
        with pytest.raises(ArtefactError, match="do not fit the encoder") as caught:
            load_tower(towers(0, **sizes).tower("caption"), path, "open_clip")
        assert words in str(caught.value)
    state = state_of(0)
    del state["visual.ln_pre.weight"]
    with pytest.raises(ArtefactError, match=r"norm_pre\.weight"):
        load_tower(towers(0).tower("image"), write(tmp_path, state), "open_clip")


def test_the_text_tower_of_siglip_is_not_taken_for_clip_s(tmp_path):
    path = write(tmp_path, state_of(0) | {"logit_bias": torch.zeros(1, device="cpu")})
    with pytest.raises(ArtefactError, match="SigLIP"):
        load_tower(towers(0).tower("caption"), path, "open_clip")
    load_tower(towers(0).tower("image"), path, "open_clip", head=True)


@pytest.mark.parametrize(
    "head", [None, {"out": 6}, {"layers": 1, "out": 6}, {"layers": 1, "bias": False, "out": 8}]
)
def test_a_head_that_is_not_the_projection_is_refused_with_the_one_that_is(tmp_path, head):
    path = write(tmp_path, state_of(0))
    for name, width in (("image", 16), ("caption", 12)):
        with pytest.raises(ConfigError, match="head is not the projection") as caught:
            load_tower(towers(0, head=head).tower(name), path, "open_clip", head=True)
        assert f"from {width} features: head: {{layers: 1, bias: false, out: 6}}" in str(
            caught.value
        )


def test_a_file_or_a_name_map_without_projections_is_refused(tmp_path):
    state = state_of(0)
    del state["text_projection"]
    path = write(tmp_path, state)
    with pytest.raises(ArtefactError, match="no projection"):
        load_tower(towers(0).tower("caption"), path, "open_clip", head=True)
    with pytest.raises(ConfigError, match="'timm' knows no projections"):
        load_tower(towers(0).tower("image"), path, "timm", head=True)
    with pytest.raises(ConfigError, match="did you mean 'open_clip'"):
        load_tower(towers(0).tower("image"), path, "openclip")
