""""""

from __future__ import annotations

import numpy as np
import pytest

from medmcl.core.config import check
from medmcl.core.errors import CohortError, ConfigError
from medmcl.data.events.events import Events, Labels, ModalityRule, assign

EVENTS = Events(
    np.array([1, 1, 1, 2]), np.zeros(4, np.int64),
    Labels(np.array([0, 1, 2, 0]), ["A/1", "A/x", "B"]),
    columns={
        "kind": Labels(np.array([0, 1, -1, 0]), ["dx", "rx"]),
        "source": Labels(np.array([0, 0, 1, 1]), ["t1", "t2"]),
    },
)  # fmt: skip


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        ({"prefix": "A/"}, [1, 1, 0, 1]),
        ({"prefix": ["A/1", "B"]}, [1, 0, 1, 1]),
        ({"prefix": "A/", "not_prefix": "A/x"}, [1, 0, 0, 1]),
        ({"not_prefix": "A/"}, [0, 0, 1, 0]),
        ({"column": "kind", "values": "dx"}, [1, 0, 0, 1]),
        ({"source": "t2"}, [0, 0, 1, 1]),
        ({"source": "t2", "prefix": "A/"}, [0, 0, 0, 1]),
        ({"source": ["t1", "t2"], "column": "kind", "values": ["rx", "none"]}, [0, 1, 0, 0]),
    ],
)
def test_all_that_a_rule_says_must_hold(rule, expected):
    assert ModalityRule(**rule).holds(EVENTS).tolist() == list(map(bool, expected))


def test_events_get_the_number_of_their_modality():
    rules = {"x": ModalityRule(prefix="B"), "y": ModalityRule(prefix="A/1")}
    assert assign(EVENTS, rules).tolist() == [1, -1, 0, 1]
    with pytest.raises(CohortError, match="modalities y and z both claim an event") as raised:
        assign(EVENTS, {**rules, "z": ModalityRule(column="kind", values="dx")})
    assert "'A/1'" in str(raised.value)


@pytest.mark.parametrize(
    "rule", [{}, {"column": "kind"}, {"values": ["dx"]}, {"column": "source", "values": ["t1"]}]
)
def test_half_a_rule_is_refused(rule):
    with pytest.raises(ConfigError):
        check(ModalityRule, rule, "here", ConfigError)
