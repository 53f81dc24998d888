"""Fit and evaluate: settings, a bare loop, failures. Orders and resuming have files of their own."""

import copy
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from mtlkit import nets, tasks, training
from mtlkit.data import toy
from mtlkit.data.base import Dataset, Samples, generator
from mtlkit.errors import MtlkitError
from mtlkit.evaluation import evaluate
from mtlkit.order import Order
from mtlkit.training import Run, Settings, class_shares
from mtlkit.weighting import METHODS, Direction, Rule, Signal, build


def problem(seed: int = 0, *, noise: float = 0.3, kind: str = "classification") -> tuple[Dataset, nn.Module]:
    """Two tiny tasks of 48 training samples, and a network with dropout."""
    data = toy.load(
        seed, tasks=2, input_dimension=4, kind=kind, noise=noise, train=48, reference=20, tuning=16, test=30
    )
    torch.manual_seed(seed)
    encoder = nn.Sequential(nn.Linear(4, 16), nn.Tanh(), nn.Dropout(0.2))
    return data, nets.SharedEncoder(encoder, [nn.Linear(16, 1) for _ in range(2)])


def run(made: tuple[Dataset, nn.Module], rule: str | Rule = "ew", options: dict | None = None, **settings: Any) -> Run:
    """A run of three epochs of six steps."""
    data, network = made
    kind = tasks.binary if data.kind == "binary" else tasks.regression
    rule = build(rule, 2, options or {}) if isinstance(rule, str) else rule
    if isinstance(rule, Direction):
        rule.attach(network, data.train.inputs[:2])
    settings = {"epochs": 3, "batch_size": 8, "reference_batch": 8, "learning_rate": 0.1} | settings
    return Run(network, [kind(name) for name in data.task_names], rule, data, Settings(**settings))


@pytest.mark.parametrize("name", ["epochs", "batch_size", "reference_batch", "evaluations"])
def test_counts_are_at_least_one(name: str) -> None:
    with pytest.raises(MtlkitError, match=f"{name} is 0, which is not at least 1"):
        Settings(**{"epochs": 3, name: 0})


def test_wrong_settings() -> None:
    with pytest.raises(MtlkitError, match=r"train_data is 'trian'.*train, reference, both.*did you mean 'train'"):
        Settings(3, train_data="trian")
    with pytest.raises(MtlkitError, match=r"schedule is 'cosin'.*did you mean 'cosine'"):
        Settings(3, schedule="cosin")
    with pytest.raises(MtlkitError, match=r"optimizer is 'lion'.*sgd, adam"):
        run(problem(), optimizer="lion")
    with pytest.raises(MtlkitError, match="class_shares needs label groups"):
        run(problem(kind="regression"), class_shares=True)


@pytest.mark.parametrize("epochs", [1, 2, 7, 40])
@pytest.mark.parametrize("evaluations", [1, 3, 8, 50])
def test_evaluations_are_spread_evenly_and_end_with_the_run(epochs: int, evaluations: int) -> None:
    chosen = sorted(Settings(epochs, evaluations=evaluations).evaluation_epochs())
    assert chosen[-1] == epochs and chosen[0] >= 1
    assert len(chosen) == min(epochs, evaluations)
    gaps = {b - a for a, b in zip([0, *chosen], chosen, strict=False)}
    assert max(gaps) - min(gaps) <= 1


@pytest.mark.parametrize("name", METHODS)
def test_learns_a_separable_problem(name: str) -> None:
    random = torch.Generator().manual_seed(0)

    def separable(size: int) -> Samples:
        inputs = torch.randn(size, 4, generator=random)
        labels = torch.stack([(inputs[:, 0] > 0), (inputs[:, 0] <= 0)]).long()
        return Samples(inputs, labels.float(), labels)

    data = Dataset("toy", "toy", "0", ["a", "b"], "binary", *(separable(n) for n in (160, 40, 40, 200)), facts={})
    history = run((data, problem()[1]), name, epochs=8, reference_batch=16).fit()
    assert history["evaluations"][-1]["test"]["accuracy"] > 0.85
    if name not in ("stch", "db_mtl", "ol_aux", "l2rw"):  # which go for other things than the mean loss
        assert history["train_loss"][-1] < 0.7 * history["train_loss"][0]
    assert [len(history[key]) for key in ("train_loss", "epoch_seconds", "evaluations")] == [8, 8, 8]
    assert len(history["evaluations"][-1]["tuning"]["tasks"]) == 2


def test_is_the_bare_loop_bit_for_bit() -> None:
    data, network = problem()
    twin = copy.deepcopy(network)
    torch.manual_seed(3)
    history = run((data, network), epochs=2, weight_decay=0.01, seed=7).fit()

    torch.manual_seed(3)
    optimizer = torch.optim.SGD(twin.parameters(), 0.1, 0.9, weight_decay=0.01, fused=True)
    order = Order(48, 8, generator(7, "order"))
    for epoch in range(2):
        seen = []
        for index in order.take(6):
            optimizer.zero_grad()
            predictions = twin(data.train.inputs[index])
            losses = torch.stack([tasks.binary_loss(p, y[index]) for p, y in zip(predictions, data.train.targets,
                                                                              strict=True)])  # fmt: skip
            losses.mean(1).mean().backward()
            optimizer.step()
            seen.append(losses.detach())
        assert history["train_loss"][epoch] == float(torch.stack(seen).mean())
    assert all(torch.equal(a, b) for a, b in zip(network.parameters(), twin.parameters(), strict=True))


@pytest.mark.parametrize("where", ["train", "reference", "both"])
def test_training_data(where: str) -> None:
    data, network = problem()
    made = run((data, network), train_data=where)
    assert made.steps_per_epoch == 6, "as many steps whatever is trained on"
    expected = {"train": data.train.inputs, "reference": data.reference.inputs,
                "both": torch.cat([data.train.inputs, data.reference.inputs])}[where]  # fmt: skip
    assert torch.equal(made.train.inputs, expected)
    assert made.order.size == len(expected) == made.train.targets.shape[1]
    assert len(made.fit()["train_loss"]) == 3


@pytest.mark.parametrize("name", ["ew", "slgrad"])
def test_a_loss_that_is_not_a_number_ends_in_one_sentence(name: str) -> None:
    data, network = problem()
    data.train.inputs[5, 0] = torch.nan
    made = run((data, network), name, learning_rate=0.25)
    place = (copy.deepcopy(made.order).take(6) == 5).nonzero()[0, 0]
    sentence = (f"the loss of task 'task 0' was nan in epoch 1, step {place + 1}, for training sample 5; try a smaller "
                "learning_rate than 0.25")  # fmt: skip
    with pytest.raises(MtlkitError, match=sentence):
        made.fit()


def test_parameters_before_a_bad_loss_are_kept() -> None:
    data, network = problem()
    data.train.inputs[:] = torch.nan
    before = copy.deepcopy(network.state_dict())
    with pytest.raises(MtlkitError):
        run((data, network)).fit()
    assert all(torch.equal(before[key], value) for key, value in network.state_dict().items())


class Sometimes(Rule):
    """Equal weighting in every third step, nothing in between."""

    def forward(self, signal: Signal) -> Tensor:
        self.count = getattr(self, "count", 0) + 1
        return torch.full_like(signal.losses[:, 0], 0.5 if self.count % 3 == 0 else 0.0)


def test_skipped_steps_are_counted() -> None:
    assert run(problem(), Sometimes(2)).fit()["skipped"] == 12
    assert run(problem()).fit()["skipped"] == 0


@pytest.mark.parametrize("main_only", [False, True])
@pytest.mark.parametrize("batch", [1, 7, 500])
def test_evaluation_does_not_depend_on_the_batch(batch: int, main_only: bool) -> None:
    data, network = problem()
    judged = [tasks.binary(name) for name in data.task_names]
    whole = evaluate(network.train(), judged, data.test)
    parts = evaluate(network, judged, data.test, batch=batch, main_only=main_only)
    assert network.training, "the mode is put back"
    with torch.no_grad():
        predictions = network.eval()(data.test.inputs)
    losses = [float(tasks.binary_loss(p, y).mean()) for p, y in zip(predictions, data.test.targets, strict=True)]
    assert whole["loss"] == pytest.approx(losses[0])
    assert [one["loss"] for one in whole["tasks"]] == pytest.approx(losses)
    assert ("tasks" in parts) != main_only
    pairs = zip(parts.pop("tasks", []), whole["tasks"], strict=False)
    for mine, theirs in [(parts, whole), *pairs]:
        for key in mine:
            assert mine[key] == pytest.approx(theirs[key], abs=1e-6)
    network.eval()
    assert evaluate(network, judged, data.test) and not network.training


def test_main_task_of_a_network_without_the_split() -> None:
    class Plain(nn.Module):
        def __init__(self, network: nn.Module) -> None:
            super().__init__()
            self.inside = network

        def forward(self, inputs: Tensor) -> list[Tensor]:
            return self.inside(inputs)

    data, network = problem()
    judged = [tasks.binary(name) for name in data.task_names]
    assert evaluate(Plain(network), judged, data.test, main_only=True) == evaluate(
        network, judged, data.test, main_only=True
    )


def test_class_shares_are_counted_by_mass() -> None:
    labels = torch.tensor([[0, 1, 1, 1], [0, 0, 0, 0], [1, 0, 1, 0]])
    samples = Samples(torch.zeros(4, 1), labels.float(), labels)
    samples.mass[0, 3], samples.mass[2] = 0, 0
    shares = class_shares(samples, 2)
    assert torch.allclose(shares[:2], torch.tensor([[1 / 3, 2 / 3], [1.0, 0.0]]))
    assert torch.isfinite(shares[2]).all(), "a task without labels in the reference set"


@pytest.mark.parametrize("kind", ["regression", "classification"])
def test_label_consistency_refuses_tasks_that_do_not_cover_all_classes(kind: str) -> None:
    with pytest.raises(MtlkitError, match="label_consistency needs one-against-rest tasks that cover all classes"):
        run(problem(kind=kind), "label_consistency")


def test_samples_without_a_label_are_not_evaluated() -> None:
    data, network = problem()
    data.test.mass[0, :10], data.test.mass[1, 5:] = 0, 0
    found = evaluate(network, [tasks.binary(name) for name in data.task_names], data.test)
    network.eval()
    losses = [tasks.binary_loss(p, t) for p, t in zip(network(data.test.inputs), data.test.targets, strict=True)]
    assert found["loss"] == pytest.approx(losses[0][10:].mean().item(), rel=1e-5)
    expected = [losses[0][10:].mean().item(), losses[1][:5].mean().item()]
    assert [one["loss"] for one in found["tasks"]] == pytest.approx(expected, rel=1e-5)


def test_a_weight_that_is_not_a_number_is_named() -> None:
    class Broken(Rule):
        def forward(self, signal: Signal) -> Tensor:
            return torch.tensor([0.5, torch.nan])

    with pytest.raises(MtlkitError, match=r"a weight of task .* was not finite in epoch 1, step 1"):
        run(problem(), Broken(2)).fit()


def rates_of(schedule: str, epochs: int, monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The learning rate of every step, six an epoch."""
    seen: list[float] = []
    step = training.guarded_step

    def recorded(optimizer: Optimizer, skip: Tensor) -> Tensor:
        seen.append(optimizer.param_groups[0]["lr"])
        return step(optimizer, skip)

    monkeypatch.setattr(training, "guarded_step", recorded)
    run(problem(), epochs=epochs, schedule=schedule, evaluations=1).fit()
    return seen


def test_schedules(monkeypatch: pytest.MonkeyPatch) -> None:
    assert set(rates_of("constant", 2, monkeypatch)) == {0.1}
    assert rates_of("linear", 2, monkeypatch) == pytest.approx([0.1 * (1 - k / 12) for k in range(12)])
    assert rates_of("poly", 2, monkeypatch)[6] == pytest.approx(0.1 * 0.5**0.9)
    assert rates_of("cosine", 2, monkeypatch)[::6] == pytest.approx([0.1, 0.05])
    step = rates_of("step", 101, monkeypatch)
    assert set(step[:600]) == {0.1} and set(step[600:]) == {0.05}


def test_a_schedule_goes_on_after_a_stop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = run(problem(), schedule="cosine", epochs=4)
    whole.fit()
    first = run(problem(), schedule="cosine", epochs=4)
    for _ in range(2):
        first._epoch()
    first._save(tmp_path / "state.pt", "me")
    again = run(problem(), schedule="cosine", epochs=4)
    again.fit(checkpoint=tmp_path / "state.pt", identity="me")
    for mine, theirs in zip(whole.network.parameters(), again.network.parameters(), strict=True):
        assert torch.equal(mine, theirs)


def test_batches_are_augmented_and_targets_say_their_mass() -> None:
    data, network = problem(kind="regression")

    def augment(batch: Samples, random: torch.Generator) -> Samples:
        draws.append(float(torch.rand((), generator=random)))
        return Samples(batch.inputs + 1, batch.targets, batch.groups, batch.flipped, batch.mass, batch.index)

    draws: list[float] = []
    data.augment = augment
    seen: list[Samples] = []

    class Watching(Rule):
        def forward(self, signal: Signal) -> Tensor:
            seen.append(signal)
            return torch.full((2,), 0.5)

    made = run((data, network), Watching(2), epochs=1)
    made.tasks = [replace(made.tasks[0], mass=lambda target: (target > 0.5).float() / 2), made.tasks[1]]
    made.fit()
    assert len(set(draws)) == len(draws) == 6, "the tuning and test sets are not augmented"
    for signal in seen:
        assert torch.equal(signal.mass[0], (data.train.targets[0, signal.index] > 0.5).float() / 2)
        assert torch.equal(signal.mass[1], torch.ones(8))


def test_all_tasks_are_judged_when_asked_for() -> None:
    for judged, expected in (("main", [False, False, True]), ("all", [True, True, True])):
        found = run(problem(), judged=judged).fit()["evaluations"]
        assert ["tasks" in one["test"] for one in found] == expected
