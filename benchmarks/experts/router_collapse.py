"""Why entropy losses exist: text that sits on one expert, under the losses of a router alone.

    python -m benchmarks.experts.router_collapse [--steps 400]

Twelve image tokens to each text token. At the start all text is on expert 0 and images fill the
rest evenly, so that every expert has the same load and importance. Then gradient descent, on the
logits themselves or on the weight of a router whose tokens stay as they are. Nothing else is
trained, so what moves is what the losses ask for. Same seed, same numbers.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.study import Row, Study, number, table

if TYPE_CHECKING:
    import torch
    from torch import Tensor


EXPERTS, TEXTS, RATIO = 8, 32, 12
IMAGES = TEXTS * RATIO
LEAST = 3.0
"""S: experts that text is to use at least; the threshold is log S."""
SURE = 7.0
"""Logit of a token's expert at the start; of the others about 0."""
SPREAD = 1.0
"""Standard deviation of what tells the logits of one token from those of another of its sort."""
FEATURES = 16
SIGMA = 1 / EXPERTS
LOSSES = {
    "importance + load": ("importance", "load"),
    "with global": ("importance", "load", "global"),
    "with local and global": ("importance", "load", "local", "global"),
}
RATES = {"logits": 40.0, "router": 3.0}


@dataclass(frozen=True, kw_only=True)
class Seen:
    """The router after a step.

    Attributes:
        top: Share of text on the expert that most of it is on, by gates.
        first: Share of text tokens whose largest gate is of that expert.
        effective: exp(H(mean gates of text)), effective experts of text.
        unsure: exp(mean H(gates)) of text: experts a token is torn between; 1 = sure.
        importance: Importance loss.
        load: Load loss.
    """

    top: float
    first: float
    effective: float
    unsure: float
    importance: float
    load: float


def owners() -> Tensor:
    """Expert of every token at the start, text first: each expert has as many as any other."""
    import torch

    each = (TEXTS + IMAGES) // EXPERTS
    counts = torch.tensor([each - TEXTS, *[each] * (EXPERTS - 1)], device="cpu")
    images = torch.arange(EXPERTS, device="cpu").repeat_interleave(counts)
    return torch.cat([torch.zeros(TEXTS, dtype=torch.int64, device="cpu"), images])


def start(kind: str, generator: torch.Generator) -> tuple[Tensor, Callable[[], Tensor]]:
    """What is trained, and the logits it gives.

    ``router``: a token is the direction of its sort (text, or one of eight sorts of image) beside
    `FEATURES` random numbers of its own; the weight starts on both.
    """
    import torch

    own = owners()
    tokens = len(own)
    sure = SURE * torch.nn.functional.one_hot(own, EXPERTS).double()
    if kind == "logits":
        logits = (sure + SPREAD * _normal(tokens, EXPERTS, generator)).requires_grad_()
        return logits, lambda: logits
    sorts = torch.cat([own[:TEXTS] * 0 + EXPERTS, own[TEXTS:]])
    x = torch.cat([torch.nn.functional.one_hot(sorts, EXPERTS + 1).double(),
                   _normal(tokens, FEATURES, generator) / math.sqrt(FEATURES)], 1)  # fmt: skip
    of_sorts = torch.eye(EXPERTS, EXPERTS + 1, dtype=torch.float64, device="cpu")
    of_sorts[0, EXPERTS] = 1.0
    weight = torch.cat([SURE * of_sorts, SPREAD * _normal(EXPERTS, FEATURES, generator)], 1)
    weight.requires_grad_()
    return weight, lambda: x @ weight.T


def _normal(rows: int, columns: int, generator: torch.Generator) -> Tensor:
    import torch

    return torch.randn(rows, columns, generator=generator, dtype=torch.float64, device="cpu")


def values(logits: Tensor, noise: Tensor) -> dict[str, Tensor]:
    """Every loss of a router, by its name."""
    from medmcl.objectives.router import global_entropy, importance, load, local_entropy

    gates = logits.softmax(-1)
    text = gates[:TEXTS]
    return {
        "importance": importance(gates),
        "load": load(logits, logits + noise, SIGMA, 1),
        "local": local_entropy(text),
        "global": global_entropy(text, math.log(LEAST)),
    }


def look(logits: Tensor, found: dict[str, Tensor]) -> Seen:
    """What can be said of text and of balance."""
    import torch

    from medmcl.objectives.router import global_entropy, local_entropy

    text = logits.detach()[:TEXTS].softmax(-1)
    return Seen(
        top=text.mean(0).max().item(),
        first=torch.bincount(text.argmax(1)).max().item() / TEXTS,
        effective=math.exp(-global_entropy(text, None).item()),
        unsure=math.exp(local_entropy(text).item()),
        importance=found["importance"].item(),
        load=found["load"].item(),
    )


def trajectory(kind: str, charged: tuple[str, ...], steps: int, seed: int = 0) -> list[Seen]:
    """Descend the mean of the losses that are charged; the first entry is the start."""
    import torch

    generator = torch.Generator(device="cpu").manual_seed(seed)
    trained, logits = start(kind, generator)
    size = (TEXTS + IMAGES, EXPERTS)
    seen = []
    for _ in range(steps + 1):
        noise = SIGMA * _normal(*size, generator)
        now = logits()
        found = values(now, noise)
        seen.append(look(now, found))
        loss = torch.stack([found[name] for name in charged]).mean()
        (slope,) = torch.autograd.grad(loss, trained)
        with torch.no_grad():
            trained -= RATES[kind] * slope
    return seen


def draw(paths: dict[tuple[str, str], list[Seen]], out: Path) -> None:
    """Share on one expert, effective experts, and how sure a token is, step by step."""
    from medmcl.evaluation.report.pictures import COLOURS, DASHES, PAGE, canvas, style

    panels = {
        "top": "Share of text on its first expert",
        "effective": "Effective experts of text",
        "unsure": "exp(H) of a text token",
    }
    with style():
        figure, grid = canvas(PAGE, 4.4, rows=len(RATES), columns=len(panels), sharex=True)
        for row, kind in enumerate(RATES):
            for column, (field, title) in enumerate(panels.items()):
                axes = grid[row, column]
                for number, name in enumerate(LOSSES):
                    path = [getattr(one, field) for one in paths[kind, name]]
                    axes.plot(path, color=COLOURS[number], linestyle=DASHES[number], label=name)
                if field == "effective":
                    axes.axhline(LEAST, color="#222222", linewidth=0.8)
                axes.set_ylim(0, 1.05 if field == "top" else None)
                if row == 0:
                    axes.set_title(title, fontsize=8.5)
                else:
                    axes.set_xlabel("step")
            grid[row, 0].set_ylabel(f"descent on {kind}" + (" weight" if kind == "router" else ""))
        handles, labels = grid[0, 0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=len(labels))
        figure.savefig(out / "router_collapse.svg", metadata={"Date": None, "Creator": None})


def parts(rows: list[Row]) -> dict[str, str]:
    columns = {
        "descent on": "kind",
        "losses": "losses",
        "text on one expert": number("top", ".3f"),
        "effective experts of text": number("effective", ".2f"),
        "experts a text token is torn between": number("unsure", ".2f"),
        "importance": number("importance", ".1e"),
        "load": number("load", ".1e"),
    }
    return {"paths": table(columns, rows)}


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--steps", type=int, default=400)


def run(given: argparse.Namespace) -> list[Row]:
    """Start and end of every path; the figure has all of it."""
    import torch

    torch.set_num_threads(1)
    paths = {
        (kind, name): trajectory(kind, charged, given.steps)
        for kind in RATES
        for name, charged in LOSSES.items()
    }
    given.out.mkdir(parents=True, exist_ok=True)
    draw(paths, given.out)
    rows = []
    for kind in RATES:
        start = paths[kind, next(iter(LOSSES))][0]
        rows.append({"kind": kind, "losses": "the start", **asdict(start)})
        rows += [{"kind": kind, "losses": name, **asdict(paths[kind, name][-1])} for name in LOSSES]
    return rows


STUDY = Study(__file__, parts=parts, run=run, options=options)

if __name__ == "__main__":
    STUDY.main()
