"""Times a sampling run against the bare network calls that it makes, turn by turn."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
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
class Shortest:
    """The shortest times seen: of a network call, by its number of samples, and of each gap outside of the calls."""

    call: dict[int, float] = field(default_factory=dict)
    gaps: list[float] = field(default_factory=list)

    def add(self, start: float, calls: list[Call], end: float) -> None:
        """One run from `start` to `end`."""
        for n, called, returned in calls:
            self.call[n] = min(returned - called, self.call.get(n, math.inf))
        edges = [start, *(edge for _, *pair in calls for edge in pair), end]
        gaps = [after - before for before, after in zip(edges[::2], edges[1::2], strict=True)]
        self.gaps = [min(pair) for pair in zip(gaps, self.gaps or gaps, strict=True)]


@dataclass
class Contest:
    """A solver on a network, the bare calls that it makes, and its peer if there is one."""

    clock: Clock
    sample: Callable[[], Tensor]
    peer: Callable[[], Tensor] | None
    inputs: list[tuple] = field(default_factory=list)
    bare: Shortest = field(default_factory=Shortest)
    ours: Shortest = field(default_factory=Shortest)
    theirs: Shortest = field(default_factory=Shortest)

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

    def _run(self, what: Callable, shortest: Shortest) -> None:
        self.clock.calls = []
        start = perf_counter()
        what()
        shortest.add(start, self.clock.calls, perf_counter())

    @torch.no_grad()
    def _call_bare(self) -> None:
        for inputs in self.inputs:
            self.clock.net(*inputs)

    def seconds(self, run: Shortest) -> float:
        """Of the network calls of a run."""
        return sum(run.call[len(inputs[0])] for inputs in self.inputs)

    def overhead(self, run: Shortest) -> float:
        """Seconds of a run over those of its calls made bare."""
        return (self.seconds(run) + sum(run.gaps)) / self.seconds(self.bare)

    def outside(self, run: Shortest) -> float:
        """Seconds a call that pass outside the network."""
        return sum(run.gaps) / len(self.inputs)
