"""A training step as a CUDA graph: one launch in place of hundreds.

A replay repeats the kernels of the step that was captured, on the same memory. So what differs from step to step is
copied to where the graph reads it (indices, learning rate, random rows), and what a rule keeps from step to step is
written back to where the graph reads it. What a rule counts or decides on the host would stand still: such rules are
refused.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from mtlkit.training import Run
from mtlkit.weighting import METHODS
from mtlkit.weighting.base import Draws

WARM_UP = 3
"""Steps before the one that is captured: they look for the path, choose kernels, and make what stays."""

CAPTURED = ("ew", "rlw", "uw", "dwa", "gls", "imtl_l", "famo", "stch", "pcgrad", "gradvac", "gradnorm", "rgw", "cosine",
            "cosine_weighted", "slgrad", "slgrad_task", "l2rw", "main", "oracle", "label_consistency")  # fmt: skip
"""Methods that neither count on the host nor call a solver, for which capture is not known to be possible."""

Recorder = Callable[[Callable[[], tuple[Tensor, ...]]], tuple[tuple[Tensor, ...], Callable[[], Any]]]
"""Runs a function once; gives its results, and a call that makes their values anew, in the same memory."""


def refusal(runs: Sequence[Run]) -> str | None:
    """Why the steps of these runs cannot be captured; None where they can."""
    rule, settings = runs[0].rule, runs[0].settings
    if "cuda" not in runs[0].device:
        return "they are not on a GPU"
    if settings.precision != "float32":
        return "autocast keeps copies of the parameters between steps"
    if type(rule) not in [METHODS[name] for name in CAPTURED]:
        return f"{type(rule).__name__} decides on the host, or calls a solver"
    if getattr(rule, "shuffle", False) or getattr(rule, "refresh", 1) > 1:
        return "with shuffle, or refresh above 1, steps differ from each other"
    return None


class Captured:
    """A step that is captured after `WARM_UP` calls, and replayed from then on.

    Args:
        step: `step(*inputs)`, tensors of the same shapes each time, or None; gives tensors.
        runs: Of which it takes a step; all have one learning rate.
        record: What captures, a CUDA graph.
    """

    def __init__(self, step: Callable[..., tuple[Tensor, ...]], runs: Sequence[Run],
                 record: Recorder | None = None) -> None:  # fmt: skip
        self.step, self.runs, self.record = step, runs, record or cuda_graph
        self.calls = 0
        self.rules = [run.rule for run in runs]
        self.drawn = [_Drawn(part) for rule in self.rules for part in rule.modules() if isinstance(part, Draws)]

    def __call__(self, *inputs: Tensor | None) -> tuple[Tensor, ...]:
        self.calls += 1
        with _on(self.runs[0].device):
            if self.calls <= WARM_UP:
                with _aside(self.runs[0].device):
                    return self.step(*inputs)
            if self.calls == WARM_UP + 1:
                self._capture(inputs)
            return self._replay(inputs)

    def _replay(self, inputs: Sequence[Tensor | None]) -> tuple[Tensor, ...]:
        for kept, now in zip(self.inputs, inputs, strict=True):
            if kept is not None:
                kept.copy_(now)
        for row in self.drawn:
            row.refill()
        self.rate.fill_(self.runs[0].optimizer.param_groups[0]["lr"])
        self.graph()
        return tuple(found.clone() for found in self.outputs)

    def _capture(self, inputs: Sequence[Tensor | None]) -> None:
        self.inputs = [None if one is None else one.clone() for one in inputs]
        self.rate = torch.zeros((), device=self.runs[0].device)
        for row in self.drawn:
            row.held = True

        def step() -> tuple[Tensor, ...]:
            with in_place(self.rules):
                return self.step(*self.inputs)

        with _capturable([run.optimizer for run in self.runs], self.rate):
            self.outputs, self.graph = self.record(step)


def cuda_graph(function: Callable[[], tuple[Tensor, ...]]) -> tuple[tuple[Tensor, ...], Callable[[], Any]]:
    """`Recorder` on a GPU."""
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        found = function()
    return found, graph.replay


@contextmanager
def in_place(modules: Iterable[nn.Module]) -> Iterator[None]:
    """Buffers that are replaced inside get their new values in their old memory."""
    before = [(part, name, buffer) for module in modules for part in module.modules()
              for name, buffer in part._buffers.items() if buffer is not None]  # fmt: skip
    yield
    replaced = [one for one in before if one[0]._buffers[one[1]] is not one[2]]
    for part, name, buffer in replaced:
        buffer.copy_(part._buffers[name])
        part._buffers[name] = buffer


class _Drawn:
    """Stands in for `Draws.next`: while `held`, the row lies where a graph finds it, and `refill` draws it."""

    def __init__(self, draws: Draws) -> None:
        self.next, self.held, self.row = draws.next, False, None
        draws.next = self

    def __call__(self, like: Tensor) -> Tensor:
        if not self.held:
            self.row = self.next(like).clone()
        return self.row

    def refill(self) -> None:
        self.row.copy_(self.next(self.row))


@contextmanager
def _capturable(optimizers: Iterable[Optimizer], rate: Tensor) -> Iterator[None]:
    """Inside, optimizers take the learning rate from a tensor and may be captured."""
    groups = [group for optimizer in optimizers for group in optimizer.param_groups]
    before = [dict(group) for group in groups]
    for group in groups:
        group |= {"lr": rate} | ({"capturable": True} if "capturable" in group else {})
    try:
        yield
    finally:
        for group, kept in zip(groups, before, strict=True):
            group |= {name: kept[name] for name in ("lr", "capturable") if name in kept}


def _on(device: str) -> AbstractContextManager:
    return torch.cuda.device(device) if "cuda" in device else nullcontext()


@contextmanager
def _aside(device: str) -> Iterator[None]:
    """On a stream of its own, as the work before a capture has to be."""
    if "cuda" not in device:
        yield
        return
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        yield
    torch.cuda.current_stream().wait_stream(stream)
