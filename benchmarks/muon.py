"""How exact the Newton–Schulz steps of Muon are: on X or on its Gram matrix, in float32 or bfloat16.

python benchmarks/muon.py > benchmarks/muon.md  (a minute)
"""

import time
from collections.abc import Callable
from datetime import date

import torch
from torch import Tensor

from thalweg.core import matrices

SHAPES = [(512, 512), (512, 1536), (512, 2048), (512, 8000), (64, 512)]
STEPS = matrices.quintic(5)
HEAD = """# Newton–Schulz steps: on X, or on its Gram matrix

`python benchmarks/muon.py`, {day}, torch {version}, {threads} threads. Median of 5; the matrices are n × m, n ≤ m.

**Floor.** Five steps on X are 5 · (4n²m + 2n³) operations, on G = XXᵀ 4n²m + 34n³: fewer from m = 1.5 n on, at m = 4n 50 n³
in place of 90. Predicted: in float32 0.66 of the time at m = 3n, 0.56 at 4n; in bfloat16 the same if it were exact enough.

Relative distance to the same polynomials of the singular values in float64, then the largest singular value found, which is
1.2 at most if all is well:

- gauss: independent normal elements; 1/i: singular values 1, 1/2, 1/3, …; 10⁻⁶: from 1 down to 10⁻⁶, evenly in the logarithm;
  rank 20.

| n × m | form | ms | gauss | 1/i | 10⁻⁶ | rank 20 |
|---|---|---|---|---|---|---|"""
TAIL = """
**Found.** In float32 the Gram matrix costs nothing that matters and is taken for m > 1.5 n. In bfloat16 it cannot be used: its
rounding gives directions with small singular values a negative eigenvalue, which every step makes twelve times as large, and
what is small in the gradient becomes many times larger than what is large. Adding a multiple of the identity, or starting
again from X after two or three steps, makes that rarer and does not prevent it. So `arithmetic="bfloat16"` iterates on X, as
torch.optim.Muon does, at its speed; and the goal of 0.6 of torch.optim.Muon's time is not met on this processor, where a
product in float32 takes 2.2 times as long as one in bfloat16.
"""


def cases(n: int, m: int) -> dict[str, Tensor]:
    torch.manual_seed(0)
    x = torch.randn(n, m, dtype=torch.float64)
    u, _, v = torch.linalg.svd(x, full_matrices=False)
    low = torch.randn(n, 20, dtype=torch.float64) @ torch.randn(20, m, dtype=torch.float64)
    falling = 1 / torch.arange(1, n + 1, dtype=torch.float64)
    return {
        "gauss": x,
        "1/i": (u * falling) @ v,
        "1e-6": (u * torch.logspace(0, -6, n, dtype=torch.float64)) @ v,
        "rank": low,
    }


def normalized(x: Tensor, dtype: torch.dtype) -> Tensor:
    x = x.to(dtype)
    return (x / torch.linalg.vector_norm(x))[None]


def exact(x: Tensor) -> Tensor:
    u, sigma, v = torch.linalg.svd(x, full_matrices=False)
    sigma = sigma / torch.linalg.vector_norm(sigma)
    for a, b, c in STEPS:
        sigma = a * sigma + b * sigma**3 + c * sigma**5
    return (u * sigma) @ v


def milliseconds(form: Callable[..., Tensor], x: Tensor) -> float:
    times: list[float] = []
    for _ in range(6):
        start = time.perf_counter()
        form(x, STEPS)
        times.append(time.perf_counter() - start)
    return 1e3 * sorted(times[1:])[2]


def main() -> None:
    print(HEAD.format(day=date.today(), version=torch.__version__, threads=torch.get_num_threads()))
    forms = {"on X": matrices._by_steps, "on G": matrices._by_gram}
    for n, m in SHAPES:
        given = cases(n, m)
        expected = {name: exact(x) for name, x in given.items()}
        for dtype in (torch.float32, torch.bfloat16):
            for name, form in forms.items():
                row = [
                    f"{n} × {m}",
                    f"{name}, {str(dtype)[6:]}",
                    f"{milliseconds(form, normalized(given['gauss'], dtype)):.1f}",
                ]
                for case, x in given.items():
                    found = form(normalized(x, dtype), STEPS)[0].double()
                    distance = torch.dist(found, expected[case]) / torch.linalg.vector_norm(expected[case])
                    row.append(f"{distance:.1e}, {torch.linalg.matrix_norm(found, 2):.2f}")
                print("|", " | ".join(row), "|", flush=True)
    print(TAIL, end="")


main()
