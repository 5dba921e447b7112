"""Dense sums of 32 bits: exact where cells overflow, sparse at first, in little memory."""

import tracemalloc

import numpy as np
import pytest

from medmcl.cooccurrence import Vocabulary
from medmcl.cooccurrence.count import sums
from medmcl.cooccurrence.count.counter import PairCounter
from medmcl.cooccurrence.count.items import Tokens
from medmcl.cooccurrence.count.rules import Rules

DAY = 86_400_000_000
BACKENDS = pytest.mark.parametrize("fast", [False, True], ids=["numpy", "numba"])
WINDOWS = pytest.mark.parametrize("window", ["record", "month", "days:30"])
ROOM, LITTLE = 1 << 30, 64


def words(size):
    return Vocabulary(tuple(map(str, range(size))))


def chunks_of(patients, codes, seed=0, events=20):
    """One chunk a patient; low tokens come often, and several times a day."""
    draw = np.random.default_rng(seed)
    for subject in range(patients):
        day = np.sort(draw.integers(0, 90, events))
        token = (codes * draw.random(events) ** 3).astype(int)
        yield Tokens(np.full(events, subject), day * DAY, token)


def by_loops(chunks, size, window):
    """Pairs and patients of each cell from every ordered pair of events."""
    pairs, people = np.zeros((size, size), int), np.zeros((size, size), int)
    for chunk in chunks:
        day = chunk.time // DAY
        month = chunk.time.view("datetime64[us]").astype("datetime64[M]")
        near = {
            "record": np.ones((len(day), len(day)), bool),
            "month": month[:, None] == month,
            "days:30": np.abs(day[:, None] - day) <= 30,
        }[window]
        mine = np.zeros_like(pairs)
        for t, s in np.argwhere(near & ~np.eye(len(day), dtype=bool)):
            mine[chunk.token[t], chunk.token[s]] += 1
        pairs += mine
        people += mine > 0
    return pairs, people


def counter_of(sizes, window, fast, memory=ROOM, patients=True):
    vocabularies = {f"m{number}": words(size) for number, size in enumerate(sizes)}
    rules = Rules(window, within=True, patients=patients)
    return PairCounter(vocabularies, rules, fast=fast, memory=memory)


def check(block, pairs, people):
    assert block.pairs.dtype == np.int64
    assert block.pairs.nnz == np.count_nonzero(pairs)
    assert (block.pairs.toarray() == pairs).all()
    if block.patients is not None:
        assert block.patients.dtype == np.int64
        assert (block.patients.toarray() == people).all()


@BACKENDS
@WINDOWS
@pytest.mark.parametrize("most", [1, 40, 100])
def test_cells_that_would_overflow_are_exact(monkeypatch, window, fast, most):
    """The largest dense cell is set so low that arrays, looks at all cells and sparse sums mix."""
    size, chunks = 6, list(chunks_of(12, 6))
    pairs, people = by_loops(chunks, size, window)
    monkeypatch.setattr(sums, "MOST", most)
    for patients in (True, False):
        counter = counter_of((size,), window, fast, patients=patients)
        total = counter.sums["m0", "m0"]
        for chunk in chunks:
            counter.add(chunk)
            assert total._pairs.max() <= most
        assert total._beyond  # the guard was reached
        check(total.peek() if not counter._half else counter.take(("m0", "m0")), pairs, people)


@BACKENDS
@pytest.mark.parametrize("window", ["record", "days:3"])
def test_patients_who_pass_32_bits_only_together(window, fast):
    """38,000 x 38,000 fits 32 bits, three times that does not."""
    times, many = 38_000, 3
    counter = counter_of((2, 1), window, fast)
    for subject in range(many):
        token = np.repeat([0, 1, 2], times)
        counter.add(Tokens(np.full(3 * times, subject), np.zeros(3 * times, np.int64), token))
    counts = counter.counts()
    each, itself = many * times**2, many * times * (times - 1)
    assert each > 2**31 > times**2
    assert counts.blocks["m0", "m1"].pairs.toarray().tolist() == [[each], [each]]
    assert counts.blocks["m0", "m0"].pairs.toarray().tolist() == [[itself, each], [each, itself]]
    assert counts.blocks["m0", "m0"].patients.toarray().tolist() == [[many, many], [many, many]]


@WINDOWS
def test_little_lies_in_sparse_sums_and_moves_to_dense_ones(window):
    size, chunks = 100, list(chunks_of(15, 100))
    counter = counter_of((size,), window, True)
    total = counter.sums["m0", "m0"]
    used = []
    for chunk in chunks:
        counter.add(chunk)
        used.append(total._used)
        assert total._used or not total._pairs.any()
    assert used[0] is False
    assert used[-1] is True
    others = [counter_of((size,), window, *means) for means in ((False, ROOM), (True, LITTLE))]
    for other in others:
        for chunk in chunks:
            other.add(chunk)
    pairs, people = by_loops(chunks, size, window)
    for one in (counter, *others):
        check(one.take(("m0", "m0")), pairs, people)


@BACKENDS
@pytest.mark.parametrize("memory", [LITTLE, ROOM])
def test_a_modality_without_tokens_has_no_cells(fast, memory):
    counter = counter_of((0, 1), "record", fast, memory)
    counter.add(Tokens(np.zeros(3, np.int64), np.zeros(3, np.int64), np.zeros(3, np.int64)))
    blocks = counter.counts().blocks
    assert blocks["m0", "m0"].pairs.shape == (0, 0)
    assert blocks["m0", "m1"].patients.shape == (0, 1)
    assert blocks["m1", "m1"].pairs.toarray().tolist() == [[6]]


@pytest.mark.parametrize("share", [0, 0.01, 1])
@BACKENDS
def test_a_dense_sum_takes_4_bytes_a_cell_and_its_result(fast, share):
    """No second table of cells is made on the way to sparse rows."""
    size = 1200
    draw = np.random.default_rng(0)
    cell = np.flatnonzero(draw.random(size * size) < share)
    compiled = sums.DenseSum(2, 2, patients=False, fast=fast, room=100)
    compiled.add_cells(iter([(np.arange(4), np.arange(4))]), iter(()))
    compiled.take()
    total = sums.DenseSum(size, size, patients=False, fast=fast, room=100)
    tracemalloc.start()
    try:
        total.add_cells(iter(np.array_split(np.stack([cell, cell + 1]), 50, axis=1)), iter(()))
        tracemalloc.reset_peak()
        block = total.take()
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert block.pairs.nnz == len(cell)
    buffers = 12 * size * size if not fast else 0  # np.nonzero of cells looked through at a time
    assert peak < 12 * len(cell) + 2 * buffers + 500_000
    flat = np.zeros(size * size, np.int64)
    flat[cell] = cell + 1
    assert (block.pairs.toarray().reshape(-1) == flat).all()
