"""What curvature costs: a product in gradients, eigenvalues beside other libraries, and memory.

python benchmarks/curvature.py > benchmarks/curvature.md  (two minutes; needs curvlinops-for-pytorch and PyHessian)
"""

import math
import resource
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from datetime import date
from functools import partial
from statistics import median
from unittest.mock import patch

import numpy as np
import torch
import torch.nn.functional as F
from curvlinops import HessianLinearOperator
from pyhessian import hessian as PyHessian
from scipy.sparse.linalg import LinearOperator, eigsh
from sklearn.datasets import load_digits
from torch import Tensor, nn

from thalweg.curvature import eigenpairs, hessian

HEAD = """# Curvature: products, eigenvalues, memory

`python benchmarks/curvature.py`, {day}, torch {version}, one thread, float32. Times are interleaved;
ratios are medians of the ratios inside each round.

**Floor.** A product goes back through the graph of a gradient, which has about twice the operations of the gradient's own
forward pass for what is linear in the layer's input and again for what is linear in its weights: as much as one gradient, if
every operation of that graph had one derivative. Predicted: 1.3 for a multilayer perceptron, 2.3 for a convolutional network,
2.4 for a transformer, 4.7 for an LSTM with the graph reused; one gradient with its graph more, if fresh. Eigenvalues: all
three libraries pay the same product, so the times are in the ratio of the products: power iteration needs a multiple of
Lanczos', and ARPACK at least its basis of 20. Memory: the basis, the vector that is multiplied, its parts in the shapes of the
parameters, and the product twice: 4 parameter sizes.
"""
TAIL = """
**Found.** A perceptron's product misses its goal of 1.4, and the LSTM's is far above the prediction: bare `torch.autograd.grad`
through the kept graph costs 1.7 and 8.5 there. Convolution and attention reach theirs. Every library is slower than ours to the
same residual, except PyHessian for the one largest eigenvalue of the perceptron, which is well separated: 9 products, against
6 to the same residual and 5 more that look for what was missed (`confirm=False` leaves them out). eigsh always makes its 20
vectors, and ends with smaller residuals than it was asked for. Memory misses its goal: a product alone takes 4 with the vector
that is multiplied, and a probe ends with the vectors found beside the basis.
"""
ROUNDS = 9
TOLERANCE = 1e-2


class Attention(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads, self.qkv, self.out = heads, nn.Linear(width, 3 * width), nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        rows, length, _ = x.shape
        q, k, v = self.qkv(x).view(rows, length, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        return self.out(F.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).reshape(x.shape))


class Block(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.attention = nn.Sequential(nn.LayerNorm(width), Attention(width, 4))
        self.mlp = nn.Sequential(
            nn.LayerNorm(width), nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width)
        )

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attention(x)
        return x + self.mlp(x)


class Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embedding, self.lstm, self.head = (
            nn.Embedding(60, 64),
            nn.LSTM(64, 64, batch_first=True),
            nn.Linear(64, 60),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.lstm(self.embedding(x))[0]).flatten(0, 1)


def digits(rows: int) -> tuple[Tensor, Tensor]:
    pixels, labels = load_digits(return_X_y=True)
    x = torch.tensor(pixels, dtype=torch.float32)
    return ((x - x.mean()) / x.std())[:rows], torch.tensor(labels)[:rows]


def mlp() -> nn.Module:
    return nn.Sequential(nn.Linear(64, 256), nn.Tanh(), nn.Linear(256, 256), nn.Tanh(), nn.Linear(256, 10))


def cnn() -> nn.Module:
    return nn.Sequential(
        nn.Unflatten(1, (1, 8, 8)),
        nn.Conv2d(1, 16, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(16, 32, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(512, 10),
    )


def gpt() -> nn.Module:
    return nn.Sequential(
        nn.Embedding(60, 64), Block(64), Block(64), nn.LayerNorm(64), nn.Linear(64, 60), nn.Flatten(0, 1)
    )


def text() -> tuple[Tensor, Tensor]:
    return torch.randint(60, (16, 64)), torch.randint(60, (1024,))


def small() -> nn.Module:
    return nn.Sequential(nn.Linear(64, 64), nn.Tanh(), nn.Linear(64, 64), nn.Tanh(), nn.Linear(64, 10))


CASES: dict[str, tuple[Callable[[], nn.Module], Callable[[], tuple[Tensor, Tensor]], float]] = {
    "MLP of 64": (small, lambda: digits(500), 1.4),
    "MLP": (mlp, lambda: digits(512), 1.4),
    "CNN": (cnn, lambda: digits(256), 2.5),
    "GPT": (gpt, text, 2.5),
    "LSTM": (Recurrent, text, math.inf),
}


def seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def products() -> None:
    print("## A product, in gradients\n")
    print("| network | parameters | gradient, ms | reused | goal | fresh |\n|---|---|---|---|---|---|")
    for name, (make, data, goal) in CASES.items():
        torch.manual_seed(0)
        model, (x, y) = make(), data()
        loss_fn = lambda: F.cross_entropy(model(x), y)  # noqa: B023, E731
        params = list(model.parameters())
        kept = hessian(loss_fn, model)
        v = torch.randn(kept.shape[0])
        works = {
            "gradient": lambda: torch.autograd.grad(loss_fn(), params),  # noqa: B023
            "reused": lambda: kept.matvec(v),  # noqa: B023
            "fresh": lambda: hessian(loss_fn, model).matvec(v),  # noqa: B023
        }
        rounds = [{kind: seconds(work) for kind, work in works.items()} for _ in range(ROUNDS + 2)][2:]
        reused, fresh = (median(r[kind] / r["gradient"] for r in rounds) for kind in ("reused", "fresh"))
        asked = "–" if goal == math.inf else f"≤ {goal}"
        ms = 1e3 * median(r["gradient"] for r in rounds)
        print(f"| {name} | {kept.shape[0]} | {ms:.1f} | {reused:.2f} | {asked} | {fresh:.2f} |", flush=True)


Found = tuple[np.ndarray, int]
"""Vectors as columns, and the products they took."""

Solve = Callable[[nn.Module, Tensor, Tensor, int], Found]


def ours(model: nn.Module, x: Tensor, y: Tensor, k: int) -> Found:
    return thalweg_of(model, x, y, k, confirm=True)


def thalweg_of(model: nn.Module, x: Tensor, y: Tensor, k: int, confirm: bool) -> Found:
    found = eigenpairs(hessian(lambda: F.cross_entropy(model(x), y), model), k, tol=TOLERANCE, confirm=confirm)
    return found.eigenvectors.numpy(), found.products


def ours_unchecked(model: nn.Module, x: Tensor, y: Tensor, k: int) -> Found:
    """Stopped where eigsh is: at the residuals, without another vector that looks for what was missed."""
    return thalweg_of(model, x, y, k, confirm=False)


def arpack(model: nn.Module, x: Tensor, y: Tensor, k: int) -> Found:
    H = HessianLinearOperator(
        model, nn.CrossEntropyLoss(), list(model.parameters()), [(x, y)], check_deterministic=False
    ).to_scipy()
    count = 0

    def matvec(v: np.ndarray) -> np.ndarray:
        nonlocal count
        count += 1
        return H.matvec(v)

    counted = LinearOperator(H.shape, matvec=matvec, dtype=np.float32)
    _, vectors = eigsh(counted, k, which="LA", tol=TOLERANCE, v0=np.random.default_rng(0).normal(size=H.shape[0]))
    return vectors, count


def power_iteration(model: nn.Module, x: Tensor, y: Tensor, k: int, change: float) -> Found:
    module = sys.modules["pyhessian.hessian"]  # the package shows the class under that name
    with (
        warnings.catch_warnings(),
        patch.object(module, "hessian_vector_product", wraps=module.hessian_vector_product) as hvp,
    ):
        warnings.simplefilter("ignore")
        torch.manual_seed(0)
        _, vectors = PyHessian(model, nn.CrossEntropyLoss(), data=(x, y), cuda=False).eigenvalues(1000, change, k)
    model.zero_grad()
    return torch.stack([torch.cat([p.flatten() for p in v]) for v in vectors], 1).detach().numpy(), hvp.call_count


def residual(model: nn.Module, x: Tensor, y: Tensor, vectors: np.ndarray) -> float:
    """The largest ‖Hv − θv‖ by the largest θ."""
    H = hessian(lambda: F.cross_entropy(model(x), y), model)
    columns = [torch.tensor(v / np.linalg.norm(v), dtype=torch.float32) for v in vectors.T]
    pairs = [(v, H.matvec(v)) for v in columns]
    return max((w - (v @ w) * v).norm().item() for v, w in pairs) / max((v @ w).item() for v, w in pairs)


def loosest(model: nn.Module, x: Tensor, y: Tensor, k: int) -> float:
    """The change between iterations at which PyHessian has the same residual, or the least tried."""
    changes = [10.0**-i for i in range(2, 7)]
    for change in changes:
        if residual(model, x, y, power_iteration(model, x, y, k, change)[0]) <= TOLERANCE:
            return change
    return changes[-1]


def eigenvalues() -> None:
    print(f"\n## Eigenvalues to a residual of {TOLERANCE:g} of the largest\n")
    print(
        "After 30 steps of Adam. PyHessian stops by the change of its eigenvalue, here the largest power of ten that gives this"
    )
    print(
        "residual, 1e-6 at least. Ours first as it is, with vectors that look for what was missed; then stopped as eigsh is.\n"
    )
    print("| network | k | library | products | time ÷ ours | residual |\n|---|---|---|---|---|---|")
    for name in ("MLP", "CNN", "GPT"):
        torch.manual_seed(0)
        model, (x, y) = CASES[name][0](), CASES[name][1]()
        optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
        for _ in range(30):
            optimizer.zero_grad()
            F.cross_entropy(model(x), y).backward()
            optimizer.step()
        optimizer.zero_grad()
        libraries: dict[str, Solve] = {
            "thalweg": ours,
            "thalweg, unchecked": ours_unchecked,
            "curvlinops + eigsh": arpack,
        }
        if name != "GPT":  # PyHessian has no product through fused attention
            for k in (1, 5):
                change = loosest(model, x, y, k)
                power = partial(power_iteration, change=change)
                compare(name, model, x, y, k, libraries | {f"PyHessian, {change:g}": power})
        else:
            del libraries["curvlinops + eigsh"]  # nor has curvlinops: both under the math kernel
            with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
                for k in (1, 5):
                    compare(name, model, x, y, k, libraries | {"curvlinops + eigsh": arpack})


def compare(
    name: str,
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    k: int,
    libraries: dict[str, Solve],
) -> None:
    found = {library: solve(model, x, y, k) for library, solve in libraries.items()}
    rounds = [{lib: seconds(lambda: solve(model, x, y, k)) for lib, solve in libraries.items()} for _ in range(3)]  # noqa: B023
    for library, (vectors, count) in found.items():
        ratio = median(r[library] / r["thalweg"] for r in rounds)
        print(
            f"| {name} | {k} | {library} | {count} | {ratio:.2f} | {residual(model, x, y, vectors):.1e} |", flush=True
        )


def held() -> int:
    """Bytes of this process in memory."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize()


def memory_of_a_probe(which: str) -> None:
    """In a process of its own: the peak above what the model and its graph take, in parameter sizes, less what is kept."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(2000, 2500), nn.Tanh(), nn.Linear(2500, 2500), nn.Tanh(), nn.Linear(2500, 10))
    x, y = torch.randn(4, 2000), torch.randint(10, (4,))
    H = hessian(lambda: F.cross_entropy(model(x), y), model)
    k = {"product": 0, "k = 1": 1, "k = 5": 5}[which]
    kept = 24 if k else 0
    before = held()
    if k:
        eigenpairs(H, k, tol=0.0, max_products=30, capacity=24)
    else:
        H.matvec(torch.randn(H.shape[0]))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(f"{(peak - before) / (4 * H.shape[0]) - kept:.2f}")


def memory() -> None:
    print("\n## Peak memory above model and graph, in parameter sizes\n")
    print("| | less the basis of 24 | goal |\n|---|---|---|")
    for which in ("product", "k = 1", "k = 5"):
        made = subprocess.run([sys.executable, __file__, which], capture_output=True, text=True, check=True)
        print(f"| {which} | {made.stdout.strip()} | ≤ 4 |", flush=True)


def main() -> None:
    print(HEAD.format(day=date.today(), version=torch.__version__))
    products()
    eigenvalues()
    memory()
    print(TAIL, end="")


torch.set_num_threads(1)
memory_of_a_probe(sys.argv[1]) if len(sys.argv) > 1 else main()
