"""Optimizers against PyTorch's own, and updates that are left out on the device."""

import copy

import pytest
import torch
from torch import nn

from mtlkit.errors import MtlkitError
from mtlkit.optimizers import guarded_step, make_optimizer
from mtlkit.parameters import RULES
from mtlkit.steps import make_step
from mtlkit.weighting import Rule, Signal, build
from tests.engine.test_cost import SYNCHRONISING, count
from tests.test_step import samples
from tests.test_training import problem, run
from tests.zoo import problem as small

GO, STOP = torch.tensor(False), torch.tensor(True)
PLAIN = {
    "sgd": lambda parameters: torch.optim.SGD(parameters, 0.1, 0.9, weight_decay=0.05),
    "adam": lambda parameters: torch.optim.Adam(parameters, 0.1, (0.8, 0.9), weight_decay=0.05),
    "adamw": lambda parameters: torch.optim.AdamW(parameters, 0.1, (0.8, 0.9), weight_decay=0.05),
}


def gradients(network: nn.Module, seed: int) -> None:
    torch.manual_seed(seed)
    for parameter in network.parameters():
        parameter.grad = torch.randn_like(parameter)


@pytest.mark.parametrize("clip", [0.0, 0.7, 100.0])
@pytest.mark.parametrize("name", PLAIN)
def test_is_pytorchs_own(name: str, clip: float) -> None:
    ours, theirs = nn.Linear(3, 2).double(), nn.Linear(3, 2).double()
    theirs.load_state_dict(ours.state_dict())
    made = make_optimizer(name, ours.parameters(), learning_rate=0.1, betas=(0.8, 0.9), weight_decay=0.05, clip=clip)
    plain = PLAIN[name](theirs.parameters())
    for seed in range(4):
        gradients(ours, seed)
        gradients(theirs, seed)
        assert not guarded_step(made, GO)
        if clip:
            nn.utils.clip_grad_norm_(theirs.parameters(), clip)
        plain.step()
    assert all(torch.allclose(a, b, rtol=1e-12) for a, b in zip(ours.parameters(), theirs.parameters(), strict=True))


@pytest.mark.parametrize("clip", [0.0, 0.7])
@pytest.mark.parametrize("name", PLAIN)
def test_an_update_that_is_left_out_leaves_no_trace(name: str, clip: float) -> None:
    network = nn.Linear(3, 2)
    made = make_optimizer(name, network.parameters(), learning_rate=0.1, weight_decay=0.05, clip=clip)
    gradients(network, 0)
    guarded_step(made, GO)
    before = copy.deepcopy((network.state_dict(), made.state_dict()))
    gradients(network, 1)
    assert guarded_step(made, STOP)
    if clip:
        gradients(network, 2)
        network.bias.grad[0] = torch.inf
        assert guarded_step(made, GO), "the length is not finite"
    assert repr(before) == repr((network.state_dict(), made.state_dict()))


def test_what_a_rule_learns_is_neither_decayed_nor_clipped() -> None:
    network, learnt = nn.Linear(3, 2), nn.Parameter(torch.ones(2))
    made = make_optimizer("sgd", network.parameters(), learning_rate=1.0, momentum=0.0, weight_decay=0.1, clip=1e-3,
                          of_the_rule=[learnt])  # fmt: skip
    gradients(network, 0)
    learnt.grad = torch.full((2,), 5.0)
    guarded_step(made, GO)
    assert learnt.tolist() == [-4.0, -4.0]


def test_clipping_does_not_wait() -> None:
    network = nn.Linear(3, 2)
    made = make_optimizer("adamw", network.parameters(), learning_rate=0.1, clip=0.7)
    gradients(network, 0)
    assert not SYNCHRONISING & set(count(lambda: guarded_step(made, GO)).kernels)


@pytest.mark.parametrize(("name", "options"), [("slgrad", {"update": "published"}), ("auto_lambda", {})])
def test_steps_within_a_step_are_clipped_too(name: str, options: dict) -> None:
    made = small("mlp")
    optimizer = make_optimizer("sgd", made.network.parameters(), learning_rate=1.0, momentum=0.0, clip=1e-4)
    step, before, moved = make_step(made.network, made.losses, build(name, 3, options), optimizer=optimizer), [], []
    optimizer.register_step_pre_hook(lambda *_: before.append([p.detach().clone() for p in made.network.parameters()]))
    optimizer.register_step_post_hook(lambda *_: moved.append(
        torch.cat([(p - q).detach().flatten() for p, q in zip(made.network.parameters(), before[-1], strict=True)])
    ))  # fmt: skip
    step(samples(made), samples(made))
    assert len(moved) == 1 and float(moved[0].norm()) == pytest.approx(1e-4, rel=1e-2)


def test_a_run_counts_what_clipping_leaves_out() -> None:
    class Overflowing(Rule):
        """Finite weights whose gradients are not, in every second step."""

        def forward(self, signal: Signal) -> torch.Tensor:
            self.count = getattr(self, "count", 0) + 1
            return torch.full_like(signal.losses[:, 0], 0.5 if self.count % 2 else 1e38)

    made = run(problem(), Overflowing(2), clip=1.0)
    for parameter in made.network.parameters():
        parameter.register_hook(lambda gradient: gradient * 1e3)
    assert made.fit()["skipped"] == 9 and all(torch.isfinite(p).all() for p in made.network.parameters())


def test_choices() -> None:
    assert RULES["optimizer"]("optimizer", "AdamW") == "adamw"
    with pytest.raises(MtlkitError, match="clip is -1, which is not at least 0"):
        RULES["clip"]("clip", -1)
