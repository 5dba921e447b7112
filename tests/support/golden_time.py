"""CPU seconds of the golden numbers of published models: CI has a minute for all cards together.

Counted where tests run and summed where they are reported, so that it holds with any number of
workers; other work on the machine does not count.
"""

from time import process_time

import pytest

MOST = 90.0
"""CPU seconds of all golden tests, with fixtures, weights and nets: the minute, on a busy machine.

The same tests have taken half as long again beside other work as on a quiet machine (42 seconds).
"""
_KEY, _SINCE = "golden_cpu_s", pytest.StashKey[float]()


def card_of(path):
    """The card that a file of tests has the golden numbers of; None of other files."""
    is_golden = path.parent.name == "published" and path.name.startswith("test_golden_")
    return path.stem.removeprefix("test_golden_") if is_golden else None


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item):
    item.stash[_SINCE] = process_time()
    return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item):
    card = card_of(item.path)
    if card is not None:
        now = process_time()
        item.user_properties.append((_KEY, (card, now - item.stash[_SINCE])))
        item.stash[_SINCE] = now
    return (yield)


class Ledger:
    """Sums what reports say, each of which repeats those of its test before it."""

    def __init__(self):
        self.by_card = {}

    def pytest_runtest_logreport(self, report):
        if report.when == "teardown":
            for key, said in report.user_properties:
                if key == _KEY:
                    self.by_card[said[0]] = self.by_card.get(said[0], 0.0) + said[1]

    @property
    def said(self):
        """What is wrong; empty where nothing is."""
        total = sum(self.by_card.values())
        if total <= MOST:
            return ""
        each = sorted(self.by_card.items(), key=lambda one: -one[1])
        lines = [f"golden numbers of all cards took {total:.1f} CPU seconds, more than {MOST:g}:"]
        return "\n".join([*lines, *(f"  {card} {seconds:.1f}" for card, seconds in each)])

    def pytest_sessionfinish(self, session):
        if self.said and session.exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter):
        if self.said:
            terminalreporter.write_line(self.said, red=True)


def pytest_configure(config):
    if not hasattr(config, "workerinput"):
        config.pluginmanager.register(Ledger())
