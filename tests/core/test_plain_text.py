"""Lines of texts as people save them, and what is no text."""

import codecs

import pytest

from medmcl.core.errors import ArtefactError, ConfigError
from medmcl.core.plain_text import text_lines
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
