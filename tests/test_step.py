"""One update: gradients, scale, what is skipped, and use without our training loop."""

import copy
import re
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from mtlkit import nets
from mtlkit.data.base import Samples
from mtlkit.errors import MtlkitError
from mtlkit.optimizers import guarded_step, make_optimizer
from mtlkit.steps import make_step
from mtlkit.tasks import binary_loss, squared_error
from mtlkit.weighting import METHODS, build
from tests import zoo

SHARES = torch.tensor([0.7, 0.3], dtype=torch.float64)


def samples(problem: zoo.Problem) -> Samples:
    return Samples(problem.inputs, problem.targets, problem.targets.long(), mass=torch.ones_like(problem.targets))


def gradients(network: nn.Module) -> list[Tensor]:
    return [p.grad.clone() for p in network.parameters()]


def close(a: list[Tensor], b: list[Tensor]) -> bool:
    return all(torch.allclose(x, y, rtol=1e-10, atol=1e-14) for x, y in zip(a, b, strict=True))


def one_sample(label: float, count: int = 4) -> Samples:
    """The same sample so many times, for one task."""
    inputs = torch.linspace(-1, 1, 6, dtype=torch.float64).expand(count, 6)
    targets = torch.full((1, count), label, dtype=torch.float64)
    return Samples(inputs, targets, targets.long(), mass=torch.ones_like(targets))


def test_equal_weighting_is_the_gradient_of_the_mean_loss() -> None:
    problem = zoo.problem("mlp")
    outcome = make_step(problem.network, problem.losses, build("ew", 3))(samples(problem))
    found = gradients(problem.network)
    problem.network.zero_grad()
    matrix = zoo.matrix(problem)
    matrix.mean().backward()
    assert close(found, gradients(problem.network))
    assert torch.allclose(outcome.losses, matrix) and not outcome.skip


ALIKE = [(name, {}) for name in METHODS if name not in {"uw", "stch", "nash_mtl", "fairgrad", "db_mtl", "cagrad"}]
"""Methods that, for one task, are equal weighting where all samples are alike; the others' length says something."""


@pytest.mark.parametrize("reference_share", [0.0, 0.3])
@pytest.mark.parametrize(("name", "options"), [*ALIKE, ("slgrad", {"update": "look_ahead"}),
                                               ("cagrad", {"c": 0.0})])  # fmt: skip
def test_one_learning_rate_means_the_same_for_all(name: str, options: dict, reference_share: float) -> None:
    """Weights total 1: where all samples are alike, a method gives the gradient of that one sample's loss."""
    torch.manual_seed(0)
    network, batch = nets.mlp(1, 6, shared_width=8, head_width=8).double(), one_sample(1.0)
    if name == "auto_lambda":
        options = {"weight_rate": 1e-12}  # it would move off its start
    step = zoo.step_of(name, network, [binary_loss], batch.inputs, options, reference_share=reference_share)
    step(batch, one_sample(1.0, 7))
    if name == "rotograd":
        network.heads[0] = network.heads[0][1]
    found = gradients(network)
    network.zero_grad()
    binary_loss(network(batch.inputs[:1])[0], batch.targets[0, :1]).sum().backward()
    assert close(found, gradients(network))


@pytest.mark.parametrize("name", METHODS)
def test_class_shares_apply_to_every_method(name: str) -> None:
    problem = zoo.problem("unsplit", batch=40)
    batch, shares = samples(problem), SHARES.expand(3, 2)
    if name in zoo.NEED_HEADS:
        problem = zoo.problem("mlp", batch=40)
        batch = samples(problem)
    step = zoo.step_of(name, problem.network, problem.losses, batch.inputs, class_shares=shares, use_class_shares=True)
    held_out = samples(zoo.problem("mlp" if name in zoo.NEED_HEADS else "unsplit", batch=20, seed=1))
    weights = step(batch, held_out).weights
    positive, negative = ((weights * (batch.groups == c)).sum(1) for c in (1, 0))
    both = (positive > 0) & (negative > 0)  # a group without weight cannot be scaled
    assert both.any() or name == "l2rw"  # which may leave a whole group out
    assert torch.allclose(positive[both], 0.3 * weights.sum(1)[both])


def network_with_statistics() -> tuple[zoo.Problem, list[Tensor]]:
    """A problem with batch normalisation, and its running statistics after one plain pass over the training batch."""
    problem = zoo.problem("encoder_decoder", tasks=2)
    plain = copy.deepcopy(problem.network)
    plain(problem.inputs)
    return problem, list(plain.buffers())


@pytest.mark.parametrize(("name", "options", "share"), [("slgrad", {}, 0.0), ("slgrad", {}, 0.3), ("ew", {}, 0.3),
                                                        ("slgrad", {"update": "look_ahead"}, 0.3)])  # fmt: skip
def test_only_the_training_batch_moves_running_statistics(name: str, options: dict, share: float) -> None:
    problem, expected = network_with_statistics()
    optimizer = make_optimizer("sgd", problem.network.parameters(), learning_rate=0.1)
    held_out = zoo.problem("encoder_decoder", tasks=2, seed=1)
    step = make_step(problem.network, problem.losses, build(name, 2, options), optimizer=optimizer,
                     reference_share=share)  # fmt: skip
    step(Samples(problem.inputs, problem.targets), Samples(held_out.inputs, held_out.targets))
    assert all(torch.allclose(a, b) for a, b in zip(problem.network.buffers(), expected, strict=True))


OPTIMIZERS = [("sgd", 0.0), ("sgd", 0.9), ("adam", 0.0)]


@pytest.mark.parametrize(("name", "momentum"), OPTIMIZERS)
@pytest.mark.parametrize("before", [0, 2])
def test_a_skipped_update_leaves_no_trace(name: str, momentum: float, before: int) -> None:
    """Parameters, momentum and step count after a skip are those of a run without that step, from the first on."""
    torch.manual_seed(0)
    network = nn.Linear(3, 2)
    twin = copy.deepcopy(network)
    ours, usual = (make_optimizer(name, n.parameters(), learning_rate=0.1, momentum=momentum, weight_decay=0.1)
                   for n in (network, twin))  # fmt: skip
    no, yes = torch.tensor(False), torch.tensor(True)

    def update(n: nn.Module, optimizer: torch.optim.Optimizer, x: Tensor, skip: Tensor) -> None:
        optimizer.zero_grad()
        n(x).square().sum().backward()
        guarded_step(optimizer, skip)

    inputs = torch.randn(before + 2, 4, 3)
    for x in inputs[:before]:
        update(network, ours, x, no)
        update(twin, usual, x, no)
    kept = [p.detach().clone() for p in network.parameters()]
    update(network, ours, torch.full((4, 3), torch.nan), yes)
    assert all(torch.equal(a, b) for a, b in zip(kept, network.parameters(), strict=True))
    for x in inputs[before:]:
        update(network, ours, x, no)
        update(twin, usual, x, no)
    assert all(torch.equal(a, b) for a, b in zip(network.parameters(), twin.parameters(), strict=True))
    for a, b in zip(ours.state.values(), usual.state.values(), strict=True):
        assert a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


@pytest.mark.parametrize(("name", "momentum"), OPTIMIZERS)
def test_optimizers_are_the_usual_ones(name: str, momentum: float) -> None:
    torch.manual_seed(0)
    network = nn.Linear(3, 2)
    twin = copy.deepcopy(network)
    ours = make_optimizer(name, network.parameters(), learning_rate=0.1, momentum=momentum, betas=(0.8, 0.9),
                          weight_decay=0.1)  # fmt: skip
    usual = (torch.optim.Adam(twin.parameters(), 0.1, (0.8, 0.9), weight_decay=0.1) if name == "adam"
             else torch.optim.SGD(twin.parameters(), 0.1, momentum, weight_decay=0.1))  # fmt: skip
    for x in torch.randn(3, 4, 3):
        for n, optimizer in ((network, ours), (twin, usual)):
            optimizer.zero_grad()
            n(x).square().sum().backward()
            optimizer.step() if optimizer is usual else guarded_step(optimizer, torch.tensor(False))
    assert all(torch.allclose(a, b, atol=1e-6) for a, b in zip(network.parameters(), twin.parameters(), strict=True))


def test_nothing_aligned_skips_unless_the_reference_batch_takes_part() -> None:
    for share in (0.0, 0.3):
        torch.manual_seed(0)
        network = nets.mlp(1, 6, shared_width=8, head_width=8).double()
        step = make_step(network, [binary_loss], build("slgrad", 1), reference_share=share)
        outcome = step(one_sample(0), one_sample(1))
        assert (outcome.weights == 0).all()
        assert bool(outcome.skip) == (share == 0)


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
@pytest.mark.parametrize("name", METHODS)
def test_a_loss_that_is_not_finite_skips(name: str, value: float) -> None:
    problem = zoo.problem("mlp")
    batch, held_out = samples(problem), samples(zoo.problem("mlp", seed=1))
    step = zoo.step_of(name, problem.network, problem.losses, batch.inputs)
    batch.inputs[2, 0] = value
    assert step(batch, held_out).skip


class Net(nn.Module):
    """A reader's network: no encoder, no heads, predictions in a tuple."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.a, self.b = nn.Sequential(nn.Linear(4, 16), nn.Tanh()), nn.Linear(16, 1), nn.Linear(16, 3)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        z = self.body(x)
        return self.a(z), self.b(z)

    def shared_parameters(self) -> list[Tensor]:
        return list(self.body.parameters())


@pytest.mark.parametrize("name", METHODS)
def test_own_model_loss_and_loader(name: str) -> None:
    torch.manual_seed(0)
    x = torch.randn(96, 4)
    data = TensorDataset(x, x[:, 0].sin(), x[:, 1:].cos())
    loader, held_out = DataLoader(data, 20, shuffle=True), DataLoader(data, 32)
    network = Net()
    optimizer = torch.optim.Adam(network.parameters(), 0.01)
    if name in zoo.NEED_HEADS:
        with pytest.raises(MtlkitError, match="head"):
            zoo.step_of(name, network, [squared_error, squared_error], x)
        return
    step = zoo.step_of(name, network, [squared_error, squared_error], x, optimizer=optimizer)
    reference = Samples((first := next(iter(held_out)))[0], first[1:])
    means = []
    for _ in range(8):
        for inputs, *targets in loader:  # the last batch is smaller
            optimizer.zero_grad()
            outcome = step(Samples(inputs, targets), reference)
            optimizer.step()
        means.append(outcome.losses.mean().item())
    if name != "label_consistency":  # needs labels
        assert means[-1] < 0.7 * means[0]


def test_example_of_the_readme() -> None:
    """The lines for the reader's own model run as they stand, and learn."""
    torch.manual_seed(0)
    text = (Path(__file__).resolve().parents[1] / "README.md").read_text()
    (example,) = re.findall(r"```python\n(.*?)```", text.partition("### On your own model")[2], re.DOTALL)[:1]
    x, x_ref = torch.randn(30, 20, 4), torch.randn(30, 8, 4)
    own = {"my_encoder": nn.Sequential(nn.Linear(4, 16), nn.Tanh()), "head_a": nn.Linear(16, 1),
           "head_b": nn.Linear(16, 1), "loss_a": squared_error, "loss_b": squared_error}  # fmt: skip
    for name, inputs in (("loader", x), ("reference_loader", x_ref)):
        own[name] = [(batch, torch.stack([batch[:, :1].sin(), batch[:, 1:2]])) for batch in inputs]
    with torch.no_grad():
        before = squared_error(own["head_a"](own["my_encoder"](x[0])), x[0][:, :1].sin()).mean()
    exec(example, own)
    assert own["outcome"].losses[0].mean() < 0.5 * before
    assert len(example.splitlines()) < 20


def test_what_is_missing_is_said() -> None:
    problem = zoo.problem("mlp")
    network, losses, batch = problem.network, problem.losses, samples(problem)
    with pytest.raises(MtlkitError, match="needs a reference batch"):
        make_step(network, losses, build("slgrad", 3))(batch)
    with pytest.raises(MtlkitError, match=r"reference_share is 1.0, which is not in"):
        make_step(network, losses, build("ew", 3), reference_share=1.0)
    with pytest.raises(MtlkitError, match="class_shares needs label groups"):
        make_step(network, losses, build("ew", 3), use_class_shares=True)
    with pytest.raises(MtlkitError, match="needs the optimizer"):
        make_step(network, losses, build("slgrad", 3, {"update": "look_ahead"}))
    with pytest.raises(MtlkitError, match=r"optimizer is 'rmsprop'.*sgd, adam"):
        make_optimizer("rmsprop", network.parameters(), learning_rate=0.1)
