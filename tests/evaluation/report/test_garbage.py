"""Old objects are passed over within the block only; what is made in it is collected."""

import gc
import weakref

import pytest

from medmcl.evaluation.report.page import old_objects_passed_over


@pytest.fixture(autouse=True)
def nothing_frozen():
    """Of the process of the tests what was there first is frozen (conftest.py)."""
    frozen = gc.get_freeze_count()
    gc.unfreeze()
    yield
    if frozen:
        gc.freeze()


class Node:
    """Something that can hold itself."""


def ring():
    node = Node()
    node.own = node
    return weakref.ref(node)


def test_old_garbage_waits_and_new_garbage_does_not():
    gc.disable()
    try:
        old = ring()
        with old_objects_passed_over():
            new = ring()
            gc.collect()
            assert (old() is None, new() is None) == (False, True)
        gc.collect()
        assert old() is None
    finally:
        gc.enable()


def test_an_error_ends_it_too():
    with pytest.raises(ValueError, match="of the block"), old_objects_passed_over():
        raise ValueError("of the block")
    assert gc.get_freeze_count() == 0


def test_what_a_caller_froze_stays_frozen():
    gc.freeze()
    try:
        count = gc.get_freeze_count()
        with old_objects_passed_over():
            pass
        assert gc.get_freeze_count() > count // 2  # some may have gone; thawed are all
    finally:
        gc.unfreeze()
