"""Aligned selection: what it remembers, whom it keeps, and where it is equal weighting."""

import copy

import pytest
import torch
from torch import Tensor

from mtlkit.errors import MtlkitError
from mtlkit.weighting import Signal, build, share_out

SHARES = torch.tensor([[0.8, 0.2], [0.5, 0.5], [0.3, 0.7]])
N = 40


def signal(index: Tensor, groups: Tensor, mass: Tensor, alignment: Tensor, shares: Tensor | None = SHARES) -> Signal:
    """A batch of the training set whose label groups are `groups` `(3, N)`."""
    wide = index if index.ndim == 2 else index.expand(3, -1)
    here, there = groups.gather(1, wide), mass.gather(1, wide)
    return Signal(torch.rand(here.shape), there, here, shares, alignment=alignment, index=index)


@pytest.mark.parametrize("own", [False, True], ids=["shared inputs", "inputs of their own"])
def test_keeps_the_best_aligned_of_every_group(own: bool) -> None:
    """Against a loop over epochs, tasks, samples and groups."""
    torch.manual_seed(0)
    groups, mass = (torch.rand(3, N) < 0.5).long(), (torch.rand(3, N) < 0.8).float()
    rule = build("aligned_selection", 3)
    rule.prepare(groups, SHARES)
    memory: dict[tuple[int, int], float] = {}
    kept = torch.ones(3, N, dtype=torch.bool)
    for epoch in range(1, 5):
        orders = torch.stack([torch.randperm(N) for _ in range(3)]) if own else torch.randperm(N)
        for index in orders.split(8, -1):
            alignment = torch.randn(3, 8)
            batch = signal(index, groups, mass, alignment)
            weights = rule(batch)
            wide = index if own else index.expand(3, -1)
            expected = share_out(batch.mass * kept.gather(1, wide), batch.groups, SHARES, spare=batch.mass) / 3
            assert torch.allclose(weights, expected)
            for t, column in torch.cartesian_prod(torch.arange(3), torch.arange(8)).tolist():
                key, new = (t, int(wide[t, column])), float(alignment[t, column])
                if batch.mass[t, column] > 0:
                    memory[key] = 0.9 * memory[key] + 0.1 * new if key in memory else new
        rule.end_of_epoch()
        if epoch < 2:
            continue
        for t, c in torch.cartesian_prod(torch.arange(3), torch.arange(2)).tolist():
            there = [i for i in range(N) if mass[t, i] > 0]
            members = sorted((i for i in there if groups[t, i] == c), key=lambda i: -memory[t, i])
            for place, i in enumerate(members):
                kept[t, i] = place < SHARES[t, c] * len(there)
        assert torch.equal(rule.kept[:, :-1][mass > 0], kept[mass > 0])
    assert 0.1 < (~kept[mass > 0]).float().mean() < 0.5


def test_where_groups_have_their_shares_nothing_is_dropped() -> None:
    torch.manual_seed(0)
    groups = torch.arange(N).remainder(2).expand(3, -1)
    rule, shares = build("aligned_selection", 3), torch.full((3, 2), 0.5)
    rule.prepare(groups, shares)
    for _ in range(3):
        for index in torch.randperm(N).split(8):
            batch = signal(index, groups, torch.ones(3, N), torch.randn(3, 8), shares)
            assert torch.allclose(rule(batch), share_out(batch.mass, batch.groups, shares) / 3)
        rule.end_of_epoch()
    assert rule.kept.all()


def test_memory_survives_saving() -> None:
    torch.manual_seed(0)
    groups = (torch.rand(3, N) < 0.5).long()
    one, other = (build("aligned_selection", 3, {"options": "warm=1"}) for _ in range(2))
    batches = [signal(index, groups, torch.ones(3, N), torch.randn(3, 8)) for index in torch.randperm(N).split(8)]
    for rule in (one, other):
        rule.prepare(groups, SHARES)
    for batch in batches:
        one(batch)
    one.end_of_epoch()
    other.load_state_dict(copy.deepcopy(one.state_dict()))
    one.end_of_epoch()
    other.end_of_epoch()
    assert all(torch.equal(one(batch), other(batch)) for batch in batches)


@pytest.mark.parametrize(
    ("options", "message"),
    [("decay=1", r"decay is 1.0, which is not in \[0, 1\)"), ("warm=0", "warm is 0, which is not at least 1"),
     ("main_head=maybe", "main_head")],
)  # fmt: skip
def test_wrong_options(options: str, message: str) -> None:
    with pytest.raises(MtlkitError, match=message):
        build("aligned_selection", 2, {"options": options})


def test_tasks_without_label_groups_are_refused() -> None:
    with pytest.raises(MtlkitError, match="aligned_selection needs label groups"):
        build("aligned_selection", 2).prepare(torch.zeros(2, 8, dtype=torch.int64), None)
