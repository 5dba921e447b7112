"""What a folder of counts says of where it comes from, and that edits of it are found."""

import json
from dataclasses import replace

import numpy as np
import pytest
from scipy import sparse
from small_counts import some_counts, tables, vocabularies

from medmcl.cooccurrence import Vocabulary, count_tokens
from medmcl.cooccurrence.count.counts import Block, Provenance, fingerprint_of
from medmcl.cooccurrence.exchange.flat import layout_of
from medmcl.cooccurrence.exchange.folder import load_counts, read_manifest, save_counts
from medmcl.cooccurrence.exchange.merging import merge
from medmcl.cooccurrence.release.release import release_threshold
from medmcl.core.errors import ArtefactError
from medmcl.stages.cooccur.merge import merge_folders
from medmcl.stages.cooccur.release import release_folders


@pytest.fixture
def sites(tmp_path):
    words = vocabularies(6, 5)
    return [
        save_counts(count_tokens(*tables(k), vocabularies=words), tmp_path / f"s{k}")
        for k in range(4)
    ]


def test_a_site_is_not_counted_twice_through_a_sum(sites, tmp_path):
    a, b, c, d = sites
    ab, cd = tmp_path / "ab", tmp_path / "cd"
    merge_folders([a, b], ab)
    merge_folders([c, d], cd)
    for folders in ((ab, a), (a, ab), (ab, c, b)):
        with pytest.raises(ArtefactError, match="would be added twice"):
            merge(*folders)
    abc = save_counts(merge(ab, c), tmp_path / "abc")
    for folders in ((abc, a), (abc, c), (abc, cd), (d, ab, abc)):
        with pytest.raises(ArtefactError, match="would be added twice"):
            merge(*folders)
    with pytest.raises(ArtefactError, match="would be added twice"):
        release_folders([ab, a], tmp_path / "release")
    told = merge_folders([ab, cd], tmp_path / "all")
    manifest = read_manifest(tmp_path / "all")
    assert told["sites"] == manifest.sites == 4  # as many as were counted, not folders named
    assert set(manifest.merged_from) == {fingerprint_of(load_counts(site)) for site in sites}
    again = merge(load_counts(a), load_counts(b))
    assert again.provenance.merged_from == load_counts(ab).provenance.merged_from


def test_sites_with_nothing_counted_are_no_copies(sites, tmp_path):
    empty = layout_of(load_counts(sites[0])).empty
    one, two = (save_counts(empty, tmp_path / name) for name in ("e1", "e2"))
    assert merge(sites[0], one, two).sites == 3


def test_a_fingerprint_is_of_numbers_not_of_their_storage():
    counts = some_counts()
    (pair, block), *_ = counts.blocks.items()
    cells = block.pairs.tocoo()
    i, j = cells.coords
    back = np.arange(len(i))[::-1]
    pairs = sparse.csr_array((cells.data[back], (i[back], j[back])), shape=cells.shape)
    stored = replace(counts, blocks={**counts.blocks, pair: Block(pairs, block.patients)})
    assert fingerprint_of(stored) == fingerprint_of(counts)
    more = block.pairs.copy()
    more.data[0] += 1
    other = replace(counts, blocks={**counts.blocks, pair: Block(more, block.patients)})
    assert fingerprint_of(other) != fingerprint_of(counts)
    assert fingerprint_of(replace(counts, patients=counts.patients + 1)) != fingerprint_of(counts)


def test_a_release_tells_nothing_of_what_is_behind_it(tmp_path):
    origin = Provenance(("a" * 64, "b" * 64), 7, ("train",))
    counts = replace(some_counts(4, n=70), provenance=origin)
    folder = release_threshold(counts).save(tmp_path / "out")
    assert load_counts(folder).provenance == Provenance(splits=("train",))
    assert layout_of(counts).empty.provenance == Provenance()
    released = release_threshold(counts)
    telling = replace(released, counts=replace(released.counts, provenance=origin))
    with pytest.raises(ArtefactError, match=r"outside the vocabulary; fingerprints"):
        telling.save(tmp_path / "no")


def test_a_union_with_codes_that_were_left_out_is_refused():
    a = some_counts()
    words = a.vocabularies["codes"]
    renamed = Vocabulary(tuple(f"{t}x" for t in words.tokens), words.version)
    b = replace(some_counts(1), vocabularies={**a.vocabularies, "codes": renamed})
    assert merge(a, b, align="union").sites == 2
    left = replace(b, provenance=Provenance(outside_vocabulary=12))
    with pytest.raises(ArtefactError, match=r"site 2: .*(.|\n)*12 events(.|\n)*merge-embeddings"):
        merge(a, left, align="union")
    same = replace(some_counts(1), provenance=Provenance(outside_vocabulary=12))
    assert merge(a, same, align="union").sites == 2  # one vocabulary: nothing is spread
    whole = replace(b, provenance=Provenance(outside_vocabulary=0))
    assert merge(a, whole, align="union").provenance.outside_vocabulary is None  # a says nothing
    with pytest.raises(ArtefactError, match=r"to fix: .*embed each site(.|\n)*--align union"):
        merge(a, b)


@pytest.mark.parametrize(
    "change",
    [
        {"units": 999, "patients": 999},
        {"nested": []},
        {"notes": ["all is well"]},
        {"splits": ["train"]},
        {"medmcl": "0"},
        {"merged_from": []},
    ],
)
def test_an_edited_manifest_is_found(tmp_path, caplog, change):
    origin = Provenance(("a" * 64,), 3, ("held_out", "train"))
    counts = replace(some_counts(), nested=("codes",), provenance=origin)
    folder = save_counts(counts, tmp_path / "site")
    assert load_counts(folder).provenance == origin
    path = folder / "manifest.json"
    values = json.loads(path.read_text())
    path.write_text(json.dumps(values, sort_keys=True))  # the layout of the text is no content
    assert not caplog.records
    load_counts(folder)
    path.write_text(json.dumps({**values, **change}))
    with pytest.raises(ArtefactError, match="changed after it was written"):
        load_counts(folder)
    del values["checksum"]
    path.write_text(json.dumps(values))
    load_counts(folder)
    assert "has no checksum" in caplog.text


def test_a_merge_names_who_is_suppressed(tmp_path):
    counts = some_counts(4, n=70)
    released = release_threshold(counts).save(tmp_path / "released")
    exact = save_counts(some_counts(5, n=70), tmp_path / "exact")
    for folders in ((released, exact), (exact, released)):
        with pytest.raises(ArtefactError, match=r"released: counts with suppressed cells"):
            merge(*folders)
