import json

import pytest
import yaml

from medmcl.core.errors import ArtefactError
from medmcl.core.sealed import (
    SEAL,
    file_digest,
    read_sealed,
    reading,
    refuse_changed,
    sealed,
    unsealed,
)

TREE = {"name": "é", "deep": {"rate": 1e-5, "list": [1, None, True]}, "seed": 0}


def test_a_flipped_bit_is_told_wherever_it_is(tmp_path):
    path = tmp_path / "tree.json"
    whole = json.dumps(sealed(TREE)).encode()
    told = 0
    for at in range(len(whole)):
        for bit in (1, 2, 32):
            path.write_bytes(whole[:at] + bytes([whole[at] ^ bit]) + whole[at + 1 :])
            try:
                found = read_sealed(path)
            except ArtefactError:
                told += 1
            else:  # a blank became another, say
                assert found == TREE
    assert told > 2.5 * len(whole)


@pytest.mark.parametrize("content", [b"", b"[1]", b"{", b"\x00" * 20, b"null"])
def test_what_is_no_tree_is_damaged(tmp_path, content):
    path = tmp_path / "tree.json"
    path.write_bytes(content)
    with pytest.raises(ArtefactError, match=r"tree\.json: is damaged"):
        read_sealed(path)


def test_what_was_never_sealed_is_taken_as_it_is():
    assert unsealed(TREE, "here") == TREE
    assert unsealed({}, "here") == {}


def test_a_seal_outlives_json_and_yaml_and_keys_that_are_no_text():
    tree = {**TREE, "odd": {0: "no", 1: "yes"}}
    assert unsealed(json.loads(json.dumps(sealed(tree))), "here")["odd"] == {"0": "no", "1": "yes"}
    assert unsealed(yaml.safe_load(yaml.safe_dump(sealed(tree))), "here") == tree
    assert sealed(sealed(tree))[SEAL] == sealed(tree)[SEAL]


def test_a_file_is_known_by_its_digest(tmp_path):
    path = tmp_path / "x"
    path.write_bytes(b"content")
    refuse_changed(path, file_digest(path))
    refuse_changed(path, None)
    with pytest.raises(ArtefactError, match="not what was written"):
        refuse_changed(path, "0")
    with pytest.raises(ArtefactError, match="no such file"):
        refuse_changed(tmp_path / "y", None)


def test_lack_of_memory_is_no_damage(tmp_path):
    path = tmp_path / "x"
    path.write_bytes(b"content")
    with (
        pytest.raises(ArtefactError, match="claims more memory than there is, or little") as told,
        reading(path, "is no table", fix="have it sent again"),
    ):
        raise MemoryError("malloc of size 1")
    assert "sent again" not in str(told.value)
