"""What any solver can do to a field's predictions: replace the first by a formula, or clip the predicted image.

A solver that offers them asks `model_of(field, afs, thresholding)` for the model that it calls.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from fewstep.errors import UserError
from fewstep.field import Field
from fewstep.paths import Path, Prediction, like

Model = Callable[[Tensor, float | Tensor], Prediction]


def analytical_first_step(path: Path, x: Tensor, t: float | Tensor) -> Prediction:
    """eps = x / sqrt(alpha^2 + sigma^2): what the field says about pure noise, but for a factor near 1.

    The analytical first step (AFS) of GENIE (arXiv 2210.05475) and diff-sampler; it saves one call.
    """
    t = torch.as_tensor(t, dtype=torch.float64)
    alpha, sigma = path.alpha(t), path.sigma(t)
    r = torch.sqrt(alpha**2 + sigma**2)
    # x0 = (x - sigma eps) / alpha, written so that alpha = 0 is regular
    return Prediction(path, x, t, x0=like(alpha / (r * (r + sigma)), x) * x, eps=like(1 / r, x) * x)


def threshold(x0: Tensor, quantile: float) -> Tensor:
    """Dynamic thresholding (Imagen, arXiv 2205.11487, §2.3): clip to the quantile of |x0| of each sample if above 1,
    and scale back to [-1, 1]."""
    s = x0.abs().flatten(1).float().quantile(quantile, dim=1).clamp(min=1).to(x0)
    s = s.view(-1, *[1] * (x0.ndim - 1))
    return x0.clamp(-s, s) / s


def model_of(field: Field, afs: bool = False, thresholding: float | None = None) -> Model:
    """`field` with these options; without them the field itself."""
    if thresholding is not None and not 0 < thresholding <= 1:
        raise UserError(f"thresholding is a quantile in (0, 1], or null for none; got {thresholding}")
    if not afs and thresholding is None:
        return field
    pending = [afs]

    def model(x: Tensor, t: float | Tensor) -> Prediction:
        first, pending[0] = pending[0], False
        prediction = analytical_first_step(field.path, x, t) if first else field(x, t)
        if thresholding is None:
            return prediction
        return Prediction(field.path, x, t, x0=threshold(prediction.x0, thresholding))

    return model
