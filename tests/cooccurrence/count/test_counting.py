"""Counts of every window and pairing against slow loops over pairs of events."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medmcl.cooccurrence import Vocabulary, count_tokens
from medmcl.cooccurrence.count import tokens as from_tables
from medmcl.cooccurrence.count.counter import PairCounter, count_events
from medmcl.cooccurrence.count.items import Tokens
from medmcl.cooccurrence.count.rules import Rules
from medmcl.core.errors import ConfigError
from medmcl.data.events.events import NO_TIME, NO_VISIT

DAY = 86_400_000_000
SIZES = {"codes": 4, "concepts": 3, "labs": 2}
NAMES = list(SIZES)
VOCABULARIES = {n: Vocabulary(tuple(f"{n}{i}" for i in range(size))) for n, size in SIZES.items()}
WINDOWS = ("record", "month", "visit", "days:0", "days:30")
BACKENDS = pytest.mark.parametrize("fast", [False, True], ids=["numpy", "numba"])


def owner(token):
    """Modality of a token and its row there."""
    for name, size in SIZES.items():
        if token < size:
            return name, token
        token -= size
    raise AssertionError


def month(time):
    return str(np.datetime64(int(time), "us").astype("datetime64[M]"))


def meet(window, one, other):
    """Whether two events (time, token, visit) of one patient are in one window."""
    if window == "record":
        return True
    if window == "visit":
        return one[2] == other[2]
    if window == "month":
        return month(one[0]) == month(other[0])
    return abs(one[0] // DAY - other[0] // DAY) <= int(window[5:])


def usable(window, event):
    if window == "visit":
        return event[2] != NO_VISIT
    return window == "record" or event[0] != NO_TIME


def by_loops(patients, window, pairing):
    """Cells, their patients, and margins, by looking at every ordered pair of events."""
    cells = {(a, b): np.zeros((SIZES[a], SIZES[b]), int) for a in NAMES for b in NAMES}
    people = {pair: np.zeros_like(table) for pair, table in cells.items()}
    tokens = {n: np.zeros(size, int) for n, size in SIZES.items()}
    have = {n: np.zeros(size, int) for n, size in SIZES.items()}
    sliding = window.startswith("days")
    for events in patients:
        events = [one for one in events if usable(window, one)]
        if pairing == "distinct" and not sliding:  # a token once a unit
            key = {"record": lambda e: 0, "visit": lambda e: e[2], "month": lambda e: month(e[0])}
            events = list({(key[window](e), e[1]): e for e in events}.values())
        met = {}
        for t, one in enumerate(events):
            for s, other in enumerate(events):
                if t != s and meet(window, one, other):
                    cell = one[1], other[1]
                    met[cell] = met.get(cell, 0) + 1
        for (t, s), times in met.items():
            (a, i), (b, j) = owner(t), owner(s)
            if pairing == "distinct" and t == s:
                continue
            cells[a, b][i, j] += 1 if pairing == "distinct" and sliding else times
            people[a, b][i, j] += 1
        once = pairing == "distinct" and sliding
        for token in {e[1] for e in events} if once else [e[1] for e in events]:
            name, i = owner(token)
            tokens[name][i] += 1
        for token in {e[1] for e in events}:
            name, i = owner(token)
            have[name][i] += 1
    return cells, people, tokens, have


def stream(patients, chunks=1):
    """The same patients as one or several chunks."""
    groups = np.array_split(np.arange(len(patients)), chunks)
    for group in groups:
        rows = [(p, *event) for p in group for event in patients[p]]
        table = np.array(rows, dtype=np.int64).reshape(-1, 4)
        yield Tokens(table[:, 0] * 7 + 1, table[:, 1].copy(), table[:, 2], table[:, 3])


def counted(patients, window, pairing, fast, chunks=1, **more):
    rules = Rules(window, pairing, within=True)
    return count_events(stream(patients, chunks), VOCABULARIES, rules, fast=fast, **more)


def same(mine, other):
    """Assert equal counts, bit for bit."""
    assert (mine.units, mine.patients) == (other.units, other.patients)
    assert mine.blocks.keys() == other.blocks.keys()
    for pair, block in mine.blocks.items():
        for name in ("pairs", "patients"):
            one, two = getattr(block, name), getattr(other.blocks[pair], name)
            assert one.dtype == two.dtype == np.int64
            assert (one.toarray() == two.toarray()).all(), (pair, name)
            assert one.nnz == np.count_nonzero(one.toarray())
    for name, margin in mine.margins.items():
        for field in ("tokens", "pairs", "patients"):
            mine_, theirs = getattr(margin, field), getattr(other.margins[name], field)
            assert (mine_ == theirs).all(), (name, field)


def check(patients, window, pairing, counts):
    cells, people, tokens, have = by_loops(patients, window, pairing)
    for (a, b), block in counts.blocks.items():
        assert (block.pairs.toarray() == cells[a, b]).all(), (a, b)
        assert (block.patients.toarray() == people[a, b]).all(), (a, b, "patients")
    for name, margin in counts.margins.items():
        assert (margin.tokens == tokens[name]).all()
        assert (margin.pairs == cells[name, name].sum(1)).all()
        assert (margin.patients == have[name]).all()


EVENT = st.tuples(
    st.one_of(st.integers(-40 * DAY, 80 * DAY), st.sampled_from([0, DAY - 1, 31 * DAY, NO_TIME])),
    st.integers(0, sum(SIZES.values()) - 1),
    st.sampled_from([NO_VISIT, 3, 4, 900]),
)
PATIENTS = st.lists(st.lists(EVENT, min_size=1, max_size=9), min_size=1, max_size=4)


@BACKENDS
@pytest.mark.parametrize("pairing", ["product", "distinct"])
@pytest.mark.parametrize("window", WINDOWS)
@settings(max_examples=15, deadline=None)
@given(patients=PATIENTS, chunks=st.integers(1, 3), memory=st.sampled_from([64, 1 << 30]))
def test_every_cell_is_what_loops_find(window, pairing, fast, patients, chunks, memory):
    mine = counted(patients, window, pairing, fast, chunks, memory=memory)
    check(patients, window, pairing, mine)


def many(count=40, seed=0, events=30):
    draw = np.random.default_rng(seed)
    return [
        list(
            zip(
                draw.integers(-400, 400, events) * DAY // 2,
                draw.integers(0, sum(SIZES.values()), events),
                draw.integers(0, 5, events),
                strict=True,
            )
        )
        for _ in range(count)
    ]


@BACKENDS
@pytest.mark.parametrize("pairing", ["product", "distinct"])
@pytest.mark.parametrize("window", WINDOWS)
def test_little_memory_gives_the_same(window, pairing, fast):
    """Sparse sums and pairs written out 1 at a time, where there is no room for more."""
    patients = many()
    whole = counted(patients, window, pairing, fast)
    little = counted(patients, window, pairing, fast, chunks=7, memory=64)
    same(whole, little)
    check(patients, window, pairing, little)


@pytest.mark.parametrize("window", WINDOWS)
def test_numba_and_numpy_are_equal_bit_for_bit(window):
    for pairing in ("product", "distinct"):
        patients = many(seed=1)
        same(counted(patients, window, pairing, True), counted(patients, window, pairing, False))


@BACKENDS
@pytest.mark.parametrize("window", WINDOWS)
def test_sites_add_up_to_the_pooled_patients(window, fast):
    patients = many(seed=2)
    sites = [counted(some, window, "product", fast) for some in (patients[:9], patients[9:])]
    same(sum(sites), counted(patients, window, "product", fast))


@BACKENDS
def test_tables_and_records_are_sparse_products(fast, monkeypatch):
    monkeypatch.setattr(from_tables, "FEW", 0 if fast else 10**9)
    patients = many(seed=3)
    x = np.zeros((len(patients), sum(SIZES.values())), int)
    for row, events in enumerate(patients):
        np.add.at(x[row], [token for _, token, _ in events], 1)
    tables = {"codes": x[:, :4], "concepts": x[:, 4:7]}
    told = count_tokens(*tables.values(), within=True)
    mine = counted(patients, "record", "product", fast)
    for (a, b), block in told.blocks.items():
        have = [(tables[name] > 0).astype(int) for name in (a, b)]
        pairs, people = tables[a].T @ tables[b], have[0].T @ have[1]
        if a == b:
            pairs = pairs - np.diag(tables[a].sum(axis=0))
            people = people - np.diag((tables[a] == 1).sum(axis=0))
        for found in (block, mine.blocks[a, b]):
            assert (found.pairs.toarray() == pairs).all()
            assert (found.patients.toarray() == people).all()
    for name, table in tables.items():
        for margin in (told.margins[name], mine.margins[name]):
            assert (margin.pairs == table.T @ (table.sum(axis=1) - 1).clip(0)).all()
            assert (margin.tokens == table.sum(axis=0)).all()
            assert (margin.patients == (table > 0).sum(axis=0)).all()
    assert told.patients == len(patients)


@BACKENDS
def test_without_patients_there_are_none_and_the_pairs_are_the_same(fast):
    patients = many(seed=4)
    for window in WINDOWS:
        rules = Rules(window, within=True, patients=False)
        bare = count_events(stream(patients), VOCABULARIES, rules, fast=fast)
        for pair, block in counted(patients, window, "product", fast).blocks.items():
            assert bare.blocks[pair].patients is None
            assert (bare.blocks[pair].pairs.toarray() == block.pairs.toarray()).all()


@BACKENDS
def test_a_large_count_is_exact(fast):
    """More than 2^53 pairs would be rounded by doubles; more than 2^31 by 32 bits."""
    times = 70_001
    chunk = Tokens(
        np.zeros(2 * times, np.int64), np.zeros(2 * times, np.int64), np.repeat([0, 4], times)
    )
    counts = count_events([chunk], VOCABULARIES, Rules(within=True), fast=fast)
    assert counts.cross("codes", "concepts").pairs[0, 0] == times**2
    assert counts.blocks["codes", "codes"].pairs[0, 0] == times * (times - 1)
    assert counts.margins["codes"].pairs[0] == times * (times - 1)


def test_only_the_blocks_that_are_asked_for():
    asked = (("codes", "labs"),)
    counts = count_events(stream(many()), VOCABULARIES, Rules("days:3", "distinct", pairs=asked))
    assert tuple(counts.blocks) == asked
    everything = counted(many(), "days:3", "distinct", None)
    for name, margin in counts.margins.items():
        assert (margin.pairs == everything.margins[name].pairs).all()


def test_no_events_give_zeros():
    counts = count_events([], VOCABULARIES)
    assert counts.units == counts.patients == 0
    assert counts.cross("codes", "labs").pairs.nnz == 0


def tallied(rules, events):
    counter = PairCounter(VOCABULARIES, rules)
    counter.add(next(stream([events])))
    return counter


def test_what_a_window_cannot_use_is_counted():
    year_1 = int(np.datetime64("0001-01-01", "us").astype(int))
    year_9999 = int(np.datetime64("9999-12-31", "us").astype(int))
    events = [(t, 0, NO_VISIT) for t in (0, NO_TIME, year_1, year_9999)]
    dated = tallied(Rules("month"), events)
    assert (dated.tally.without_time, dated.tally.implausible_time) == (1, 2)
    assert dated.margins["codes"].tokens[0] == 1
    whole = tallied(Rules("record"), events)
    assert (whole.tally.without_time, whole.tally.implausible_time) == (0, 0)
    assert whole.margins["codes"].tokens[0] == 4
    visits = tallied(Rules("visit"), events)
    assert visits.tally.without_visit == 4
    assert visits.counts().patients == 0


@pytest.mark.parametrize("visits", [True, False])
def test_duplicates_are_counted_and_dropped_if_asked(visits):
    events = [
        (9 * DAY, 1, 5),
        (0, 0, 5),
        (9 * DAY, 1, 5),
        (0, 0, 5 if not visits else 6),
        (0, 0, 5),
    ]
    chunk = next(stream([events]))
    if not visits:
        chunk = Tokens(chunk.subject, chunk.time, chunk.token)
    for drop, tokens in ((False, [3, 2]), (True, [2, 1] if visits else [1, 1])):
        counter = PairCounter(VOCABULARIES, Rules(drop_duplicates=drop))
        counter.add(chunk)
        assert counter.tally.duplicates == (2 if visits else 3)
        assert list(counter.margins["codes"].tokens[:2]) == tokens


@pytest.mark.parametrize("window", ["days", "days:-1", "days:x", "week", "days:99999999", ""])
def test_an_unknown_window_is_refused(window):
    with pytest.raises(ConfigError, match="unknown window"):
        count_events([], VOCABULARIES, Rules(window))


def test_an_unknown_pairing_or_modality_is_refused():
    with pytest.raises(ConfigError, match="did you mean 'product'"):
        count_events([], VOCABULARIES, Rules(pairing="products"))
    with pytest.raises(ConfigError, match="no modality 'notes'"):
        count_events([], VOCABULARIES, Rules(pairs=(("codes", "notes"),)))
