"""Follow the guide: the optimizer that CONTRIBUTING.md adds must run, and run alike under every strategy."""

import sys
import types
from pathlib import Path

import torch
from torch import Tensor


def example() -> types.ModuleType:
    """The guide's first block of Python, as a module."""
    guide = Path(__file__).parent.parent / "CONTRIBUTING.md"
    module = types.ModuleType("signum")
    sys.modules[module.__name__] = module
    exec(guide.read_text(encoding="utf-8").split("```python\n")[1].split("```")[0], module.__dict__)
    return module


def after_three_steps(module: types.ModuleType, run: str) -> Tensor:
    """A parameter that the example's optimizer has moved."""
    torch.manual_seed(0)
    p = torch.randn(64, 32, requires_grad=True)
    optimizer = module.Signum([p], lr=0.1, weight_decay=0.1, cautious=True, run=run)
    for _ in range(3):
        p.grad = torch.randn_like(p)
        optimizer.step()
    return p.detach()


if __name__ == "__main__":
    module = example()
    torch.testing.assert_close(after_three_steps(module, "foreach"), after_three_steps(module, "each"))
    torch.testing.assert_close(after_three_steps(module, "compiled"), after_three_steps(module, "each"))
    print("the guide's optimizer runs alike under every strategy")
