"""Locks of whoever was killed when all was written go with the next command."""

import pytest

from medmcl.cooccurrence.count.people import KEY, register_key
from medmcl.cooccurrence.release.ledger import Ledger
from medmcl.core.errors import ArtefactError


def test_the_lock_of_a_budget_that_is_there(tmp_path):
    path = tmp_path / "budget.json"
    Ledger.start(path, epsilon=1, delta=1e-6)
    lock = tmp_path / ".budget.json.lock"
    lock.touch()
    with pytest.raises(ArtefactError, match="there is a budget already"):
        Ledger.start(path, epsilon=1, delta=1e-6)
    assert not lock.exists()


def test_the_lock_of_a_key_that_is_there(tmp_path):
    key, lock = register_key(tmp_path), tmp_path / f".{KEY}.lock"
    lock.touch()
    assert register_key(tmp_path) == key
    assert not lock.exists()
