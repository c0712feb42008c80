"""A probe finds the curvature of the model as it is, under whatever it runs, and leaves no trace."""

from __future__ import annotations

import copy
import random
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.checkpoint import checkpoint

from thalweg.conformance.sharded import in_two_processes
from thalweg.curvature import Operator, eigenpairs, empirical_fisher, gauss_newton, hessian, over_batches

MAKERS = (hessian, gauss_newton, empirical_fisher)
METHODS = ("double_backward", "forward_over_reverse", "difference")
x = torch.randn(8, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
y = torch.tensor([0, 2, 1, 1, 0, 2, 0, 1])


def network(dtype: torch.dtype = torch.float64) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3)).to(dtype)


def noisy() -> nn.Sequential:
    """Whose every evaluation draws a mask and moves running statistics."""
    torch.manual_seed(0)
    layers = [nn.Linear(4, 6), nn.BatchNorm1d(6), nn.Tanh(), nn.Dropout(0.5), nn.Linear(6, 3)]
    return nn.Sequential(*layers).double()


def loss_of(model: nn.Module, x: Tensor = x) -> Callable[[], Tensor]:
    return lambda: F.cross_entropy(model(x), y)


def dense(operator: Operator) -> Tensor:
    return torch.stack([operator.matvec(row) for row in torch.eye(operator.shape[0], dtype=operator.space.dtype)], 1)


@pytest.mark.parametrize("method", METHODS)
def test_methods_agree(method: Any) -> None:
    model = network()
    exact = dense(hessian(loss_of(model), model))
    H = hessian(loss_of(model), model, method)
    torch.testing.assert_close(dense(H), exact, rtol=0, atol=1e-13 if method != "difference" else 1e-8)
    torch.testing.assert_close(H.gradient, hessian(loss_of(model), model).gradient)
    assert H.cost.products == H.shape[0]


def trace_of(model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """Everything a probe could disturb."""
    return copy.deepcopy(
        {
            "model": model.state_dict(),
            "gradients": [p.grad for p in model.parameters()],
            "modes": [m.training for m in model.modules()],
            "optimizer": optimizer.state_dict(),
            "torch": torch.get_rng_state(),
            "python": random.getstate(),
            "numpy": np.random.get_state()[1].tolist(),
        }
    )


def same(a: Any, b: Any) -> bool:
    if isinstance(a, Tensor):
        return torch.equal(a, b) and a.dtype == b.dtype
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[name], b[name]) for name in a)
    if isinstance(a, tuple | list):
        return len(a) == len(b) and all(map(same, a, b))
    return a == b


def disturbing(model: nn.Module) -> Callable[[], Tensor]:
    """A loss that draws from every generator and leaves the model in another mode."""

    def loss() -> Tensor:
        noise = random.random() + float(np.random.rand()) + torch.rand(())
        value = F.cross_entropy(model(x), y) * (1 + 0.01 * noise)
        model[0].eval()  # pyright: ignore[reportIndexIssue]
        return value

    return loss


@pytest.mark.parametrize("method", METHODS)
def test_a_probe_leaves_no_trace(method: Any) -> None:
    model = noisy()
    optimizer = torch.optim.AdamW(model.parameters())
    F.cross_entropy(model(x), y).backward()
    optimizer.step()
    before = trace_of(model, optimizer)
    gradients, buffers = [p.grad for p in model.parameters()], list(model.buffers())
    H = hessian(disturbing(model), model, method)
    eigenpairs(H, 2)
    assert same(trace_of(model, optimizer), before)
    assert all(a is b for a, b in zip(gradients, [p.grad for p in model.parameters()], strict=True))
    assert all(a is b for a, b in zip(buffers, model.buffers(), strict=True))


@pytest.mark.parametrize("make", MAKERS)
def test_training_goes_on_as_without_probes(make: Any) -> None:
    ends: list[Tensor] = []
    for probed in (False, True):
        model = noisy()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
        for _ in range(4):
            optimizer.zero_grad()
            loss_of(model)().backward()
            if probed:
                eigenpairs(make(loss_of(model), model))
            optimizer.step()
        ends.append(torch.cat([t.double().flatten() for t in model.state_dict().values()]))
    assert torch.equal(*ends)


def test_an_error_leaves_no_trace_either() -> None:
    model = noisy()
    optimizer = torch.optim.AdamW(model.parameters())

    def broken() -> Tensor:
        loss_of(model)()
        raise KeyError("batch")

    before = trace_of(model, optimizer)
    with pytest.raises(KeyError):
        hessian(broken, model)
    assert same(trace_of(model, optimizer), before)


def test_all_products_are_with_one_dropout_mask() -> None:
    model = noisy()
    for method in METHODS:
        H = hessian(loss_of(model), model, method)
        A = dense(H)
        torch.testing.assert_close(A, A.T, rtol=1e-6, atol=1e-8)
    torch.manual_seed(5)
    one = hessian(loss_of(model), model)
    assert one.loss == F.cross_entropy(model(x), y)  # the mask that the next training step would draw


class Checkpointed(nn.Module):
    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor) -> Tensor:
        return checkpoint(self.inner, x, use_reentrant=False)  # pyright: ignore[reportReturnType]


def test_checkpointed_modules_run_again_in_products_and_leave_no_trace() -> None:
    model = noisy()
    plain = dense(hessian(loss_of(model), model))
    before = copy.deepcopy(model.state_dict())
    torch.manual_seed(7)
    wrapped = Checkpointed(model)
    torch.manual_seed(0)
    noisy()  # to the same state of the generator
    H = hessian(loss_of(wrapped), wrapped)
    torch.testing.assert_close(dense(H), plain)
    assert same(model.state_dict(), before)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("make", MAKERS)
def test_short_models_are_probed_in_float32(make: Any, dtype: torch.dtype) -> None:
    short = nn.Sequential(noisy(), nn.LayerNorm(3)).to(dtype)
    inputs = x.to(dtype)

    def loss() -> Tensor:
        z = short(inputs.to(dtype)).to(dtype)
        return F.cross_entropy(z * torch.ones((), dtype=dtype), y)

    long = copy.deepcopy(short).float()
    torch.manual_seed(3)
    A = make(loss, short)
    torch.manual_seed(3)
    B = make(lambda: F.cross_entropy(long(inputs.float()), y), long)
    assert A.loss.dtype == A.gradient.dtype == torch.float32
    torch.testing.assert_close(dense(A), dense(B), rtol=1e-5, atol=1e-6)
    assert all(p.dtype == dtype for p in short.parameters())


def test_autocast_is_off_in_a_probe_even_where_the_loss_turns_it_on() -> None:
    model = network(torch.float32)
    inputs = x.float()

    @torch.autocast("cpu", dtype=torch.bfloat16)  # pyright: ignore[reportUntypedFunctionDecorator]
    def loss() -> Tensor:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            z = model(inputs)
            assert z.dtype == torch.float32
            return F.cross_entropy(z, y)

    with torch.autocast("cpu", dtype=torch.bfloat16):
        A = hessian(loss, model)
        after = model(inputs)
    torch.testing.assert_close(dense(A), dense(hessian(loss_of(model, inputs), model)))
    assert after.dtype == torch.bfloat16


def test_compiled_modules_are_probed_through_their_original() -> None:
    model = network()
    compiled = torch.compile(model, backend="eager")
    compiled(x)
    torch.testing.assert_close(dense(hessian(loss_of(compiled), compiled)), dense(hessian(loss_of(model), model)))
    assert hessian(loss_of(compiled), compiled).source.names[0] == "0.weight"


class Blocked(torch.autograd.Function):
    """A kernel without a second derivative."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return x.sin()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, g: Tensor) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        return g * ctx.saved_tensors[0].cos()


class Fused(Blocked):
    """One that says nothing: autograd takes its backward for a constant."""

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        with torch.no_grad():
            return g * ctx.saved_tensors[0].cos()


class Kernel(nn.Module):
    def __init__(self, function: type[torch.autograd.Function]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function.apply(x)  # pyright: ignore[reportReturnType]


class Sine(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.sin()


@pytest.mark.parametrize("function", [Blocked, Fused])
def test_a_module_without_second_derivative_is_named_with_the_remedy(function: Any) -> None:
    model, plain = network(), network()
    model[1], plain[1] = Kernel(function), Sine()
    before = copy.deepcopy(model.state_dict())
    for method in ("auto", "double_backward"):
        H = hessian(loss_of(model), model, method)
        for _ in range(2):
            with pytest.raises(RuntimeError, match=r"module '1' \(Kernel\) has no second .* method=\"difference\""):
                H.matvec(torch.ones(H.shape[0]).double())
    assert same(model.state_dict(), before)
    assert all(p.grad is None for p in model.parameters())
    near = dense(hessian(loss_of(model), model, "difference"))
    torch.testing.assert_close(near, dense(hessian(loss_of(plain), plain)), rtol=0, atol=1e-8)
    for make in (gauss_newton, empirical_fisher):
        with pytest.raises(RuntimeError, match=r"module '1' \(Kernel\) has no second"):
            make(loss_of(model), model).matvec(torch.ones(43).double())


class CrossEntropy(torch.autograd.Function):
    """A fused loss, which makes its gradient in the forward pass."""

    @staticmethod
    def forward(ctx: Any, z: Tensor) -> Tensor:
        ctx.save_for_backward((z.softmax(1) - F.one_hot(y, 3)) / len(z))
        return F.cross_entropy(z, y)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        return g * ctx.saved_tensors[0]


def test_a_fused_loss_is_found_too() -> None:
    model = network()
    with pytest.raises(RuntimeError, match="the loss function, outside of any module, has no second derivative"):
        hessian(lambda: CrossEntropy.apply(model(x)), model).matvec(torch.ones(43).double())


class Differentiable(Blocked):
    """A custom function as it should be."""

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        return g * ctx.saved_tensors[0].cos()


class ForwardOnly(torch.autograd.Function):
    """Tangents pass through its backward; gradients do not."""

    @staticmethod
    def forward(x: Tensor) -> Tensor:
        return x.sin()

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        ctx.save_for_backward(*inputs)
        ctx.save_for_forward(*inputs)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, g: Tensor) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        return g * ctx.saved_tensors[0].cos()

    @staticmethod
    def jvp(ctx: Any, tangent: Tensor) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        return tangent * ctx.saved_tensors[0].cos()


def test_custom_functions_that_can_be_differentiated_are_and_the_way_is_recorded() -> None:
    plain = network()
    plain[1] = Sine()
    exact = dense(hessian(loss_of(plain), plain))
    for function, method in (
        (Differentiable, "double backward, one graph for all products"),
        (ForwardOnly, "forward over reverse: module '1' (Kernel) has no derivative of its backward"),
    ):
        model = network()
        model[1] = Kernel(function)
        H = hessian(loss_of(model), model)
        torch.testing.assert_close(dense(H), exact)
        assert H.method == method


@pytest.mark.parametrize(
    ("loss", "error", "message"),
    [
        (lambda m: m(x).sum() * float("nan"), FloatingPointError, "loss_fn returned nan"),
        (lambda m: (m(x).sum() * 0).sqrt(), FloatingPointError, "the gradient of the loss by 0.weight is not finite"),
        (lambda m: x.sum().requires_grad_(), ValueError, "must depend on one"),
        (lambda m: m(x), ValueError, r"returned shape \(8, 3\)"),
    ],
)
def test_losses_that_are_none(loss: Any, error: Any, message: str) -> None:
    model = network()
    before = copy.deepcopy(model.state_dict())
    for make in (hessian,):
        with pytest.raises(error, match=message):
            make(lambda: loss(model), model)
    assert same(model.state_dict(), before)


def test_a_loss_that_is_random_between_calls_is_found() -> None:
    model, calls = network(), iter(range(100))
    with pytest.raises(ValueError, match=r"returned .* and then .*: it must be a function of the parameters"):
        hessian(lambda: F.cross_entropy(model(x + next(calls)), y), model)
    H = hessian(lambda: F.cross_entropy(model(x), y) + 0 * next(calls), model, "forward_over_reverse")
    next(iter(model.parameters())).data.add_(1)
    with pytest.raises(ValueError, match="must be a function"):
        H.matvec(torch.ones(H.shape[0]).double())


def test_vectors_and_parameters_of_the_wrong_kind() -> None:
    model = network()
    H = hessian(loss_of(model), model)
    with pytest.raises(ValueError, match=r"v has shape \(3,\).*\(43,\)"):
        H.matvec(torch.ones(3))
    with pytest.raises(ValueError, match="method='fast' is unknown"):
        hessian(loss_of(model), model, "fast")  # pyright: ignore[reportArgumentType]
    model[0].requires_grad_(False)
    assert hessian(loss_of(model), model).shape == (18, 18)
    with pytest.raises(ValueError, match=r"0.weight, shape \(5, 4\), does not require"):
        hessian(loss_of(model), model.named_parameters())


# Two processes ---------------------------------------------------------------------------------------------------------------


def wrapped(kind: str, model: nn.Module) -> nn.Module:
    if kind == "ddp":
        return nn.parallel.DistributedDataParallel(model, find_unused_parameters=True)
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    mesh = init_device_mesh("cpu", (2,))
    fully_shard(model[0], mesh=mesh)  # pyright: ignore[reportIndexIssue]
    fully_shard(model[2], mesh=mesh)  # pyright: ignore[reportIndexIssue]
    fully_shard(model, mesh=mesh)
    return model


def probes_of(rank: int) -> list[list[Tensor]]:
    """What each kind of wrapper and matrix gives, on this process's half of the batch; and a refusal."""
    refused_without_module()
    return [probe_and_train(kind, make, rank) for kind in ("ddp", "fsdp", "") for make in MAKERS]


def probe_and_train(kind: str, make: Any, rank: int) -> list[Tensor]:
    """Eigenvalues, gradient norm and loss, before and after a training step; alone on the whole batch if not wrapped."""
    model = wrapped(kind, network()) if kind else network()
    mine, classes = (x[rank::2], y[rank::2]) if kind else (x, y)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    found: list[Tensor] = []
    for _ in range(2):
        operator = make(lambda: F.cross_entropy(model(mine), classes), model)
        pairs = eigenpairs(operator, 3, tol=1e-9, max_products=60)
        found += [operator.space.norm(operator.gradient), operator.loss, *pairs.eigenvalues]
        optimizer.zero_grad()
        F.cross_entropy(model(mine), classes).backward()
        optimizer.step()
    return found


def refused_without_module() -> None:
    model = wrapped("fsdp", network())
    with pytest.raises(ValueError, match="pass the module itself"):
        hessian(lambda: model(x).sum(), model.parameters())


def test_two_processes_equal_one() -> None:
    for share in in_two_processes(probes_of):
        alone = share[6:]
        for found, expected in zip(share[:6], alone + alone, strict=True):
            torch.testing.assert_close(torch.stack(found), torch.stack(expected), rtol=1e-9, atol=1e-12)


def test_the_matrix_over_a_data_set_is_weighted_by_examples() -> None:
    model = network()
    data = torch.utils.data.TensorDataset(x, y)
    loader = torch.utils.data.DataLoader(data, batch_size=3, shuffle=True)  # 3, 3 and 2 examples
    for make in MAKERS:
        state = torch.get_rng_state()
        A = over_batches(
            lambda batch, make=make: make(lambda: F.cross_entropy(model(batch[0]), batch[1]), model), loader
        )
        whole = make(loss_of(model), model)
        torch.testing.assert_close(dense(A), dense(whole))
        torch.testing.assert_close(A.loss, whole.loss)
        torch.testing.assert_close(A.gradient, whole.gradient)
        assert torch.equal(state, torch.get_rng_state())
        assert A.cost.products == 3 * 43
        assert A.count == 8
    halves = over_batches(lambda i: hessian(loss_of(model, x), model), [0, 1], examples=lambda i: 4)
    torch.testing.assert_close(halves.loss, hessian(loss_of(model), model).loss)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_a_block_is_that_of_the_whole_matrix(dtype: torch.dtype) -> None:
    model = network().to(dtype)
    loss = loss_of(model, x.to(dtype))
    inside = slice(25, 40)  # the last weight, of 3 × 5
    near = 1e-6 if dtype == torch.float64 else 1e-4
    operators = [*(make(loss, model) for make in MAKERS), *(hessian(loss, model, way) for way in METHODS[1:])]
    for A in operators:
        block = A.restricted(["2.weight"])
        torch.testing.assert_close(dense(block), dense(A)[inside, inside], rtol=1e-3, atol=near)
        torch.testing.assert_close(block.gradient, A.gradient[inside])
        assert block.cost is A.cost
        assert block.shape == (15, 15)
    for names in ([], ["1.weight"]):
        with pytest.raises(ValueError, match=r"must be some of the parameters 0.weight, 0.bias"):
            operators[0].restricted(names)


def test_data_that_cannot_be_gone_through_again() -> None:
    model = network()

    def operator_of(batch: Tensor) -> Any:
        return hessian(lambda: model(batch).square().sum(), model)

    with pytest.raises(TypeError, match="generator, which can be gone through only once"):
        over_batches(operator_of, (b for b in [x]))
    with pytest.raises(ValueError, match="no examples"):
        over_batches(operator_of, [])
    with pytest.raises(ValueError, match="say how many with examples="):
        over_batches(lambda b: operator_of(x), [1])
    data = [x, x]
    A = over_batches(operator_of, data)
    data.append(x)
    with pytest.raises(ValueError, match=r"24 examples .* where there were 16"):
        A.matvec(torch.ones(43).double())


def test_no_warning_of_curvature() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model = network()
        eigenpairs(hessian(loss_of(model), model))


class Flash(nn.Module):
    """Which asks for the fused kernel itself."""

    def __init__(self) -> None:
        super().__init__()
        self.qkv = nn.Linear(4, 12)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(x.view(1, 1, 8, 4)).chunk(3, -1)
        with sdpa_kernel(SDPBackend.FLASH_ATTENTION):
            return F.scaled_dot_product_attention(q, k, v).view(8, 4)


def test_a_kernel_that_the_model_insists_on_is_named() -> None:
    model = nn.Sequential(Flash(), nn.Linear(4, 3)).double()
    with pytest.raises(RuntimeError, match=r"module '0' \(Flash\) has no second derivative"):
        hessian(loss_of(model), model).matvec(torch.ones(75).double())
    near = hessian(loss_of(model), model, "difference")
    torch.testing.assert_close(dense(near), dense(near).T, rtol=0, atol=1e-7)
