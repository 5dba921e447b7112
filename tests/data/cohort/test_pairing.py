import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medmcl.core.errors import CohortError
from medmcl.data.cohort.pairing import Candidates, only_choices, pair, sample_frame, unclear_error
from medmcl.data.cohort.spec import PairingKeys


def candidates(*rows, has_ids=True, has_dates=True):
    """Rows are (subject, record, date)."""
    return Candidates(
        subject=[row[0] for row in rows],
        record=[row[1] for row in rows],
        date=np.array([row[2] if len(row) > 2 else "NaT" for row in rows], dtype="M8[ns]"),
        has_ids=has_ids,
        has_dates=has_dates,
    )


def samples(records, **keys):
    subjects = sorted({one for c in records.values() for one in c.subject})
    anchor = keys.get("anchor") or next(iter(records))
    pairs = pair(records, subjects, PairingKeys(**keys), anchor)
    assert not pairs.unclear
    return [s for _, s in pairs.samples]


@pytest.mark.parametrize(
    ("keys", "ecg", "cmr", "expected"),
    [
        # the only record of a subject
        ({}, [("s", "e1")], [("s", "c1")], [{"ecg": "e1", "cmr": "c1"}]),
        ({}, [("s", "e1")], [], [{"ecg": "e1"}]),
        ({}, [], [("s", "c1")], [{"cmr": "c1"}]),
        (
            {},
            [("s", "e1"), ("s", "e2")],
            [("s", "c1")],
            [{"ecg": "e1", "cmr": "c1"}, {"ecg": "e2", "cmr": "c1"}],
        ),
        # the same id
        ({"on": "record"}, [("s", "1")], [("s", "1")], [{"ecg": "1", "cmr": "1"}]),
        ({"on": "record"}, [("s", "1")], [("s", "2")], [{"ecg": "1"}, {"cmr": "2"}]),
        # never across subjects
        ({"on": "record"}, [("s", "1")], [("t", "1")], [{"ecg": "1"}, {"cmr": "1"}]),
        # the nearest in time
        (
            {"on": "date"},
            [("s", "e1", "2020-01-10")],
            [("s", "c1", "2020-01-01"), ("s", "c2", "2020-01-12")],
            [{"ecg": "e1", "cmr": "c2"}, {"cmr": "c1"}],
        ),
        (
            {"on": "date", "max_gap_days": 1},
            [("s", "e1", "2020-01-10")],
            [("s", "c1", "2020-01-12")],
            [{"ecg": "e1"}, {"cmr": "c1"}],
        ),
        (
            {"on": "date", "max_gap_days": 2},
            [("s", "e1", "2020-01-10T23:00")],
            [("s", "c1", "2020-01-12T01:00")],
            [{"ecg": "e1", "cmr": "c1"}],
        ),
        (
            {"on": "date"},
            [("s", "e1")],
            [("s", "c1", "2020-01-01")],
            [{"ecg": "e1"}, {"cmr": "c1"}],
        ),
    ],
)
def test_records_pair_as_the_rule_says(keys, ecg, cmr, expected):
    assert samples({"ecg": candidates(*ecg), "cmr": candidates(*cmr)}, **keys) == expected


def test_a_modality_without_dates_or_ids_gives_the_only_record():
    table = candidates(("s", "s"), has_ids=False, has_dates=False)
    ecg = candidates(("s", "e1", "2020-01-01"), ("s", "e2", "2021-01-01"))
    for on in ("date", "record", "subject"):
        assert samples({"ecg": ecg, "clinic": table}, on=on) == [
            {"ecg": "e1", "clinic": "s"},
            {"ecg": "e2", "clinic": "s"},
        ]


def test_the_anchor_leads_and_leftovers_pair_among_themselves():
    records = {
        "ecg": candidates(("s", "e1")),
        "cmr": candidates(("s", "c1"), ("t", "c2")),
        "clinic": candidates(("s", "k1"), ("t", "k2")),
    }
    assert samples(records) == [
        {"ecg": "e1", "cmr": "c1", "clinic": "k1"},
        {"cmr": "c2", "clinic": "k2"},
    ]
    assert samples(records, anchor="clinic")[1] == {"clinic": "k2", "cmr": "c2"}


def test_several_candidates_that_nothing_tells_apart_are_refused_with_a_fix():
    records = {"ecg": candidates(("s", "e1")), "cmr": candidates(("s", "c1"), ("s", "c2"))}
    pairs = pair(records, ["s"], PairingKeys(), "ecg")
    assert pairs.unclear == [("s", "cmr")]
    with pytest.raises(
        CohortError, match=r"several records of cmr(?s:.*)for 1 subject\n(?s:.*)max_gap_days"
    ):
        raise unclear_error(pairs.unclear, PairingKeys())


def test_what_could_not_be_paired_is_counted():
    records = {
        "ecg": candidates(("s", "e1", "2020-01-01"), ("t", "e2")),
        "cmr": candidates(("s", "c1", "2021-01-01"), ("t", "c2", "2021-01-01")),
    }
    pairs = pair(records, ["s", "t"], PairingKeys(on="date", max_gap_days=30), "ecg")
    assert pairs.beyond_gap == {"cmr": 1}
    assert pairs.undated == {"cmr": 1}


DAY = st.integers(0, 50).map(lambda n: str(np.datetime64("2020-01-01") + n))


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from("st"), DAY), max_size=5),
    st.lists(st.tuples(st.sampled_from("st"), DAY), max_size=5),
    st.integers(0, 20),
)
def test_no_record_is_lost_and_no_pair_breaks_the_rule(ecg, cmr, gap):
    records = {
        "ecg": candidates(*((s, f"e{n}", d) for n, (s, d) in enumerate(ecg))),
        "cmr": candidates(*((s, f"c{n}", d) for n, (s, d) in enumerate(cmr))),
    }
    pairs = pair(records, ["s", "t"], PairingKeys(on="date", max_gap_days=gap), "ecg")
    used = {name: [s[name] for _, s in pairs.samples if name in s] for name in records}
    assert sorted(used["ecg"]) == sorted(records["ecg"].record)
    assert set(used["cmr"]) == set(records["cmr"].record)
    for subject, sample in pairs.samples:
        if len(sample) == 2:
            e, c = int(sample["ecg"][1:]), int(sample["cmr"][1:])
            days = abs(np.datetime64(ecg[e][1]) - np.datetime64(cmr[c][1])).astype(int)
            others = [np.datetime64(d) for s, d in cmr if s == subject]
            nearest = min(abs(other - np.datetime64(ecg[e][1])).astype(int) for other in others)
            assert ecg[e][0] == cmr[c][0] == subject
            assert days == nearest <= gap


def test_a_sample_without_anchor_is_called_by_modality_and_record():
    records = {"ecg": candidates(("s", "1")), "cmr": candidates(("t", "1"))}
    pairs = pair(records, ["s", "t"], PairingKeys(), "ecg")
    frame = sample_frame(pairs, ["ecg", "cmr"], "ecg", pd.Series({"s": "train", "t": "tuning"}))
    assert list(frame["sample"]) == ["1", "cmr:1"]
    assert list(frame["split"]) == ["train", "tuning"]
    assert frame["ecg"].tolist() == ["1", None]


PEOPLE = ["p", "q", "r", "s", "t"]


@settings(deadline=None, max_examples=60)
@given(
    who=st.lists(st.sets(st.sampled_from(PEOPLE)), min_size=1, max_size=3),
    on=st.sampled_from(["subject", "record", "date"]),
    told=st.integers(0, 2),
)
def test_samples_made_at_once_are_those_that_pairing_makes(who, on, told):
    records = {
        f"m{number}": candidates(*((one, f"{one}{number}", "2020-01-01") for one in sorted(own)),
                                 has_ids=number < told, has_dates=number < told)
        for number, own in enumerate(who)
    }  # fmt: skip
    keys, sides = PairingKeys(on=on), pd.Series("train", PEOPLE)
    found = only_choices(records, PEOPLE[::-1], keys, "m0", sides)
    compared = on != "subject" and min(told, len(who)) > 1
    assert (found is None) == compared
    if found is not None:
        made = sample_frame(pair(records, PEOPLE[::-1], keys, "m0"), list(records), "m0", sides)
        pd.testing.assert_frame_equal(found, made)


def test_samples_are_not_made_at_once_where_somebody_has_two_records():
    twice = candidates(("p", "a"), ("p", "b"))
    assert only_choices({"m": twice}, ["p"], PairingKeys(), "m", pd.Series({"p": "train"})) is None
