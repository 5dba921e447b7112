"""Does text collapse in a shared tower with experts, and what do entropies and priority change?

    python -m benchmarks.experts.limoe_collapse WORK [--seeds 3] [--steps 300]
        [--workers 1] [--minutes M] [--experts N ...] [--sets NAME ...]

Image tokens to a text token (4, 16, 32) x experts (4, 8, 16) x what is charged x seeds. The tower
is ``tiny`` (width 64, 4 blocks, experts in 2, MLP ratio 2), trained from scratch on pictures of one
shape, 32 x 32 pixels, and captions that name all of it. Each run is one line of
WORK/limoe_collapse.jsonl; runs that are there are not made again, so the command goes on where it
stopped, and a sweep cut short is a sweep of fewer seeds.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.experts.limoe_collapse_page import draw, frame, parts, summed
from benchmarks.study import Study
from medmcl.core.batch import Batch, Embeddings, InputShape
from medmcl.engine.optimiser import OptimiserSettings, build_optimiser, rate_at, set_rate
from medmcl.evaluation.aspects.retrieval.measure import ranks, recall_at_k
from medmcl.objectives import build_objective

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from medmcl.engine.loop import Learner

SIDE, BATCH, LAST = 32, 64, 50
RATIOS = {4: (8, 4), 16: (4, 4), 32: (4, 2)}
"""Image tokens to a text token: edge of a patch, words of a caption."""
EXPERTS = (4, 8, 16)
CLASSIC = {"importance": True, "load": True, "z": False, "local": (), "min_experts": {}}
ENTROPIES = {"importance": True, "load": True, "z": False, "local": ("text",)}
SETS: dict[str, tuple[Mapping[str, Any] | None, Mapping[str, Any]]] = {
    "none": (None, {"priority": False}),
    "classic": (CLASSIC, {"priority": False}),
    "classic + BPR": (CLASSIC, {"priority": True}),
    "classic + entropies": (ENTROPIES, {"priority": False}),
    "classic + entropies + BPR": (ENTROPIES, {"priority": True}),
    "bias + BPR": (None, {"priority": True, "bias_rate": 1e-3}),
}
"""What is charged, and how tokens are routed; the last set only if it is asked for."""
USUAL = tuple(SETS)[:5]
WEIGHT = 0.04
SPIKE, SETTLED = 10.0, 20
"""A gradient norm over so many times the median so far is a spike, from this step on."""
FACTORS = {"colour": 6, "shape": 4, "place": 4, "radius": 2}
COLOURS = ((0.9, 0.1, 0.1), (0.1, 0.7, 0.2), (0.2, 0.3, 0.9), (0.9, 0.9, 0.1), (0.6, 0.1, 0.7),
           (0.1, 0.8, 0.9))  # fmt: skip


@dataclass(frozen=True)
class Cell:
    """One run."""

    ratio: int
    experts: int
    losses: str
    seed: int
    steps: int


def cells(options: argparse.Namespace) -> Iterator[Cell]:
    """All runs, seed by seed."""
    for seed in range(options.seeds):
        for ratio in RATIOS:
            for experts in options.experts:
                for losses in options.sets:
                    yield Cell(ratio, experts, losses, seed, options.steps)


def values_of(rows: Tensor) -> dict[str, Tensor]:
    """Factor to its value in pictures with these numbers."""
    found = {}
    for name, count in FACTORS.items():
        found[name] = rows % count
        rows = rows // count
    return found


def pictures(values: Mapping[str, Tensor], generator: torch.Generator) -> Tensor:
    """A shape at one of four places, on grey, shifted and noisy, (B, 3, SIDE, SIDE)."""
    import torch

    rows = len(values["shape"])
    shift = torch.rand(2, rows, generator=generator, device="cpu") * 4 - 2
    middle = torch.stack([values["place"] % 2, values["place"] // 2]) * 15.0 + 8.0 + shift
    axis = torch.arange(SIDE, device="cpu")
    x = axis[None, None] - middle[0][:, None, None]
    y = axis[None, :, None] - middle[1][:, None, None]
    radius = torch.tensor([3.5, 6.0], device="cpu")[values["radius"]][:, None, None]
    ax, ay = x.abs(), y.abs()
    inside = torch.stack([
        x.square() + y.square() < radius.square(),
        torch.maximum(ax, ay) < 0.85 * radius,
        (y < 0.8 * radius) & (y > 2 * ax - radius),
        (torch.minimum(ax, ay) < 0.3 * radius) & (torch.maximum(ax, ay) < radius),
    ])  # fmt: skip
    every = torch.arange(rows, device="cpu")
    shown = inside[values["shape"], every][:, None]
    colour = torch.tensor(COLOURS, device="cpu")[values["colour"]][:, :, None, None]
    noise = torch.randn(rows, 3, SIDE, SIDE, generator=generator, device="cpu")
    return torch.where(shown, colour, 0.5) - 0.5 + 0.1 * noise


def captions(values: Mapping[str, Tensor], words: int) -> Tensor:
    """Four words, or the same in two compound ones; (B, words), from 1."""
    import torch

    parts, first = [], 1
    names = list(FACTORS)
    each = len(names) // words
    for begin in range(0, len(names), each):
        number, size = 0, 1
        for name in names[begin : begin + each]:
            number = number + values[name] * size
            size *= FACTORS[name]
        parts.append(number + first)
        first += size
    return torch.stack(parts, 1)


def batch_of(rows: Tensor, words: int, generator: torch.Generator) -> Batch:
    import torch

    values = values_of(rows)
    inputs = {"image": pictures(values, generator), "text": captions(values, words)}
    present = {name: torch.ones(len(rows), dtype=torch.bool, device="cpu") for name in inputs}
    return Batch(ids=rows, inputs=inputs, present=present)


def learner_of(cell: Cell) -> Learner:
    import torch

    from medmcl.encoders.shared.tower import SharedTower
    from medmcl.engine.loop import Learner

    patch, words = RATIOS[cell.ratio]
    losses, routing = SETS[cell.losses]
    inputs = {
        "image": InputShape(kind="image", shape=(3, SIDE, SIDE)),
        "text": InputShape(kind="text", shape=(words,), vocabulary=64),
    }
    torch.manual_seed(cell.seed)
    tower = SharedTower.build(
        inputs,
        {"size": "tiny", "mlp_ratio": 2.0, "input_projections": {"image": {"patch": patch}},
         "experts": {"experts": cell.experts, "capacity_factor": 1.05, **routing}},
    )  # fmt: skip
    shape = tower.shape(inputs)
    align = {"view": "plain", "scale": {"init": 10.0, "learned": True}}
    objectives = {"align": build_objective("cross_modal", align, shape)}
    if losses is not None:
        objectives["router"] = build_objective("router", {"view": "plain", **losses}, shape)
    return Learner(tower, objectives, {"align": 1.0, "router": WEIGHT})


@dataclass
class Sums:
    """What the routers did with one modality over some steps, one row a layer."""

    first: Tensor
    gates: Tensor
    entropy: Tensor
    kept: Tensor
    tokens: Tensor

    @classmethod
    def of(cls, seen: Embeddings, name: str) -> Sums:
        """Sum over the rows of a batch."""
        from medmcl.core.router_stats import RouterSums

        sums = RouterSums.read(seen.stats, name)
        assert sums is not None
        return cls(**{f: getattr(sums, f).detach().sum(0) for f in cls.__annotations__})

    def __add__(self, other: Sums) -> Sums:
        return Sums(**{f: getattr(self, f) + getattr(other, f) for f in self.__annotations__})

    def told(self) -> dict[str, list[float]]:
        """Layer by layer."""
        from medmcl.core.router_stats import entropy

        share = self.first / self.tokens
        return {
            "processed": (self.kept / self.tokens)[:, 0].tolist(),
            "experts_over_1_percent": (share >= 0.01).sum(1).tolist(),
            "top_expert": share.max(1).values.tolist(),
            "effective": entropy(self.gates / self.tokens).exp().tolist(),
            "unsure": (self.entropy / self.tokens)[:, 0].exp().tolist(),
        }


def run_cell(cell: Cell) -> dict[str, Any]:
    """Train one tower; what its routers did in the last steps, and how well it retrieves."""
    import torch

    from medmcl.engine.distributed import charge
    from medmcl.engine.post_step_hooks import move
    from medmcl.engine.world import World

    torch.set_num_threads(1)
    began = time.process_time()
    own, world = learner_of(cell), World()
    words = RATIOS[cell.ratio][1]
    settings = OptimiserSettings(lr=5e-3, weight_decay=0.05, warmup=0.1)
    optimiser = build_optimiser(own, settings, {})
    generator = torch.Generator(device="cpu").manual_seed(1000 + cell.seed)
    everything = math.prod(FACTORS.values())
    norms: list[float] = []
    broken, spikes = 0, 0
    sums: dict[str, Sums] = {}
    own.train()
    for step in range(cell.steps):
        rows = torch.randperm(everything, generator=generator, device="cpu")[:BATCH]
        batch = batch_of(rows, words, generator)
        set_rate(optimiser, rate_at(step, cell.steps, settings))
        optimiser.zero_grad(set_to_none=True)
        seen = own.encode({"plain": batch})
        loss, _ = charge(own.charged, seen, batch, world)
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(own.parameters(), math.inf).item()
        taken = math.isfinite(loss.item()) and math.isfinite(norm)
        if taken:
            optimiser.step()
            if step >= SETTLED and norm > SPIKE * statistics.median(norms):
                spikes += 1
            norms.append(norm)
        broken += not taken
        move(own, world, taken=taken)
        if step >= cell.steps - LAST:
            now = {name: Sums.of(seen["plain"], name) for name in ("image", "text")}
            sums = {n: sums[n] + one if sums else one for n, one in now.items()}
    found = {name: one.told() for name, one in sums.items()}
    return {
        "cell": asdict(cell),
        **found,
        "recall": retrieved(own, words),
        "spikes": spikes,
        "broken_steps": broken,
        "seconds": time.process_time() - began,
    }


def retrieved(own: Learner, words: int) -> float:
    """R@1, image to text, over new pictures of everything there is: as many captions, all apart."""
    import torch

    generator = torch.Generator(device="cpu").manual_seed(77)
    rows = torch.arange(math.prod(FACTORS.values()), device="cpu")
    own.eval()
    with torch.no_grad():
        pooled = own.model(batch_of(rows, words, generator)).pooled
    return recall_at_k(ranks(pooled["image"].numpy(), pooled["text"].numpy()), 1)


def key(cell: Mapping[str, Any]) -> str:
    return json.dumps(dict(cell), sort_keys=True)


def read(path: Path) -> dict[str, dict[str, Any]]:
    """Runs that are there, by their cell; a line that was cut off is made again."""
    done = {}
    for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else ():
        try:
            one = json.loads(line)
        except json.JSONDecodeError:
            continue
        done[key(one["cell"])] = one
    return done


def sweep(options: argparse.Namespace, path: Path) -> None:
    """Make the runs that are missing, until the minutes are over."""
    done = read(path)
    left = [cell for cell in cells(options) if key(asdict(cell)) not in done]
    whole = "".join(json.dumps(one) + "\n" for one in done.values())
    path.write_text(whole, encoding="utf-8")  # without a line that was cut off
    print(f"{len(done)} runs are there, {len(left)} to make", flush=True)
    ends = time.monotonic() + 60 * options.minutes
    with ProcessPoolExecutor(options.workers) as pool, path.open("a", encoding="utf-8") as file:
        coming = {pool.submit(run_cell, cell): cell for cell in left[: options.workers]}
        waiting = iter(left[options.workers :])
        while coming:
            ready = next(as_completed(coming))
            del coming[ready]
            one = ready.result()
            file.write(json.dumps(one) + "\n")
            file.flush()
            print(f"{key(one['cell'])}  R@1 {one['recall']:.2f}  text processed "
                  f"{[round(x, 2) for x in one['text']['processed']]}  "
                  f"{one['seconds']:.0f} s", flush=True)  # fmt: skip
            cell = next(waiting, None) if time.monotonic() < ends else None
            if cell is not None:
                coming[pool.submit(run_cell, cell)] = cell


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("work", type=Path)
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--experts", type=int, nargs="+", default=EXPERTS)
    parser.add_argument("--minutes", type=float, default=math.inf)
    parser.add_argument("--sets", nargs="+", choices=SETS, default=USUAL)


def run(given: argparse.Namespace) -> dict[str, Any] | None:
    """Make the runs that are missing, draw all, and sum them up."""
    given.work.mkdir(parents=True, exist_ok=True)
    path = given.work / "limoe_collapse.jsonl"
    sweep(given, path)
    runs = list(read(path).values())
    if not runs:
        return None
    given.out.mkdir(parents=True, exist_ok=True)
    draw(frame(runs), given.out / "limoe_collapse.svg")
    return summed(runs)


STUDY = Study(__file__, parts=parts, run=run, options=options, seeds=3)

if __name__ == "__main__":
    STUDY.main()
