"""Messages stay short, whatever a file holds."""

from __future__ import annotations

import pickle

import pytest

from medmcl.core.errors import (
    CohortError,
    ConfigError,
    ExtraNotInstalledError,
    RecordError,
    damage,
)
from medmcl.core.findings import record_finding
from medmcl.data.loading.cache import ClosedSplitError


@pytest.mark.parametrize(
    "said",
    [
        lambda cell: str(CohortError("a number is no number", got=cell)),
        lambda cell: CohortError("a number is no number", expected=cell).detailed,
        lambda cell: str(record_finding("tabular", "number", "p1", f"got '{cell}'", "write one")),
    ],
    ids=["got", "detailed", "finding"],
)
def test_a_value_of_megabytes_does_not_fill_a_message(said):
    assert len(said("x" * 3_000_000)) < 5_500
    assert "more letters" in said("x" * 3_000_000)
    assert "more letters" not in said("x" * 300)


@pytest.mark.parametrize(
    ("raised", "fixes"),
    [
        (ValueError("bad magic"), ("copy it again",)),
        (MemoryError(), ("free memory", "copy it again")),
    ],
)
def test_what_a_library_raises_on_a_file_is_told_in_words(raised, fixes):
    with pytest.raises(RecordError, match="damaged") as caught, damage("a.bin"):
        raise raised
    assert all(fix in caught.value.fix for fix in fixes)
    with pytest.raises(KeyboardInterrupt), damage("a.bin"):
        raise KeyboardInterrupt
    ours = ConfigError("own words")
    with pytest.raises(ConfigError, match="own words"), damage("a.bin"):
        raise ours


@pytest.mark.parametrize(
    "error",
    [
        ConfigError("is wrong", where="here", got=3, fix="another"),
        ExtraNotInstalledError("ray", "ray"),
        ClosedSplitError("held_out", "stage heads (train)"),
    ],
)
def test_an_error_that_another_process_sends_says_the_same(error):
    error.add_note("there")
    sent = pickle.loads(pickle.dumps(error))
    assert (type(sent), str(sent), vars(sent)) == (type(error), str(error), vars(error))
