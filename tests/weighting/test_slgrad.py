"""SLGrad's formulas against obvious ones, and the controls that know better."""

from collections import Counter

import pytest
import torch
from torch import Tensor

from mtlkit.errors import MtlkitError
from mtlkit.weighting import build, spread
from tests.weighting.test_rules import signal, weigh


def group_totals(weights: Tensor, groups: Tensor) -> Tensor:
    """`(T, 2)`, the weight of every label group."""
    return torch.stack([(weights * (groups == c)).sum(1) for c in (0, 1)], dim=1)


def test_joint_is_the_positive_part_over_its_total() -> None:
    seen = signal()
    seen.mass[1, 2], seen.mass[0, 3] = 0, 0.5
    positive = [[max(0.0, a) * m for a, m in zip(*row, strict=True)]
                for row in zip(seen.alignment.tolist(), seen.mass.tolist(), strict=True)]  # fmt: skip
    total = sum(map(sum, positive))
    assert torch.allclose(weigh(build("slgrad", 3), seen), torch.tensor(positive) / total)


def test_joint_leaves_nothing_where_nothing_is_aligned() -> None:
    seen = signal()
    seen.alignment = -seen.alignment.abs()
    assert (weigh(build("slgrad", 3), seen) == 0).all()


def test_task_gives_every_task_the_same() -> None:
    seen = signal()
    seen.alignment[2] = -1  # nothing aligned: spread by mass
    seen.mass[2, 1] = 3
    weights = weigh(build("slgrad", 3, {"normalisation": "task"}), seen)
    positive = seen.alignment[:2].clamp_min(0)
    assert torch.allclose(weights[:2], positive / positive.sum(1, keepdim=True) / 3)
    assert torch.allclose(weights[2], seen.mass[2] / seen.mass[2].sum() / 3)


@pytest.mark.parametrize("strength", ["proportional", "sign"])
def test_task_and_label_keep_the_reference_shares(strength: str) -> None:
    seen = signal(batch=32)
    weights = weigh(build("slgrad", 3, {"normalisation": "task_label", "strength": strength}), seen)
    assert torch.allclose(group_totals(weights, seen.groups), seen.class_shares / 3)
    assert ((weights > 0) == (seen.alignment > 0)).all()


def test_task_and_label_keep_the_batch_shares() -> None:
    seen = signal(batch=32)
    seen.mass[:, 5:9] = 0
    weights = weigh(build("slgrad", 3, {"normalisation": "task_label", "group_shares": "batch"}), seen)
    count = group_totals(seen.mass, seen.groups)
    assert torch.allclose(group_totals(weights, seen.groups), count / count.sum(1, keepdim=True) / 3)


def test_a_group_without_alignment_keeps_its_share() -> None:
    seen = signal(batch=32)
    alone = seen.groups[1] == 1
    seen.alignment[1, alone] = -1
    weights = weigh(build("slgrad", 3, {"normalisation": "task_label"}), seen)
    assert torch.allclose(weights[1, alone], torch.tensor(0.2 / 3 / int(alone.sum())))


def test_task_and_label_need_label_groups() -> None:
    seen = signal()
    seen.class_shares = None
    for shares in ("reference", "batch"):
        with pytest.raises(MtlkitError, match=r"needs label groups.*use 'task'"):
            weigh(build("slgrad", 3, {"normalisation": "task_label", "group_shares": shares}), seen)


@pytest.mark.parametrize("normalisation", ["joint", "task", "task_label"])
def test_sign_keeps_or_drops(normalisation: str) -> None:
    seen = signal()
    weights = weigh(build("slgrad", 3, {"normalisation": normalisation, "strength": "sign"}), seen)
    assert ((weights > 0) == (seen.alignment > 0)).all()
    for t, c in ((0, 0), (0, 1), (1, 0)):
        kept = weights[t][(seen.groups[t] == c) & (seen.alignment[t] > 0)]
        assert torch.allclose(kept, kept.mean())


def test_length_of_the_alignment_does_not_matter() -> None:
    seen, long = signal(), signal()
    long.alignment = seen.alignment * 1000
    for normalisation in ("joint", "task", "task_label"):
        a, b = (weigh(build("slgrad", 3, {"normalisation": normalisation}), s) for s in (seen, long))
        assert torch.allclose(a, b)


@pytest.mark.parametrize("normalisation", ["joint", "task_label"])
def test_shuffled_weights_stay_within_their_label_group(normalisation: str) -> None:
    seen, options = signal(batch=32), {"normalisation": normalisation}
    usual = weigh(build("slgrad", 3, options), seen)
    rule = build("slgrad", 3, options | {"shuffle": True, "seed": 1})
    first, second = weigh(rule, seen), weigh(rule, seen)
    for t in range(3):
        for c in (0, 1):
            member = seen.groups[t] == c
            assert Counter(first[t, member].tolist()) == Counter(usual[t, member].tolist())
    assert not torch.equal(first, usual) and not torch.equal(first, second)


def test_every_place_in_a_group_is_equally_likely_when_shuffled() -> None:
    seen = signal(1, 6)
    seen.groups = torch.tensor([[1, 0, 1, 0, 1, 0]])
    seen.alignment = torch.tensor([[5.0, -1, -1, -1, -1, -1]])
    rule = build("slgrad", 1, {"shuffle": True})
    mean = torch.stack([weigh(rule, seen)[0] for _ in range(600)]).mean(0)
    assert mean[::2].tolist() == pytest.approx([1 / 3] * 3, abs=0.07)
    assert (mean[1::2] == 0).all()


def test_main_task_alone() -> None:
    weights = weigh(build("main", 3), signal())
    assert torch.allclose(weights[0], torch.tensor(1 / 8)) and (weights[1:] == 0).all()


def test_oracle_drops_what_was_flipped() -> None:
    seen = signal(batch=32)
    assert seen.flipped.any()
    weights = weigh(build("oracle", 3), seen)
    assert ((weights > 0) == ~seen.flipped).all()
    assert torch.allclose(weights, spread(torch.full((3,), 1 / 3), (~seen.flipped).float()))
    seen.flipped[:] = True
    assert (weigh(build("oracle", 3), seen) == 0).all()
    seen.flipped = None
    with pytest.raises(MtlkitError, match="oracle needs to know"):
        weigh(build("oracle", 3), seen)


@pytest.mark.parametrize("seed", range(5))
def test_label_consistency_is_the_oracle_of_main_flips(seed: int) -> None:
    seen = signal(10, 64, seed=seed)
    assert seen.flipped[0].any() and not seen.flipped[1:].any()
    a, b = (weigh(build(name, 10), seen) for name in ("label_consistency", "oracle"))
    assert torch.equal(a, b)
