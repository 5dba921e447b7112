"""Rows of volumes beside MONAI's loaders, and embeddings beside a plain torch loop.

``python -m benchmarks.engine.loaders`` takes some minutes. Volumes are NIfTI files, ECGs WFDB files, both
simulated; all ways of a table take turns in one process, by one reader and one thread. Processor
seconds. Files lie in the cache of the system. That both sides give the same numbers is checked first.
"""

from __future__ import annotations

import argparse
import gc
import itertools
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.engine.pipeline import RECIPE, STEADY
from benchmarks.study import Row, Study, number, table

VOLUMES, VOLUME_BATCH, ECGS = 32, 4, 96
WHOLE, CUT = (64, 72, 64), (48, 56, 48)
"""Voxels of a file and of what the network is given, along x, y, z."""
EVERY = {"raw": 3, "prepared": 7}
"""Rounds in turn."""
TOWER = {"encoder": {"name": "ecg_vit", "patch": 100, "width": 384, "depth": 3, "heads": 6},
         "head": {"hidden": 2048, "out": 128}}  # fmt: skip


def rounds(works: dict[str, Callable[[], object]], count: int) -> dict[str, list[float]]:
    """Processor seconds of each work, in turn; one round before does not count."""
    found: dict[str, list[float]] = {name: [] for name in works}
    for turn in range(1 + count):
        for name, work in works.items():
            gc.collect()
            began = time.process_time()
            work()
            if turn:
                found[name].append(time.process_time() - began)
    return found


def told(what: str, source: str, seen: dict[str, list[float]], rows: int, first: str) -> list[Row]:
    """Rows of the study: the least seconds of a way, and ratios within a turn."""
    found = []
    for way, seconds in seen.items():
        ratios = [a / b for a, b in zip(seen[first], seconds, strict=True)]
        found.append({
            "what": what, "source": source, "way": way, "a_cpu_second": rows / min(seconds),
            "times": float(np.median(ratios)), "least": min(ratios), "most": max(ratios),
        })  # fmt: skip
    return found


def write_volumes(folder: Path) -> Path:
    """Write NIfTI files of smooth noise within a ball, as floats, compressed; and their cohort."""
    import nibabel

    (folder / "mri").mkdir(parents=True)
    axes = np.meshgrid(*(np.linspace(-1, 1, n) for n in WHOLE), indexing="ij")
    inside = np.sqrt(sum(x**2 for x in axes)) < 0.8
    lines = ["subject_id\tsplit"]
    for n in range(VOLUMES):
        values = np.random.default_rng(n).normal(100, 20, WHOLE).astype(np.float32) * inside
        file = folder / "mri" / f"p{n:03d}.nii.gz"
        nibabel.save(nibabel.Nifti1Image(values, np.diag([2.0, 2.0, 2.0, 1.0])), file)
        lines.append(f"p{n:03d}\t{'train' if n % 4 else 'tuning'}")
    (folder / "participants.tsv").write_text("\n".join(lines) + "\n", "utf-8")
    cohort = {
        "schema": "medmcl/cohort@1",
        "subjects": {"table": "participants.tsv", "id": "subject_id", "split": "split"},
        "modalities": {"mri": {"kind": "image", "reader": "nifti",
                               "path": "mri/{subject_id}.nii.gz"}},
    }  # fmt: skip
    (folder / "cohort.yaml").write_text(json.dumps(cohort), "utf-8")
    return folder


def volumes(folder: Path) -> Iterator[Row]:
    """Rows a second, raw and prepared, of medmcl and of MONAI."""
    import torch
    from monai.data import CacheDataset, DataLoader, Dataset, PersistentDataset
    from monai.transforms import (
        Compose,
        LoadImage,
        NormalizeIntensity,
        Orientation,
        ResizeWithPadOrCrop,
    )

    from medmcl.data.cohort.cohort import open_cohort
    from medmcl.data.loading.cache import WrittenRows
    from medmcl.data.loading.prepare import prepare
    from medmcl.engine.feed import Feed
    from medmcl.engine.loop import Plan
    from medmcl.engine.optimiser import OptimiserSettings
    from medmcl.engine.world import World

    torch.set_num_threads(1)
    opened = open_cohort(write_volumes(folder / "volumes"))
    settings = {"size": CUT[::-1], "fit": "center", "intensity": "zscore"}
    prepared = prepare(opened, {"mri": settings}, cache=folder / "cache", splits="all")
    adapter, rows = prepared.adapters["mri"], prepared.stored["mri"].rows
    assert isinstance(rows, WrittenRows)
    places = list(opened.records["mri"]["place"])
    files = sorted(map(str, (folder / "volumes" / "mri").glob("*.nii.gz")))
    steps = Compose([
        LoadImage(image_only=True, ensure_channel_first=True), Orientation("RAS", labels=None),
        ResizeWithPadOrCrop(CUT), NormalizeIntensity(nonzero=True),
    ])  # fmt: skip
    ours, theirs = adapter.prepare(adapter.read(places[0])), np.asarray(steps(files[0]))
    np.testing.assert_allclose(ours, theirs.transpose(0, 3, 2, 1), atol=1e-3)
    batches = np.array_split(np.arange(VOLUMES), VOLUMES // VOLUME_BATCH)
    plan = Plan(stage="s", steps=len(batches), steps_per_epoch=len(batches), evaluate_every=1,
                log_every=1, seed=0, optimiser=OptimiserSettings())  # fmt: skip
    ram = CacheDataset(files, steps, num_workers=0, progress=False)
    disk = PersistentDataset(files, steps, cache_dir=folder / "monai")
    samples = dict(zip(np.argsort(prepared.index("mri")), range(VOLUMES), strict=True))
    order = [np.array([samples[n] for n in batch]) for batch in batches]

    def through(data: Any) -> Callable[[], object]:
        return lambda: [x.sum() for x in DataLoader(data, batch_size=VOLUME_BATCH, num_workers=0)]

    def read(first: bool = False) -> None:
        if first:
            rows._sound = ~rows._has  # as when it was opened: each row is compared with its hash
        feed = Feed(sampler=lambda _: iter(order), load=prepared.batch, readers=1)
        with closing(feed.batches(0, plan, World())) as coming:
            for _, one in coming:
                one.batch.inputs["mri"].sum()

    raw = {
        "MONAI: Dataset": through(Dataset(files, steps)),
        "medmcl: read, prepare": lambda: [adapter.prepare(adapter.read(x)).sum() for x in places],
    }
    ready = {
        "MONAI: PersistentDataset": through(disk),
        "MONAI: CacheDataset (in memory)": through(ram),
        "medmcl: prepared rows, first read": lambda: read(first=True),
        "medmcl: prepared rows, read again": read,
    }
    yield from told("volumes", "raw", rounds(raw, EVERY["raw"]), VOLUMES, next(iter(raw)))
    yield from told("volumes", "prepared", rounds(ready, EVERY["prepared"]), VOLUMES,
                    next(iter(ready)))  # fmt: skip


def embeddings(folder: Path) -> Iterator[Row]:
    """Records a second that are embedded, from files and from prepared rows."""
    import torch
    from torch.utils.data import DataLoader, TensorDataset

    import medmcl
    from medmcl.stages.run.run import EMBED_BATCH

    torch.set_num_threads(1)
    cohort = medmcl.simulate("heart", folder / "hearts",
                             {"subjects": ECGS, "form": "files", "missing_cmr": 1.0})  # fmt: skip
    recipe = json.loads(json.dumps(RECIPE))
    recipe["inputs"] = {"ecg": {"rate_hz": 500, "seconds": 10, "crop_seconds": 5}}
    recipe["towers"] = {"ecg": TOWER}
    recipe["stages"][0] |= {"steps": 1, "batch_size": 8}
    file = folder / "recipe.yaml"
    file.write_text(json.dumps(recipe), "utf-8")
    os.environ["MEDMCL_CACHE"] = str(folder / "prepared")
    made = medmcl.pretrain(cohort, recipe=file, out=folder / "run", device="cpu")
    run, numbers = medmcl.load(folder / "run"), itertools.count()
    opened = run._opened(cohort, None, "features", None)
    prepared = run.prepare(opened, ("ecg",))
    adapter, towers = prepared.adapters["ecg"], run.towers("mdm", torch.device("cpu"))
    towers.eval()
    places = list(opened.records["ecg"]["place"])
    rows = torch.from_numpy(np.array(prepared.inputs("ecg")[np.arange(len(places))]))
    tower = towers.towers["ecg"]

    @torch.no_grad()
    def plain(data: torch.Tensor) -> np.ndarray:
        loader = DataLoader(TensorDataset(data), batch_size=EMBED_BATCH)
        found = [tower(adapter.plain(x))[0].features for (x,) in loader]
        return torch.cat(found).numpy()

    def anew() -> np.ndarray:
        os.environ["MEDMCL_CACHE"] = str(folder / f"anew-{next(numbers)}")
        return embedded()

    def again() -> np.ndarray:
        os.environ["MEDMCL_CACHE"] = str(folder / "prepared")
        return embedded()

    def embedded() -> np.ndarray:
        table = run.embed(cohort, modality="ecg", device="cpu")
        return table.drop(columns="quality").to_numpy(np.float32)

    def by_hand() -> np.ndarray:
        read = [adapter.prepare(adapter.read(place)) for place in places]
        return plain(torch.from_numpy(np.stack(read)))

    np.testing.assert_array_equal(again(), plain(rows))
    np.testing.assert_array_equal(again(), by_hand())
    raw: dict[str, Callable[[], object]] = {
        "plain torch loop, records read one by one": by_hand, "medmcl: embed": anew,
    }  # fmt: skip
    ready: dict[str, Callable[[], object]] = {
        "plain torch loop, rows in memory": lambda: plain(rows), "medmcl: embed": again,
    }  # fmt: skip
    assert made
    for source, works in (("raw", raw), ("prepared", ready)):
        seen = rounds(works, EVERY["raw"])
        yield from told("embedding", source, seen, len(places), next(iter(works)))


def run(given: argparse.Namespace) -> Iterator[list[Row]]:
    """Measure both; or what is named, and the rest stays as it is kept."""
    if any(os.environ.get(name) != value for name, value in STEADY.items()):
        os.execve(sys.executable, sys.orig_argv, {**os.environ, **STEADY})
    rows = STUDY.kept(given.out) or []
    works = {"volumes": volumes, "embedding": embeddings}
    for what in given.what or works:
        with tempfile.TemporaryDirectory() as made:
            found = list(works[what](Path(made)))
        rows = [*(row for row in rows if row["what"] != what), *found]
        yield rows


def parts(rows: list[Row]) -> dict[str, str]:
    columns = {
        "rows": "source",
        "": "way",
        "rows a processor second": number("a_cpu_second", ",.0f"),
        "times as fast": number("times", ".2f"),
        "least to most": lambda row: f"{row['least']:.2f} to {row['most']:.2f}",
    }
    of = {
        name: [row for row in rows if row["what"] == what]
        for name, what in (("MONAI's loaders", "volumes"), ("embedding", "embedding"))
    }
    return {name: table(columns, own) if own else "Not measured." for name, own in of.items()}


def options(parser: argparse.ArgumentParser) -> None:
    """What is measured."""
    parser.add_argument("what", nargs="*", help="volumes, embedding; default: both")


STUDY = Study(__file__, parts=parts, run=run, options=options, page="pipeline")

if __name__ == "__main__":
    STUDY.main()
