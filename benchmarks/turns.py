"""Times a sampling run against the bare network calls that it makes, turn by turn."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from statistics import median
from time import perf_counter

import torch
from torch import Tensor, nn

Call = tuple[int, float, float]  # samples, start, end


class Clock:
    """Notes when each call of a network starts and ends, and, if asked to, its inputs."""

    def __init__(self, net: nn.Module):
        self.net = net
        self.calls: list[Call] = []
        self.inputs: list[tuple] | None = None
        self.started = 0.0
        # Hooks rather than a wrapper: some solvers look for layers inside the network.
        net.register_forward_pre_hook(self._start)
        net.register_forward_hook(self._end)

    def _start(self, net: nn.Module, inputs: tuple) -> None:
        if self.inputs is not None:
            self.inputs.append(inputs)
        self.started = perf_counter()

    def _end(self, net: nn.Module, inputs: tuple, out: Tensor) -> None:
        self.calls.append((len(out), self.started, perf_counter()))


@dataclass
class Runs:
    """What repeated runs took: their seconds, and the shortest times of the gaps outside the network."""

    seconds: list[float] = field(default_factory=list)
    gaps: list[float] = field(default_factory=list)

    def add(self, start: float, calls: list[Call], end: float) -> None:
        """One run from `start` to `end`."""
        edges = [start, *(edge for _, *pair in calls for edge in pair), end]
        gaps = [after - before for before, after in zip(edges[::2], edges[1::2], strict=True)]
        self.gaps = [min(pair) for pair in zip(gaps, self.gaps or gaps, strict=True)]
        self.seconds.append(end - start)


@dataclass
class Contest:
    """A solver on a network, the bare calls that it makes, and its peer if there is one.

    A call takes the same work bare and in a run, so the shortest of all calls with as many samples counts for each.
    """

    clock: Clock
    sample: Callable[[], Tensor]
    peer: Callable[[], Tensor] | None
    inputs: list[tuple] = field(default_factory=list)
    ours: Runs = field(default_factory=Runs)
    bare: Runs = field(default_factory=Runs)
    theirs: Runs = field(default_factory=Runs)
    call: dict[int, float] = field(default_factory=dict)  # samples -> the shortest call's seconds

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
        self._run(self._call_bare, self.bare)
        if self.peer:
            self._run(self.peer, self.theirs)

    def _run(self, what: Callable, runs: Runs) -> None:
        self.clock.calls = []
        start = perf_counter()
        what()
        runs.add(start, self.clock.calls, perf_counter())
        for n, called, returned in self.clock.calls:
            self.call[n] = min(returned - called, self.call.get(n, math.inf))

    @torch.no_grad()
    def _call_bare(self) -> None:
        for inputs in self.inputs:
            self.clock.net(*inputs)

    @property
    def network(self) -> float:
        """Seconds of all network calls of a run, the shortest."""
        return sum(self.call[len(inputs[0])] for inputs in self.inputs)

    def overhead(self, runs: Runs) -> float:
        """Seconds of a run over those of its network calls, the shortest of each piece."""
        return 1 + sum(runs.gaps) / self.network

    def outside(self, runs: Runs) -> float:
        """Seconds a call that pass outside the network, the shortest."""
        return sum(runs.gaps) / len(self.inputs)

    def against_bare(self, runs: Runs) -> float:
        """Seconds of a run over those of the bare calls of the same turn, the median."""
        return median(run / bare for run, bare in zip(runs.seconds, self.bare.seconds, strict=True))
