import errno
import io
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from unittest.mock import patch

import pytest
from killed import forked

from medmcl.core.atomic import (
    append_line,
    file_aside,
    folder_aside,
    process_space,
    process_start,
    put_back,
    remove_whole,
    working_folder,
    write_atomically,
)
from medmcl.core.errors import ArtefactError, CohortError
from medmcl.core.file_lock import claimed
from medmcl.core.whole_folder import whole_folder
from medmcl.core.writing import DiskError, refuse_unwritable
from medmcl.data.cohort.locate import find_cohort

KILLED = """
import os, pathlib, signal
from medmcl.core.atomic import {how}
with {how}(pathlib.Path({path!r})) as aside:
    ({inside}).write_text("half")
    os.kill(os.getpid(), signal.SIGKILL)
"""


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_file_is_replaced_whole(tmp_path):
    path = tmp_path / "below" / "a.json"
    write_atomically(path, "old é")
    write_atomically(path, b"new")
    assert path.read_text() == "new"
    assert names(path.parent) == ["a.json"]


def test_the_old_content_stays_and_nothing_is_left_where_writing_fails(tmp_path):
    path = tmp_path / "a.json"
    write_atomically(path, "old")

    def half():
        with file_aside(path) as aside:
            aside.write_text("half")
            raise ValueError

    with pytest.raises(ValueError):
        half()
    assert path.read_text() == "old"
    assert names(tmp_path) == ["a.json"]


@pytest.mark.parametrize(
    ("how", "inside"),
    [("file_aside", "aside"), ("folder_aside", "aside / 'x'"), ("working_folder", "aside / 'x'")],
)
def test_a_part_goes_when_its_writer_is_dead_and_not_before(tmp_path, how, inside):
    path = tmp_path / "made"
    if how == "file_aside":
        path.write_text("old")
    script = KILLED.format(how=how, path=str(path), inside=inside)
    done = subprocess.run([sys.executable, "-c", script], check=False)
    assert done.returncode == -9
    assert path.read_text() == "old" if how == "file_aside" else not path.exists()
    (part,) = [name for name in names(tmp_path) if name.endswith(".part")]
    (tmp_path / ".somebody.part").write_text("not ours")
    writer = f"-{os.getppid()}-{process_start(os.getppid())}-"
    living = tmp_path / re.sub(r"-\d+-\d+-", writer, part)
    elsewhere = tmp_path / re.sub(r"\.[0-9a-f]{8}-", ".00000000-", part)
    living.touch()
    elsewhere.touch()
    write_atomically(tmp_path / "other", "parts of the dead go")
    assert not (tmp_path / part).exists()
    assert living.exists()
    assert elsewhere.exists()
    old = time.time() - 8 * 86_400
    for one in (living, elsewhere, tmp_path / ".somebody.part"):
        os.utime(one, (old, old))
    write_atomically(tmp_path / "other", "and after a week those of writers that cannot be asked")
    assert not elsewhere.exists()
    assert living.exists()
    assert (tmp_path / ".somebody.part").exists()


def test_an_earlier_process_of_the_same_number_is_dead(tmp_path):
    """A container that is started again: the parts of its first life stayed, and what it replaced
    was gone for good."""
    ours, earlier = (
        f"{process_space()}-{os.getpid()}-",
        f"{process_space()}-{os.getpid()}-7-0a0a0a0a",
    )
    replaced = tmp_path / f".made.{earlier}-replaced.part"
    replaced.mkdir()
    part = tmp_path / f".other.{earlier}.part"
    part.touch()
    with file_aside(tmp_path / "new"):
        assert not part.exists()
        (own,) = (one for one in names(tmp_path) if ours in one)
        write_atomically(tmp_path / "beside", "x")
        assert own in names(tmp_path)
    assert (tmp_path / "made").is_dir()
    put_back(tmp_path / "made")
    assert names(tmp_path) == ["beside", "made", "new"]


def test_a_process_that_ended_and_was_not_waited_for_is_dead(tmp_path):
    process = os.fork()
    if not process:
        who = f"{process_space()}-{os.getpid()}-{process_start(os.getpid())}-0a0a0a0a"
        (tmp_path / f".made.{who}.part").touch()
        os._exit(0)
    os.waitid(os.P_PID, process, os.WEXITED | os.WNOWAIT)
    write_atomically(tmp_path / "other", "x")
    assert names(tmp_path) == ["other"]
    os.waitpid(process, 0)


def test_a_folder_appears_with_all_that_is_in_it(tmp_path):
    path = tmp_path / "below" / "made"
    with folder_aside(path) as aside:
        (aside / "deep").mkdir()
        (aside / "deep" / "x").write_text("x")
        assert not path.exists()
    assert (path / "deep" / "x").read_text() == "x"
    assert names(path.parent) == ["made"]


def test_a_folder_that_somebody_made_meanwhile_is_not_replaced(tmp_path):
    path = tmp_path / "made"

    def second():
        with folder_aside(path) as aside:
            (aside / "x").write_text("second")
            path.mkdir()
            (path / "x").write_text("first")

    with pytest.raises(OSError):
        second()
    assert (path / "x").read_text() == "first"
    assert names(tmp_path) == ["made"]


def test_a_folder_that_is_replaced_is_never_lost(tmp_path):
    """Killed while the old one was deleted, neither was there, and the next writer swept both."""
    home = tmp_path / "home"
    home.mkdir()
    path, at, status, gaps = home / "made", 0, -9, 0

    def content():
        return {one.name: one.read_text() for one in path.iterdir()}

    def run():
        with folder_aside(path, replace=True) as aside:
            for name in "abc":
                (aside / name).write_text("new")

    while status == -9:
        at += 1
        shutil.rmtree(home)
        path.mkdir(parents=True)
        for name in "xyz":
            (path / name).write_text("old")
        status, _ = forked(run, home, at=at)
        gaps += not path.exists()
        if at % 2:
            put_back(path)  # whoever opens it
        write_atomically(home / "other", "the next writer")
        assert content() in (dict.fromkeys("xyz", "old"), dict.fromkeys("abc", "new"))
        assert names(home) == ["made", "other"]
    assert status == 0
    assert content()["a"] == "new"
    assert gaps == 1
    assert at > 8


def test_what_a_link_led_to_is_put_back(tmp_path):
    link = tmp_path / "link"
    link.symlink_to(tmp_path / "disk" / "made")
    left = tmp_path / "disk" / ".made.00000000-1-00000000-replaced.part"  # of a killed writer
    left.mkdir(parents=True)
    (left / "x").write_text("old")
    with (
        pytest.raises(CohortError, match="not empty"),
        whole_folder(link, marks=("x",), overwrite=False),
    ):
        pass
    assert (link / "x").read_text() == "old"
    shutil.move(link.resolve(), left)
    put_back(link)  # whoever opens it
    assert (link / "x").read_text() == "old"


def test_a_folder_that_cannot_take_the_place_of_another_leaves_it(tmp_path, monkeypatch):
    """A disk that fails between the two renames, and one that a container left there."""
    path, rename = tmp_path / "made", Path.rename
    path.mkdir()
    (path / "x").write_text("old")

    def fails(one, other):
        if other == path and not one.stem.endswith("-replaced"):
            raise OSError(errno.EIO, "the disk")
        return rename(one, other)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", fails)
        with pytest.raises(DiskError), folder_aside(path, replace=True) as aside:
            (aside / "x").write_text("new")
    assert names(tmp_path) == ["made"]
    path.rename(tmp_path / ".made.00000000-1-0a0a0a0a-replaced.part")
    with pytest.raises(CohortError, match=r"holds no cohort\.yaml"):  # it looked for one there
        find_cohort(path)
    assert (path / "x").read_text() == "old"


def test_permissions_follow_the_umask_and_what_is_asked(tmp_path):
    before = os.umask(0o027)
    try:
        write_atomically(tmp_path / "shared", "x")
        write_atomically(tmp_path / "secret", "x", mode=0o600)
    finally:
        os.umask(before)
    assert (tmp_path / "shared").stat().st_mode & 0o777 == 0o640
    assert (tmp_path / "secret").stat().st_mode & 0o777 == 0o600


def test_a_private_file_that_a_library_wrote_is_as_the_umask_lets(tmp_path):
    with file_aside(tmp_path / "made") as aside:
        aside.unlink()
        os.close(os.open(aside, os.O_WRONLY | os.O_CREAT, 0o600))
    (tmp_path / "plain").touch()
    modes = {(tmp_path / name).stat().st_mode for name in ("made", "plain")}
    assert len(modes) == 1


def test_a_folder_is_replaced_whole(tmp_path):
    path = tmp_path / "made"
    for content in ("old", "new"):
        with folder_aside(path, replace=True) as aside:
            (aside / content).write_text(content)
            assert names(path) == ["old"] if content == "new" else not path.exists()
    assert names(path) == ["new"]
    assert names(tmp_path) == ["made"]


def test_a_part_of_a_dead_writer_can_be_removed_by_name(tmp_path):
    """What is removed is renamed first, and whoever needs a name takes parts of the dead away."""
    code, _ = forked(lambda: remove_killed(tmp_path), tmp_path)
    assert code == -9
    (part,) = tmp_path.glob(".*.part")
    remove_whole(part)
    assert not names(tmp_path)


def remove_killed(folder):
    (folder / "step").mkdir()
    with patch.object(shutil, "rmtree", lambda *_, **__: os.kill(os.getpid(), signal.SIGKILL)):
        remove_whole(folder / "step")


def test_a_working_folder_goes(tmp_path):
    with working_folder(tmp_path / "made") as aside:
        (aside / "x").write_text("x")
    assert not names(tmp_path)


def test_a_line_after_one_that_was_cut_is_a_line(tmp_path):
    path = tmp_path / "lines"
    append_line(path, "one")
    path.write_bytes(path.read_bytes() + b"tw")
    append_line(path, "three")
    append_line(path, "four")
    assert path.read_text().splitlines() == ["one", "tw", "three", "four"]


def test_a_disk_that_fills_up_takes_no_line_of_another_process(tmp_path, monkeypatch):
    path, real = tmp_path / "lines", io.FileIO.write

    class Full(io.FileIO):
        def write(self, content):
            monkeypatch.undo()
            real(self, bytes(content)[:2])
            append_line(path, "of another")
            raise OSError(errno.ENOSPC, "No space left on device")

    append_line(path, "one")
    monkeypatch.setattr(Path, "open", lambda self, *_, **__: Full(self, "a+"))
    with pytest.raises(DiskError):
        append_line(path, "mine")
    assert path.read_text().splitlines() == ["one", "mi", "of another"]


def test_a_link_to_a_folder_stays_one_and_what_it_leads_to_is_made(tmp_path):
    (tmp_path / "disk" / "real").mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / "disk" / "real")
    with folder_aside(tmp_path / "link", replace=True) as aside:
        (aside / "a").write_text("1")
    assert (tmp_path / "link").is_symlink()
    assert [one.name for one in (tmp_path / "disk").rglob("*")] == ["real", "a"]
    assert sorted(one.name for one in tmp_path.iterdir()) == ["disk", "link"]


@pytest.mark.parametrize("name", [".", "", ".."])
def test_what_is_put_in_place_has_a_name(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ArtefactError, match="is no name"):
        write_atomically(Path(name), "x")
    with pytest.raises(ArtefactError, match="is no name"), folder_aside(tmp_path, replace=True):
        pass
    with pytest.raises(ArtefactError, match="is no name"), claimed(Path(name), "it is made"):
        pass
    assert list(tmp_path.iterdir()) == []


def test_a_link_that_leads_nowhere_is_no_place_to_write(tmp_path):
    (tmp_path / "link").symlink_to(tmp_path / "gone")
    with pytest.raises(ArtefactError, match="leads nowhere"):
        refuse_unwritable(tmp_path / "link")


@pytest.mark.parametrize("made", ["file", "folder"])
def test_what_is_renamed_is_on_disk_before_and_its_folder_after(made, tmp_path, monkeypatch):
    """After a loss of power a name leads to what is whole, and a later pointer to that name."""
    done, rename = [], getattr(Path, "replace" if made == "file" else "rename")

    def renamed(self, target):
        done.append("renamed")
        return rename(self, target)

    monkeypatch.setattr("medmcl.core.atomic.bring_to_disk", done.append)
    monkeypatch.setattr(Path, "replace" if made == "file" else "rename", renamed)
    if made == "file":
        with file_aside(tmp_path / "new") as aside:
            aside.write_text("x")
        before = [aside]
    else:
        with folder_aside(tmp_path / "new") as aside:
            (aside / "below").mkdir()
            (aside / "below" / "weights").write_text("x")
        before = [aside / "below", aside / "below" / "weights", aside]
    assert done == [*before, "renamed", tmp_path]
