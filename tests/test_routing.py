"""Routing of hand-written models: each role by the structure that gives it away, and what the caller may change."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from thalweg.routing import NO_DECAY, Routes, route


def roles(routes: Routes) -> dict[str, str]:
    """The role of every tensor of two or more dimensions."""
    return {row.name: row.role for row in routes.rows if len(row.shape) > 1}


def groups(routes: Routes) -> dict[str, dict[str, Any]]:
    """The keys of every parameter's group."""
    return {name: {k: v for k, v in g.items() if k != "params"} for g in routes for name, _ in g["params"]}


def reading(routes: Routes, name: str) -> dict[str, Any]:
    return {k: v for k, v in groups(routes)[name].items() if k in ("stacked", "splits", "transposed")}


class Attention(nn.Module):
    """As in timm and nanoGPT: q, k and v in one Linear."""

    def __init__(self, dim: int = 16, heads: int = 4) -> None:
        super().__init__()
        self.num_heads = heads
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)


class Block(nn.Module):
    def __init__(self, dim: int = 16) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dim)
        self.attn = Attention(dim)
        self.mlp = nn.Sequential(nn.Linear(dim, 2 * dim), nn.GELU(), nn.Linear(2 * dim, dim))


class Transformer(nn.Module):
    def __init__(self, tied: bool = False) -> None:
        super().__init__()
        self.embed = nn.Embedding(50, 16)
        self.blocks = nn.ModuleList(Block() for _ in range(3))
        self.norm = nn.LayerNorm(16)
        self.head = nn.Linear(16, 50, bias=False)
        if tied:
            self.head.weight = self.embed.weight


def test_a_transformer() -> None:
    routes = route(Transformer())
    found = roles(routes)
    assert found.pop("embed.weight") == "embedding"
    assert found.pop("head.weight") == "head"
    assert set(found.values()) == {"matrix"}
    assert reading(routes, "blocks.1.attn.qkv.weight") == {"splits": (16, 16, 16)}
    assert reading(routes, "blocks.1.mlp.0.weight") == {}
    assert groups(routes)["norm.bias"] == {"optimizer": "adamw", "weight_decay": 0.0}
    assert groups(routes)["embed.weight"] == {"optimizer": "adamw"}
    assert len(routes) == 4  # matrices, matrices in splits, rest with decay, rest without


def test_tied_weights_stay_with_the_rest() -> None:
    rows = {row.name: row for row in route(Transformer(tied=True)).rows}
    assert rows["embed.weight"].role == "embedding"
    assert "tied to head.weight" in rows["embed.weight"].reason
    assert "head.weight" not in rows


def test_a_perceptron_has_an_input_and_a_head() -> None:
    model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 16))
    assert list(roles(route(model)).values()) == ["input", "matrix", "head"]


def test_heads_side_by_side() -> None:
    class ActorCritic(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first = nn.Linear(4, 32)
            self.second = nn.Linear(32, 32)
            self.policy = nn.Linear(32, 5)
            self.value = nn.Linear(32, 1)

    expected = {"first.weight": "input", "second.weight": "matrix", "policy.weight": "head", "value.weight": "row"}
    assert roles(route(ActorCritic())) == expected


def test_a_convolutional_network() -> None:
    model = nn.Sequential(
        nn.Conv2d(3, 8, 3),
        nn.BatchNorm2d(8),
        nn.Conv2d(8, 8, 3, groups=8),  # depthwise
        nn.Conv2d(8, 16, 1),
        nn.Conv2d(16, 16, 3, groups=4),
        nn.ConvTranspose2d(16, 8, 2),
        nn.Flatten(),
        nn.Linear(8, 10),
    )
    routes = route(model)
    assert list(roles(routes).values()) == ["input", "depthwise", "matrix", "matrix", "matrix", "head"]
    assert reading(routes, "3.weight") == {}
    assert reading(routes, "4.weight") == {"splits": (4, 4, 4, 4)}
    assert reading(routes, "5.weight") == {"transposed": True}


def test_a_network_of_convolutions_alone_ends_in_one() -> None:
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.Conv2d(8, 8, 3), nn.Conv2d(8, 2, 1))
    assert list(roles(route(model)).values()) == ["input", "matrix", "head"]


def test_torchs_own_transformer() -> None:
    """``multihead_attn.out_proj`` is no plain nn.Linear and its name says head to some; it is a hidden matrix."""

    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed = nn.Embedding(50, 16)
            self.transformer = nn.Transformer(16, 4, 2, 2, 32, batch_first=True)
            self.output = nn.Linear(16, 50)

    routes = route(Model())
    found = roles(routes)
    assert found["transformer.decoder.layers.0.multihead_attn.out_proj.weight"] == "matrix"
    assert {name for name, role in found.items() if role != "matrix"} == {"embed.weight", "output.weight"}
    assert reading(routes, "transformer.encoder.layers.1.self_attn.in_proj_weight") == {"splits": (16, 16, 16)}


def test_attention_with_other_sizes_of_keys_and_values() -> None:
    model = nn.ModuleDict({"attention": nn.MultiheadAttention(16, 4, kdim=8, vdim=12), "out": nn.Linear(16, 3)})
    routes = route(model)
    assert reading(routes, "attention.k_proj_weight") == {}
    assert set(roles(routes).values()) == {"matrix", "head"}


def test_recurrent_layers_are_their_gates() -> None:
    model = nn.ModuleDict({
        "embed": nn.Embedding(50, 8),
        "lstm": nn.LSTM(8, 16, proj_size=4),
        "gru": nn.GRU(4, 6),
        "cell": nn.RNNCell(6, 6),
        "out": nn.Linear(6, 50),
    })  # fmt: skip
    routes = route(model)
    assert reading(routes, "lstm.weight_ih_l0") == {"splits": (16,) * 4}
    assert reading(routes, "lstm.weight_hr_l0") == {}
    assert reading(routes, "gru.weight_hh_l0") == {"splits": (6,) * 3}
    assert reading(routes, "cell.weight_hh") == {}
    assert groups(routes)["lstm.bias_ih_l0"]["weight_decay"] == 0


class Experts(nn.Module):
    """Stacks as (experts, in, out), multiplied from the right."""

    def __init__(self, experts: int = 4) -> None:
        super().__init__()
        self.up = nn.Parameter(torch.empty(experts, 16, 24))
        self.down = nn.Parameter(torch.empty(experts, 24, 16))
        self.down_bias = nn.Parameter(torch.empty(experts, 16))

    def forward(self, x: Tensor) -> Tensor:
        return torch.bmm(torch.bmm(x, self.up).relu(), self.down) + self.down_bias[:, None]


class MixtureBlock(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.router = nn.Linear(16, 4)
        self.experts = nn.ModuleList(nn.Sequential(nn.Linear(16, 24), nn.Linear(24, 16)) for _ in range(4))
        self.stacked = Experts()


def test_a_mixture_of_experts() -> None:
    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed = nn.Embedding(50, 16)
            self.blocks = nn.ModuleList(MixtureBlock() for _ in range(2))
            self.head = nn.Linear(16, 50)

    routes = route(Model())
    assert roles(routes)["blocks.0.router.weight"] == "router"
    assert roles(routes)["blocks.0.experts.3.1.weight"] == "matrix"
    assert reading(routes, "blocks.1.stacked.up") == {"stacked": True, "transposed": True}
    assert groups(routes)["blocks.1.stacked.down_bias"] == {"optimizer": "adamw", "weight_decay": 0.0}


class Bare(nn.Module):
    """Parameters that the module uses itself."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(50, 16)
        self.positions = nn.Parameter(torch.empty(20, 16))
        self.token = nn.Parameter(torch.empty(1, 1, 16))
        self.table = nn.Parameter(torch.empty(1, 20, 16))
        self.left = nn.Parameter(torch.empty(32, 16))
        self.right = nn.Parameter(torch.empty(32, 16))
        self.flipped = nn.Parameter(torch.empty(16, 16))
        self.rates = nn.Parameter(torch.empty(16, 4))
        self.head = nn.Linear(16, 50)

    def forward(self, i: Tensor) -> Tensor:
        x = self.embed(i) + self.positions[: i.shape[1]] + self.table
        x = F.linear(x, self.left.to(x.dtype)) @ self.right
        x = x.matmul(self.flipped.T) * torch.exp(self.rates.float()).sum(1)
        return self.head(x)


def test_bare_parameters_are_what_the_code_does_with_them() -> None:
    routes = route(Bare())
    assert roles(routes) == {
        "embed.weight": "embedding",
        "positions": "table",
        "token": "token",
        "table": "position",
        "left": "matrix",
        "right": "matrix",
        "flipped": "matrix",
        "rates": "table",
        "head.weight": "head",
    }
    assert reading(routes, "left") == {}
    assert reading(routes, "right") == {"transposed": True}
    assert reading(routes, "flipped") == {}


class ByIndex(nn.Module):
    """Taken apart before it is used, so that the use of the parts does not show."""

    def __init__(self) -> None:
        super().__init__()
        self.rows = nn.Parameter(torch.empty(20, 16))
        self.experts = nn.Parameter(torch.empty(4, 16, 16))
        self.sliced = nn.Parameter(torch.empty(32, 16))
        self.head = nn.Linear(16, 50)

    def forward(self, x: Tensor, i: Tensor) -> Tensor:
        row = self.rows[i]
        expert = self.experts[0]
        upper = self.sliced[:16]
        return self.head((x + row) @ expert @ upper)


def test_a_part_of_a_stack_may_be_a_matrix() -> None:
    with pytest.raises(ValueError, match="does not follow") as error:
        route(ByIndex())
    assert "experts (4, 16, 16)" in str(error.value)
    assert "sliced (32, 16)" in str(error.value)
    assert "rows" not in str(error.value)


class Unclear(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(50, 16)
        self.weight = nn.Parameter(torch.empty(16, 16))
        self.head = nn.Linear(16, 50)

    def forward(self, i: Tensor) -> Tensor:
        w = self.weight
        return self.head(self.embed(i) @ w)


def test_the_ambiguous_is_refused_with_the_override_that_settles_it() -> None:
    with pytest.raises(ValueError, match=r'overrides=\{"weight": "matrix"\}') as error:
        route(Unclear())
    assert "(16, 16)" in str(error.value)
    assert roles(route(Unclear(), overrides={"weight": "matrix"}))["weight"] == "matrix"


def test_equal_linears_without_layers_are_refused() -> None:
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed = nn.Embedding(50, 16)
            self.one = nn.Linear(16, 16)
            self.two = nn.Linear(16, 16)

    with pytest.raises(ValueError, match=r"two has its shape"):
        route(Two())
    assert roles(route(Two(), overrides={"one": "matrix"}))["two.weight"] == "head"


def test_a_head_registered_before_the_layers_is_refused() -> None:
    class HeadFirst(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed = nn.Embedding(50, 16)
            self.head = nn.Linear(16, 50)
            self.blocks = nn.ModuleList(Block() for _ in range(2))

    with pytest.raises(ValueError, match=r"head\.weight.*or the head\?"):
        route(HeadFirst())


def test_gated_and_low_rank_layers() -> None:
    class Gated(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.up = nn.Linear(16, 48)
            self.down = nn.Linear(24, 16)
            self.lora_a = nn.Linear(16, 2, bias=False)
            self.lora_b = nn.Linear(2, 16, bias=False)

    model = nn.Sequential(nn.Embedding(50, 16), nn.ModuleList([Gated(), Gated()]), nn.Linear(16, 50))
    routes = route(model)
    assert reading(routes, "1.0.up.weight") == {"splits": (24, 24)}
    assert reading(routes, "1.0.down.weight") == {}
    assert roles(routes)["1.0.lora_a.weight"] == "matrix"


def test_an_expansion_by_two_is_not_a_gate() -> None:
    class Residual(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.up = nn.Linear(16, 32)
            self.down = nn.Linear(32, 16)
            self.skip = nn.Linear(16, 16)

    model = nn.Sequential(nn.Embedding(50, 16), nn.ModuleList([Residual(), Residual()]), nn.Linear(16, 50))
    assert reading(route(model), "1.0.up.weight") == {}


def test_a_model_that_knows_its_heads_has_an_output_layer_all_the_same() -> None:
    """And an attention behind the layers has none: what nothing of the right size reads is still hidden there."""

    class Pooled(Transformer):
        def __init__(self) -> None:
            super().__init__()
            self.num_heads = 4
            self.head = None  # pyright: ignore[reportAttributeAccessIssue]
            self.pool = Attention()
            self.output = nn.Linear(16, 50)

    found = roles(route(Pooled()))
    assert {name for name, role in found.items() if role == "head"} == {"output.weight"}
    assert found["pool.qkv.weight"] == "matrix"


def test_a_table_of_relative_positions() -> None:
    class Relative(Attention):
        def __init__(self) -> None:
            super().__init__()
            self.table = nn.Parameter(torch.empty(49, 4))

        def forward(self, x: Tensor) -> Tensor:
            table = self.table  # from here on it is any tensor
            return self.proj(x) + table.sum()

    model = nn.Sequential(nn.Embedding(50, 16), nn.ModuleList([Relative(), Relative()]), nn.Linear(16, 50))
    assert roles(route(model))["1.0.table"] == "position"


def test_norms_of_any_kind() -> None:
    class Scale(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.empty(8))

    model = nn.Sequential(
        nn.Linear(4, 8), nn.BatchNorm1d(8), Scale(), nn.LayerNorm((3, 8)), nn.RMSNorm(8), nn.Linear(8, 2)
    )
    rows = {row.name: row for row in route(model).rows}
    norms = ["1.weight", "1.bias", "2.weight", "3.weight", "3.bias", "4.weight"]
    assert [name for name, row in rows.items() if row.role == "norm"] == norms
    assert all(rows[name].decay == 0 for name in norms)


def test_frozen_parameters_are_shown_and_left_out() -> None:
    model = Transformer()
    model.blocks[0].requires_grad_(False)
    routes = route(model)
    assert not any(name.startswith("blocks.0") for name in groups(routes))
    assert {row.role for row in routes.rows if row.name.startswith("blocks.0")} == {"frozen"}
    assert "none" in routes.table()


def test_overrides_by_module_parameter_and_name() -> None:
    model = Transformer()
    blocks = list(model.blocks)
    routes = route(
        model,
        overrides={
            "blocks": "rest",
            blocks[1]: {"route": "matrix", "lr": 0.5},
            "blocks.1.attn.proj.bias": "frozen",
            "blocks.1.attn.proj.weight": {"splits": (8, 8)},
            model.head.weight: {"optimizer": "adamw", "weight_decay": 0.3},
        },
    )
    found = groups(routes)
    assert found["blocks.0.attn.proj.weight"]["optimizer"] == "adamw"
    assert found["blocks.0.norm.weight"]["weight_decay"] == 0  # still a norm
    assert found["blocks.1.attn.proj.weight"] == {"optimizer": "muon", "lr": 0.5, "splits": (8, 8)}
    assert found["blocks.1.attn.qkv.weight"] == {"optimizer": "muon", "lr": 0.5, "splits": (16, 16, 16)}
    assert "blocks.1.attn.proj.bias" not in found
    assert found["blocks.1.norm.weight"] == {
        "optimizer": "adamw",
        "weight_decay": 0.0,
    }  # no matrix, whatever the module is
    assert found["head.weight"] == {"optimizer": "adamw", "weight_decay": 0.3}


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"blocks.0.atn": "rest"}, r"did you mean 'blocks\.0\.attn'"),
        ({nn.Linear(2, 2): "rest"}, r"the Linear, which is no parameter or module"),
        ({"head": "head"}, r"choose one of 'matrix', 'rest', 'frozen'"),
        ({"norm": "matrix"}, r"'norm\.weight', shape \(16,\)"),
        (
            {
                "blocks.0.attn.proj": {"route": "rest"},
                "blocks.0.attn.proj.weight": {"route": "matrix", "splits": (8, 9)},
            },
            r"17",
        ),
        ({"head": {"optimizer": "adam_w"}}, r"Did you mean 'adamw'"),
    ],
)
def test_what_overrides_refuse(overrides: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        route(Transformer(), overrides=overrides)


def test_hyperparameters_of_the_two_sides() -> None:
    routes = route(
        Transformer(),
        rest="adam",
        matrix_options={"lr": 0.1, "weight_decay": 0.2},
        rest_options={"lr": 1e-3, "eps": 1e-6},
    )
    found = groups(routes)
    assert found["blocks.0.attn.proj.weight"] == {"optimizer": "muon", "lr": 0.1, "weight_decay": 0.2}
    assert found["embed.weight"] == {"optimizer": "adam", "lr": 1e-3, "eps": 1e-6}
    with pytest.raises(ValueError, match="Did you mean 'muon'"):
        route(Transformer(), matrix="moun")


def test_no_decay_is_a_choice_of_roles() -> None:
    found = groups(route(Transformer(), no_decay=(*NO_DECAY, "embedding")))
    assert found["embed.weight"]["weight_decay"] == 0
    found = groups(route(Transformer(), no_decay=()))
    assert "weight_decay" not in found["norm.weight"]
    assert len(route(Transformer(), rest_options={"weight_decay": 0.0})) == 3  # the rest is one group then


def test_learning_rates_fall_from_layer_to_layer() -> None:
    """As in the fine-tuning of BERT, ELECTRA and BEiT: decay ** (n + 1 - k), k = 0 the embedding, n + 1 the head."""
    found = groups(route(Transformer(), layer_decay=0.5, rest_options={"lr": 1e-2}))
    assert found["embed.weight"]["lr"] == 1e-2 / 16
    assert [found[f"blocks.{k}.norm.weight"]["lr"] for k in range(3)] == [1e-2 / 8, 1e-2 / 4, 1e-2 / 2]
    assert found["head.weight"]["lr"] == 1e-2
    assert found["blocks.2.attn.proj.weight"]["lr"] == 1e-3 / 2  # the default of the class
    chosen = groups(route(Transformer(), layer_decay=0.5, overrides={"blocks.0": {"lr": 0.3}}))
    assert chosen["blocks.0.norm.weight"]["lr"] == 0.3


def test_what_layer_decay_refuses() -> None:
    with pytest.raises(ValueError, match=r"layers that repeat"):
        route(nn.Sequential(nn.Linear(4, 8), nn.Linear(8, 2)), layer_decay=0.9)
    with pytest.raises(ValueError, match=r"encoder\.layers \(2\), decoder\.layers \(2\)"):
        route(nn.Transformer(16, 4, 2, 2, 32, batch_first=True), layer_decay=0.9)
    with pytest.raises(ValueError, match=r"0 < x ≤ 1"):
        route(Transformer(), layer_decay=0.0)


class Wrapper(nn.Module):
    """Looks like DistributedDataParallel."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module


def test_wrappers_change_names_only() -> None:
    plain = route(Transformer())
    wrapped = route(Wrapper(Transformer()), overrides={"head": "rest"})
    compiled = route(torch.compile(Transformer()))  # pyright: ignore[reportArgumentType]
    assert list(roles(wrapped).values())[:-1] == list(roles(plain).values())[:-1]
    assert [row.role for row in compiled.rows] == [row.role for row in plain.rows]
    assert next(iter(groups(wrapped))) == "module.embed.weight"
    assert next(iter(groups(compiled))) == "_orig_mod.embed.weight"

    by_layer = Transformer()
    by_layer.blocks = nn.ModuleList(torch.compile(block) for block in by_layer.blocks)  # pyright: ignore[reportArgumentType]
    assert [row.role for row in route(by_layer).rows] == [row.role for row in plain.rows]


def test_a_model_on_the_meta_device_is_routed_as_the_real_one() -> None:
    with torch.device("meta"):
        model = Transformer()
    routes = route(model)
    assert [row.reason for row in routes.rows] == [row.reason for row in route(Transformer()).rows]
    assert all(p.is_meta for group in routes for _, p in group["params"])


def test_lazy_modules_are_refused() -> None:
    with pytest.raises(ValueError, match="run one batch"):
        route(nn.Sequential(nn.LazyLinear(3)))


def test_a_torch_optimizer_takes_the_groups() -> None:
    routes = route(Transformer(), matrix="adamw", matrix_options={"lr": 1e-2})
    optimizer = torch.optim.AdamW(routes)
    assert sum(len(group["params"]) for group in optimizer.param_groups) == len(routes.rows)


def test_the_table() -> None:
    lines = route(Transformer()).table().splitlines()
    assert lines[0].split() == ["parameter", "shape", "goes", "to", "as", "decay", "reason"]
    assert (
        "blocks.{0..2}.attn.qkv.weight   48×16  muon     split 16+16+16  0.1    hidden layer: q, k and v in one"
        in lines
    )
    assert len(lines) == 1 + 1 + 10 + 2 + 1 + 1 + 2  # header, embed, a block, norm, head, blank, totals
    assert lines[-2].startswith("adamw: 22 parameters")
    assert lines[-1].startswith("muon: 12 parameters, 6,144 elements")


def test_the_table_of_learning_rates() -> None:
    table = route(Transformer(), layer_decay=0.5).table()
    assert "decay  lr" in table
    assert "blocks.{0..2}" not in table


def test_layers_fold_only_where_they_are_equal() -> None:
    model = Transformer()
    model.blocks[1].attn.requires_grad_(False)
    table = route(model).table()
    assert "blocks.{0,2}.attn.qkv.weight" in table
    assert "blocks.1.attn.qkv.weight" in table
    assert "blocks.{0..2}.norm.weight" in table


def test_the_table_shows_what_a_dialect_makes_of_the_hyperparameters() -> None:
    model = nn.Sequential(nn.Linear(4, 5), nn.Linear(5, 6), nn.Linear(6, 2))
    (row,) = [r for r in route(model, matrix_options={"match": "keller"}).rows if r.optimizer == "muon"]
    assert (row.lr, row.decay) == (0.02, 0.0)
    with pytest.raises(ValueError, match="lr=-1"):
        route(model, rest_options={"lr": -1.0})
