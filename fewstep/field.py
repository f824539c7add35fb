"""The metered field: what a sampler may ask, and how often."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from fewstep import schedules
from fewstep.errors import BudgetExceeded, FewstepError, UserError
from fewstep.grid import Grid
from fewstep.paths import Path, Prediction, like
from fewstep.seeds import SampleRng

Predictor = Callable[..., Prediction]
AUTO = "auto"


class Field:
    """A model as samplers see it: counted calls, a budget, the path and the time grid.

    predict    a Model or anything like it: predict(x, t, **condition) -> Prediction
    schedule   the grid that `schedule="auto"` stands for
    timesteps  n -> n + 1 times, where an accelerator brings a grid of its own; it then replaces every grid
    budget     calls allowed for a sample; the next one raises BudgetExceeded
    record     keep (t, x, velocity) of every call in `trajectory`
    grad       keep the graph, for what is fitted through the solver
    rng        one random stream a sample, for solvers that add noise
    prior      unit latents -> the noise that sampling starts from, where a model was trained from another one
    warp       t -> a time for each dimension of each sample, like x, where those go through noise at paces of their own
    """

    def __init__(
        self,
        predict: Predictor,
        path: Path,
        schedule: str,
        *,
        budget: int | None = None,
        condition: dict[str, Tensor] | None = None,
        timesteps: Callable[[int], Tensor] | None = None,
        record: bool = False,
        grad: bool = False,
        rng: SampleRng | None = None,
        prior: Callable[[Tensor], Tensor] | None = None,
        warp: Callable[[Tensor], Tensor] | None = None,
    ):
        self.predict, self.path, self.schedule = predict, path, schedule
        self.budget, self.condition, self.timesteps = budget, condition or {}, timesteps
        self.grad, self.rng, self.prior, self.warp = grad, rng, prior, warp
        self.made_in = 0.0  # seconds that went into making this field, by networks beside its own
        self.whole = 0  # calls with all samples
        self.apart: Tensor | None = None  # calls of each sample beyond those, once there were calls with some
        self.evaluations = 0  # samples times calls
        self.called: list[float | Tensor] = []  # the time of every call
        self.trajectory: list[tuple[Tensor, Tensor, Tensor]] | None = [] if record else None

    def __call__(self, x: Tensor, t: float | Tensor, rows: Tensor | None = None, of: int = 0) -> Prediction:
        """One network call: the prediction at x [B, ...] and time t (a number, a scalar, [B], or [B, ...] like x).

        A solver with steps of their own for every sample calls with `rows` [b], the samples among `of` that x [b, ...]
        holds; only they are counted. Raises BudgetExceeded.
        """
        self._count(len(x), rows, of)
        self.called.append(t)
        condition = self.condition
        if rows is not None:
            condition = {key: value[rows] for key, value in condition.items()}
        with torch.set_grad_enabled(self.grad):
            prediction = self.predict(x, t, **condition)
        if self.trajectory is not None:
            self.trajectory.append((torch.as_tensor(t, dtype=torch.float64), x, prediction.velocity))
        return prediction

    def _count(self, n: int, rows: Tensor | None, of: int) -> None:
        if rows is not None and self.apart is None:
            self.apart = torch.zeros(of, dtype=torch.int64)
        most = self.calls if rows is None else self.whole + int(self.apart[rows.cpu()].max())
        if self.budget is not None and most >= self.budget:
            raise BudgetExceeded(f"call {most + 1} of the network, but the budget is {self.budget} NFE")
        if rows is None:
            self.whole += 1
        else:
            self.apart[rows.cpu()] += 1
        self.evaluations += n

    @property
    def calls(self) -> int:
        """Network calls of the sample that had most."""
        return self.whole + (int(self.apart.max()) if self.apart is not None else 0)

    @property
    def levels(self) -> list[float]:
        """The noise fraction u = sigma / (alpha + sigma) of every call, in order; of times a sample their mean."""
        return [float(self.path.fraction(torch.as_tensor(t, dtype=torch.float64)).mean()) for t in self.called]

    @property
    def nfe(self) -> float:
        """Network calls a sample, on average."""
        return self.whole + (float(self.apart.double().mean()) if self.apart is not None else 0.0)

    def times(self, n: int, schedule: schedules.Schedule = AUTO, end: str = schedules.ZERO) -> Tensor:
        """The n + 1 times of n steps (see `fewstep.schedules.times`)."""
        if self.timesteps is not None:
            return schedules.ended(self.path, self.timesteps(n), n, end)
        return schedules.times(
            self.path, n, self.schedule if isinstance(schedule, str) and schedule == AUTO else schedule, end
        )

    def grid(self, n: int, schedule: schedules.Schedule = AUTO, end: str = schedules.ZERO) -> Grid:
        """`times` for a solver in lambda (see `fewstep.grid`)."""
        return Grid.of(self.path, self.times(n, schedule, end), end_finite=end == schedules.T_MIN)

    def start(self, latents: Tensor, t: float | Tensor) -> Tensor:
        """Unit latents [B, ...] scaled to the path's noise at time t, the first node of the grid."""
        return like(self.path.sigma(torch.as_tensor(t, dtype=torch.float64)), latents) * self.noise_of(latents)

    def noise_of(self, latents: Tensor) -> Tensor:
        """The unit noise [B, ...] that latents stand for: themselves, unless the model has a prior of its own."""
        return latents if self.prior is None else self.prior(latents)

    def noise(self, name: str, x: Tensor) -> Tensor:
        """Unit noise like x, one stream a sample and `name`, so that no sample depends on its place in the batch."""
        if self.rng is None:
            raise FewstepError("a solver that adds noise needs a field with random streams: Field(..., rng=SampleRng)")
        return self.rng.randn(name, *x.shape[1:]).to(x)


def steps_for(nfe: int, calls: int = 1, end: str = schedules.T_MIN, afs: bool = False) -> int:
    """How many steps of `calls` network calls make exactly `nfe`; UserError when none does.

    With end="zero" the last step, to t = 0, takes one call; the analytical first step (`fewstep.shortcuts`) saves one.
    """
    schedules.check_end(end)
    last = int(end == schedules.ZERO)

    def steps(nfe: int) -> int:
        full, rest = divmod(nfe + afs - last, calls)
        return 0 if nfe < 1 or full < 0 or rest else full + last

    if not steps(nfe):
        allowed = [str(n) for n in range(1, 4 * calls) if steps(n)][:3]
        raise UserError(f"NFE {nfe} can't be made of steps of {calls} calls; there are {', '.join(allowed)}, …")
    return steps(nfe)
