"""Random loss weighting: its six laws and its draws."""

import pytest
import torch
from torch import Tensor

from mtlkit.weighting import Signal, build
from mtlkit.weighting.rlw import LAWS

TASKS, STEPS = 3, 4000


def draw(law: str, steps: int = STEPS, *, tasks: int = TASKS, k: int = 1, seed: int = 0,
         dtype: torch.dtype = torch.float32) -> Tensor:  # fmt: skip
    """`(steps, T)`, the task weights of so many steps."""
    losses = torch.zeros(tasks, 1, dtype=dtype)
    seen = Signal(losses, torch.ones_like(losses), torch.zeros(tasks, 1, dtype=torch.int64))
    rule = build("rlw", tasks, {"law": law, "k": k, "seed": seed})
    return torch.stack([rule(seen) for _ in range(steps)])


@pytest.mark.parametrize("law", LAWS)
def test_weights_lie_on_the_simplex(law: str) -> None:
    weights = draw(law, 200)
    assert (weights >= 0).all()
    assert torch.allclose(weights.sum(1), torch.ones(200))


@pytest.mark.parametrize("law", [law for law in LAWS if law != "random_normal"])
def test_tasks_are_treated_alike(law: str) -> None:
    assert draw(law).mean(0).tolist() == pytest.approx([1 / TASKS] * TASKS, abs=0.02)


def test_normal_is_the_softmax_of_standard_normals() -> None:
    ratio = draw("normal").log().diff(dim=1)[:, 0]  # of N(0, 1) - N(0, 1)
    assert ratio.mean().item() == pytest.approx(0, abs=0.08)
    assert ratio.std().item() == pytest.approx(2**0.5, abs=0.08)


def test_uniform_is_the_softmax_of_uniforms() -> None:
    ratio = draw("uniform").log().diff(dim=1)[:, 0]  # triangular on (-1, 1), variance 1/6
    assert ratio.abs().max() < 1
    assert ratio.std().item() == pytest.approx(6**-0.5, abs=0.02)


def test_random_normal_draws_its_moments_once() -> None:
    rule = build("rlw", TASKS, {"law": "random_normal"})
    assert (rule.mean > 0).all() and (rule.mean < 1).all() and (rule.std > 0).all() and (rule.std < 1).all()
    ratio = draw("random_normal").log().diff(dim=1)
    assert ratio.mean(0).tolist() == pytest.approx(rule.mean.diff().tolist(), abs=0.08)
    spread = (rule.std[1:] ** 2 + rule.std[:-1] ** 2).sqrt()
    assert ratio.std(0).tolist() == pytest.approx(spread.tolist(), abs=0.08)
    assert not torch.equal(rule.mean, build("rlw", TASKS, {"law": "random_normal", "seed": 5}).mean)


def test_dirichlet_is_uniform_on_the_simplex() -> None:
    weights = draw("dirichlet")
    assert (weights**2).mean().item() == pytest.approx(2 / (TASKS * (TASKS + 1)), abs=0.01)
    assert (weights[:, 0] > 0.5).float().mean().item() == pytest.approx(0.25, abs=0.03)  # (1 - x)^(T - 1)


def test_bernoulli_outcomes_are_equally_likely() -> None:
    weights = draw("bernoulli")
    chosen = (weights > 0).long()
    assert torch.equal(weights, chosen / chosen.sum(1, keepdim=True))
    counts = torch.bincount((chosen * torch.tensor([1, 2, 4])).sum(1), minlength=8)
    assert counts[0] == 0
    assert (counts[1:] / STEPS).tolist() == pytest.approx([1 / 7] * 7, abs=0.025)


@pytest.mark.parametrize("k", [1, 2, 3])
def test_bernoulli_k_chooses_exactly_k(k: int) -> None:
    weights = draw("bernoulli_k", 500, k=k)
    assert ((weights == 1 / torch.tensor(k)).sum(1) == k).all()
    assert ((weights > 0).sum(1) == k).all()


@pytest.mark.parametrize("law", LAWS)
def test_draws_depend_on_the_seed_and_not_on_the_precision(law: str) -> None:
    usual = draw(law, 50)
    assert torch.allclose(usual.double(), draw(law, 50, dtype=torch.float64))
    assert torch.allclose(usual, draw(law, 50, dtype=torch.bfloat16).float(), atol=4e-3)
    assert not torch.equal(usual, draw(law, 50, seed=1))


@pytest.mark.parametrize("law", LAWS)
def test_every_step_draws_anew(law: str) -> None:
    weights = draw(law, 1100)  # more than are drawn at a time
    assert len(weights.unique(dim=0)) >= (3 if law == "bernoulli_k" else 7 if law == "bernoulli" else 1099)
    assert not torch.equal(weights[:50], weights[1024:1074]), "a second block repeats the first"


@pytest.mark.parametrize("law", LAWS)
def test_one_task_has_all_the_weight(law: str) -> None:
    assert torch.equal(draw(law, 5, tasks=1), torch.ones(5, 1))


def test_spelling_of_the_releases() -> None:
    assert torch.equal(draw("Bernoulli", 20), draw("bernoulli", 20))
    assert torch.equal(draw("Dirichlet", 20), draw("dirichlet", 20))
