"""Rows of like length, cut to the longest, are encoded as they are whole."""

from __future__ import annotations

import itertools
from contextlib import nullcontext
from dataclasses import replace

import numpy as np
import pytest
import torch
from made_batches import batch_of, charged
from torch._dynamo.utils import counters

from medmcl.core.batch import InputShape
from medmcl.core.rng import RowGenerator, torch_generator
from medmcl.data.loading.views import with_lengths
from medmcl.encoders import Towers
from medmcl.encoders.by_length import encode_by_length, groups_by_length
from medmcl.engine.compiling import compile_blocks
from medmcl.engine.gradient_cache import accumulate, encode_in_parts
from medmcl.modalities.codes.adapter import Codes
from medmcl.modalities.codes.settings import CodesAugment, CodesSettings
from medmcl.modalities.text.adapter import Text
from medmcl.modalities.text.settings import TextAugment, TextSettings

FIELDS = ("pooled", "features", "tokens", "padding")
LENGTHS = np.array([3, 7, 1, 3, 5, 7, 2])
TEXT = InputShape(kind="text", shape=(7,), vocabulary=20)
CODES = InputShape(kind="codes", shape=(7, 2), vocabulary=20)


def rows_of(shape, lengths=LENGTHS):
    """Random tokens, a hole in the longest row, and padding behind each row."""
    drawn = torch.Generator(device="cpu").manual_seed(0)
    size = (len(lengths), *shape.shape)
    x = torch.randint(1, shape.vocabulary, size, generator=drawn, device="cpu")
    x[int(lengths.argmax()), 2] = 0
    for row, length in zip(x, lengths, strict=True):
        row[int(length) :] = 0
    return x


def grads(module, loss):
    module.zero_grad()
    loss.backward()
    return {name: p.grad.clone() for name, p in module.named_parameters() if p.grad is not None}


def alike(one, other, **tolerance):
    assert one.keys() == other.keys()
    for name, x in one.items():
        torch.testing.assert_close(x, other[name], **tolerance)


@pytest.mark.parametrize("most", [1, 2, 3, 4, 9])
def test_no_other_groups_of_sorted_rows_leave_less_padding(most):
    lengths = np.random.default_rng(most).integers(1, 12, 9)
    groups = groups_by_length(lengths, most)
    assert sorted(np.concatenate(groups)) == list(range(9))
    assert len(groups) == min(most, len(set(lengths)))
    ordered = np.sort(lengths)
    least = min(
        sum((b - a) * ordered[b - 1] for a, b in itertools.pairwise((0, *cuts, 9)))
        for count in range(most)
        for cuts in itertools.combinations(range(1, 9), count)
    )
    assert sum(len(rows) * lengths[rows].max() for rows in groups) == least


@pytest.mark.parametrize("name", ["text_transformer", "clip_text", "hf_text", "code_transformer"])
def test_an_encoder_makes_of_cut_rows_what_it_makes_of_each_alone(name, cases):
    encoder = cases[name].build().double().eval()
    assert encoder.takes_cut_rows
    x = rows_of(cases[name].shape)
    with torch.no_grad():
        for most in (1, 3, 9):
            found = encode_by_length(encoder, x, LENGTHS, most)
            assert torch.equal(found.padding, encoder(x).padding)
            for row, length in enumerate(LENGTHS):  # the slow way: a row without its padding
                alone = encoder(x[row : row + 1, :length])
                torch.testing.assert_close(found.features[row], alone.features[0])
                torch.testing.assert_close(found.tokens[row, :length], alone.tokens[0])
                assert not found.tokens[row, length:].any()
    for count in (1, len(x)):
        seen = [encode_by_length(encoder, x[:count], LENGTHS[:count], 3), encoder(x[:count])]
        losses = [(one.features.sin().sum() + one.tokens.square().sum()) for one in seen]
        alike(*(grads(encoder, loss) for loss in losses))
    encoder.train()  # dropout: the same seed, the same bits
    again = []
    for _ in range(2):
        torch.manual_seed(4)
        again.append(encode_by_length(encoder, x, LENGTHS, 3).features)
    assert torch.equal(*again)


def towers(dropout=0.0):
    torch.manual_seed(1)
    size = {"width": 16, "depth": 2, "heads": 2}
    encoders = {
        "text": {"name": "text_transformer", **size, "pool": "cls"},
        "codes": {"name": "code_transformer", **size, "dropout": dropout},
    }
    built = {name: {"encoder": one, "head": {"out": 4}} for name, one in encoders.items()}
    return Towers.build({"text": TEXT, "codes": CODES}, built)


def a_batch():
    """Rows that lack a modality, an empty text, one of a token, and rows that are full."""
    lengths = LENGTHS.copy()
    lengths[3] = 0
    present = {"text": [1, 1, 1, 1, 1, 0, 1], "codes": [1, 1, 0, 1, 1, 1, 1]}
    inputs = {"text": rows_of(TEXT, lengths), "codes": rows_of(CODES, LENGTHS[::-1])}
    inputs = {
        n: x * torch.tensor(present[n]).reshape(-1, *[1] * (x.ndim - 1)) for n, x in inputs.items()
    }
    adapters = {
        "text": Text(None, TextSettings(max_tokens=7)),
        "codes": Codes(None, CodesSettings()),
    }
    adapters["text"].fit(["a text"])
    return with_lengths(batch_of(inputs, present), adapters)


def seen_and_learned(own, batch, groups=3):
    own.length_groups = groups
    seen = own(batch)
    return seen, grads(own, charged(seen))


@pytest.mark.filterwarnings("ignore:The .grad attribute")  # of torch itself, as it traces
def test_towers_give_what_they_give_of_whole_rows_also_narrow_compiled_and_in_parts():
    batch = a_batch()
    assert batch.lengths["text"].tolist() == [3, 7, 1, 7, 5, 7, 2]  # an empty one is not cut
    whole = replace(batch, lengths={})
    seen, learned = seen_and_learned(towers(), whole)
    assert not seen.tokens["text"][3].any()
    compiled = towers()
    compile_blocks(compiled, "here", backend="aot_eager")
    for own, groups in ((towers(), 1), (towers(), 3), (compiled, 4)):
        cut, cut_learned = seen_and_learned(own, batch, groups)
        for field in FIELDS:
            alike(getattr(cut, field), getattr(seen, field), rtol=1e-5, atol=1e-6)
        alike(cut_learned, learned, rtol=1e-4, atol=1e-5)
    own = towers()
    own.length_groups = 3
    parts = encode_in_parts(own.eval(), batch, 3)
    alike(parts.features, own(batch).features, rtol=1e-5, atol=1e-6)
    with torch.autocast("cpu", torch.bfloat16):
        alike(own(batch).features, seen.features, rtol=0.05, atol=0.05)
    calls = []
    for module in own.towers.values():
        module.encoder.register_forward_hook(lambda _, given, __: calls.append(given[0].shape[:2]))
    own(batch)
    assert len(calls) == 6
    assert sum(a * b for a, b in calls) < 2 * 6 * 7 * 0.75  # padding is not computed


@pytest.mark.filterwarnings("ignore:The .grad attribute")
@pytest.mark.parametrize(
    ("name", "any_length"),
    [("text_transformer", True), ("clip_text", True), ("text_transformer", False)],
)
def test_blocks_are_compiled_twice_whatever_lengths_come(name, any_length, cases):
    torch._dynamo.reset()
    counters["stats"].clear()
    shape, drawn = cases[name].shape, np.random.default_rng(0)
    encoder = cases[name].build().train()
    compile_blocks(encoder, "here", backend="eager", any_length=any_length)
    sizes = set()
    encoder.register_forward_hook(lambda _, given, __: sizes.add(given[0].shape[:2]))
    for step in range(30):
        rows = 1 + (step + 4) % 9  # some steps have one row
        x = torch.ones(rows, *shape.shape, dtype=torch.int64)
        lengths = drawn.integers(1, len(x[0]) + 1, rows)
        encode_by_length(encoder, x, lengths, 3).features.sum().backward()
    assert len(sizes) > 12
    assert any(count == 1 for count, _ in sizes)
    graphs = counters["stats"]["unique_graphs"]
    assert graphs == 2 if any_length else graphs > 2


@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_a_batch_in_parts_is_replayed_with_the_same_groups(dropout):
    batch, found = a_batch(), []
    for parts in (1, 3, 3):
        own = towers(dropout)
        own.length_groups = 2
        accumulate(
            own, lambda seen: (charged(seen["plain"]), {"loss": (torch.zeros(()), 1)}),
            {"plain": batch}, parts=parts, key=(0, "step"), autocast=nullcontext,
        )  # fmt: skip
        found.append({name: p.grad for name, p in own.named_parameters()})
    alike(found[1], found[2], rtol=0, atol=0)
    if not dropout:
        alike(found[0], found[1], rtol=1e-4, atol=1e-5)


def test_nothing_that_a_view_shows_lies_beyond_the_length_of_its_row():
    drawn = RowGenerator(torch_generator(0, device="cpu"), first=0, total=3)
    texts = ["Severe effusion. No oedema of the left lung.", "Clear.", ""]
    text = Text(None, TextSettings(max_tokens=16, marks=True, min_count=1))
    text.fit(texts)
    codes = Codes(None, CodesSettings(max_events=7))
    options = {"delete": 0.5, "swap": 0.5, "sentence_shuffle": 0.5, "dropout": 0.3}
    for adapter, x, augment in (
        (text, torch.from_numpy(text.encode(texts)), TextAugment(**options)),
        (codes, rows_of(CODES, np.array([3, 1, 6])), CodesAugment(dropout=0.6, shift_days=9)),
    ):
        lengths = with_lengths(batch_of({"x": x}), {"x": adapter}).lengths["x"]
        assert 0 < lengths.min() < lengths.max() < len(adapter.padding(x)[0])
        for shown in (adapter.plain(x), adapter.augment(x, augment, drawn)):
            for row, length in zip(shown, lengths, strict=True):
                assert not row[length:].any()
