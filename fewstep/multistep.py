"""What linear multistep rules share: the order of each step, and exact integrals of interpolating polynomials."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from fewstep.errors import UserError

# Gauss–Legendre rule: exact to rounding for the smooth integrands here. Made once, as it costs more than a step.
NODES, WEIGHTS = np.polynomial.legendre.leggauss(64)
# Weights on a uniform grid for the last 1 to 4 slopes, newest first.
ADAMS_BASHFORTH = ((1.0,), (3 / 2, -1 / 2), (23 / 12, -16 / 12, 5 / 12), (55 / 24, -59 / 24, 37 / 24, -9 / 24))
Map = Callable[[np.ndarray], np.ndarray]


def order_of_step(i: int, n: int, order: int, lower_order_final: bool = False) -> int:
    """Order of step i of n: as much history as there is (warm-up), and down to 1 again at the end if asked for."""
    return min(order, i + 1, *([n - i] if lower_order_final else []))


def check_order(method: str, order: int, offered: Sequence[int]) -> None:
    """UserError unless `order` is offered."""
    if not isinstance(order, int) or order not in offered:
        raise UserError(f"{method} has order {', '.join(map(str, offered))}; got {order!r}")


def lagrange_integrals(nodes: Sequence[float], a: float, b: float, at: Map | None = None, weight: Map | None = None):
    """Integrals over s from a to b of weight(s) L_j(at(s)), L_j the Lagrange polynomials on `nodes`; one a node.

    Without `at` and `weight`, the weights of variable-step Adams–Bashforth.
    """
    s = a + (b - a) * (NODES + 1) / 2
    w = (b - a) / 2 * WEIGHTS * (weight(s) if weight else 1.0)
    tau = at(s) if at else s
    integrals = []
    for j, node in enumerate(nodes):
        basis = np.ones_like(tau)
        for k, other in enumerate(nodes):
            if k != j:
                basis = basis * (tau - other) / (node - other)
        integrals.append(float(np.sum(w * basis)))
    return integrals


def adams_bashforth(slopes: Sequence):
    """The mean slope of a step from the last 1 to 4 slopes, newest first, as if the grid were uniform (iPNDM)."""
    return combine(ADAMS_BASHFORTH[len(slopes) - 1], slopes)


def combine(weights: Sequence[float], values: Sequence):
    """sum_j weights[j] values[j]."""
    return sum(w * v for w, v in zip(weights, values, strict=True))
