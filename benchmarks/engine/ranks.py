"""Several processes of one run: memory and work of a loss, of an optimiser, of a checkpoint, of steps.

``python -m benchmarks.engine.ranks --before FOLDER`` takes half an hour; FOLDER is a checkout of
`GATHERED`, with which each loss is measured in turn. Each measurement is a process (or several that know each other) of its own, one thread each. Memory is
that of the process beyond what it held before. Seconds are of the processor, but for those that
training waits for a checkpoint.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.study import ROOT, Row, Study, number, table

WHAT = ("loss", "optimiser", "saving", "steps")
RANKS = (1, 2, 4)
GATHERED = "15177d20"
"""The last commit whose ranks gathered the rows of all for a loss in tiles."""
LOSSES = ("info_nce", "siglip")
CASES = [
    *((loss, 16_384, 128, (1, 2, 4, 8), False) for loss in LOSSES),
    ("info_nce", 2048, 128, (2, 4), False),
    *((loss, 8_192, 128, (1, 2), True) for loss in LOSSES),
    ("info_nce", 32_768, 512, (1, 2, 4, 8), False),
]
"""Loss, rows, numbers a row, processes, and whether it is kept from tiles; of those that are, more
rows do not fit four times onto a small machine."""
OFTEN = {2048: 20, 16_384: 2}
"""Rows to how often a loss is asked for, if more than once; the least seconds count."""
STEPS, BATCH = 10, 128
STEADY = {"OMP_NUM_THREADS": "1", "PYTHONHASHSEED": "0"}


def memory(kind: str) -> float:
    """MB of this process: ``VmRSS`` now, ``VmHWM`` at most since `forget_peak`."""
    lines = Path("/proc/self/status").read_text("ascii").splitlines()
    return int(next(line for line in lines if line.startswith(kind)).split()[1]) / 1024


def forget_peak() -> float:
    """Measure the peak from now on; give what is held."""
    gc.collect()
    Path("/proc/self/clear_refs").write_text("5", "ascii")
    return memory("VmRSS")


def embedded(rows: int, rank: int, width: int) -> Any:
    """Embeddings of two modalities of a rank's rows, as towers give them."""
    import torch

    from medmcl.core.batch import Batch, Embeddings

    generator = torch.Generator(device="cpu").manual_seed(rank)
    pooled = {
        name: torch.nn.functional.normalize(
            torch.randn(rows, width, generator=generator, device="cpu"), dim=1
        ).requires_grad_()
        for name in ("a", "b")
    }
    here = torch.ones(rows, dtype=torch.bool, device="cpu")
    inputs = {name: torch.zeros(rows, 0, device="cpu") for name in pooled}
    ids = torch.arange(rows, device="cpu") + rank * rows
    batch = Batch(ids=ids, inputs=inputs, present=dict.fromkeys(pooled, here))
    return Embeddings(batch=batch, pooled=pooled)


def loss_of(world: Any, what: str, rows: int, width: int, dense: bool) -> Row:
    """Charge for embeddings, forward and back."""
    from medmcl.core.batch import InputShape
    from medmcl.core.contracts import ModelShape
    from medmcl.engine.distributed import charge
    from medmcl.objectives import build_objective
    from medmcl.objectives.pairwise import contrastive

    if dense:
        contrastive.TILE_FROM["cpu"] = sys.maxsize
    signal = InputShape(kind="ecg", shape=(1, 4))
    shape = ModelShape(inputs={"a": signal, "b": signal}, widths={"a": width, "b": width})
    objective = build_objective("cross_modal", {"loss": what, "view": "plain"}, shape)

    def once(rows: int) -> None:
        seen = embedded(rows // world.size, world.rank, width)
        charge({"align": (objective, 1.0)}, {"plain": seen}, seen.batch, world)[0].backward()

    once(256)
    before, spent = forget_peak(), []
    for _ in range(OFTEN.get(rows, 1)):
        began = time.process_time()
        once(rows)
        spent.append(time.process_time() - began)
    return {"mb": memory("VmHWM") - before, "seconds": min(spent)}


def optimiser_of(world: Any, sharded: bool) -> Row:
    """Take steps on a module; MB that the optimiser holds between steps."""
    import torch

    from benchmarks.engine.saves import big_module
    from medmcl.engine.optimiser import OptimiserSettings, build_optimiser

    module = big_module()
    optimiser = build_optimiser(module, OptimiserSettings(sharded=sharded), {}, world)
    spent = []
    before = forget_peak()
    for _ in range(3):
        for p in module.parameters():
            p.grad = torch.full_like(p, 0.1)
        began = time.process_time()
        optimiser.step()
        spent.append(time.process_time() - began)
        optimiser.zero_grad()
    gc.collect()
    return {"mb": memory("VmRSS") - before, "peak_mb": memory("VmHWM") - before,
            "seconds": min(spent)}  # fmt: skip


def steps_of(folder: Path) -> list[Row]:
    """Processor seconds of this rank in the steps of two stages of a toy, but for their first."""
    import medmcl
    from medmcl.engine import loop

    found: dict[str, list[float]] = {}
    real = loop.Training.step

    def timed(training: Any, *given: Any) -> None:
        began = time.process_time()
        real(training, *given)
        found.setdefault(training.plan.stage, []).append(time.process_time() - began)

    loop.Training.step = timed
    medmcl.pretrain(folder / "cohort", recipe=folder / "toy.yaml", device="cpu",
                    out=folder / f"run-{os.environ.get('WORLD_SIZE', 1)}")  # fmt: skip
    return [
        {"stage": name, "seconds": sorted(each[1:])[len(each) // 2]} for name, each in found.items()
    ]


RECIPE = {
    "extends": "ecg_cmr_toy",
    "about": "Steps on several processes",
    "drop": ["finetune-{task}-{label_fraction}", "results"],
    "set": {
        f"stages.{stage}.{key}": value
        for stage in ("mdm", "mmcl")
        for key, value in (("steps", STEPS), ("batch_size", BATCH), ("evaluate_every", 1000))
    },
}


def work(what: str, folder: Path, given: dict[str, Any]) -> None:
    """What a process measures; it writes its rows."""
    import torch

    torch.set_num_threads(1)
    rank = os.environ.get("RANK", "0")
    if what == "saving":
        from benchmarks.engine.saves import saving

        found: Any = saving(folder)
    elif what == "steps":
        found = steps_of(folder)
    elif what == "logged":
        from benchmarks.engine.rank_losses import logged

        found = logged(folder)
    else:
        from medmcl.engine.world import barrier, start_world, stop_world

        world = start_world("cpu", init_method=f"file://{folder}/rendezvous")
        found = {"loss": loss_of, "optimiser": optimiser_of}[what](world, **given)
        barrier(world)
        stop_world(world)
    (folder / f"found-{rank}.json").write_text(json.dumps(found), "utf-8")


def forked(ranks: int, kind: str, folder: Path, given: dict[str, Any]) -> None:
    """Let ranks work that are forks of this process, so that what they need is imported once."""
    import medmcl.engine.distributed
    import medmcl.objectives.pairwise.alignment  # noqa: F401  (for the forks)

    started = []
    for rank in range(ranks):
        started.append(os.fork())
        if not started[-1]:
            code = 1
            try:
                if ranks > 1:
                    known = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": ranks}
                    os.environ |= {name: str(value) for name, value in known.items()}
                work(kind, folder, given)
                code = 0
            except BaseException:
                traceback.print_exc()
            finally:
                sys.stderr.flush()
                os._exit(code)
    ended = [os.waitpid(one, 0)[1] for one in started]
    if any(ended):
        raise SystemExit(1)


def measured(
    kind: str, ranks: int, folder: Path | None = None, root: Path = ROOT, **given: Any
) -> list[Any]:
    """Rows of each rank, measured by this script with the medmcl of a checkout."""
    import socket

    with tempfile.TemporaryDirectory() as made, socket.socket() as free:
        folder = folder or Path(made)
        free.bind(("localhost", 0))
        known = {"MASTER_ADDR": "localhost", "MASTER_PORT": str(free.getsockname()[1])}
        free.close()
        script = (f"import runpy, pathlib; of = runpy.run_path({__file__!r}); "
                  f"of['forked']({ranks}, {kind!r}, pathlib.Path({str(folder)!r}), {given!r})")  # fmt: skip
        env = {**os.environ, **STEADY, **(known if ranks > 1 else {})}
        if subprocess.run([sys.executable, "-c", script], env=env, cwd=root).returncode:
            raise RuntimeError(f"{kind} on {ranks}: {given}")
        return [
            json.loads((folder / f"found-{rank}.json").read_text("utf-8")) for rank in range(ranks)
        ]


def most(found: list[Row]) -> Row:
    """The largest of each number over ranks."""
    return {key: round(max(row[key] for row in found), 4) for key in found[0]}


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--before", type=Path, help=f"a checkout of {GATHERED}, measured in turn")
    about = "measure these; other rows stay"
    parser.add_argument("--only", nargs="+", choices=WHAT, default=WHAT, help=about)
    about = "losses on so many processes; rows of other numbers stay"
    parser.add_argument("--ranks", nargs="+", type=int, default=[1, 2, 4, 8], help=about)


def run(given: argparse.Namespace) -> Iterator[dict[str, list[Row]]]:
    """Measure all, a measurement after the other."""
    kept = STUDY.kept(given.out) or {}
    rows: dict[str, list[Row]] = {
        name: [] if name in given.only else kept.get(name, []) for name in WHAT
    }
    if "loss" in given.only:
        before = {"gathered": given.before} if given.before else {}
        rows["loss"] = [one for one in kept.get("loss", ()) if one["ranks"] not in given.ranks]
        yield from losses(rows, {"ring": ROOT, **before}, given.ranks)
    if "optimiser" in given.only:
        yield from optimisers(rows)
    if "saving" in given.only:
        rows["saving"] = measured("saving", 1)[0]
        yield rows
    if "steps" in given.only:
        yield from steps(rows)


def optimisers(rows: dict[str, list[Row]]) -> Iterator[dict[str, list[Row]]]:
    """Measure an optimiser whose state is on each rank, or shared out."""
    for sharded in (False, True):
        for ranks in RANKS[sharded:]:
            found = most(measured("optimiser", ranks, sharded=sharded))
            rows["optimiser"].append({"sharded": sharded, "ranks": ranks, **found})
            yield rows


def losses(
    rows: dict[str, list[Row]], roots: dict[str, Path], chosen: list[int]
) -> Iterator[dict[str, list[Row]]]:
    """Measure losses in tiles with each checkout, in turn; and not in tiles with this one."""
    for what, count, width, each, dense in CASES:
        for ranks in set(each) & set(chosen):
            for how, root in list(roots.items())[: 1 if dense or ranks == 1 else None]:
                case = {"what": what, "rows": count, "width": width, "dense": dense}
                found = most(measured("loss", ranks, root=root, **case))
                rows["loss"].append({**case, "how": how, "ranks": ranks, **found})
                rows["loss"].sort(key=_order)
                yield rows


def _order(row: Row) -> tuple[int, int]:
    cases = [(what, count, width, dense) for what, count, width, _, dense in CASES]
    return cases.index((row["what"], row["rows"], row["width"], row["dense"])), row["ranks"]


def steps(rows: dict[str, list[Row]]) -> Iterator[dict[str, list[Row]]]:
    """Measure steps of a toy on one process and on two."""
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        call = [sys.executable, "-m", "medmcl", "simulate", "heart", "--subjects", "400", "--out"]
        subprocess.run([*call, folder / "cohort"], check=True, stdout=subprocess.DEVNULL)
        import yaml

        (folder / "toy.yaml").write_text(yaml.safe_dump(RECIPE), "utf-8")
        for ranks in (1, 2):
            each = measured("steps", ranks, folder=folder)
            for number_, row in enumerate(each[0]):
                spent = max(one[number_]["seconds"] for one in each)
                rows["steps"].append(
                    {"stage": row["stage"], "ranks": ranks, "seconds": round(spent, 4)}
                )
            yield rows


def parts(rows: dict[str, list[Row]]) -> dict[str, str]:
    names = {
        "info_nce": "InfoNCE",
        "siglip": "sigmoid",
    }

    def how(row: Row) -> str:
        if row["dense"] or row["ranks"] == 1:
            return "not in tiles" if row["dense"] else "in tiles"
        return {"ring": "blocks in a ring", "gathered": "rows of all gathered (before)"}[row["how"]]

    alone = {row["stage"]: row["seconds"] for row in rows["steps"] if row["ranks"] == 1}
    at_once = next((row["seconds"] for row in rows["saving"] if row["how"] == "at once"), None)
    return {
        "loss": table(
            {
                "loss": lambda row: names[row["what"]],
                "rows": lambda row: f"{row['rows']:,} x {row['width']}",
                "how": how,
                "processes": number("ranks"),
                "MB a process": number("mb", ",.0f"),
                "CPU s a process": lambda row: f"{row['seconds']:{'.3f' if row['seconds'] < 0.1 else '.2f'}}",
            },
            rows["loss"],
        ),
        "optimiser": table(
            {
                "state": lambda row: "shared out" if row["sharded"] else "on each",
                "processes": number("ranks"),
                "MB between steps": number("mb", ",.0f"),
                "MB at the peak of a step": number("peak_mb", ",.0f"),
                "CPU s a step": number("seconds", ".3f"),
            },
            rows["optimiser"],
        ),
        "saving": table(
            {
                "checkpoint": lambda row: {"at once": "written at once (as before)", "meanwhile": "copied, written meanwhile",
                                           "written": "until that is on disk",
                                           "torch": "`torch.distributed.checkpoint.async_save`",
                                           "torch written": "until that is on disk"}[row["how"]],
                "s": number("seconds", ".3f"),
                "share": lambda row: f"{100 * row['seconds'] / at_once:.0f} %" if at_once else "",
            },
            rows["saving"],
        ),
        "steps": table(
            {
                "stage": "stage",
                "processes": number("ranks"),
                "CPU s a step of the busiest": number("seconds", ".3f"),
                "of one process": lambda row: f"{row['seconds'] / alone[row['stage']]:.2f}",
            },
            rows["steps"],
        ),
    }  # fmt: skip


STUDY = Study(__file__, parts=parts, run=run, options=options, before=GATHERED)

if __name__ == "__main__":
    STUDY.main()
