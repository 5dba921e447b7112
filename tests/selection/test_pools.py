import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from medmcl.core.contracts import ScoredPool
from medmcl.core.errors import ArtefactError, MedmclError
from medmcl.selection import (
    SCORERS,
    clip_score,
    map_parquet,
    near_duplicates,
    neg_clip_loss,
    norm_sim,
    norm_sim_dynamic,
)
from medmcl.selection.pools import Pool


def write(path, rows, prefix="e", **more):
    # e10 before e2, as sorting by name would have it
    names = sorted(f"{prefix}{i}" for i in range(rows.shape[1]))
    columns = {name: rows[:, int(name.removeprefix(prefix))] for name in names}
    pq.write_table(pa.table(columns | more), path, row_group_size=7)


def test_parquet_is_mapped_in_the_order_of_its_numbers(tmp_path):
    rows = np.random.default_rng(0).normal(size=(30, 12)).astype(np.float32)
    write(tmp_path / "t.parquet", rows, extra=np.arange(30))
    found = map_parquet(tmp_path / "t.parquet", "e", tmp_path / "pool.npy")
    assert isinstance(found, np.memmap)
    np.testing.assert_array_equal(found, rows)
    with pytest.raises(ArtefactError, match="there already"):
        map_parquet(tmp_path / "t.parquet", "e", tmp_path / "pool.npy")


def test_a_table_without_embeddings_is_refused(tmp_path):
    rows = np.ones((3, 2), np.float32)
    write(tmp_path / "t.parquet", rows)
    with pytest.raises(ArtefactError, match="has no columns z0"):
        map_parquet(tmp_path / "t.parquet", "z", tmp_path / "pool.npy")
    pq.write_table(pa.table({"e0": [1.0, None]}), tmp_path / "holes.parquet")
    with pytest.raises(ArtefactError, match="row group 0 has empty cells"):
        map_parquet(tmp_path / "holes.parquet", "e", tmp_path / "pool.npy")
    (tmp_path / "text.parquet").write_text("no")
    with pytest.raises(ArtefactError, match="no parquet file"):
        map_parquet(tmp_path / "text.parquet", "e", tmp_path / "pool.npy")
    assert not list(tmp_path.glob("*pool.npy*"))


def test_half_precision_is_widened(pairs):
    image, text = pairs(50, width=64, dtype=torch.float32)
    expected = clip_score(image, text)
    for dtype in (torch.float16, torch.bfloat16):
        found = clip_score(image.to(dtype), text.to(dtype))
        assert found.dtype == torch.float32
        torch.testing.assert_close(found, expected, rtol=0, atol=5e-3)
    assert clip_score(image.half().numpy(), text.double()).dtype == torch.float64


def test_products_are_not_narrowed_by_autocast(pairs):
    image, text = pairs(50, width=64, dtype=torch.float32)
    scores = (
        lambda: neg_clip_loss(image, text, 0.07, 50),
        lambda: norm_sim(image, text, 1),
        lambda: norm_sim(image, text, 2),
        lambda: norm_sim_dynamic(image, 5, 9),
        lambda: near_duplicates(torch.cat([image, text]), 0.6),
    )
    expected = [score() for score in scores]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = [score() for score in scores]
    assert all(torch.equal(a, b) for a, b in zip(expected, found, strict=True))


def test_what_is_no_matrix_of_embeddings_is_refused():
    with pytest.raises(MedmclError, match="must be a matrix"):
        Pool(torch.ones(3), "image")
    with pytest.raises(MedmclError, match="floating-point"):
        Pool(np.ones((3, 2), int), "image")


def test_the_rows_given_are_left_as_they_are(pairs):
    image, text = pairs(20)
    image *= 2
    before = image.clone()
    with pytest.warns(UserWarning, match="unit length"):
        neg_clip_loss(image, text, 0.1, 10)
    assert torch.equal(image, before)


def scored(name, pool, **settings):
    part = SCORERS[name]
    return part(part.Settings(kind=name, **settings)).score(pool)


def test_scorers_are_the_functions_with_their_settings(pairs):
    ecg, report = pairs(30)
    target = pairs(9, seed=1)[0]
    pool = ScoredPool(
        ids=torch.arange(30), pooled={"ecg": ecg, "report": report}, pair=("ecg", "report"),
        device=torch.device("cpu"), seed=3, temperature=lambda: 0.1, target=lambda *_: target,
    )  # fmt: skip
    assert torch.equal(scored("clip_score", pool), clip_score(ecg, report))
    found = scored("neg_clip_loss", pool, batch_size=8)
    assert torch.equal(found, neg_clip_loss(ecg, report, 0.1, 8, seed=3))
    assert pool.told["temperature"] == 0.1
    assert pool.told["divisions"] == 10
    for p in (2, 3):
        assert torch.equal(scored("norm_sim", pool, p=p), norm_sim(ecg, target, p))
    found = scored("norm_sim", pool, modality="report", p="inf")
    assert torch.equal(found, norm_sim(report, target, float("inf")))
