"""Golden numbers of all cards have a minute of a quiet CI, and say which card took it."""

from pathlib import Path
from types import SimpleNamespace

import pytest
from golden_time import MOST, Ledger, card_of

from medmcl import models

HERE = Path(__file__).parent


def told(*seconds):
    """A ledger that was told of a test of each card, and how its session ends."""
    ledger, session = Ledger(), SimpleNamespace(exitstatus=pytest.ExitCode.OK)
    for card, phases in seconds:
        said = [("golden_cpu_s", (card, one)) for one in phases]
        for number, when in enumerate(("setup", "call", "teardown"), 1):
            ledger.pytest_runtest_logreport(
                SimpleNamespace(when=when, user_properties=said[:number])
            )
    ledger.pytest_sessionfinish(session)
    return ledger, session.exitstatus


def test_every_card_has_golden_numbers_that_are_counted():
    found = {card_of(file) for file in HERE.glob("test_golden_*.py")} - {"time"}
    assert len(found) == len(models.names())
    assert all(any(name.startswith(one) for one in found) for name in models.names())
    assert card_of(HERE / "test_loading.py") is None


def test_too_much_of_all_together_fails_and_says_whose_it_is():
    part = MOST / 6
    ledger, status = told(("merl", (0, part, part)), ("cinema", (part, 2 * part, 0)))
    assert (ledger.said, status) == ("", pytest.ExitCode.OK)
    ledger, status = told(("merl", (0, part, part)), ("cinema", (part, 2 * part, 2 * part)))
    assert status == pytest.ExitCode.TESTS_FAILED
    first, cinema, merl = ledger.said.splitlines()
    assert f"took {7 * part:.1f} CPU seconds, more than {MOST:g}" in first
    assert (cinema.strip(), merl.strip()) == (f"cinema {5 * part:.1f}", f"merl {2 * part:.1f}")


def test_this_test_is_counted(request):
    """As those of cards are, by the same hooks."""
    assert any(key == "golden_cpu_s" for key, _ in request.node.user_properties)
