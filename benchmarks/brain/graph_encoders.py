"""Time of one training step of the graph encoders: whole matrices against message passing.

``python -m benchmarks.brain.graph_encoders``; about two minutes of one idle core. Random signed graphs of
200 regions, 32 a batch, at several densities; `graph_dense` and `graph_pyg` have the same weights,
and their outputs are compared before they are timed. Each time is the median of interleaved
repeats, so that a busy machine slows all alike.
"""

from __future__ import annotations

import argparse
import time
from statistics import median
from typing import TYPE_CHECKING, Any

from benchmarks.study import Row, Study, number, table
from medmcl.core.batch import InputShape
from medmcl.encoders import build_encoder
from medmcl.modalities.graph.settings import GraphSettings

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

REGIONS, ROWS, REPEATS = 200, 32, 7
DENSITIES = (0.01, 0.05, 0.1, 0.2, 0.5, 1.0)
CONVS = ("graphconv", "gcn", "gin")


def graphs(density: float, made: torch.Generator) -> tuple[Tensor, InputShape, float]:
    """Encoder rows of random signed graphs, their shape, and milliseconds to build them."""
    import torch

    from medmcl.core.graph_rows import pack
    from medmcl.modalities.graph.build import build_graphs

    weights = torch.randn(ROWS, REGIONS, REGIONS, generator=made, device="cpu").triu(1)
    weights = (weights + weights.transpose(1, 2)).tanh()
    present = torch.ones(ROWS, REGIONS, dtype=torch.bool, device="cpu")
    settings = GraphSettings(density=density, nodes=("profile", "strength"))
    times = []
    for _ in range(3):
        began = time.perf_counter()
        x = pack(build_graphs(weights, present, settings))
        times.append(time.perf_counter() - began)
    shape = InputShape(kind="graph", shape=tuple(x.shape[1:]), channels=1)
    return x, shape, 1000 * median(times)


def step(net: nn.Module, x: Tensor) -> float:
    """Milliseconds of one forward and backward pass."""
    began = time.perf_counter()
    net(x).features.square().sum().backward()
    net.zero_grad()
    return 1000 * (time.perf_counter() - began)


def compare(conv: str, x: Tensor, shape: InputShape) -> tuple[float, float, float]:
    """Milliseconds of both paths, and how far their outputs are apart."""
    import torch

    dense, passing = (
        build_encoder(name, shape, {"conv": conv}) for name in ("graph_dense", "graph_pyg")
    )
    passing.load_state_dict(dense.state_dict())
    with torch.no_grad():
        apart = float((dense(x).features - passing(x).features).abs().max())
    step(dense, x), step(passing, x)
    times = [(step(dense, x), step(passing, x)) for _ in range(REPEATS)]
    return median(t[0] for t in times), median(t[1] for t in times), apart


def parts(rows: dict[str, Any]) -> dict[str, str]:
    columns = {
        "density": number("density", "g"),
        "edges a graph": "edges",
        "convolution": lambda row: f"`{row['conv']}`",
        "`graph_dense`": number("dense", ".0f"),
        "`graph_pyg`": number("passing", ".0f"),
        "ratio": number("ratio", ".1f"),
        "difference": number("apart", ".0e"),
    }
    return {
        "steps": table(columns, rows["steps"]),
        "build": f"{rows['build_ms']:.0f} ms",
        "brainnet": f"{rows['brainnet']['ms']:.0f} ms",
    }


def run(_: argparse.Namespace) -> dict[str, Any]:
    import torch

    torch.manual_seed(0)
    torch.set_num_threads(1)
    made = torch.Generator(device="cpu").manual_seed(0)
    steps: list[Row] = []
    found: dict[str, Any] = {"steps": steps}
    for density in DENSITIES:
        x, shape, built = graphs(density, made)
        edges = round(density * REGIONS * (REGIONS - 1) / 2)
        for conv in CONVS:
            dense, passing, apart = compare(conv, x, shape)
            times = {"dense": dense, "passing": passing, "ratio": passing / dense, "apart": apart}
            steps.append({"density": density, "edges": edges, "conv": conv, **times})
            print(steps[-1], flush=True)
        if density == 0.1:
            found["build_ms"] = built
            net = build_encoder("brainnet_cnn", shape, {})
            step(net, x)
            count = sum(p.numel() for p in net.parameters())
            found["brainnet"] = {"parameters": count, "ms": median(step(net, x) for _ in range(3))}
    return found


STUDY = Study(__file__, parts=parts, run=run)

if __name__ == "__main__":
    STUDY.main()
