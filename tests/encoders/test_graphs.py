"""Graph encoders: against plain loops, torch-geometric's layers, each other, and other orders."""

import itertools

import pytest
import torch

from medmcl.core.batch import InputShape
from medmcl.core.errors import ConfigError
from medmcl.core.graph_rows import Graphs, pack, unpack
from medmcl.encoders import build_encoder
from medmcl.encoders.graph.network import edge_list
from medmcl.modalities.graph.build import build_graphs
from medmcl.modalities.graph.settings import GraphSettings

R = 7


def graphs(channels=1, features=3, regions=R, count=4, seed=0):
    """Signed symmetric graphs, some edges and one region absent."""
    made = torch.Generator().manual_seed(seed)
    edges = torch.randn(count, channels, regions, regions, generator=made).double()
    edges = (edges * (edges.abs() > 0.7)).triu(1)
    edges = edges + edges.transpose(2, 3)
    nodes = torch.randn(count, regions, features, generator=made).double()
    present = torch.ones(count, regions, dtype=torch.bool)
    present[0, 2] = False
    edges[0, :, 2], edges[0, :, :, 2], nodes[0, 2] = 0, 0, 0
    return Graphs(present, edges, nodes)


def shape_of(one):
    regions, channels = one.edges.shape[2], one.edges.shape[1]
    width = 1 + channels * regions + one.nodes.shape[2]
    return InputShape(kind="graph", shape=(regions, width), channels=channels)


def built(name, one, **settings):
    torch.manual_seed(3)
    return build_encoder(name, shape_of(one), settings).double().eval()


def test_packing_is_taken_back():
    one = graphs(channels=2)
    again = unpack(pack(one), 2)
    assert torch.equal(again.present, one.present)
    assert torch.equal(again.edges, one.edges)
    assert torch.equal(again.nodes, one.nodes)


ALL = list(itertools.product(("graphconv", "gcn", "gin"), ("mean", "sum"), (1, 2)))


@pytest.mark.parametrize(("conv", "aggregate", "channels"), ALL)
def test_the_dense_path_equals_message_passing(conv, aggregate, channels):
    one = graphs(channels)
    for pool in ("mean", "sum", "max", "concat"):
        settings = {"conv": conv, "aggregate": aggregate, "pool": pool, "width": 8}
        dense, passing = (built(n, one, **settings) for n in ("graph_dense", "graph_pyg"))
        passing.load_state_dict(dense.state_dict())  # the same names
        a, b = dense(pack(one)), passing(pack(one))
        torch.testing.assert_close(a.features, b.features, rtol=1e-9, atol=1e-9)
        single = [net.float()(pack(one).float()).features for net in (dense, passing)]
        torch.testing.assert_close(*single, rtol=1e-5, atol=1e-5)


def test_gradients_of_both_paths_are_equal():
    one = graphs(2)
    found = []
    for name in ("graph_dense", "graph_pyg"):
        net = built(name, one, width=8, conv="gcn")
        net(pack(one)).features.square().sum().backward()
        found.append({key: value.grad for key, value in net.named_parameters()})
    for key, grad in found[0].items():
        torch.testing.assert_close(grad, found[1][key], rtol=1e-8, atol=1e-9)


def without_shell(block):
    """What a block adds before norm and residual."""
    block.norm, block.dropout = torch.nn.Identity(), torch.nn.Identity()
    return block


@pytest.mark.parametrize("conv", ["graphconv", "gcn", "gin"])
def test_a_convolution_is_the_formula_as_loops(conv):
    one = graphs(2)
    net = built("graph_dense", one, width=4, conv=conv)
    block, states = without_shell(net.blocks[0]), torch.randn(4, R, 4).double()
    found = block(states, net.gather(one)) - states  # ReLU of the convolution
    for b, i in itertools.product(range(4), range(R)):
        parts = []
        near = [j for j in range(R) if (one.edges[b, :, i, j] != 0).any()]
        degree = [1 + one.edges[b, :, j].abs().sum() for j in range(R)]
        for c in range(2):
            total = torch.zeros(4).double()
            for j in range(R):
                weight = one.edges[b, c, i, j]
                if conv == "gcn":
                    weight = (weight + (i == j)) / (degree[i] * degree[j]).sqrt()
                total += weight * states[b, j]
            parts.append(total if conv == "gcn" else total / max(len(near), 1))
        if conv == "gin":
            parts = [part + (1 + block.epsilon) * states[b, i] for part in parts]
        expected = block.mix(torch.cat(parts))
        if conv == "graphconv":
            expected = expected + block.own(states[b, i])
        torch.testing.assert_close(found[b, i], expected.relu())


@pytest.mark.parametrize("conv", ["graphconv", "gcn"])
def test_positive_weights_give_what_the_layers_of_torch_geometric_give(conv):
    from torch_geometric.nn import GCNConv, GraphConv

    one = graphs()
    one = Graphs(one.present, one.edges.abs(), one.nodes)
    net = built("graph_pyg", one, width=4, conv=conv)
    block, states = without_shell(net.blocks[0]), torch.randn(4, R, 4).double()
    found = block(states, net.gather(one)) - states
    index, (weights,) = edge_list(one.edges)
    if conv == "gcn":
        layer = GCNConv(4, 4).double()
        layer.lin.weight, layer.bias = block.mix.weight, block.mix.bias
    else:
        layer = GraphConv(4, 4, aggr="mean").double()
        layer.lin_rel.weight, layer.lin_rel.bias = block.mix.weight, block.mix.bias
        layer.lin_root.weight = block.own.weight
    expected = layer(states.reshape(-1, 4), index, weights).relu()
    torch.testing.assert_close(found.reshape(-1, 4), expected)


def test_the_edges_of_a_batch_are_those_of_one_large_graph():
    edges = graphs(2).edges
    (source, target), weights = edge_list(edges)
    assert len(source) == (edges != 0).any(dim=1).sum()
    assert torch.equal(source // R, target // R)
    assert (source != target).all()
    assert torch.equal(weights, edges[target // R, :, target % R, source % R].T)
    assert (weights < 0).any()


def moved(weights, present, order):
    return weights[:, order][:, :, order], present[:, order]


@pytest.mark.parametrize("name", ["graph_dense", "graph_pyg"])
@pytest.mark.parametrize(
    "threshold", [{"density": 0.3}, {"neighbours": 2}, {"min_weight": 0.5}], ids=str
)
def test_another_order_of_regions_gives_the_same_embedding(name, threshold):
    settings = GraphSettings(
        nodes=("strength", "degree", "local_degree"), signs="split", **threshold
    )
    one, order = graphs(), torch.tensor([3, 0, 6, 2, 5, 1, 4])
    weights, present = one.edges[:, 0], one.present
    whole = build_graphs(weights, present, settings)
    turned = build_graphs(*moved(weights, present, order), settings)
    assert torch.equal(turned.edges, whole.edges[:, :, order][:, :, :, order])
    torch.testing.assert_close(turned.nodes, whole.nodes[:, order])
    for pool, conv in itertools.product(("mean", "sum", "max"), ("graphconv", "gcn", "gin")):
        net = built(name, whole, width=8, pool=pool, conv=conv)
        a, b = net(pack(whole)), net(pack(turned))
        torch.testing.assert_close(a.features, b.features, rtol=1e-9, atol=1e-9)
        torch.testing.assert_close(a.tokens[:, order], b.tokens, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(
    ("name", "settings"), [("brainnet_cnn", {}), ("graph_dense", {"pool": "concat"})]
)
def test_what_says_that_the_order_matters_depends_on_it(name, settings):
    one, order = graphs(), torch.tensor([3, 0, 6, 2, 5, 1, 4])
    made = GraphSettings(nodes=("strength",))
    whole = build_graphs(one.edges[:, 0], one.present, made)
    turned = build_graphs(*moved(one.edges[:, 0], one.present, order), made)
    net = built(name, whole, **settings)
    assert not torch.allclose(net(pack(whole)).features, net(pack(turned)).features, atol=1e-3)


def test_absent_regions_do_not_count():
    one = graphs()
    small = Graphs(one.present[:1], one.edges[:1], one.nodes[:1])
    rest = [0, 1, 3, 4, 5, 6]
    cut = Graphs(small.present[:, rest], small.edges[:, :, rest][..., rest], small.nodes[:, rest])
    for pool, conv in itertools.product(("mean", "sum", "max"), ("graphconv", "gcn", "gin")):
        with_gap, without = (built("graph_dense", g, pool=pool, conv=conv) for g in (small, cut))
        torch.testing.assert_close(
            with_gap(pack(small)).features, without(pack(cut)).features, rtol=1e-9, atol=1e-9
        )


def test_edge_to_edge_is_the_formula_as_loops():
    one = graphs(2)
    net = built("brainnet_cnn", one, edges=(3,), nodes=5, width=4)
    edge = net.blocks[0]
    found = edge(one.edges)
    row, column = edge.row.weight[:, :, 0], edge.column.weight[:, :, :, 0]  # (M, C, R)
    for m, i, j in itertools.product(range(3), range(R), range(R)):
        total = edge.row.bias[m].expand(4)
        for c, k in itertools.product(range(2), range(R)):
            total = total + row[m, c, k] * one.edges[:, c, i, k]
            total = total + column[m, c, k] * one.edges[:, c, k, j]
        torch.testing.assert_close(found[:, m, i, j], total)


def test_what_cannot_be_encoded_is_refused():
    shape = InputShape(kind="graph", shape=(5, 6), channels=1)
    with pytest.raises(ConfigError, match=r"needs features of the regions(?s:.*)nodes: \[profile"):
        build_encoder("graph_dense", shape, {})
    assert build_encoder("brainnet_cnn", shape, {})  # reads none
    with pytest.raises(ConfigError, match="needs 2 x 5 weights"):
        build_encoder("graph_dense", InputShape(kind="graph", shape=(5, 9), channels=2), {})
