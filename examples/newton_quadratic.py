"""Second order by one interface: a quadratic in one step, and logistic regression to the last digits.

`step` takes a function that returns the loss; no backward, no zero_grad.  `used` tells what a step cost.

    python examples/newton_quadratic.py
"""

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


def slope_after(budget: float, name: str, **options: object) -> float:
    """The gradient's norm that an optimizer reaches for so many gradients' worth of work."""
    model, spent = nn.Linear(30, 1), 0.0
    nn.init.zeros_(model.weight)
    nn.init.zeros_(model.bias)

    def loss() -> Tensor:
        return F.binary_cross_entropy_with_logits(model(x).squeeze(1), y) + 1e-3 * model.weight.square().sum()

    optimizer = {"newton_cg": thalweg.NewtonCG, "lbfgs": thalweg.LBFGS}[name](model.parameters(), **options)  # pyright: ignore[reportArgumentType]
    while spent < budget:
        optimizer.step(loss)
        spent += float(optimizer.used.gradient_equivalents)
    return torch.cat([g.flatten() for g in torch.autograd.grad(loss(), list(model.parameters()))]).norm().item()


newtons = slope_after(200, "newton_cg", tolerance=None)
quasi = slope_after(200, "lbfgs", line_search_fn="strong_wolfe", tolerance_change=0.0)
print(f"logistic regression, gradient's norm after 200 gradients of work: NewtonCG {newtons:.1e}, LBFGS {quasi:.1e}")
assert newtons < 1e-10
