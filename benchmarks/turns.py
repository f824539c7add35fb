"""Times a sampling run against the bare network calls that it makes, turn by turn."""

from __future__ import annotations

import itertools
import math
import statistics
from collections.abc import Callable
from dataclasses import dataclass, field
from time import perf_counter

import torch
from torch import Tensor, nn


class Clock:
    """Notes when each call of a network starts and ends, and, if asked to, its inputs."""

    def __init__(self, net: nn.Module):
        self.net = net
        self.calls: list[tuple[float, float]] = []
        self.inputs: list[tuple] | None = None
        self.started = 0.0
        # Hooks rather than a wrapper: some solvers look for layers inside the network.
        net.register_forward_pre_hook(self._start)
        net.register_forward_hook(self._end)

    def _start(self, net: nn.Module, inputs: tuple) -> None:
        if self.inputs is not None:
            self.inputs.append(inputs)
        self.started = perf_counter()

    def _end(self, *_) -> None:
        self.calls.append((self.started, perf_counter()))


@dataclass
class Pieces:
    """The shortest times seen of each piece: from one network call's start to the next, and outside the network."""

    between: list[float] = field(default_factory=list)
    outside: list[float] = field(default_factory=list)

    def add(self, start: float, calls: list[tuple[float, float]], end: float) -> None:
        starts, ends = [s for s, _ in calls], [e for _, e in calls]
        edges = [start, *starts, end]
        self._keep("between", [b - a for a, b in itertools.pairwise(edges)])
        self._keep("outside", [b - a for a, b in zip([start, *ends], [*starts, end], strict=True)])

    def _keep(self, name: str, new: list[float]) -> None:
        old = getattr(self, name) or [math.inf] * len(new)
        setattr(self, name, [min(pair) for pair in zip(old, new, strict=True)])

    @property
    def microseconds(self) -> float:
        """Time outside the network, a call."""
        return 1e6 * sum(self.outside) / (len(self.outside) - 1)


@dataclass
class Contest:
    """A solver on a network, the bare calls that it makes, and its peer if there is one."""

    clock: Clock
    sample: Callable[[], Tensor]
    peer: Callable[[], Tensor] | None
    inputs: list[tuple] = field(default_factory=list)
    bare: list[float] = field(default_factory=list)
    ours: Pieces = field(default_factory=Pieces)
    theirs: Pieces = field(default_factory=Pieces)

    def prepare(self) -> None:
        """Warm up, and note the inputs of the network."""
        self.clock.inputs = self.inputs
        self.sample()
        self.clock.inputs = None
        if self.peer:
            self.peer()

    def turn(self) -> None:
        """One turn of each."""
        self._run(self.sample, self.ours)
        self._run_bare()
        if self.peer:
            self._run(self.peer, self.theirs)

    def _run(self, sample: Callable[[], Tensor], pieces: Pieces) -> None:
        self.clock.calls = []
        start = perf_counter()
        sample()
        pieces.add(start, self.clock.calls, perf_counter())

    @torch.no_grad()
    def _run_bare(self) -> None:
        seconds, net = [], self.clock.net
        for inputs in self.inputs:
            start = perf_counter()
            net(*inputs)
            seconds.append(perf_counter() - start)
        old = self.bare or [math.inf] * len(seconds)
        self.bare = [min(pair) for pair in zip(old, seconds, strict=True)]

    @property
    def call(self) -> float:
        """Seconds of a bare call, on average."""
        return statistics.fmean(self.bare)

    def overhead(self, run: Pieces) -> float:
        """Seconds of a run over those of as many bare calls."""
        return sum(run.between) / (self.call * (len(run.between) - 1))
