"""The study of a GPU runs, on the CPU with a few rows, and says what it does not know."""

import pytest
import torch

from benchmarks.engine import gpu

CARD = "NVIDIA A100-SXM4-80GB"


@pytest.mark.parametrize(
    ("case", "way"),
    [("masked modelling", "theirs, float32"), ("masked modelling", "medmcl, bf16"),
     ("InfoNCE", "medmcl, one matrix"), ("InfoNCE", "medmcl, in tiles of 1,024")],
)  # fmt: skip
def test_steps_are_taken_and_timed(case, way, monkeypatch):
    monkeypatch.setattr(gpu, "WARM", 1)
    found = gpu.timed(case, way, gpu.TINY[case], torch.device("cpu"), steps=1)
    assert len(found["rounds"]) == gpu.ROUNDS
    assert min(found["rounds"]) > 0


def row(way, **known):
    return {"case": "masked modelling", "way": way, "rows": 128, "card": CARD, **known}


def test_what_is_shown_is_by_hand_what_was_measured_and_the_rest_says_so():
    counted = [row("theirs, bf16", tflop=3.12, counted_gb=5.0), row("medmcl, bf16", tflop=3.2)]
    measured = [
        row("theirs, float32", rounds=[0.04, 0.05, 0.06], peak_gb=7.0),
        row("theirs, bf16", rounds=[0.02], peak_gb=6.0),
        row("medmcl, bf16", rounds=[0.01], peak_gb=5.5, card="a card of next year"),
        row("medmcl, float32", why="out of memory"),
    ]

    def told(way):
        return gpu.told("masked modelling", way, counted, measured)

    bf16 = told("theirs, bf16")
    assert bf16["ms"] == pytest.approx(20)
    assert bf16["times"] == pytest.approx(0.05 / 0.02)
    assert bf16["tokens"] == pytest.approx(300 * 128 / 0.02)
    assert bf16["mfu"] == pytest.approx(3.12 / 0.02 / 312)
    assert told("theirs, float32")["mfu"] == pytest.approx(3.12 / 0.05 / 19.5)
    assert told("medmcl, bf16")["mfu"] == "unknown"
    assert told("medmcl, float32")["ms"] == "out of memory"
    assert told("medmcl, bf16, compiled")["mfu"] == "not measured"
    page = gpu.parts({"counted": [], "measured": []})["a GPU"].splitlines()[2:]
    assert len(page) == sum(len(gpu.ways_of(case)) for case in gpu.CASES)
    assert all(line.count("not measured") == 5 for line in page)
