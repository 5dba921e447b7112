"""The EHR simulator: its tokens follow the stated model, and its files are MEDS."""

import json

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from medmcl.core.errors import ConfigError
from medmcl.simulation.ehr.tokens import BLOCK, autoregressive_noise, simulate_tokens, token_blocks
from medmcl.simulation.kinds import simulate


def test_the_truth_is_centred_and_scaled():
    _, _, v1, v2 = simulate_tokens(10, 60, 40, 4, 1)
    for v, d in ((v1, 60), (v2, 40)):
        assert v.shape == (d, 4)
        np.testing.assert_allclose(v.mean(axis=0), 0, atol=1e-12)
        assert np.linalg.norm(v, 2) == pytest.approx(1)


def test_shares_of_words_are_those_of_the_softmax():
    """Case 1 without much noise: E[x] of a word is the mean softmax over states, by quadrature."""
    x1, _, v1, _ = simulate_tokens(40_000, 6, 5, 1, 1, c=1.0, seed=3, mean_tokens=20)
    state = np.random.default_rng(0).standard_normal((200_000, 1))
    shares = np.exp(state @ v1.T)
    expected = (shares / shares.sum(axis=1, keepdims=True)).mean(axis=0)
    np.testing.assert_allclose(x1.sum(axis=0) / x1.sum(), expected, rtol=0.01)
    lengths = x1.sum(axis=1)
    assert lengths.mean() == pytest.approx(20, rel=0.01)
    assert lengths.var() == pytest.approx(20, rel=0.05)


def test_noise_words_of_case_1_are_overdispersed():
    """First p // 2 words of variance 1 / c: mean share exp(1 / 2c) times another's, roughly."""
    x1, x2, *_ = simulate_tokens(4_000, 50, 50, 4, 1, c=0.2, seed=0)
    for x in (x1, x2):
        share = np.asarray(x.mean(axis=0))
        spread = x.toarray().var(axis=0) / share
        assert spread[:2].min() > 5 * spread[2:].max()


def test_noise_of_case_2_has_the_stated_covariance():
    spread = np.array([0.2, 1.0, 0.5, 0.9], dtype=np.float32)
    noise = autoregressive_noise(np.random.default_rng(0), 200_000, 0.7, spread)
    apart = np.abs(np.subtract.outer(range(4), range(4)))
    np.testing.assert_allclose(
        np.cov(noise.T), 0.7**apart * np.outer(spread, spread) / 2, atol=0.006
    )


def test_states_are_shared_and_noise_is_not():
    """Same patients: high counts of a modality's words follow its embedding and the other's."""
    x1, x2, v1, v2 = simulate_tokens(20_000, 30, 30, 2, 2, rho=0.5, seed=1)
    one, two = (x.toarray() / x.sum(axis=1)[:, None] for x in (x1, x2))
    cross = (
        (one - one.mean(0)).T @ (two - two.mean(0)) / np.multiply.outer(one.mean(0), two.mean(0))
    )
    assert np.corrcoef(cross.ravel(), (v1 @ v2.T).ravel())[0, 1] > 0.97


def test_the_first_patients_do_not_depend_on_how_many_there_are():
    few, many = (simulate_tokens(n, 20, 15, 3, 2, seed=5) for n in (BLOCK + 7, 3 * BLOCK))
    for m in (0, 1):
        assert (few[m] != many[m][: BLOCK + 7]).nnz == 0
        np.testing.assert_array_equal(few[m + 2], many[m + 2])
    other = simulate_tokens(BLOCK, 20, 15, 3, 2, seed=6)
    assert (other[0] != many[0][:BLOCK]).nnz > 0


def test_nobody_is_without_tokens():
    x1, x2, *truth = simulate_tokens(3_000, 20, 15, 3, 1, mean_tokens=1)
    assert x1.sum(axis=1).min() == 1
    assert x2.sum(axis=1).min() == 1
    blocks = list(token_blocks(3_000, tuple(truth), 1, mean_tokens=1))
    assert [b[0].shape[0] for b in blocks] == [BLOCK, 3_000 - BLOCK]


@pytest.mark.parametrize(
    "wrong",
    [{"case": 3}, {"c": 0.0}, {"rho": 1.0}, {"p": 20}, {"n": 0}, {"mean_tokens": 0.0}],
    ids=lambda w: next(iter(w)),
)
def test_refused(wrong):
    given = {"n": 10, "d1": 20, "d2": 20, "p": 4, "case": 1} | wrong
    with pytest.raises(ConfigError, match=f"cannot simulate with this .*{next(iter(wrong))}"):
        simulate_tokens(**given)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    settings = {"subjects": BLOCK + 40, "codes": 20, "concepts": 15, "case": 2, "sites": 3}
    return simulate("ehr", tmp_path_factory.mktemp("ehr") / "out", settings)


def events(folder):
    shards = [pq.read_table(folder / "data" / f"{i}.parquet") for i in (0, 1)]
    return pa.concat_tables(shards).to_pandas()


def test_files_are_meds(folder):
    schema = pq.read_schema(folder / "data" / "0.parquet")
    assert schema.field("subject_id").type == pa.int64()
    assert schema.field("time").type == pa.timestamp("us")
    assert schema.field("code").type == pa.string()
    rows = events(folder)
    assert rows.subject_id.is_monotonic_increasing
    assert set(rows.subject_id) == set(range(1, BLOCK + 41))
    same = rows.subject_id.eq(rows.subject_id.shift())
    assert (rows.time.diff()[same] > pd.Timedelta(0)).all()  # sorted, and no two at one time
    assert rows.assign(day=rows.time.dt.date).groupby("visit_id").day.nunique().max() == 1
    assert rows.groupby("subject_id").site.nunique().max() == 1
    assert rows.site.nunique() == 3
    codes = pq.read_table(folder / "metadata" / "codes.parquet").to_pandas()
    assert set(rows.code) <= set(codes.code)
    splits = pq.read_table(folder / "metadata" / "subject_splits.parquet").to_pandas()
    assert splits.split.value_counts(normalize=True).to_dict() == pytest.approx(
        {"train": 0.7, "held_out": 0.2, "tuning": 0.1}, abs=0.001
    )
    assert json.loads((folder / "metadata" / "dataset.json").read_text())["meds_version"] == "0.4.1"


def test_events_are_the_tokens(folder):
    x1, x2, v1, _ = simulate_tokens(BLOCK + 40, 20, 15, 4, 2)
    table = events(folder).groupby(["subject_id", "code"]).size().unstack(fill_value=0)
    for prefix, x in (("CODE", x1), ("CUI", x2)):
        names = [f"{prefix}//{i}" for i in range(x.shape[1])]
        np.testing.assert_array_equal(table[names].to_numpy(), x.toarray())
    truth = pq.read_table(folder / "truth.parquet").to_pandas()
    np.testing.assert_array_equal(truth[[f"v_{k}" for k in range(4)]].to_numpy()[:20], v1)
    strongest = np.abs(v1).argmax(axis=1)
    signs = np.sign(v1[np.arange(20), strongest])
    expected = [
        f"FAMILY//{k}{'+' if s > 0 else '-'}" for k, s in zip(strongest, signs, strict=True)
    ]
    assert truth.family[:20].tolist() == expected
