"""UniPC (arXiv 2302.04867): the predictor UniP (algorithm 2) and the corrector UniC (algorithm 1) in lambda for the
data prediction D. The corrected state needs no call of its own: D at the predicted one serves the next step.
"""

from math import expm1, factorial

import numpy as np

from fewstep.errors import UserError
from fewstep.field import steps_for
from fewstep.multistep import check_order, combine, order_of_step
from fewstep.shortcuts import model_of

B = {"bh1": lambda hh: hh, "bh2": expm1}


def sample(field, latents, nfe, order=2, variant="bh2", schedule="lambda", end="t_min", afs=False, thresholding=None,
           lower_order_final=True):  # fmt: skip
    check_order("unipc", order, (1, 2, 3))
    if variant not in B:
        raise UserError(f"unipc has the variants {', '.join(B)}; got {variant!r}")
    model = model_of(field, afs, thresholding)
    grid = field.grid(steps_for(nfe, 1, end, afs), schedule, end)
    lower_order_final |= end == "zero"
    x = field.start(latents, grid.t[0])
    D, lam = [model(x, grid.t[0]).x0], [grid.lam[0]]
    for i in range(grid.n):
        h = grid.h(i)
        base = grid.sigma[i + 1] / grid.sigma[i] * x - grid.alpha[i + 1] * expm1(-h) * D[0]
        if grid.sigma[i + 1] == 0:
            return base
        p = order_of_step(i, grid.n, order, lower_order_final)
        Bh = grid.alpha[i + 1] * B[variant](-h)
        r = [(lam[k] - lam[0]) / h for k in range(1, p)]
        Q = [(D[k] - D[0]) / r_k for k, r_k in enumerate(r, start=1)]
        a_p, a_c = weights(p, h, r, variant)
        x_p = base - Bh * combine(a_p, Q) if p > 1 else base
        if i + 1 == grid.n:
            return x_p
        D_p = model(x_p, grid.t[i + 1]).x0
        x = base - Bh * combine(a_c, [*Q, D_p - D[0]])
        D, lam = [D_p, *D][:order], [grid.lam[i + 1], *lam][:order]
    return x


def weights(p, h, r, variant):
    """a of UniP_p [p - 1] and of UniC_p [p]: the solutions of R a = b (eq. 5 and 6), R_jk = r_k^{j-1}, r_p = 1."""
    hh = -h
    q = expm1(hh) / hh - 1
    b = []
    for j in range(1, p + 1):
        b.append(q * factorial(j) / B[variant](hh))
        q = q / hh - 1 / factorial(j + 1)
    R = np.vander([*r, 1.0], p, increasing=True).T
    # The lowest orders take 1/2 as published: exact for any B(h) = h + O(h^2) to the order that counts.
    a_p = [0.5] if p == 2 else np.linalg.solve(R[: p - 1, : p - 1], b[: p - 1]).tolist() if p > 2 else []
    a_c = [0.5] if p == 1 else np.linalg.solve(R, b).tolist()
    return a_p, a_c
