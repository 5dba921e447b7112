"""Lines of texts as people save them, and what is no text."""

import bz2
import codecs
import gzip
import lzma

import numpy as np
import pytest

from medmcl.core import limits, plain_text
from medmcl.core.errors import ArtefactError, ConfigError, RecordError
from medmcl.core.plain_text import refuse_unsound_text, text_lines
from medmcl.stages.train.train_filter import listed_ids


def test_a_mark_before_the_text_is_no_part_of_the_first_line(tmp_path):
    path = tmp_path / "ids.txt"
    path.write_bytes(codecs.BOM_UTF8 + "s1\r\nsé2\n".encode())
    assert text_lines(path) == ["s1", "sé2"]
    assert listed_ids(path, ["s1", "sé2"], "ids") == ["s1", "sé2"]


def test_another_encoding_and_no_file_are_refused_in_words(tmp_path):
    path = tmp_path / "ids.txt"
    path.write_text("s1\n", encoding="utf-16")
    with pytest.raises(ArtefactError, match=r"cannot be read(.|\n)*expected: +ids(.|\n)*UTF-16"):
        listed_ids(path, ["s1"], "ids")
    path.write_bytes(b"s\xff1\n")
    with pytest.raises(ConfigError, match=r"cannot be read(.|\n)*UTF-8"):
        text_lines(path, "table", ConfigError)
    with pytest.raises(ConfigError, match=r"ids\.txt"):
        text_lines(tmp_path / "none" / "ids.txt", "table", ConfigError)


@pytest.mark.parametrize("body", [b"\n" * 2**22, b"p1," + b"a" * 2**22, b"p1,0.5\n" * 2**19])
@pytest.mark.parametrize("opener", [gzip.open, bz2.open, lzma.open])
def test_a_table_that_is_packed_far_smaller_than_people_are_is_refused(
    body, opener, tmp_path, monkeypatch
):
    few = 2**20
    monkeypatch.setattr(limits, "FEW_INFLATED", few)
    monkeypatch.setattr(plain_text, "FEW_INFLATED", few)
    ending = {gzip.open: "gz", bz2.open: "bz2", lzma.open: "xz"}[opener]
    path = tmp_path / f"labs.csv.{ending}"
    with opener(path, "wb") as file:
        file.write(b"pid,crp\n" + body)
    with pytest.raises(RecordError, match=r"more text than a packed table(.|\n)*become more than"):
        refuse_unsound_text(path)
    monkeypatch.setenv("MEDMCL_TABLE_INFLATES", "2e5")
    refuse_unsound_text(path)
    monkeypatch.setenv("MEDMCL_TABLE_INFLATES", "none")
    with pytest.raises(ConfigError, match="MEDMCL_TABLE_INFLATES"):
        refuse_unsound_text(path)


def test_a_packed_table_of_measured_values_is_read_and_anew_once_it_has_changed(
    tmp_path, monkeypatch
):
    monkeypatch.setattr(limits, "FEW_INFLATED", 1000)
    monkeypatch.setattr(plain_text, "FEW_INFLATED", 1000)
    path = tmp_path / "labs.csv.gz"
    values = np.random.default_rng(0).normal(size=5000).round(2)
    path.write_bytes(gzip.compress(b"crp\n" + b"".join(b"%.2f\n" % one for one in values)))
    refuse_unsound_text(path)
    path.write_bytes(gzip.compress(b"crp\n" + b"\n" * 2**20))
    with pytest.raises(RecordError, match="more text"):
        refuse_unsound_text(path)
