"""A captured step is the step: shown with a graph of CPU operators, and with a CUDA graph where there is a GPU."""

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from mtlkit.batched import Batched, capture
from mtlkit.errors import MtlkitError
from mtlkit.training import Run
from tests.batched.problems import SEEDS, images, made, toys


class Tape(TorchDispatchMode):
    """Keeps the operators of a call with the very tensors that they read and wrote, as a CUDA graph does."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[Any, tuple, dict, list[tuple[int, Tensor]]]] = []
        self.before: dict[int, tuple[Tensor, Tensor] | None] = {}

    def __torch_dispatch__(self, function: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        read = _tensors((args, kwargs))
        if "_local_scalar_dense" in str(function):
            assert read[0].dtype == torch.int64, "the step reads a value"  # one_hot looks at labels, on the CPU alone
        for one in read:
            if (key := one.untyped_storage().data_ptr()) not in self.before:
                whole = one.as_strided((one.untyped_storage().nbytes() // one.element_size(),), (1,), 0)
                self.before[key] = whole, whole.clone()
        wrote = _tensors(found := function(*args, **(kwargs or {})))
        known = {one.untyped_storage().data_ptr() for one in read}
        fresh = [(i, one) for i, one in enumerate(wrote) if one.untyped_storage().data_ptr() not in known]
        self.before |= {one.untyped_storage().data_ptr(): None for _, one in fresh}
        self.calls.append((function, args, kwargs or {}, fresh))
        return found

    def undo(self) -> None:
        for whole, values in filter(None, self.before.values()):
            whole.copy_(values)

    def replay(self) -> None:
        for function, args, kwargs, fresh in self.calls:
            again = _tensors(function(*args, **kwargs))
            for i, old in fresh:
                old.copy_(again[i])


def _tensors(tree: Any) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(tree) if isinstance(leaf, Tensor) and not leaf._is_zerotensor()]


def taped(function: Callable[[], Any]) -> tuple[Any, Callable[[], None]]:
    """Stands in for `cuda_graph`; capturing runs nothing, so what the function did is undone."""
    tape = Tape()
    with tape:
        found = function()
    with torch.no_grad():
        tape.undo()

    def replay() -> None:
        with torch.no_grad():
            tape.replay()

    return found, replay


CASES = [
    *((name, {}, {}) for name in ("ew", "rlw", "uw", "famo", "pcgrad", "gradvac", "gradnorm", "slgrad", "cosine")),
    *((name, {}, {"epochs": 5}) for name in ("dwa", "stch")),
    ("slgrad", {"normalisation": "task_label"}, {"class_shares": True, "reference_share": 0.25}),
    ("ew", {}, {"optimizer": "adam", "schedule": "cosine", "clip": 0.5}),
    ("uw", {}, {"optimizer": "adamw", "weight_decay": 0.25, "schedule": "cosine"}),
]


def runs(name: str, options: dict, settings: dict) -> list[Run]:
    problem = toys if "class_shares" in settings else partial(toys, kind="regression")
    settings = {"epochs": 3, "learning_rate": 0.0625, "evaluations": 1} | settings
    return [made(problem, seed, name, options, **settings) for seed in SEEDS[:2]]


@pytest.mark.parametrize(("name", "options", "settings"), CASES)
def test_replays_are_steps(name: str, options: dict, settings: dict) -> None:
    eager, replayed = (Batched(runs(name, options, settings)) for _ in range(2))
    replayed._take = capture.Captured(replayed._whole_step, replayed.runs, taped)
    expected, found = eager.fit(), replayed.fit()
    tolerance = 1e-6 if "schedule" in settings else 1e-12  # the graph's learning rate is a float32
    assert replayed._take.calls >= capture.WARM_UP + 9
    for mine, theirs in zip(eager.parameters, replayed.parameters, strict=True):
        assert torch.allclose(mine, theirs, rtol=tolerance, atol=tolerance)
    for mine, theirs in zip(expected, found, strict=True):
        assert mine["train_loss"] == pytest.approx(theirs["train_loss"], rel=1e-4 if "schedule" in settings else 1e-12)
    for mine, theirs in zip(eager.runs, replayed.runs, strict=True):
        for one, other in zip(mine.rule.buffers(), theirs.rule.buffers(), strict=True):
            assert torch.allclose(one.double(), other.double(), rtol=1e-5)


def test_running_statistics_move_in_replays() -> None:
    def resnet(seed: int) -> Any:
        return images(seed, "resnet")

    eager, replayed = (Batched([made(resnet, seed, "slgrad", batch_size=4, learning_rate=0.0625) for seed in SEEDS[:2]])
                       for _ in range(2))  # fmt: skip
    replayed._take = capture.Captured(replayed._whole_step, replayed.runs, taped)
    eager.fit(), replayed.fit()
    for mine, theirs in zip(eager.runs, replayed.runs, strict=True):
        for name, value in mine.network.state_dict().items():
            assert torch.allclose(value, theirs.network.state_dict()[name], atol=1e-10), name


@pytest.mark.parametrize(
    ("name", "options", "said"),
    [
        ("ew", {}, "they are not on a GPU"),
        ("ol_aux", {}, "OLAux decides on the host"),
        ("nash_mtl", {}, "NashMTL decides on the host, or calls a solver"),
        ("slgrad", {"shuffle": True}, "steps differ"),
        ("slgrad", {"refresh": 2}, "steps differ"),
    ],
)
def test_what_is_not_captured_says_why(name: str, options: dict, said: str) -> None:
    run = made(toys, 0, name, options)
    run.device = "cpu" if name == "ew" else "cuda"
    assert said in capture.refusal([run])


def test_capture_that_is_asked_for_in_vain() -> None:
    with pytest.raises(MtlkitError, match="cannot be captured, because they are not on a GPU"):
        Batched([made(toys, 0, "ew")], capture=True)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize(("name", "options", "settings"), CASES)
def test_a_cuda_graph_takes_the_same_steps(name: str, options: dict, settings: dict) -> None:
    eager, replayed = (Batched(runs(name, options, settings | {"device": "cuda"}), capture=captured)
                       for captured in (False, True))  # fmt: skip
    eager.fit(), replayed.fit()
    for mine, theirs in zip(eager.parameters, replayed.parameters, strict=True):
        assert torch.allclose(mine, theirs, rtol=1e-6, atol=1e-6)
