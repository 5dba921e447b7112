"""Processor time of negCLIPLoss and NormSim beside the rate of the machine's matrix product.

    python -m benchmarks.selection.selection_speed [--rounds 5] [--million FOLDER] [--million-batch 4096]

One thread. negCLIPLoss: N = 16,384, D = 512, B = 4,096, one division, which is 2 N B D operations
of products; the rate it reaches is given as a share of that of the bare product (B, D) x (D, B).
Both are timed in turn, round by round; the median of the rounds' shares counts, and the least.
Three temperatures: two at which the guarded fast way holds, and one so cold that its guard refuses
and the exact way is taken. NormSim with p = 2 against 10,000 target rows: by the second moment, and
by its definition. ``--million`` writes two pools of a million rows there (float16, 2 GB, removed
afterwards), and scores them memory-mapped while the anonymous memory of the process is watched.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

os.environ.update(
    dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
)

import argparse
import statistics
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from benchmarks.study import Row, Study, grid, number, percent, table

if TYPE_CHECKING:
    from torch import Tensor


N, D, B, TARGET = 16_384, 512, 4_096, 10_000
MILLION = 1_000_000
POOLS = {
    "guarded fast way, t = 0.07": (0.07, False, 0.7),
    "guarded fast way, t = 0.01": (0.01, False, 0.7),
    "exact fallback, t = 0.001": (0.001, True, 0.4),
}


def pairs(rows: int, seed: int) -> tuple[Tensor, Tensor]:
    """Pairs of unit rows whose cosine is about 0.4."""
    import torch
    from torch.nn import functional

    generator = torch.Generator().manual_seed(seed)
    image = functional.normalize(torch.randn(rows, D, generator=generator), dim=1)
    noise = functional.normalize(torch.randn(rows, D, generator=generator), dim=1)
    return image, functional.normalize(image + 2.3 * noise, dim=1)


def seconds(work: Callable[[], object]) -> float:
    began = time.process_time()
    work()
    return time.process_time() - began


def refused(image: Tensor, text: Tensor, temperature: float) -> bool:
    """Whether the guard refuses a batch of this pool."""
    from medmcl.selection.pools import LogSums

    sums = LogSums(1 / temperature)
    sums(image[:B] / temperature, text[:B])
    return sums.exact


def neg_clip_rows(rounds: int) -> dict[str, Any]:
    import torch

    from medmcl.selection import neg_clip_loss

    image, text = pairs(N, 0)
    order = torch.randperm(N, generator=torch.Generator().manual_seed(0))
    left, right = image[:B].clone(), text[:B].clone()
    for name, (temperature, exact, _) in POOLS.items():
        assert refused(image, text, temperature) == exact, name
    products: list[float] = []
    taken: dict[str, list[float]] = {name: [] for name in POOLS}
    for turn in range(rounds + 1):
        rate = 2 * B * B * D / seconds(lambda: left @ right.T)
        for name, (temperature, _, _) in POOLS.items():
            took = seconds(
                lambda temperature=temperature: neg_clip_loss(image, text, temperature, B, order)
            )
            rate_after = 2 * B * B * D / seconds(lambda: left @ right.T)
            if turn:  # the first round warms up
                products.append((rate + rate_after) / 2)
                taken[name].append(took)
            rate = rate_after
    rows = []
    for at, (name, times) in enumerate(taken.items()):
        beside = products[at :: len(POOLS)]
        shares = [2 * N * B * D / t / rate for t, rate in zip(times, beside, strict=True)]
        taken_s, share = statistics.median(times), statistics.median(shares)
        rows.append({"pool": name, "seconds": taken_s, "median": share, "least": min(shares)})
    rate = (statistics.median(products), min(products), max(products))
    product = {key: one / 1e9 for key, one in zip(("median", "low", "high"), rate, strict=True)}
    return {"product": product, "neg_clip": rows}


def norm_sim_rows(rounds: int) -> Row:
    from medmcl.selection import norm_sim
    from medmcl.selection.pools import Pool
    from medmcl.selection.target_scores import direct_norm

    pool, target = pairs(N, 1)[0], pairs(TARGET, 2)[0]
    times: list[tuple[float, float]] = []
    for _ in range(rounds):
        moment = seconds(lambda: norm_sim(pool, target, 2))
        direct = seconds(lambda: direct_norm(Pool(pool, "pool"), Pool(target, "target"), 2))
        times.append((moment, direct))
    apart = norm_sim(pool, target, 2) - direct_norm(Pool(pool, "a"), Pool(target, "b"), 2)
    moment, direct = (statistics.median(column) for column in zip(*times, strict=True))
    ratios = [slow / quick for quick, slow in times]
    return {
        "moment": moment,
        "definition": direct,
        "ratio": statistics.median(ratios),
        "least": min(ratios),
        "apart": apart.abs().max().item(),
    }


def anonymous() -> int:
    """Anonymous memory of this process now, bytes (Linux)."""
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("RssAnon"))


class Watch(threading.Thread):
    """Looks at the anonymous memory twenty times a second."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.most, self.over = 0, threading.Event()

    def run(self) -> None:
        """Look until it is over."""
        while not self.over.wait(0.05):
            self.most = max(self.most, anonymous())


def million_rows(folder: Path, batch: int) -> Row:
    from medmcl.selection import neg_clip_loss

    files = [folder / "selection_speed_image.npy", folder / "selection_speed_text.npy"]
    shape = (MILLION, D)
    pools = [np.lib.format.open_memmap(file, "w+", np.float16, shape) for file in files]
    for block, start in enumerate(range(0, MILLION, 50_000)):
        for pool, side in zip(pools, pairs(50_000, block), strict=True):
            pool[start : start + 50_000] = side.half().numpy()
    del pools, pool
    image, text = (np.load(file, mmap_mode="r") for file in files)
    watch, before, began = Watch(), anonymous(), time.perf_counter()
    watch.start()
    took = seconds(lambda: neg_clip_loss(image, text, 0.07, batch, divisions=1))
    wall = time.perf_counter() - began
    watch.over.set()
    watch.join()
    for file in files:
        file.unlink()
    memory = {"most_gb": watch.most / 1e9, "before_gb": before / 1e9}
    return {"batch": batch, "cpu_s": took, "wall_s": wall, **memory}


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--million", type=Path, help="Folder for 2 GB of pools.")
    parser.add_argument("--million-batch", type=int, default=B)


def parts(rows: dict[str, Any]) -> dict[str, str]:
    columns = {
        "": "pool",
        "CPU s (median)": number("seconds", ".2f"),
        "share of the product's rate: median": percent("median"),
        "least": percent("least"),
        "aim": lambda row: f"{100 * POOLS[row['pool']][2]:.0f} %",
    }
    norm, product, million = rows["norm_sim"], rows["product"], rows["million"]
    cells = [["second moment", f"{norm['moment']:.3f}"]]
    cells.append(["definition, in tiles", f"{norm['definition']:.3f}"])
    return {
        "neg clip": table(columns, rows["neg_clip"]),
        "product": f"{product['median']:.1f} GFLOP/s ({product['low']:.1f} to {product['high']:.1f})",
        "norm sim": grid(["", "CPU s (median)"], cells),
        "norm sim ratio": f"{norm['ratio']:.1f} times as fast (least {norm['least']:.1f})",
        "norm sim apart": f"{norm['apart']:.1e}",
        "million": f"{million['batch']:,}, K = 1: {million['cpu_s']:.0f} s of processor "
        f"({million['wall_s']:.0f} s by the clock); anonymous memory at most "
        f"{million['most_gb']:.2f} GB, of which {million['before_gb']:.2f} GB were there before",
    }


def run(given: argparse.Namespace) -> dict[str, Any]:
    import torch

    torch.set_num_threads(1)
    rows = {**(STUDY.kept() or {}), **neg_clip_rows(given.rounds)}
    rows["norm_sim"] = norm_sim_rows(given.rounds)
    if given.million:
        rows["million"] = million_rows(given.million, given.million_batch)
    return rows


STUDY = Study(__file__, parts=parts, run=run, options=options)

if __name__ == "__main__":
    STUDY.main()
