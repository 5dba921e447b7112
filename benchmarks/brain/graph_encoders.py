"""Time of one training step of the graph encoders: whole matrices against message passing.

``python -m benchmarks.brain.graph_encoders``; about two minutes of one idle core. Random signed graphs of
200 regions, 32 a batch, at several densities; `graph_dense` and `graph_pyg` have the same weights,
and their outputs are compared before they are timed. Each time is the median of interleaved
repeats, so that a busy machine slows all alike. Printed is the page ``graph_encoders.md``.
"""

from __future__ import annotations

import platform
import sys
import time
from importlib.metadata import version
from statistics import median
from typing import TYPE_CHECKING

from medmcl.core.batch import InputShape
from medmcl.encoders import build_encoder
from medmcl.modalities.graph.settings import GraphSettings

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

REGIONS, ROWS, REPEATS = 200, 32, 7
DENSITIES = (0.01, 0.05, 0.1, 0.2, 0.5, 1.0)
CONVS = ("graphconv", "gcn", "gin")
PAGE = """# Graph encoders: whole matrices, or messages along edges

Made by `python -m benchmarks.brain.graph_encoders`: milliseconds of one forward and backward pass, median
of {repeats} interleaved repeats; {rows} graphs of {regions} regions, features: the row of the
matrix and 2 strengths, width 64, depth 2. {machine}; torch-geometric {pyg} without its compiled
extensions. *Ratio*: `graph_pyg` over `graph_dense`. *Difference*: the largest between the outputs
of both with the same weights, in float32.

| density | edges a graph | convolution | `graph_dense` | `graph_pyg` | ratio | difference |
|---|---|---|---|---|---|---|
{lines}

Beside them: building a batch of graphs (threshold and features, without gradient) takes
{prepare:.0f} ms at density .1; `brainnet_cnn` ({brainnet} parameters, 16 channels)
{cnn:.0f} ms a step at any density.

The time of whole matrices does not depend on the density, that of messages grows with the number of
edges. Below a density of about .05 both cost the same; above it, as brain graphs are, whole
matrices are faster, the more so the denser the graphs. The machine was shared: single times are
noisy, the ratios of one run are less so. Nothing was measured on a GPU.
"""


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


def main() -> int:
    import torch

    torch.manual_seed(0)
    torch.set_num_threads(1)
    made = torch.Generator(device="cpu").manual_seed(0)
    lines, prepare, cnn, count = [], 0.0, 0.0, 0
    for density in DENSITIES:
        x, shape, built = graphs(density, made)
        edges = round(density * REGIONS * (REGIONS - 1) / 2)
        for conv in CONVS:
            dense, passing, apart = compare(conv, x, shape)
            lines.append(
                f"| {density:g} | {edges:,} | `{conv}` | {dense:.0f} | {passing:.0f} "
                f"| {passing / dense:.1f} | {apart:.0e} |"
            )
            print(lines[-1], file=sys.stderr)
        if density == 0.1:
            prepare = built
            net = build_encoder("brainnet_cnn", shape, {})
            count = sum(p.numel() for p in net.parameters())
            step(net, x)
            cnn = median(step(net, x) for _ in range(3))
    machine = f"One thread of a {platform.machine()} CPU, torch {torch.__version__}"
    print(
        PAGE.format(
            repeats=REPEATS, rows=ROWS, regions=REGIONS, machine=machine, lines="\n".join(lines),
            pyg=version("torch-geometric"), prepare=prepare, brainnet=f"{count:,}", cnn=cnn,
        )
    )  # fmt: skip
    return 0


if __name__ == "__main__":
    sys.exit(main())
