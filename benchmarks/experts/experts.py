"""A layer of experts beside the dense MLP of equal active size, and beside one-hot dispatch.

    python -m benchmarks.experts.experts [--rounds 5] [--rows 64] [--tokens 197] [--width 384] [--experts 8]

Forward and backward pass in float32 on one thread. All layers take their turn in every round, so
that what else the machine does falls on all alike; the figure is the median over rounds of the
ratio within a round. Memory is the growth of the peak of a process of its own.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.study import ROOT, Row, Study, interval, number, table
from medmcl.encoders.shared.settings import ExpertSettings

if TYPE_CHECKING:
    from torch import Tensor

    from medmcl.encoders.shared.moe import MoE, Places

Layer = Callable[["Tensor"], "Tensor"]
SIZES = {"rounds": 5, "rows": 64, "tokens": 197, "width": 384, "experts": 8}
FACTOR = 1.05
EXPERTS = f"experts, capacity {FACTOR}"
DENSE, ONE_HOT = "dense MLP", f"one-hot dispatch, capacity {FACTOR}"


def places_of(rows: int, tokens: int) -> Places:
    import torch

    from medmcl.encoders.shared.moe import Places

    every = torch.arange(rows * tokens, device="cpu")
    return Places(
        real=every, sequence=every // tokens, sequences=rows, group=None, sizes=(len(every),)
    )


def one_hot(moe: MoE, x: Tensor) -> Tensor:
    """The same experts with the dense (tokens, experts, slots) form on both ways."""
    import torch
    from torch.nn import functional

    from medmcl.encoders.shared.experts import route, slots

    own = moe.settings
    logits = moe.router(x)
    gates = (logits + torch.randn_like(logits) * own.noise_std).softmax(-1)
    room = slots(len(x), own.k, own.capacity_factor, own.experts)
    combine = route(gates, own.k, room, own.priority).combine()
    buffers = torch.einsum("sec,sd->ecd", (combine != 0).to(x.dtype), x)
    mlps = moe.mlps
    hidden = torch.baddbmm(mlps.bias1[:, None], buffers, mlps.weight1.transpose(1, 2))
    hidden = functional.gelu(hidden, approximate="tanh")
    made = torch.baddbmm(mlps.bias2[:, None], hidden, mlps.weight2.transpose(1, 2))
    return torch.einsum("sec,ecd->sd", combine, made)


def layers(given: argparse.Namespace) -> dict[str, Layer]:
    """Layers by name, at one and the same first weights."""
    import torch

    from medmcl.core.layers import MLP
    from medmcl.encoders.shared.moe import MoE, sum_rows
    from medmcl.objectives.router import importance, load, local_entropy, z_loss

    places = places_of(given.rows, given.tokens)

    def experts(factor: float) -> MoE:
        torch.manual_seed(0)
        settings = ExpertSettings(experts=given.experts, capacity_factor=factor)
        return MoE(given.width, 4 * given.width, settings)

    dense = MLP(given.width, 4 * given.width, approximate="tanh")
    all_kept, usual = experts(float(given.experts)), experts(FACTOR)

    def with_losses(x: Tensor) -> Tensor:
        y, routing = usual(x, places)
        sums = sum_rows(routing, places, usual.settings)
        assert routing.noisy is not None
        gates = routing.logits.softmax(-1)
        noise = usual.settings.noise_std
        losses = (
            importance(gates)
            + load(routing.logits, routing.noisy, noise, 1)
            + local_entropy(gates)
            + z_loss(routing.logits)
        )
        return y + losses + 0.0 * sums["gates"].sum()

    return {
        DENSE: dense,
        "experts, nothing dropped": lambda x: all_kept(x, places)[0],
        EXPERTS: lambda x: usual(x, places)[0],
        f"experts, capacity {FACTOR}, with sums and losses": with_losses,
        ONE_HOT: lambda x: one_hot(usual, x),
    }


def step(layer: Layer, x: Tensor, weights: Tensor) -> float:
    """Processor seconds of a forward and backward pass."""
    import torch

    began = time.process_time()
    torch.manual_seed(1)
    (layer(x) * weights).sum().backward()
    return time.process_time() - began


def inputs(given: argparse.Namespace) -> tuple[Tensor, Tensor]:
    import torch

    torch.manual_seed(2)
    x = torch.randn(given.rows * given.tokens, given.width, device="cpu", requires_grad=True)
    return x, torch.randn(x.shape, device="cpu")


def timings(given: argparse.Namespace, *names: str) -> dict[str, list[float]]:
    x, weights = inputs(given)
    every = layers(given)
    every = {name: every[name] for name in names or every if name != ONE_HOT or name in names}
    seconds: dict[str, list[float]] = {name: [] for name in every}
    for turn in range(given.rounds + 1):
        for name, layer in every.items():
            taken = step(layer, x, weights)
            if turn:  # the first round warms up
                seconds[name].append(taken)
    return seconds


def high_water() -> float:
    """Peak of this process so far, MiB (Linux; that of `getrusage` is inherited)."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM"))


def peak(given: argparse.Namespace) -> float:
    """MiB by which one step raises the peak of this process."""
    x, weights = inputs(given)
    layer = layers(given)[given.layer]
    Path("/proc/self/clear_refs").write_text("5")  # forget the peak of building all layers
    before = high_water()
    step(layer, x, weights)
    return high_water() - before


def peak_of(given: argparse.Namespace, name: str) -> float:
    """`peak` of one layer, in a process of its own."""
    asked = {name: getattr(given, name) for name in SIZES} | {"layer": name}
    code = f"from benchmarks.experts.experts import *; print(peak(argparse.Namespace(**{asked})))"
    call = [sys.executable, "-c", code]
    done = subprocess.run(call, cwd=ROOT, capture_output=True, text=True, check=True)
    return float(done.stdout)


def options(parser: argparse.ArgumentParser) -> None:
    for name, value in SIZES.items():
        parser.add_argument(f"--{name}", type=int, default=value)


def parts(rows: list[Row]) -> dict[str, str]:
    columns = {
        "layer": "layer",
        "rows": "rows",
        "CPU s": number("seconds", ".2f"),
        "over dense (min to max)": interval("ratio", 2),
        "MiB": number("mib", ".0f"),
    }
    return {"layers": table(columns, rows)}


def run(given: argparse.Namespace) -> list[Row]:
    import torch

    torch.set_num_threads(1)
    rows = [*told(given, timings(given))]
    for count in (given.rows // 8, given.rows // 4):  # it grows with the square of the tokens
        fewer = argparse.Namespace(**{**vars(given), "rows": count, "rounds": 2})
        rows += told(fewer, timings(fewer, DENSE, EXPERTS, ONE_HOT))
    return rows


def told(given: argparse.Namespace, seconds: dict[str, list[float]]) -> Iterator[Row]:
    """A row a layer: median of seconds, ratio to the dense one with its range, memory."""
    for name, taken in seconds.items():
        ratios = [mine / theirs for mine, theirs in zip(taken, seconds[DENSE], strict=True)]
        row = {
            "layer": name,
            "rows": given.rows,
            "seconds": statistics.median(taken),
            "ratio": statistics.median(ratios),
            "low": min(ratios),
            "high": max(ratios),
            "mib": peak_of(given, name),
        }
        print(row, flush=True)
        yield row


STUDY = Study(__file__, parts=parts, run=run, options=options)

if __name__ == "__main__":
    STUDY.main()
