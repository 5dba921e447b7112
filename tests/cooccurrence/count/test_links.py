"""Files that a spec counts lie where it says; links lead out of there only where it allows it."""

import pytest
import yaml

from medmcl.cooccurrence.count.spec import load_spec
from medmcl.core.errors import CohortError

EVENTS = "who,what\na,x\n"


def spec(root, source, **more):
    file = root / "counts.yaml"
    file.write_text(
        yaml.safe_dump({"schema": "medmcl/cooccurrence@1", "sources": [source], **more})
    )
    return file


def table(path="events.csv", **more):
    return {"kind": "table", "path": path, "subject": "who", "code": "what", **more}


@pytest.fixture
def root(tmp_path):
    elsewhere = tmp_path / "elsewhere"
    (tmp_path / "root" / "synthea").mkdir(parents=True)
    elsewhere.mkdir()
    for name in ("events.csv", "join.csv", "codes.csv", "conditions.csv"):
        (elsewhere / name).write_text(EVENTS)
        folder = tmp_path / "root" / ("synthea" if name == "conditions.csv" else "")
        (folder / name).symlink_to(elsewhere / name)
    (tmp_path / "root" / "own.csv").write_text(EVENTS)
    (tmp_path / "root" / "beside.csv").symlink_to(tmp_path / "root" / "own.csv")
    return tmp_path / "root"


LINKED = {
    "a table": (table(), {}),
    "a table that is joined": (
        table("own.csv", join={"table": "join.csv", "on": {"who": "who"}}),
        {},
    ),
    "a file of a folder": ({"kind": "synthea", "path": "synthea"}, {}),
    "a list of codes": (
        table("own.csv"),
        {"modalities": {"codes": {"prefix": "x"}}, "vocabulary": {"files": {"codes": "codes.csv"}}},
    ),
}


@pytest.mark.parametrize(("source", "more"), LINKED.values(), ids=LINKED)
def test_links_out_of_the_data_root_are_refused_unless_the_spec_allows_them(root, source, more):
    with pytest.raises(CohortError, match=r"links out of(?s:.)*counts.yaml says so: roots:"):
        load_spec(spec(root, source, **more))
    load_spec(spec(root, source, **more, roots=[str(root.parent / "elsewhere")]))


def test_links_within_and_paths_that_are_written_out_are_read(root):
    load_spec(spec(root, table("beside.csv")))
    load_spec(spec(root, table(str(root.parent / "elsewhere" / "events.csv"))))
