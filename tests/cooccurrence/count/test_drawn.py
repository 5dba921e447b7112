"""What is drawn of patients: few days of each, and enough to tell whose they are."""

from dataclasses import replace

import numpy as np
import pytest

from benchmarks.privacy.recognised import CHANGES, FILTERS, Rows, cohort, tags
from medmcl.cooccurrence.count.drawn import DAYS, days_in_common, drawn, siphash
from medmcl.cooccurrence.count.people import overlap, shared_patients
from medmcl.data.events.events import NO_TIME, Events, Labels

DAY = 86_400_000_000
KEPT = ("nothing else", "rows in another order", "each event twice", "codes of another vocabulary")


@pytest.fixture(autouse=True)
def key(register):
    """The same one each time, so that the same days are drawn."""
    register.mkdir(parents=True, exist_ok=True)
    (register / "key").write_text("24" * 32)


def events(subject, day, code, codes=40):
    order = np.lexsort((day, subject))
    time = np.where(day < 0, NO_TIME, day * DAY + 3_600_000_000)
    return Events(subject[order], time[order], Labels(code[order], [f"C{k}" for k in range(codes)]))


def test_the_hash_is_siphash():
    """Test vectors of its authors' reference implementation, keys and messages 0, 1, 2, ..."""
    words = [np.frombuffer(bytes(range(8)), dtype="<u8")]
    assert siphash(bytes(range(16)), *words) == [0x93F5F5799A932462]


def test_of_two_counts_the_days_that_are_looked_for_are_found_exactly_if_they_are_there():
    """Beside the whole sets of days; also of patients who have hundreds, few, or none."""
    draw = np.random.default_rng(0)
    many = np.r_[0, 1, 3, DAYS, 9, 40, 700]
    subject = np.repeat(np.arange(len(many)), np.maximum(many, 1))
    day = np.where(
        np.repeat(many, np.maximum(many, 1)) > 0, draw.integers(0, 2000, len(subject)), -1
    )
    code = draw.integers(0, 40, len(subject))
    kept = (draw.random(len(subject)) < 0.4) | (np.r_[True, subject[1:] != subject[:-1]])
    parts = [(subject, day, code), (subject[kept], day[kept], code[kept]), (subject, day + 7, code)]
    found = [drawn(events(*part), b"key")["days"] for part in parts]
    days = [[set(d[(s == k) & (d >= 0)].tolist()) for k in range(len(many))] for s, d, _ in parts]
    assert [np.count_nonzero(row) for row in found[0]] == [min(DAYS, len(one)) for one in days[0]]
    looked, there, _ = days_in_common(found[1], found[0])
    assert looked == there > DAYS  # the smaller one is a part of the larger
    for one, other in ((0, 1), (0, 2), (2, 0)):
        looked, there, alike = days_in_common(found[one], found[other])
        share = [
            len(a & b) / len(a) for a, b in zip(days[one], days[other], strict=True) if a and b
        ]
        assert looked > 2 * DAYS
        assert there / looked == pytest.approx(np.mean(share), abs=0.35)
        assert alike <= there
    assert days_in_common(found[0], found[0])[0] == days_in_common(found[0], found[0])[2]
    other = drawn(events(*parts[0]), b"another key")["days"]
    assert days_in_common(found[0], other)[1] == 0


@pytest.fixture(scope="module")
def whole():
    return cohort(0, 300)


@pytest.mark.parametrize("kept", FILTERS)
@pytest.mark.parametrize("change", KEPT)
def test_one_event_in_a_thousand_is_known_again(whole, kept, change):
    """They were other people's if fewer than one event in twenty was left."""
    turn, names = CHANGES[change]
    for share in (0.001, 0.05, 0.96, 0.99, 0.999):
        some = whole.take(FILTERS[kept](whole, share, 0))
        assert shared_patients(tags(whole), tags(turn(some), names)) == len(np.unique(some.subject))


def test_a_rare_setting_among_other_events_is_known_again(whole):
    """Three events in a hundred are in both; two thirds of each are of others' sources."""
    rare = whole.take(FILTERS["a setting"](whole, 0.97, 0))
    more = [cohort(seed, 300) for seed in (5, 6)]
    both = [Rows(*map(np.concatenate, zip(vars(rare).values(), vars(one).values(), strict=True)))
            for one in more]  # fmt: skip
    assert overlap(*map(tags, both))
    assert not overlap(*map(tags, more))


def test_one_name_that_two_sites_share_is_no_patient():
    """An id for all who have none: some days of it are enough to tell."""
    one, other = (cohort(seed, 30) for seed in (7, 8))
    first, second = (int(np.bincount(rows.subject).argmax()) for rows in (one, other))
    subject = np.where(other.subject == second, first, other.subject + 100)
    mine, theirs = tags(one), tags(replace(other, subject=subject))
    assert len(np.intersect1d(mine.tags, theirs.tags)) == 1
    assert not overlap(mine, theirs)


@pytest.mark.parametrize(("span", "often"), [(3650, 20), (3650, 100), (365, 20), (365, 60)])
def test_other_people_of_the_same_names_are_others(span, often):
    pairs = [[cohort(2 * k + n + 50, 200, span, often) for n in (0, 1)] for k in range(3)]
    assert not any(overlap(*map(tags, pair)) for pair in pairs)
