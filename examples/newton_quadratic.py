"""Second order by one interface: a quadratic in one step, and logistic regression to the last digits.

`step` takes a function that returns the loss; no backward, no zero_grad.  `used` tells what a step cost.

    python examples/newton_quadratic.py
"""

from collections.abc import Callable

import torch
from sklearn.datasets import load_breast_cancer
from torch import Tensor, nn
from torch.nn import functional as F

import thalweg

torch.manual_seed(0)
torch.set_default_dtype(torch.float64)

# A quadratic with condition number 10⁴: the minimum is where Ap = b.
A, b = torch.diag(torch.logspace(0, 4, 10)), torch.randn(10)
p = torch.randn(10, requires_grad=True)
newton = thalweg.NewtonCG([p])
newton.step(lambda: p @ A @ p / 2 - b @ p)
distance = (p - torch.linalg.solve(A, b)).norm().item()
print(f"quadratic: {distance:.1e} from the minimum after one step, {newton.used}")
assert distance < 1e-9

# Logistic regression with a small penalty.
measurements, diagnoses = load_breast_cancer(return_X_y=True)
x, y = torch.tensor(measurements), torch.tensor(diagnoses, dtype=torch.float64)
x = (x - x.mean(0)) / x.std(0)


def slope_after(budget: float, make: Callable[[nn.Module], thalweg.NewtonCG | thalweg.LBFGS]) -> float:
    """The gradient's norm that an optimizer reaches for so many gradients' worth of work."""
    model = nn.Linear(30, 1)
    for p in model.parameters():
        nn.init.zeros_(p)

    def loss() -> Tensor:
        return F.binary_cross_entropy_with_logits(model(x).squeeze(1), y) + 1e-3 * model.weight.square().sum()

    optimizer, spent = make(model), 0.0
    while spent < budget:
        optimizer.step(loss)
        spent += float(optimizer.used.gradient_equivalents)
    return torch.cat([g.flatten() for g in torch.autograd.grad(loss(), list(model.parameters()))]).norm().item()


newton_slope = slope_after(200, lambda model: thalweg.NewtonCG(model.parameters(), max_iter=30))
lbfgs_slope = slope_after(
    200,
    lambda model: thalweg.LBFGS(
        model.parameters(), line_search_fn="strong_wolfe", tolerance_grad=0.0, tolerance_change=0.0
    ),
)
print(
    f"logistic regression, slope after the work of 200 gradients: NewtonCG {newton_slope:.0e}, LBFGS {lbfgs_slope:.0e}"
)
assert newton_slope < 1e-10
