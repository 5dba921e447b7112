import inspect
from pathlib import Path

from medmcl import evaluation


def test_functions_are_functions_whatever_was_imported_before():
    """An imported folder of the package would hide a function of its name."""
    here = Path(evaluation.__file__).parent
    assert not {path.stem for path in here.iterdir()} & {*evaluation.__all__}
    for name in evaluation.__all__:
        found = getattr(evaluation, name)
        assert callable(found) or name == "METRICS", name
        assert not inspect.ismodule(found), name
