"""What published ECG encoders cost: seconds to prepare and embed a record, and memory.

    OMP_NUM_THREADS=1 python -m benchmarks.ecg.published_speed

Weights are random, which changes no cost. Each row is a process of its own with one thread, on a
record of 10 s at 500 Hz; a record whose authors cut it into windows is all of its windows. The
least of several runs counts, in CPU seconds, and beside each the same of medmcl's resnet1d on one
record, so that other work on the machine falls on both. Ten minutes.
"""

from __future__ import annotations

import argparse
import resource
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import numpy as np

from benchmarks.study import Row, Study, number, table, text

BATCHES = (1, 16)
"""Records that are embedded at once."""
OWN = ("ecg_vit", "resnet1d")
"""Encoders of medmcl's own beside them, with the paper's input: 5 s."""
REFERENCE = "resnet1d"


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
    from medmcl.modalities.ecg.adapter import ECG
    from medmcl.modalities.ecg.settings import ECGSettings

    def own(kind: str) -> torch.nn.Module:
        return build_encoder(kind, InputShape(kind="ecg", shape=(12, 2500)), {}).eval()

    torch.set_num_threads(1)
    if name in OWN:
        settings, net = ECGSettings(), own(name)
    else:
        card, variant = find_variant(name)
        checked = card.checked_settings(variant)
        assert isinstance(checked, ECGSettings)
        settings, net = checked, build_net(card, variant)
    net = net.eval()
    signal = np.random.default_rng(0).standard_normal((12, 5000)).cumsum(1) / 50
    prepared = ECG.prepare_array(signal, settings, rate_hz=500.0)
    crop = prepared[..., : settings.crop_samples] if name in OWN else prepared
    axes = 2 if name in OWN else len(card.input.shape)
    rows = crop.reshape(-1, *crop.shape[-axes:])
    x = torch.from_numpy(np.concatenate([rows] * batch))

    row: Row = {"encoder": name, "batch": batch}
    if batch == 1:
        row["values_million"] = sum(one.numel() for one in net.parameters()) / 1e6
        row["windows"] = len(rows)
        row["prepare_s"] = least(
            lambda: ECG.prepare_array(signal, settings, rate_hz=500.0), seconds=1.0
        )
    with torch.no_grad():
        row["embed_s"] = least(lambda: net(x)) / batch
        row["peak_mb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        reference, one = own(REFERENCE), torch.zeros(1, 12, 2500, device="cpu")
        row["reference_s"] = least(lambda: reference(one), seconds=1.0)
    return row


def names() -> list[str]:
    """Every variant of every card of ECGs, and encoders of medmcl's own."""
    from medmcl import models

    cards = [card for card in map(models.card, models.names()) if card.input.modality == "ecg"]
    sizes = [f"{card.name}:{one}" for card in cards for one in card.variants if one != "tiny"]
    return [*sizes, *OWN]


def run(given: argparse.Namespace) -> Iterator[list[Row]]:
    """Measure all of them, or those that are named."""
    rows: list[Row] = []
    for name in given.encoders or names():
        for batch in BATCHES:
            with ProcessPoolExecutor(1, get_context("spawn")) as alone:
                rows.append(alone.submit(measured, name, batch).result())
        yield rows


def options(parser: argparse.ArgumentParser) -> None:
    """Which encoders."""
    parser.add_argument("encoders", nargs="*", help="NAME:VARIANT; default: all")


def parts(rows: list[Row]) -> dict[str, str]:
    """One table, an encoder a row."""
    many = {row["encoder"]: row for row in rows if row["batch"] > 1}
    shown = [
        {
            **row,
            "prepare_ms": 1000 * row["prepare_s"],
            "each_second": 1 / row["embed_s"],
            "times": row["embed_s"] / row["reference_s"],
            "times_many": beside["embed_s"] / beside["reference_s"],
            "each_mb": (beside["peak_mb"] - row["peak_mb"]) / (beside["batch"] - 1),
        }
        for row in rows
        if row["batch"] == 1 and (beside := many.get(row["encoder"]))
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
    return {"published speed": table(columns, shown)}


STUDY = Study(__file__, parts=parts, run=run, options=options)

if __name__ == "__main__":
    STUDY.main()
