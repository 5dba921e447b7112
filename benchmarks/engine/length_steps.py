"""Steps over texts and codes of real lengths: padded, in groups of like length, packed, by torch.

What `benchmarks.engine.lengths` times; it is read apart, since pages are written without torch.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn
from torch.nn import functional

from benchmarks.engine.lengths import CASES, WAYS
from benchmarks.study import Row
from medmcl.core.batch import Batch, InputShape
from medmcl.encoders import Towers
from medmcl.encoders.by_length import groups_by_length
from medmcl.modalities.text.adapter import Text
from medmcl.modalities.text.settings import TextSettings, TextSource
from medmcl.stages.recipe.file import read_recipe

TURNS, WARM, BATCHES = 3, 1, 50
Step = Callable[[], Tensor]
Lengths = dict[str, tuple[int, np.ndarray]]
"""Modality to its places in the recipe, and the lengths of real records, none longer."""


def lengths_of(data: Path) -> Lengths:
    """Modality of a case to its places in the recipe, and the lengths of real records, at most so."""
    reports = pd.read_csv(data / "ptbxl/ptbxl_database.csv")["report"]
    notes = pd.read_json(data / "synthea_notes/notes.jsonl.gz", lines=True).sort_values("date")
    images = pd.read_csv(data / "covid_cxr/metadata.csv")["clinical_notes"]
    texts = {
        "report": ("ecg_text", reports),
        "notes": ("ehr_contrastive", notes.groupby("patient_id").tail(1)["text"]),
        "caption": ("clip", images),
    }
    found = {}
    for name, (recipe, raws) in texts.items():
        settings = TextSettings(**read_recipe(recipe).inputs[name])
        adapter, rows = Text(TextSource(), settings), [x for x in raws.dropna() if x.strip()]
        adapter.fit(rows)
        counts = (adapter.encode(rows) != adapter.tokens.pad).sum(1)
        found[name] = (settings.max_tokens, counts)
    kinds = ("conditions", "medications", "procedures", "observations")
    tables = (pd.read_csv(data / f"synthea/{kind}.csv.gz") for kind in kinds)
    events = pd.concat([one["patient_id"] for one in tables]).value_counts().to_numpy()
    most = read_recipe("ehr_contrastive").inputs["codes"]["max_events"]
    return {**found, "codes": (most, np.minimum(events, most))}


def shares(known: Lengths) -> list[Row]:
    """Padding of batches of the recipe's size, and what is left of it."""
    rows, drawn = [], np.random.default_rng(0)
    for case, (recipe, names, _) in CASES.items():
        if len(names) > 1:
            continue
        most, every = known[names[0]]
        stage: Any = read_recipe(recipe).stages[0]
        size = min(stage.batch_size, len(every))
        seen = []
        for _ in range(BATCHES):
            batch = drawn.choice(every, size, replace=False)
            cut = [
                sum(len(group) * batch[group].max() for group in groups_by_length(batch, groups))
                for groups in (1, 4, 8)
            ]
            seen.append([1 - batch.sum() / places for places in (most * size, *cut)])
        recipe_, trimmed, four, eight = np.mean(seen, 0).tolist()
        rows.append({"case": case, "recipe": recipe, "records": len(every), "places": most,
                     "mean": float(every.mean()), "batch": size, "padding": recipe_,
                     "trimmed": trimmed, "four": four, "eight": eight})  # fmt: skip
    return rows


def packed(encoder: Any, x: Tensor, lengths: np.ndarray) -> Tensor:
    """What a transformer of texts or codes gives of rows without padding: attention by row."""
    real = torch.from_numpy(np.arange(x.shape[1]) < lengths[:, None])
    places = real.flatten().nonzero()[:, 0]
    flat = x.flatten(0, 1)[places]
    if x.ndim == 2:
        tokens = encoder.embed(flat) + encoder.positions[places % x.shape[1]]
    else:
        angles = flat[:, 1:].float() * encoder.frequencies
        tokens = encoder.embed(flat[:, 0]) + encoder.time(
            torch.cat([angles.sin(), angles.cos()], 1)
        )
    for block in encoder.blocks:
        heads, mixed = block.attn.heads, []
        for row in block.attn.qkv(block.norm1(tokens)).split(lengths.tolist()):
            one = row.reshape(1, len(row), 3, heads, -1).permute(2, 0, 3, 1, 4)
            mixed.append(
                functional.scaled_dot_product_attention(*one).transpose(1, 2).reshape(len(row), -1)
            )
        tokens = tokens + block.attn.proj(torch.cat(mixed))
        tokens = tokens + block.mlp(block.norm2(tokens))
    whose = torch.from_numpy(np.repeat(np.arange(len(x)), lengths))
    sums = tokens.new_zeros(len(x), tokens.shape[1]).index_add(0, whose, tokens)
    return encoder.norm(sums / torch.from_numpy(lengths)[:, None])


class Plain(nn.Module):
    """The same sizes by torch's own layers: rows as they are, padding masked."""

    def __init__(self, encoder: Any) -> None:
        super().__init__()
        block, width = encoder.blocks[0], encoder.width
        self.embed = nn.Embedding(*encoder.embed.weight.shape)
        self.positions = nn.Parameter(0.02 * torch.randn(*encoder.grid, width))
        layer = nn.TransformerEncoderLayer(
            width, block.attn.heads, block.mlp.fc1.out_features, dropout=0.0,
            activation="gelu", batch_first=True, norm_first=True,
        )  # fmt: skip
        self.blocks = nn.TransformerEncoder(
            layer, len(encoder.blocks), nn.LayerNorm(width), enable_nested_tensor=False
        )

    def forward(self, x: Tensor) -> Tensor:
        """Encode token numbers (B, T), or (B, T, 2) with days that are not read."""
        numbers = x if x.ndim == 2 else x[..., 0]
        padding = numbers == 0
        tokens = self.blocks(self.embed(numbers) + self.positions, src_key_padding_mask=padding)
        real = (~padding)[..., None]
        return (tokens * real).sum(1) / real.sum(1)


def batch_of(case: str, known: Lengths) -> tuple[Batch, dict[str, InputShape]]:
    """Drawn tokens in rows as long as real ones; ECGs are noise."""
    recipe, names, count = CASES[case]
    given, drawn = read_recipe(recipe), np.random.default_rng(0)
    shapes, inputs, lengths = {}, {}, {}
    for name in names:
        if name not in known:
            shapes[name] = InputShape(kind="ecg", shape=(12, 1000))
            inputs[name] = torch.randn(count, 12, 1000)
            continue
        most, every = known[name]
        kind, shape = ("codes", (most, 2)) if name == "codes" else ("text", (most,))
        words = int(given.inputs[name]["vocabulary"])
        shapes[name] = InputShape(kind=kind, shape=shape, vocabulary=words)
        lengths[name] = torch.from_numpy(drawn.choice(every, count))
        inputs[name] = torch.randint(1, words, (count, *shape))
        for row, length in zip(inputs[name], lengths[name], strict=True):
            row[int(length) :] = 0
    present = {name: torch.ones(count, dtype=torch.bool) for name in names}
    batch = Batch(ids=torch.arange(count), inputs=inputs, present=present, lengths=lengths)
    return batch, shapes


def step_of(case: str, batch: Batch, shapes: dict[str, InputShape], way: dict[str, Any]) -> Step:
    """A step of a way, with weights of its own; it gives the features of the first tower."""
    recipe, names, _ = CASES[case]
    settings = {name: read_recipe(recipe).towers[name] for name in names}
    for one in settings.values():
        one["encoder"].pop("dropout", None)  # else ways would draw other numbers
    torch.manual_seed(0)
    towers = Towers.build(shapes, settings)
    towers.length_groups = way.get("groups", 1)
    shown = batch if "groups" in way else replace(batch, lengths={})
    first: Any = towers.tower(names[0])
    x, lengths = batch.inputs[names[0]], batch.lengths.get(names[0])
    by_torch = Plain(first.encoder) if "plain" in way else None
    optimiser = torch.optim.AdamW([*towers.parameters(), *(by_torch or nn.Module()).parameters()])

    def step() -> Tensor:
        optimiser.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=way.get("narrow", False)):
            if by_torch is not None or "packed" in way:
                features = by_torch(x) if by_torch else packed(first.encoder, x, lengths.numpy())
                points = [first.project(features)]
            else:
                seen = towers(shown)
                features, points = seen.features[names[0]], list(seen.pooled.values())
        scores = 10 * points[0] @ points[-1].T
        functional.cross_entropy(scores, batch.ids).backward()
        optimiser.step()
        return features.detach()

    return step


def in_turn(case: str, known: Lengths) -> list[Row]:
    """Let all ways of a case step in turn; the first is what the others are set beside."""
    batch, shapes = batch_of(case, known)
    alone = len(shapes) == 1 and case != "notes on images"  # of two kinds of blocks
    ways = {n: w for n, w in WAYS.items() if alone or not w.keys() & {"plain", "packed"}}
    steps = {name: step_of(case, batch, shapes, way) for name, way in ways.items()}
    seen: list[dict[str, float]] = []
    features: dict[str, Tensor] = {}
    for turn in range(WARM + TURNS):
        seen.append({})
        for name, step in steps.items():
            began = time.process_time()
            found = step()
            seen[-1][name] = time.process_time() - began
            if not turn:
                features[name] = found
    first, tokens = next(iter(steps)), int(sum(x.sum() for x in batch.lengths.values()))
    rows = []
    for name, way in ways.items():
        ratios = [turn[first] / turn[name] for turn in seen[WARM:]]
        seconds = statistics.median(turn[name] for turn in seen[WARM:])
        rows.append({
            "case": case, "way": name, "rows": len(batch), "tokens": tokens, "seconds": seconds,
            "rate": tokens / seconds, "times": statistics.median(ratios), "least": min(ratios),
            "most": max(ratios), "apart": None if "plain" in way else
            float((features[name].float() - features[first]).abs().max()),
        })  # fmt: skip
    return rows
