"""The largest eigenvalues of a Hessian by scipy's ARPACK and products written out."""

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from thalweg.lab.untyped import untyped


def largest(loss: Tensor, model: nn.Module, k: int) -> Any:
    """The k largest eigenvalues of the loss's Hessian, descending."""
    params = list(model.parameters())
    flat = torch.cat([g.flatten() for g in torch.autograd.grad(loss, params, create_graph=True)])

    def product(v: Any) -> Any:
        grads = torch.autograd.grad(flat @ torch.from_numpy(v.ravel()).float(), params, retain_graph=True)
        return torch.cat([g.flatten() for g in grads]).double().numpy()

    arpack = untyped("scipy.sparse.linalg")
    operator = arpack.LinearOperator((len(flat), len(flat)), matvec=product, dtype=np.float64)
    return np.sort(arpack.eigsh(operator, k, which="LA", return_eigenvectors=False))[::-1]
