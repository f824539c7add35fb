"""Bellman's dynamic programme for time steps: which few nodes of a fine trajectory to keep (BOSS, arXiv 2312.16414).

    V(j, 0) = 0 at the last node, infinite elsewhere,    V(j, b) = min_{i > j} c[j, i] + gamma V(i, b - 1)

V(j, b) is the least cost of exactly b jumps from node j to the last one. Nodes go from noise, 0, to data, M.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from fewstep.errors import Diverged, UserError

ELEMENTS = 2**22  # of a trajectory that are converted at once: 32 MB in float64


def solve(cost, K: int, discount: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """V [M + 1, K + 1] and the node after each, [M + 1, K + 1] (-1: there is no way), for cost [M + 1, M + 1].

    Only cost[j, i] of i > j is read; of equal ways the one with the earlier next node is taken. Raises UserError
    unless 1 <= K <= M, and Diverged for a cost that is not finite.
    """
    M = len(cost) - 1
    if not 1 <= K <= M:
        raise UserError(f"a trajectory of {M} steps has room for 1 to {M} jumps; got {K}")
    later = np.triu(np.ones((M + 1, M + 1), dtype=bool), 1)
    cost = np.where(later, np.asarray(cost, dtype=np.float64), np.inf)
    if not np.isfinite(cost[later]).all():
        raise Diverged("the costs of jumps along the fine trajectory are not finite")
    V, after = np.full((M + 1, K + 1), np.inf), np.full((M + 1, K + 1), -1)
    V[M, 0] = 0
    for b in range(1, K + 1):
        total = cost + discount * V[:, b - 1]
        V[:, b] = total.min(1)
        after[:, b] = np.where(np.isfinite(V[:, b]), total.argmin(1), -1)
    return V, after


def path(after, K: int) -> list[int]:
    """The K + 1 nodes of the cheapest K jumps from node 0 to M; `after` is `solve`'s, of K jumps or more."""
    most = after.shape[1] - 1
    if not 1 <= K <= most:
        raise UserError(f"steps were found for 1 to {most} jumps; got {K}")
    nodes = [0]
    for b in range(K, 0, -1):
        nodes.append(int(after[nodes[-1], b]))
    return nodes


def price(cost, nodes) -> float:
    """What the jumps along `nodes` cost together."""
    return float(sum(cost[j, i] for j, i in pairwise(nodes)))


def costs(x: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """c[j, k] = mean over samples of || x_k - jump from x_j to t_k ||^2, summed over pixels; infinite unless k > j.

    x [M + 1, B, *shape] is a fine trajectory, from noise to data, and c [M + 1, M + 1] is float64, on the CPU. The rule
    that made it and that jumps is the one exact on a(t) u + b(t) w with constant u and w; a and b [M + 1] are values at
    the nodes. Euler: 1 and t. DDIM: alpha and sigma. So x_j and x_{j+1} tell what the network said at x_j, and

        jump = p x_j + q x_{j+1},    a_k = p a_j + q a_{j+1},    b_k = p b_j + q b_{j+1},

    and with G the states' inner products, c is w' G w of w = (1, -p, -q) at k, j and j + 1. What G loses to rounding,
    q^2 |x|^2 1e-16, is less than what states in float32 have lost before. c[j, j + 1] = 0.
    """
    a, b, G = a.cpu().double(), b.cpu().double(), _inner_products(x)
    norm, a_j, b_j, a_1, b_1 = G.diag(), *(value[:, None] for value in (a[:-1], b[:-1], a[1:], b[1:]))
    det = a_j * b_1 - a_1 * b_j
    p, q = (a * b_1 - a_1 * b) / det, (a_j * b - a * b_j) / det  # [M, M + 1]
    squares = norm + p**2 * norm[:-1, None] + q**2 * norm[1:, None]
    products = p * q * G.diag(1)[:, None] - p * G[:-1] - q * G[1:]
    c = torch.full_like(G, torch.inf)
    c[:-1] = (squares + 2 * products).clamp(min=0)  # the last node jumps nowhere
    return c.masked_fill(torch.ones_like(c, dtype=torch.bool).tril(), torch.inf)


def _inner_products(x: Tensor) -> Tensor:
    """Means over samples of <x_j, x_k>, [M + 1, M + 1] in float64; some samples at a time, as x may fill the memory."""
    G = torch.zeros(len(x), len(x), dtype=torch.float64)
    for piece in x.split(max(1, ELEMENTS // x[:, 0].numel()), 1):
        piece = piece.flatten(1).double()
        G += (piece @ piece.T).cpu()
    return G / x.shape[1]
