import numpy as np
import pytest
import torch
from row_draws import row_generator

from medmcl.core.contracts import RecordRef
from medmcl.core.errors import RecordError
from medmcl.modalities.codes.adapter import (
    UNDATED,
    Codes,
    CodesAugment,
    CodeSequence,
    CodesSettings,
    CodesSource,
)


def events(*pairs):
    return CodeSequence(tuple(code for code, _ in pairs), np.array([day for _, day in pairs]))


@pytest.fixture
def adapter():
    adapter = Codes(CodesSource(), CodesSettings(max_events=4))
    adapter.fit(
        [events(("B", 3), ("B", 2), ("A", 1)), events(("A", 5), ("C", 0)), events(("A", 1))]
    )
    return adapter


def test_codes_are_numbered_by_the_people_who_have_them_not_by_events(adapter):
    assert adapter.vocabulary == ("<pad>", "<unk>", "A")  # B stands twice, but for one person


def test_the_latest_events_are_kept_oldest_first(adapter):
    raw = events(("A", UNDATED), ("A", 90), ("X", 40), ("A", 7), ("A", 0))
    assert adapter.prepare(raw).tolist() == [[2, 90], [1, 40], [2, 7], [2, 0]]
    assert adapter.tokens(raw).tolist() == [2, 2, 1, 2, 2]
    short = adapter.prepare(events(("A", UNDATED)))
    assert short.tolist() == [[2, -1], [0, 0], [0, 0], [0, 0]]


@pytest.mark.parametrize(
    ("repeats", "kept"),
    [("all", "A9 A9 B9 A1"), ("day", "A9 B9 A1"), ("first", "A9 B9")],
)
def test_repeats(repeats, kept):
    adapter = Codes(CodesSource(), CodesSettings(repeats=repeats, min_patients=1))
    raw = events(("A", 9), ("A", 9), ("B", 9), ("A", 1))
    adapter.fit([raw])
    row = adapter.prepare(raw)
    names = [f"{adapter.vocabulary[token]}{day}" for token, day in row.tolist() if token]
    assert " ".join(names) == kept


def test_faults(adapter):
    place = RecordRef(subject="s", record="s")
    assert [one.code for one in adapter.inspect(events(), place)] == ["codes.empty"]
    late = adapter.inspect(events(("A", -2)), place)
    assert [one.code for one in late] == ["codes.late"]
    many = adapter.inspect(events(*[("A", n) for n in range(9)]), place)
    assert [(one.code, one.level) for one in many] == [("codes.many", "warning")]
    assert adapter.inspect(events(("A", 3)), place) == []


def test_a_place_without_events_is_a_fault_of_the_record(adapter):
    with pytest.raises(RecordError, match="has no events"):
        adapter.read(RecordRef(subject="s", record="s"))
    place = RecordRef(subject="s", record="s", values={"codes": ["A", "B"], "days": [3, 1]})
    assert adapter.read(place).codes == ("A", "B")


def test_augment_leaves_events_out_never_all_and_moves_days_together(adapter):
    rows = torch.from_numpy(
        np.stack([adapter.prepare(events(("A", UNDATED), ("A", 90), ("A", 40), ("A", 7)))] * 400)
    )
    generator = row_generator()
    out = adapter.augment(rows, CodesAugment(dropout=0.75, shift_days=5), generator)
    left = out[..., 0] != 0
    assert left.any(1).all()
    assert left.float().mean() == pytest.approx(0.25 + 0.75**4 / 4, abs=0.03)
    undated = left[:, 0]
    assert (out[undated, 0, 1] == UNDATED).all()
    both = left[:, 1] & left[:, 2]
    assert ((out[both, 1, 1] - out[both, 2, 1]) == 50).all()
    assert set((out[left[:, 1], 1, 1] - 90).tolist()) == set(range(-5, 6))
    assert (out[~left] == 0).all()


def test_state_travels(adapter):
    other = Codes(CodesSource(), CodesSettings(max_events=4))
    with pytest.raises(RuntimeError, match="fit or load_state"):
        other.prepare(events(("A", 1)))
    other.load_state(adapter.state())
    raw = events(("A", 3), ("Z", 1))
    assert np.array_equal(other.prepare(raw), adapter.prepare(raw))


def test_a_bag_of_codes_is_the_simple_baseline(adapter):
    assert adapter.simple_features(events(("A", 3), ("A", 1), ("Z", 0))) == ["A", "A", "Z"]
