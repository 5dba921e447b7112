"""The pathway network: wired as the maps say, and equal to dense layers under a mask."""

import os
from pathlib import Path

import pandas as pd
import pytest
import torch
from torch.nn import functional

from medmcl.core.batch import InputShape
from medmcl.core.errors import ArtefactError, ConfigError
from medmcl.encoders import build_encoder
from medmcl.encoders.genetics import snp_pathway as masked_linear
from medmcl.encoders.genetics.gene_maps import link_genes, link_pathways, link_variants
from medmcl.encoders.genetics.snp_pathway import MaskedLinear

WIKI = Path(os.environ.get("MEDMCL_DATA", "none")) / "wikipathways"


@pytest.mark.parametrize(("channels", "is_deep"), [(1, False), (3, False), (1, True), (3, True)])
def test_a_masked_layer_equals_a_dense_one_under_a_mask(channels, is_deep, monkeypatch):
    monkeypatch.setattr(masked_linear, "_AT_ONCE", 20)  # a few links at a time
    torch.manual_seed(0)
    pairs = torch.tensor([[4, 0], [0, 0], [1, 2], [4, 2], [2, 1]])
    layer = MaskedLinear(pairs, 6, 4, channels, is_deep=is_deep).double()
    mask = torch.zeros(4, 6)
    mask[pairs[:, 1], pairs[:, 0]] = 1
    eye = torch.eye(channels) if is_deep else torch.ones(channels, 1)
    mask = torch.kron(mask, eye).double()  # channel k reads channel k
    dense = layer.dense().detach()
    assert torch.equal(dense != 0, mask != 0)
    dense.requires_grad_()
    bias = layer.bias.detach().clone().requires_grad_()
    x = torch.randn(5, mask.shape[1], dtype=torch.float64, requires_grad=True)
    other = x.detach().clone().requires_grad_()
    mine, theirs = layer(x), functional.linear(other, dense * mask, bias)
    torch.testing.assert_close(mine, theirs)
    mine.square().sum().backward()
    theirs.square().sum().backward()
    torch.testing.assert_close(x.grad, other.grad)
    torch.testing.assert_close(layer.bias.grad, bias.grad)
    index = layer.index
    torch.testing.assert_close(layer.weight.grad, dense.grad[index[0], index[1]])


def test_a_variant_moves_its_genes_their_neighbours_and_nothing_else(cases):
    encoder, x = cases["snp_pathway"].build().eval(), cases["snp_pathway"].rows(1)
    x[:, 1] = 1.0
    assert encoder.genes == ("APOE", "BIN1", "CLU", "PICALM")
    assert encoder.pathways == ("lipids", "uptake")
    assert (encoder.unmapped, encoder.without_pathway) == (2, 0)  # 3:100 and X:100
    touched = {}
    for variant in range(8):
        other = x.clone()
        other[:, 0, variant] += 1
        change = (encoder._genes(other[:, 0]) - encoder._genes(x[:, 0]))[0].view(4, -1).abs().sum(1)
        touched[variant] = {encoder.genes[n] for n in change.nonzero()[:, 0].tolist()}
        assert not torch.equal(encoder(other).features, encoder(x).features)
    near = {"APOE", "CLU", "BIN1"}  # one step of the interactions
    assert touched[2] == {"BIN1", "CLU"}
    assert touched[6] == {"PICALM"}
    assert touched[4] == near
    assert touched[5] == touched[7] == set()  # only the bottleneck reads them


def test_an_absent_call_has_no_influence_bit_for_bit(cases):
    for name in ("snp_pathway", "snp_bottleneck"):
        results = []
        for fill in (0.0, torch.nan, 1e30):
            x = cases[name].rows(6)
            x[:, 0] = torch.where(x[:, 1] > 0.5, x[:, 0], fill)
            encoder = cases[name].build().eval()
            features = encoder(x).features
            features.square().sum().backward()
            results.append([features, *(p.grad for p in encoder.parameters())])
        for other in results[1:]:
            assert all(torch.equal(a, b) for a, b in zip(results[0], other, strict=True))


def test_weights_of_another_map_are_refused(cases, tmp_path):
    case = cases["snp_pathway"]
    pairs = tmp_path / "pairs.csv"
    shape, maps = case.shape, {k: v for k, v in case.settings.items() if k != "genes"}
    saved = build_encoder("snp_pathway", shape, case.settings).state_dict()
    table = pd.read_csv(case.settings["genes"])
    table.loc[table["gene"] == "CLU", "end"] = 99
    table.to_csv(tmp_path / "genes.csv", index=False)
    other = build_encoder("snp_pathway", shape, {**maps, "genes": tmp_path / "genes.csv"})
    with pytest.raises(ArtefactError, match="of other links than the map gives"):
        other.load_state_dict(saved)
    found = link_variants(shape.names, shape.places, None, case.settings["genes"], 10.0)
    rows = [(shape.names[a], found.names[b]) for a, b in found.pairs.tolist()]
    pd.DataFrame(rows, columns=["snp", "gene"]).to_csv(pairs, index=False)
    build_encoder("snp_pathway", shape, {**maps, "snp_gene": pairs}).load_state_dict(saved)


def test_variants_are_linked_by_place_with_a_window(tmp_path):
    genes = tmp_path / "genes.tsv"
    genes.write_text("gene\tchromosome\tstart\tend\nA\tchr1\t5000\t6000\nB\tX\t1\t9\nC\t2\t1\t9\n")
    names = ["below", "edge", "inside", "upper", "above", "x", "unknown"]
    places = ["1:3999", "1:4000", "1:5500", "1:7000", "1:7001", "X:5", "2:0"]
    found = link_variants(names, places, None, genes, 1.0)
    linked = {(names[a], found.names[b]) for a, b in found.pairs.tolist()}
    assert linked == {("edge", "A"), ("inside", "A"), ("upper", "A"), ("x", "B")}
    assert (found.names, found.unlinked) == (("A", "B"), 3)
    narrow = link_variants(names, places, None, genes, 0)
    assert [names[a] for a in narrow.pairs[:, 0]] == ["inside", "x"]


def test_maps_that_fit_nothing_are_refused(tmp_path, cases):
    shape, maps = cases["snp_pathway"].shape, cases["snp_pathway"].settings

    def build(**settings):
        return build_encoder("snp_pathway", shape, settings)

    with pytest.raises(ConfigError, match="reads nothing"):
        build()
    with pytest.raises(ConfigError, match="no variant has one"):
        build(pathways=maps["pathways"], rest=3)
    with pytest.raises(ConfigError, match="both snp_gene and genes"):
        build(snp_gene=maps["genes"], genes=maps["genes"])
    with pytest.raises(ConfigError, match="no column 'snp'"):
        build(snp_gene=maps["genes"])
    (tmp_path / "pairs.csv").write_text("snp,gene\nrs99,APOE\n")
    with pytest.raises(ConfigError, match=r"no variant lies in any gene\n.*rs0 at 1:100"):
        build(snp_gene=tmp_path / "pairs.csv")
    (tmp_path / "p.gmt").write_text("lipids\tnone\tENSG00000130203\n")
    with pytest.raises(ConfigError, match=r"no gene lies in any pathway\n.*APOE.*ENSG"):
        build(genes=maps["genes"], pathways=tmp_path / "p.gmt")
    (tmp_path / "bad.gmt").write_text("lipids APOE\n")
    with pytest.raises(ConfigError, match=r"line 1: is no line of a GMT file"):
        build(genes=maps["genes"], pathways=tmp_path / "bad.gmt")
    bare = InputShape(kind="tabular", shape=(2, 8))
    with pytest.raises(ConfigError, match="dosages and flags of named variants"):
        build_encoder("snp_pathway", bare, {"rest": 2})
    with pytest.raises(ConfigError, match="places of the variants are not known"):
        link_variants(["a"], [], None, maps["genes"], 1)


def test_pathways_and_edges_are_read_from_tables_too(tmp_path):
    (tmp_path / "p.csv").write_text("gene,pathway\nA,one\nB,one\nB,two\nZ,two\nB,two\n")
    found = link_pathways(["A", "B", "C"], tmp_path / "p.csv")
    assert found.names == ("one", "two")
    assert found.pairs.tolist() == [[0, 0], [1, 0], [1, 1]]
    assert found.unlinked == 1
    (tmp_path / "e.tsv").write_text("protein1\tprotein2\tscore\nA\tB\t9\nB\tA\t9\nA\tZ\t9\n")
    edges = link_genes(["A", "B", "C"], tmp_path / "e.tsv")
    assert edges.pairs.tolist() == [[0, 0], [0, 1], [1, 0], [1, 1], [2, 2]]
    assert edges.unlinked == 1


def test_an_empty_cell_of_a_table_whose_words_repeat_is_no_gene_and_no_pathway(tmp_path):
    rows = [f"{gene},{way}\n" for gene in ("A", "B", "") for way in ("lipids", "uptake", "")]
    (tmp_path / "p.csv").write_text("gene,pathway\n" + "".join(rows))
    found = link_pathways(["A", "B", "C"], tmp_path / "p.csv")
    assert found.names == ("lipids", "uptake")
    assert found.pairs.tolist() == [[0, 0], [0, 1], [1, 0], [1, 1]]
    assert found.unlinked == 1


@pytest.mark.skipif(not WIKI.is_dir(), reason="needs MEDMCL_DATA with wikipathways")
def test_real_pathways_wire_a_network():
    nodes = pd.read_csv(WIKI / "WP5124_nodes.csv")
    genes = sorted(set(nodes["label"][nodes["type"] == "GeneProduct"].dropna()))
    linked = link_pathways(genes, WIKI)
    assert "WP5124" in linked.names
    assert linked.unlinked == 0
    own = linked.names.index("WP5124")
    assert (linked.pairs[:, 1] == own).sum() == len(genes)
    edges = link_genes(genes, WIKI)
    assert len(edges.pairs) > len(genes) + 100
    pairs = {tuple(pair) for pair in edges.pairs.tolist()}
    assert {(b, a) for a, b in pairs} == pairs


def test_a_bottleneck_without_maps_is_one_linear_layer(cases):
    encoder, x = cases["snp_bottleneck"].build().eval(), cases["snp_bottleneck"].rows()
    assert encoder.unmapped == 8
    dosages = torch.where(x[:, 1] > 0.5, x[:, 0], 0.0)
    expected = encoder.leave(encoder.norm(encoder.to_rest(dosages)))
    torch.testing.assert_close(encoder(x).features, expected)


def test_the_table_network_reads_genotypes_too(cases):
    shape = cases["snp_pathway"].shape
    encoder = build_encoder("tabular_mlp", shape, {"width": 4, "hidden": 4})
    assert encoder(cases["snp_pathway"].rows()).features.isfinite().all()
