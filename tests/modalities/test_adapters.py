import pytest

from medmcl.core.config import Config
from medmcl.core.contracts import Adapter
from medmcl.modalities import ADAPTERS, readers

MEMBERS = [name for name in vars(Adapter) if not name.startswith("_")]


@pytest.mark.parametrize("kind", ADAPTERS)
def test_every_adapter_keeps_the_contract(kind):
    adapter = ADAPTERS[kind]
    assert adapter.kind == kind
    for name in MEMBERS:
        assert hasattr(adapter, name), name
    for name in ("Source", "Settings", "Augment"):
        assert issubclass(getattr(adapter, name), Config)
    adapter.Settings()
    adapter.Augment()


def test_readers_imply_kinds_that_exist_and_npy_implies_none():
    assert {kind for kinds in readers().values() for kind in kinds} <= set(ADAPTERS)
    assert "npy" not in readers()
