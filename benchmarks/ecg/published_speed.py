"""What published encoders cost: seconds to prepare and embed a record, and memory.

    OMP_NUM_THREADS=1 python -m benchmarks.ecg.published_speed [NAME:VARIANT ...] [--authors FOLDER]

Weights are random, which changes no cost. Each row is a process of its own with one thread, on a
record of 10 s at 500 Hz; a record whose authors cut it into windows is all of its windows. The
least of several runs counts, in CPU seconds, and beside each the same of medmcl's resnet1d on one
record, so that other work on the machine falls on both. A volume is embedded alone. Ten minutes.
With names, the other rows stay. FOLDER holds checkouts of authors' repositories, by ``owner+name``:
their preparation and network are timed beside ours on one record, twice, each way first in a process
of its own, whose memory at its end counts; the other rows stay. Five minutes more.
"""

from __future__ import annotations

import argparse
import resource
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.ecg.authors import AUTHORS, FRAME_SPACING_MM, Prepare, ventricle
from benchmarks.study import Cell, Row, Study, number, table, text

BATCHES = (1, 16)
"""Records that are embedded at once."""
OWN = ("ecg_vit", "resnet1d")
"""Encoders of medmcl's own beside them, with the paper's input: 5 s."""
REFERENCE = "resnet1d"
VOLUME = (216, 256, 10)
"""Voxels of a frame of cardiac MR, of 1.5 x 1.5 x 10 mm."""
ALONE = {"cinema:base"}
"""Encoders that take seconds a record, on one thread."""
LEFT_OUT = {"cinema:all_views"}
"""Reads several files a record."""


def least(do: Callable[[], object], seconds: float = 4.0) -> float:
    """CPU seconds of the fastest of as many runs as fit, one at least; a first does not count."""
    do()
    times: list[float] = []
    while sum(times) < seconds:
        began = time.process_time()
        do()
        times.append(time.process_time() - began)
    return min(times)


def measured(name: str, batch: int) -> Row:
    """Cost of one encoder, in this process."""
    import torch

    from medmcl.core.batch import InputShape
    from medmcl.encoders import build_encoder
    from medmcl.encoders.published.card import find_variant
    from medmcl.encoders.published.file import build_net
    from medmcl.modalities.cmr.adapter import CMR
    from medmcl.modalities.cmr.settings import CMRSettings
    from medmcl.modalities.ecg.adapter import ECG
    from medmcl.modalities.ecg.settings import ECGSettings

    def own(kind: str) -> torch.nn.Module:
        return build_encoder(kind, InputShape(kind="ecg", shape=(12, 2500)), {}).eval()

    torch.set_num_threads(1)
    random = np.random.default_rng(0)
    if name in OWN:
        settings, net, axes = ECGSettings(), own(name), 2
    else:
        card, variant = find_variant(name)
        settings, net = card.checked(card.settings(variant)), build_net(card, variant)
        axes = len(card.input.shape)
    net = net.eval()

    def prepare() -> np.ndarray:
        if isinstance(settings, CMRSettings):
            return CMR.prepare_array(volume, settings, spacing_mm=(1.5, 1.5, 10.0))
        return ECG.prepare_array(signal, settings, rate_hz=500.0)

    signal = random.standard_normal((12, 5000)).cumsum(1) / 50
    volume = random.integers(0, 256, VOLUME).astype(np.float32)
    prepared = prepare()
    crop = prepared[..., : settings.crop_samples] if name in OWN else prepared
    rows = crop.reshape(-1, *crop.shape[-axes:])
    x = torch.from_numpy(np.concatenate([rows] * batch))

    row: Row = {"encoder": name, "batch": batch}
    if batch == 1:
        row["values_million"] = sum(one.numel() for one in net.parameters()) / 1e6
        row["windows"] = len(rows)
        row["prepare_s"] = least(prepare, seconds=1.0)
    with torch.no_grad():
        row["embed_s"] = least(lambda: net(x)) / batch
        row["peak_mb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        reference, one = own(REFERENCE), torch.zeros(1, 12, 2500, device="cpu")
        row["reference_s"] = least(lambda: reference(one), seconds=1.0)
    return row


def beside_authors(name: str, folder: Path, first: str) -> Row:
    """Cost of one record by its authors' code and by ours, ``first`` of them first.

    The memory of the process is read before the second begins.
    """
    import torch

    from medmcl.encoders.published.card import find_variant
    from medmcl.encoders.published.file import build_net
    from medmcl.modalities import ADAPTERS

    torch.set_num_threads(1)
    loop, (card, variant) = AUTHORS[name], find_variant(name)
    record, about = _record(card.input.modality)

    def theirs() -> tuple[Prepare, torch.nn.Module]:
        at = folder / loop.repository
        return loop.prepare(at), loop.net(at)

    def ours() -> tuple[Prepare, torch.nn.Module]:
        settings, adapter = card.checked(card.settings(variant)), ADAPTERS[card.input.modality]
        net = build_net(card, variant)
        return lambda x: adapter.prepare_array(x, settings, **about), net

    ways = {"authors": theirs, "ours": ours}
    found: Row = {}
    prepared: list[np.ndarray] = []
    for way in (first, *({*ways} - {first})):
        prepare, net = ways[way]()
        prepared.append(prepare(record))
        x = torch.from_numpy(prepared[-1].reshape(-1, *card.input.shape))
        net.eval()
        with torch.no_grad():
            found[f"{way}_prepare_s"] = least(partial(prepare, record), seconds=0.5)
            found[f"{way}_embed_s"] = least(partial(net, x), seconds=1.5)
        if way == first:
            found[f"{way}_mb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    found["apart"] = float(np.abs(prepared[0].astype(np.float64) - prepared[1]).max())
    return found


def _record(modality: str) -> tuple[np.ndarray, dict[str, Any]]:
    """A record in memory, and what a file would say of it."""
    random = np.random.default_rng(0)
    if modality == "ecg":
        return random.standard_normal((12, 5000)).cumsum(1) / 50, {"rate_hz": 500.0}
    frame = random.integers(0, 256, VOLUME).astype(np.int16)
    return frame, {"spacing_mm": FRAME_SPACING_MM, "mask": ventricle(frame)}


def names() -> list[str]:
    """Every variant of every card that has a net of its own, and encoders of medmcl's own."""
    from medmcl import models

    cards = map(models.card, models.names())
    sizes = [f"{card.name}:{one}" for card in cards for one in card.variants
             if f"{card.name}:{one}" not in LEFT_OUT and one != "tiny"
             and one not in card.variant_seen]  # fmt: skip
    return [*sizes, *OWN]


def run(given: argparse.Namespace) -> Iterator[list[Row]]:
    """Measure all of them, or those that are named, in the place of their rows."""
    known = (STUDY.kept(given.out) or []) if given.encoders or given.authors else []
    found = {(row["encoder"], row["batch"]): row for row in known}
    for name in given.encoders or ([] if given.authors else names()):
        for batch in BATCHES[:1] if name in ALONE else BATCHES:
            found[name, batch] = _alone(measured, name, batch)
        yield [*found.values()]
    for name in (given.encoders or AUTHORS) if given.authors else ():
        ways = [_alone(beside_authors, name, given.authors, one) for one in ("authors", "ours")]
        found[name, 1]["loop"] = {
            key: min(one[key] for one in ways if key in one) for key in {**ways[0], **ways[1]}
        }
        yield [*found.values()]


def _alone(measure: Callable[..., Row], *given: object) -> Row:
    with ProcessPoolExecutor(1, get_context("spawn")) as alone:
        return alone.submit(measure, *given).result()


def options(parser: argparse.ArgumentParser) -> None:
    """Which encoders."""
    parser.add_argument("encoders", nargs="*", help="NAME:VARIANT; default: all")
    parser.add_argument("--authors", type=Path, help="checkouts, by owner+name")


def _beside(one: Row, more: Row | None) -> Row:
    """What a batch tells beside one record."""
    if not more:
        return {}
    return {
        "times_many": more["embed_s"] / more["reference_s"],
        "each_mb": (more["peak_mb"] - one["peak_mb"]) / (more["batch"] - 1),
    }


def parts(rows: list[Row]) -> dict[str, str]:
    """One table, an encoder a row; and one of those whose authors' code was run."""
    many = {row["encoder"]: row for row in rows if row["batch"] > 1}
    alone = [row for row in rows if row["batch"] == 1]
    shown = [
        {
            **row,
            "prepare_ms": 1000 * row["prepare_s"],
            "each_second": 1 / row["embed_s"],
            "times": row["embed_s"] / row["reference_s"],
            **_beside(row, many.get(row["encoder"])),
        }
        for row in alone
    ]
    columns = {
        "encoder": text("encoder"),
        "values, million": number("values_million", ".1f"),
        "windows": number("windows", ","),
        "prepare, ms": number("prepare_ms", ".1f"),
        "records a CPU second": number("each_second", ".1f"),
        f"cost beside {REFERENCE}, one at a time": number("times", ".1f"),
        f"{BATCHES[-1]} at once": number("times_many", ".1f"),
        "peak of one, MB": number("peak_mb", ",.0f"),
        "each more, MB": number("each_mb", ",.1f"),
    }
    loops = {
        "encoder": text("encoder"),
        "prepare, ms": _both("prepare", ",.1f"),
        "network, ms": _both("embed", ",.0f"),
        "records a CPU second": _both("each", ".2f"),
        "peak of the process, MB": _both("mb", ",.0f"),
        "prepared records differ by": number("apart", ".1g"),
    }
    return {
        "published speed": table(columns, shown),
        "beside the authors": table(loops, [_loop(row) for row in alone if "loop" in row]),
    }


def _both(what: str, how: str) -> Cell:
    """The authors' number, then ours."""
    return lambda row: " / ".join(f"{row[f'{way}_{what}']:{how}}" for way in ("authors", "ours"))


def _loop(row: Row) -> Row:
    """Milliseconds and records a second of both ways."""
    said = row["loop"]
    found: Row = {"encoder": row["encoder"], **said}
    for way in ("authors", "ours"):
        prepare, embed = said[f"{way}_prepare_s"], said[f"{way}_embed_s"]
        found |= {
            f"{way}_prepare": 1000 * prepare,
            f"{way}_embed": 1000 * embed,
            f"{way}_each": 1 / (prepare + embed),
        }
    return found


STUDY = Study(__file__, parts=parts, run=run, options=options)

if __name__ == "__main__":
    STUDY.main()
