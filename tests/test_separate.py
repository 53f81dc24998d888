"""Runs on data in which every task has inputs of its own."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from mtlkit import nets, tasks
from mtlkit.data import office, toy
from mtlkit.data.base import Dataset, Samples, generator
from mtlkit.data.separate import Separate, SeparateSamples
from mtlkit.errors import MtlkitError
from mtlkit.evaluation import evaluate
from mtlkit.nets.separate import SeparateInputs
from mtlkit.order import Order
from mtlkit.reading import batches
from mtlkit.training import Run, Settings
from mtlkit.weighting import Weighting, build
from tests.test_resume import Killed, kill_after, result

SIZES = {"train": (20, 48), "reference": (12, 20), "tuning": (16, 5), "test": (30, 11)}


def problem(*layers: nn.Module) -> tuple[Dataset, SeparateInputs]:
    """Two tiny tasks, each with samples of its own; the main one has fewer of them."""
    torch.manual_seed(0)
    whole = toy.load(0, tasks=2, input_dimension=4, kind="classification", noise=0.3, train=96, reference=40, tuning=32,
                     test=60)  # fmt: skip
    sets = {}
    for name, sizes in SIZES.items():
        samples, parts = getattr(whole, name), []
        for task, size in enumerate(sizes):
            of = samples.take(torch.arange(size) + task * max(sizes))
            parts.append(Samples(of.inputs + task, *(getattr(of, field)[task : task + 1] for field in
                                                     ("targets", "groups", "flipped", "mass"))))  # fmt: skip
        parts[1].flipped[0, ::3] = name == "train"
        sets[name] = Separate(parts)
    data = Dataset("toy", "toy", "0", ["a", "b"], "binary", **sets, facts={})
    layers = layers or (nn.BatchNorm1d(16), nn.Dropout(0.2))
    heads = [nn.Linear(16, 1) for _ in range(2)]
    return data, SeparateInputs(nn.Sequential(nn.Linear(4, 16), nn.Tanh(), *layers), heads)


def run(made: tuple[Dataset, nn.Module], rule: str | Weighting = "ew", options: dict | None = None,
        **settings: Any) -> Run:  # fmt: skip
    """A run of three epochs of six steps."""
    data, network = made
    rule = build(rule, 2, options or {}) if isinstance(rule, str) else rule
    settings = {"epochs": 3, "batch_size": 8, "reference_batch": 4, "learning_rate": 0.1} | settings
    return Run(network, [tasks.binary(name) for name in data.task_names], rule, data, Settings(**settings))


def watched(made: Run) -> list[SeparateSamples]:
    """The batches of a run, as its step sees them."""
    seen, step = [], made.step.gradients
    made.step.gradients = lambda batch, reference: (seen.append((batch, reference)), step(batch, reference))[1]
    return seen


def test_is_the_bare_loop_bit_for_bit() -> None:
    (data, network), (_, twin) = problem(), problem()
    torch.manual_seed(3)
    history = run((data, network), epochs=2, seed=7).fit()

    torch.manual_seed(3)
    optimizer = torch.optim.SGD(twin.parameters(), 0.1, 0.9, fused=True)
    orders = [Order(20, 8, generator(7, "order")), Order(48, 8, generator(7, "order 1"))]
    for epoch in range(2):
        seen = []
        for indices in zip(*(order.take(6) for order in orders), strict=True):
            optimizer.zero_grad()
            batches = [part.take(index) for part, index in zip(data.train.parts, indices, strict=True)]
            features = [twin.backbone(batch.inputs) for batch in batches]
            losses = torch.stack([tasks.binary_loss(head(z), batch.targets[0]) for head, z, batch in
                                  zip(twin.heads, features, batches, strict=True)])  # fmt: skip
            losses.mean(1).mean().backward()
            optimizer.step()
            seen.append(losses.detach())
        assert history["train_loss"][epoch] == float(torch.stack(seen).mean())
    assert all(torch.equal(a, b) for a, b in zip(network.parameters(), twin.parameters(), strict=True))
    assert all(torch.equal(a, b) for a, b in zip(network.buffers(), twin.buffers(), strict=True))


def test_an_epoch_is_as_long_as_the_longest_task_and_shorter_ones_come_up_more_often() -> None:
    made = run(problem(), "slgrad", class_shares=True)
    seen = watched(made)
    assert made.steps_per_epoch == 6
    made.fit()
    for at, sizes in ((0, SIZES["train"]), (1, SIZES["reference"])):
        for task, size in enumerate(sizes):
            counts = torch.bincount(torch.cat([pair[at].index[task] for pair in seen]), minlength=size)
            assert len(counts) == size and counts.max() - counts.min() <= 1
    for _, reference in seen:
        for row, part in zip(reference.groups, made.reference.parts, strict=True):
            expected = 4 * part.groups.float().mean()
            assert abs(row.sum() - expected) <= 2, "the classes of every task are spread evenly"


@pytest.mark.parametrize("where", ["train", "reference", "both"])
def test_training_data(where: str) -> None:
    made = run(problem(), train_data=where)
    seen = watched(made)
    made.fit()
    train, reference = SIZES["train"], SIZES["reference"]
    expected = {"train": train, "reference": reference, "both": tuple(map(sum, zip(train, reference, strict=True)))}
    assert made.train.sizes == expected[where] and made.steps_per_epoch == 6
    assert [len(torch.cat([batch.index[t] for batch, _ in seen]).unique()) for t in (0, 1)] == list(expected[where])


CASES = {
    "ew, adamw": ("ew", {}, {"optimizer": "adamw", "weight_decay": 0.1, "clip": 0.5, "schedule": "linear"}),
    "rlw": ("rlw", {}, {"train_data": "both"}),
    "slgrad": ("slgrad", {"shuffle": True, "normalisation": "task_label"}, {"reference_share": 0.3}),
    "slgrad, published": ("slgrad", {"update": "published"}, {"learning_rate": 1.0}),
    "pcgrad": ("pcgrad", {}, {}),
    "auto_lambda": ("auto_lambda", {}, {}),
}


@pytest.mark.parametrize("case", CASES)
def test_resumed_the_result_is_the_same(case: str, tmp_path: Any) -> None:
    name, options, settings = CASES[case]

    def fresh() -> Run:
        made = run(problem(), name, options | {"seed": 1}, **settings)
        torch.manual_seed(2)
        return made

    whole = fresh()
    expected = result(whole, whole.fit())
    file = tmp_path / "run.pt"
    with pytest.raises(Killed):
        fresh().fit(checkpoint=file, identity="a", every=-1, progress=kill_after(2))
    resumed = fresh()
    assert result(resumed, resumed.fit(checkpoint=file, identity="a")) == expected


@pytest.mark.parametrize("batch", [1, 7, 500])
def test_every_task_is_evaluated_on_its_own_samples(batch: int) -> None:
    data, network = problem()
    judged, seen = [tasks.binary(name) for name in data.task_names], []
    data.test.parts[1].mass[0, 4:] = 0
    network.backbone.register_forward_hook(lambda module, inputs, output: seen.append(len(output)))
    found = evaluate(network, judged, data.test, batch=batch)
    main = evaluate(network, judged, data.test, batch=batch, main_only=True)
    assert sum(seen) == 30 + 11 + 30 and network.training
    assert found["loss"] == found["tasks"][0]["loss"] == main["loss"] and "tasks" not in main
    network.eval()
    for task, (part, count) in enumerate(zip(data.test.parts, (30, 4), strict=True)):
        losses = tasks.binary_loss(network.heads[task](network.backbone(part.inputs)), part.targets[0])[:count]
        assert found["tasks"][task]["loss"] == pytest.approx(losses.mean().item())


def test_what_a_run_remembers_of_its_weights() -> None:
    """Shares of flipped labels, and how well weights tell them, of the samples that each task had."""

    class Half(Weighting):
        """Equal weights, and half of them where a label is flipped."""

        sees_losses = False

        def forward(self, signal: Any) -> Tensor:
            return signal.mass / 32 * (1 - 0.5 * signal.flipped)

        def penalty(self, signal: Any) -> None:
            return None

    made = run(problem(), Half(2))
    seen = watched(made)
    found = made.fit()["weights"]
    flipped = torch.stack([batch.flipped[0] for batch, _ in seen])
    assert found["flipped_fraction"] == pytest.approx(float(flipped.float().mean()), abs=1e-5)
    for k, of_epoch in enumerate(flipped.view(3, -1).float()):
        assert found["flipped_share"][k] == pytest.approx(float(of_epoch.sum() / (2 * 48 - of_epoch.sum())), abs=1e-5)
    assert found["histogram"]["tasks"] == [0, 1]
    assert [one["weight"] for one in found["detection"]] == [1.0, 1.0]
    for task, drawn in enumerate(made.summary.drawn):
        last = torch.cat([batch.index[task] for batch, _ in seen[12:]])
        assert torch.equal(drawn, torch.bincount(last, minlength=48))
    clean, wrong = (torch.tensor(found["histogram"][kind]) for kind in ("clean", "flipped"))
    assert clean.sum(1).tolist() == [int((~batch_rows).sum()) for batch_rows in
                                     torch.stack([b.flipped for b, _ in seen[12:]], 1).flatten(1)]  # fmt: skip
    assert (clean > 0).sum() == (wrong > 0).sum() == 2, "one bin for each kind and task"


def test_a_loss_that_is_not_a_number_is_named() -> None:
    data, network = problem()
    data.train.parts[1].inputs[5, 0] = torch.nan
    with pytest.raises(MtlkitError, match=r"the loss of task 'b' was nan in epoch 1, step \d, for training sample 5;"):
        made = run((data, SeparateInputs(nn.Linear(4, 16), network.heads)))
        made.fit()


def test_a_network_with_one_encoder_for_all_is_refused() -> None:
    data, network = problem()
    with pytest.raises(MtlkitError, match="every task of these data has inputs of its own, but this network"):
        run((data, nets.SharedEncoder(network.backbone, network.heads)))


@pytest.mark.parametrize("how", [{"precision": "bfloat16"}, {"channels_last": True}, {"accumulate": 4}], ids=str)
def test_other_ways_to_pass(how: dict) -> None:
    found, expected = (run(problem(nn.Identity()), "slgrad", **settings).fit() for settings in (how, {}))
    assert found["train_loss"] == pytest.approx(expected["train_loss"], rel=0.05 if "precision" in how else 1e-4)


def test_augmented() -> None:
    data, network = problem()
    seen: list[SeparateSamples] = []

    def augment(batch: SeparateSamples, random: torch.Generator) -> SeparateSamples:
        seen.append(batch)
        return batch

    data.augment = augment
    run((data, network), "slgrad", epochs=1).fit()
    assert len(seen) == 12 and all(len(batch.inputs) == 2 for batch in seen)


def test_batches_that_are_read_ahead() -> None:
    """Of pictures that stay on disk, domain by domain."""
    train = office.load(0, source="builtin", size=8, resident=0).train
    indices = torch.randint(20, (5, 3, 4))
    for found, index in zip(batches(train, indices, 2), indices, strict=True):
        expected = train.take(index)
        assert all(map(torch.equal, found.inputs, expected.inputs))
        assert all(map(torch.equal, found.targets, expected.targets))
        assert torch.equal(found.index, index) and torch.equal(found.groups, expected.groups)


@pytest.mark.parametrize("name", ["slgrad", "uw", "famo", "cagrad", "moml", "db_mtl"])
def test_learns_separable_problems(name: str) -> None:
    """One side of the first axis against the other, and of the second."""
    torch.manual_seed(0)

    def part(size: int, axis: int) -> Samples:
        inputs = torch.randn(size, 4)
        labels = (inputs[None, :, axis] > 0).long()
        return Samples(inputs, labels.float(), labels)

    sets = [Separate([part(size, 0), part(2 * size, 1)]) for size in (80, 40, 40, 200)]
    data = Dataset("toy", "toy", "0", ["a", "b"], "binary", *sets, facts={})
    history = run((data, problem(nn.Identity())[1]), name, epochs=8, reference_batch=16).fit()
    assert all(one["accuracy"] > 0.85 for one in history["evaluations"][-1]["test"]["tasks"])
