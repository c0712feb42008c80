"""A Krylov space, grown vector by vector, and the operator within it."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor

from thalweg.curvature.operators import Operator


class Krylov:
    """Orthonormal vectors V, and T = VᵀAV on those that the operator has multiplied.

    The first vectors are multiplied; those after them are pending: the parts of products that point out of the space, and
    whatever was put in to begin with.  Multiplying the first pending vector in turn, from one vector, is Lanczos' recurrence;
    from several it is band Lanczos (Ruhe 1979), which finds eigenvalues that occur several times.  At any time
    ``A V = V T + P R``, with P the pending vectors and R their couplings, so that a Ritz pair's residual is known without
    a product.

    Every new vector is orthogonalized against all others, twice: with short recurrences alone float32 shows copies of the
    largest eigenvalues from the twentieth product on.

    Args:
        operator: A.
        capacity: how many vectors are kept at most.
        dtype: of the kept vectors; bfloat16 halves their memory, and their orthogonality ends near 1e-2.
        device: where they are kept; "cpu" spares the accelerator's memory and costs their way there.
    """

    def __init__(
        self,
        operator: Operator,
        capacity: int,
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
    ) -> None:
        self.operator, self.space = operator, operator.space
        space = self.space
        self.capacity = capacity
        self.rows = torch.empty(capacity, space.held, dtype=dtype or space.dtype, device=device or space.device)
        self.couplings = torch.zeros(capacity, capacity, dtype=torch.float64)
        self.count = 0
        self.multiplied = 0
        self.products = 0

    @property
    def V(self) -> Tensor:
        """All vectors, as rows (count, held)."""
        return self.rows[: self.count]

    @property
    def T(self) -> Tensor:
        """VᵀAV on the multiplied vectors, float64 on the CPU."""
        T = self.couplings[: self.multiplied, : self.multiplied]
        return (T + T.T) / 2

    @property
    def R(self) -> Tensor:
        """What the pending vectors take of the products: (pending, multiplied)."""
        return self.couplings[self.multiplied : self.count, : self.multiplied]

    @property
    def whole(self) -> bool:
        """Whether the vectors span everything."""
        return self.count >= self.space.size

    def add(self, w: Tensor, column: Tensor | None = None) -> bool:
        """Append the part of ``w`` that is new, as a unit vector; False if there is none beyond rounding.

        ``column`` takes the coefficients of ``w`` on all vectors, the new one included.
        """
        before = self.space.norm(w)
        h, w = self.orthogonal(w)
        again, w = self.orthogonal(w)
        after = self.space.norm(w)
        # One transfer, the only time that the step waits for the device.
        numbers = torch.cat([h + again, after[None], before[None]]).double().cpu()
        if column is not None:
            column[: self.count] = numbers[: self.count]
        left, length = numbers[-2].item(), numbers[-1].item()
        if self.whole or self.count == self.capacity or not left > 10 * torch.finfo(w.dtype).eps * length:
            return False
        if column is not None:
            column[self.count] = left
        self.rows[self.count].copy_(w.div_(left))
        self.count += 1
        return True

    def add_random(self, generator: torch.Generator) -> bool:
        """Append a random direction."""
        return self.add(self.space.random(generator))

    def orthogonal(self, w: Tensor) -> tuple[Tensor, Tensor]:
        """The coefficients of ``w`` on V, and what is left of it."""
        if self.rows.dtype == w.dtype and self.rows.device == w.device:
            h = self.space.inner(self.V, w)
            return h, torch.addmv(w, self.V.T, h, alpha=-1)
        # Kept elsewhere, or short: one vector at a time comes here.
        h = torch.stack([self.space.inner(v.to(w)[None], w)[0] for v in self.V]) if self.count else w.new_zeros(0)
        w = w.clone()
        for v, x in zip(self.V, h, strict=True):
            w.sub_(v.to(w) * x)
        return h, w

    def step(self, newest: bool = False) -> None:
        """Multiply the first pending vector, or the newest, which follows up a vector just put in before all others.

        Raises:
            FloatingPointError: the product is not finite.
        """
        if newest:
            self._exchange(self.multiplied, self.count - 1)
        v = self.rows[self.multiplied].to(self.space.device, self.space.dtype)
        self.products += 1
        # The product has no name here, so that its memory is free once it is orthogonalized.
        self.add(self.operator.matvec(v), self.couplings[:, self.multiplied])
        if not self.couplings[: self.count, self.multiplied].isfinite().all():
            raise FloatingPointError(f"product {self.products} with {self.operator!r} is not finite.")
        self.multiplied += 1

    def _exchange(self, i: int, j: int) -> None:
        """Two pending vectors change places."""
        for table in (self.rows, self.couplings) if i != j else ():
            kept = table[i].clone()
            table[i].copy_(table[j])
            table[j].copy_(kept)

    def ritz(self) -> tuple[Tensor, Tensor, Tensor]:
        """Ritz values, the norms of their residuals, and coefficients (multiplied, multiplied), a column each."""
        values, vectors = eigh(self.T)
        return values, (self.R @ vectors).square().sum(0).sqrt(), vectors

    def combined(self, coefficients: Tensor) -> Tensor:
        """Combinations of the multiplied vectors, one a column of ``coefficients``: rows (columns, held)."""
        c = coefficients.T.to(self.space.device, self.space.dtype)
        if self.rows.dtype == c.dtype and self.rows.device == c.device:
            return c @ self.rows[: self.multiplied]
        total = torch.zeros(c.shape[0], self.space.held, dtype=c.dtype, device=c.device)
        for j in range(self.multiplied):
            total.addr_(c[:, j], self.rows[j].to(c))
        return total

    def finished(self, coefficients: Tensor, values: Tensor) -> Tensor:
        """These Ritz vectors, as rows; the space is given up for them, whose memory they take over."""
        if self.rows.dtype != self.space.dtype or self.rows.device != self.space.device:
            return self.combined(coefficients)
        self.restart(coefficients, values)
        k = coefficients.shape[1]
        self.rows.untyped_storage().resize_(k * self.space.held * self.rows.element_size())
        return self.rows[:k]

    def restart(self, coefficients: Tensor, values: Tensor) -> None:
        """Keep only these Ritz vectors, and the pending ones.  Thick restart: Wu & Simon 2000."""
        kept, pending = coefficients.shape[1], self.count - self.multiplied
        R = self.R @ coefficients
        block = 2**16  # of coordinates: the old vectors are overwritten, without room for as many new ones
        for start in range(0, self.space.held, block):
            part = self.rows[: self.count, start : start + block]
            c = coefficients.T.to(part.device, torch.promote_types(part.dtype, torch.float32))
            new = (c @ part[: self.multiplied].to(c.dtype)).to(part.dtype)
            part[kept : kept + pending] = part[self.multiplied :].clone()
            part[:kept] = new
        self.couplings.zero_()
        self.couplings[:kept, :kept] = values.diag()
        self.couplings[kept : kept + pending, :kept] = R
        self.multiplied, self.count = kept, kept + pending


def eigh(T: Tensor) -> tuple[Tensor, Tensor]:
    """Eigenvalues, ascending, and vectors of a symmetric matrix."""
    return cast("tuple[Tensor, Tensor]", torch.linalg.eigh(T))
