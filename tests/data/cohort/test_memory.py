"""Memory by the person: of a table of 27 columns no more than what must be held, a few times."""

import os
import sys
import tracemalloc
from multiprocessing import get_context
from pathlib import Path

import pytest

import medmcl
from benchmarks.engine.scale import write_cohort
from medmcl.data.check.check import check_cohort
from medmcl.data.loading import reading

FEW, MANY = 2_000, 22_000
STEPS = {"opening": (medmcl.open_cohort, 500), "check": (check_cohort, 500)}
"""What is done, and bytes a person at most: some 210 of each are taken."""


def most(step, cohort):
    """The most memory (bytes) that a fork takes in which this is done."""
    taken, told = os.pipe()
    if not (fork := os.fork()):
        try:
            Path("/proc/self/clear_refs").write_text("5")  # the peak is counted from here
            step(cohort)
            status = Path("/proc/self/status").read_text()
            os.write(told, status.partition("VmHWM:")[2].split()[0].encode())
        finally:
            os._exit(0)
    assert os.waitpid(fork, 0)[1] == 0
    os.close(told)
    with os.fdopen(taken) as said:
        return 1024 * int(said.read())


def grown(name, cohorts):
    """How much more (bytes) the most is for many people than for few."""
    step, _ = STEPS[name]
    step(cohorts[40])  # what is imported is so in both forks
    return most(step, cohorts[MANY]) - most(step, cohorts[FEW])


@pytest.fixture(scope="module")
def cohorts(tmp_path_factory):
    folder = tmp_path_factory.mktemp("people")
    for people in (40, FEW, MANY):
        write_cohort(folder / str(people), people)
    return {people: folder / str(people) / "alone.yaml" for people in (40, FEW, MANY)}


@pytest.mark.skipif(sys.platform != "linux", reason="peaks are read in /proc")
@pytest.mark.parametrize("name", STEPS)
def test_a_person_takes_no_more_than_what_must_be_held(name, cohorts):
    with get_context("spawn").Pool(1) as fresh:  # heaps of other tests have room, and holes
        growth = fresh.apply(grown, (name, cohorts))
    assert growth < STEPS[name][1] * (MANY - FEW)


def test_check_takes_little_beside_an_open_cohort(cohorts, monkeypatch):
    monkeypatch.setattr(reading, "_AT_ONCE", 256)
    taken = {}
    for people in (40, FEW, MANY):
        cohort = medmcl.open_cohort(cohorts[people])
        tracemalloc.start()
        check_cohort(cohort)
        taken[people] = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert taken[MANY] - taken[FEW] < 70 * (MANY - FEW)  # it was 98, and is 49
