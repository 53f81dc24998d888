"""Rules on the Gram matrix: TorchJD's weights, brute force, the papers' own properties, frozen values."""

import itertools
import math

import pytest
import torch
import torchjd.aggregation as torchjd
from torch import Tensor
from torchjd.linalg import QuadprogProjector

from mtlkit.weighting import METHODS, GradientRule, Signal, build
from mtlkit.weighting.gradients import unit_rows

RULES = [name for name, method in METHODS.items() if issubclass(method, GradientRule)]
DETERMINISTIC = [name for name in RULES if name not in ("pcgrad", "gradvac", "rgw", "gradnorm")]


def signal(gram: Tensor, losses: Tensor | None = None) -> Signal:
    """What a rule sees of a Gram matrix."""
    count = len(gram)
    losses = torch.ones(count, 2, dtype=gram.dtype) if losses is None else losses
    return Signal(losses, torch.ones(count, 2), torch.zeros(count, 2, dtype=torch.int64), gram=gram)


def weights(name: str, gram: Tensor, **options: object) -> Tensor:
    """The weights of a fresh rule."""
    return build(name, len(gram), options)(signal(gram)).detach()


def jacobian(tasks: int, seed: int = 0, kind: str = "random") -> Tensor:
    """`(T, 20)` float64: random, in conflict, of small rank, with equal rows, with a zero row, of unequal lengths."""
    random = torch.Generator().manual_seed(seed)
    rows = torch.randn(tasks, 20, generator=random, dtype=torch.float64)
    if kind == "conflict":
        rows -= 0.9 * rows.mean(0) + 0.3 * rows[:1] * torch.arange(tasks)[:, None].sign()
    if kind == "rank":
        rows = torch.randn(tasks, 2, generator=random, dtype=torch.float64) @ rows[:2]
    if kind == "equal":
        rows[-1] = rows[0]
    if kind == "zero":
        rows[0] = 0
    if kind == "lengths":
        rows *= 10 ** torch.linspace(-2, 2, tasks, dtype=torch.float64)[:, None]
    return rows


KINDS = ("random", "conflict", "rank", "equal", "zero", "lengths")
SIZES = (2, 3, 10)
everywhere = pytest.mark.parametrize(("tasks", "kind"), list(itertools.product(SIZES, KINDS)))


# What both have, on matrices where both are accurate. TorchJD adds up where we average, and does not divide CAGrad.
SAME = {
    "imtl_g": (torchjd.IMTLGWeighting(), {}, 1),
    "fairgrad": (torchjd.FairGradWeighting(1.0), {}, "T"),
    "upgrad": (torchjd.UPGradWeighting(projector=QuadprogProjector(reg_eps=1e-9)), {}, 1),  # it adds 1e-4 to G else
    "cagrad": (torchjd.CAGradWeighting(0.5), {"c": 0.5, "rescale": 0}, 1),
    **{f"aligned_mtl {scale}": (torchjd.AlignedMTLWeighting(scale_mode=scale), {"scale": scale}, 1)
       for scale in ("min", "median", "rmse")},
}  # fmt: skip


@pytest.mark.parametrize("tasks", SIZES)
@pytest.mark.parametrize("kind", ["random", "conflict"])
@pytest.mark.parametrize("case", SAME)
def test_torchjd_gives_the_same(case: str, kind: str, tasks: int) -> None:
    theirs, options, factor = SAME[case]
    for seed in range(3):
        rows = jacobian(tasks, seed, kind)
        gram = rows @ rows.T
        ours = weights(case.split()[0], gram, **options) * (tasks if factor == "T" else factor)
        expected = theirs(gram)
        assert torch.allclose(ours @ rows, expected @ rows, rtol=0, atol=2e-3 * float((expected @ rows).norm())), seed


def test_torchjd_gives_the_same_for_two_tasks_whatever_the_order() -> None:
    for seed in range(5):
        rows = jacobian(2, seed, "conflict")
        gram = rows @ rows.T
        assert torch.allclose(2 * weights("pcgrad", gram), torchjd.PCGradWeighting()(gram))
    ours, theirs = build("gradvac", 2, {"beta": 0.3}), torchjd.GradVacWeighting(0.3)
    for seed in range(5):
        rows = jacobian(2, seed)
        assert torch.allclose(2 * ours(signal(rows @ rows.T)), theirs(rows @ rows.T), rtol=1e-6)


@pytest.mark.parametrize("tasks", SIZES)
def test_torchjd_nash(tasks: int) -> None:
    """Its solver linearises a few times: near the solution, which ours is at."""
    for seed in range(2):
        rows = jacobian(tasks, seed)
        for norm in (1.0, 0.0):
            ours = tasks * weights("nash_mtl", rows @ rows.T, max_norm=norm) @ rows
            theirs = torchjd.NashMTL(tasks, max_norm=norm)(rows)
            assert (ours - theirs).norm() < 0.02 * theirs.norm()


@everywhere
def test_shortest_combination(tasks: int, kind: str) -> None:
    """Shorter than TorchJD's, which stops early, and than any nearby point of the simplex; descends for every task."""
    rows = jacobian(tasks, 3, kind)
    gram = rows @ rows.T
    w = weights("mgda", gram)
    length = w @ gram @ w
    slack = 1e-9 * float(gram.diagonal().mean())
    assert length <= torchjd.MGDAWeighting()(gram) @ gram @ torchjd.MGDAWeighting()(gram) + slack
    for other in torch.cat([torch.eye(tasks).double(), torch.rand(50, tasks).double()]):
        v = w + 0.01 * (other / other.sum() - w)
        assert v @ gram @ v >= length - slack
    assert (gram @ w >= length - 1e-4 * float(gram.diagonal().mean()) - slack).all()


@everywhere
@pytest.mark.parametrize("c", [0.2, 0.5, 1.0])
def test_conflict_averse_direction_is_the_best_in_its_ball(tasks: int, kind: str, c: float) -> None:
    """No other point of the ball helps the worst task more; TorchJD's does not either."""
    rows = jacobian(tasks, 4, kind)
    gram, mean = rows @ rows.T, rows.mean(0)
    direction = weights("cagrad", gram, c=c, rescale=0) @ rows
    radius, scale = c * mean.norm(), float(rows.norm(dim=1).max() * mean.norm())
    assert (direction - mean).norm() <= radius * (1 + 1e-6) + 1e-12
    worst = (rows @ direction).min()
    theirs = torchjd.CAGradWeighting(c)(gram) @ rows
    inside = (theirs - mean).norm() <= radius * (1 + 1e-6)
    assert worst >= (rows @ theirs).min() - 1e-4 * scale or not inside
    random = torch.Generator().manual_seed(0)
    for _ in range(60):
        other = torch.randn(20, generator=random, dtype=torch.float64)
        other = mean + radius * other / other.norm()
        assert (rows @ other).min() <= worst + 1e-4 * scale


@pytest.mark.parametrize(("name", "options"), [("cagrad", {"c": 0.0}), ("upgrad", {}), ("pcgrad", {}), ("gradvac", {})])
def test_without_conflict(name: str, options: dict) -> None:
    """CAGrad with c = 0, and PCGrad, GradVac and UPGrad without conflict, give the mean gradient."""
    rows = jacobian(4, 1).abs()
    assert torch.allclose(weights(name, rows @ rows.T, **options), torch.full((4,), 0.25).double(), atol=1e-6)


@everywhere
def test_surgery_on_the_gradients_themselves(tasks: int, kind: str) -> None:
    """PCGrad's coefficients are what projecting one gradient after the other gives, in the same orders."""
    rows, rule = jacobian(tasks, 5, kind), build("pcgrad", tasks, {"seed": 7})
    orders = build("pcgrad", tasks, {"seed": 7}).orders.next(rows).argsort(1)
    expected = torch.zeros(20).double()
    for i in range(tasks):
        g = rows[i].clone()
        for j in orders[i].tolist():
            product = g @ rows[j]
            if j != i and product < 0:
                g -= product / (rows[j] @ rows[j]) * rows[j]
        expected += g / tasks
    found = rule(signal(rows @ rows.T)) @ rows
    assert torch.allclose(found, expected, rtol=1e-6, atol=1e-9 * float(rows.norm()))


@everywhere
def test_vaccine_on_the_gradients_themselves(tasks: int, kind: str) -> None:
    """GradVac: the cosine of the two is the running mean afterwards."""
    rule, twin = (build("gradvac", tasks, {"seed": 7, "beta": 0.4}) for _ in range(2))
    target = torch.zeros(tasks, tasks).double()
    for step in range(3):
        rows = jacobian(tasks, step, kind)
        orders, expected = twin.orders.next(rows).argsort(1), torch.zeros(20).double()
        for i in range(tasks):
            g = rows[i].clone()
            for j in orders[i].tolist():
                if j == i or g.norm() == 0 or rows[j].norm() == 0:
                    continue
                cosine = float((g @ rows[j]) / (g.norm() * rows[j].norm()))
                cosine, wanted = max(-1, min(1, cosine)), max(-0.99, min(0.99, float(target[i, j])))
                if cosine < wanted:
                    top = wanted * math.sqrt(1 - cosine**2) - cosine * math.sqrt(1 - wanted**2)
                    g = g + g.norm() * top / (rows[j].norm() * math.sqrt(1 - wanted**2)) * rows[j]
                    if abs(cosine) < 0.999:
                        after = (g @ rows[j]) / (g.norm() * rows[j].norm())
                        assert after == pytest.approx(wanted, abs=1e-6)
                target[i, j] += 0.4 * (cosine - target[i, j])
            expected += g / tasks
        found = rule(signal(rows @ rows.T)) @ rows
        assert torch.allclose(found, expected, rtol=1e-5, atol=1e-7 * float(rows.norm()))


@pytest.mark.parametrize("tasks", SIZES)
@pytest.mark.parametrize("kind", ["random", "conflict", "lengths"])
def test_equal_projections(tasks: int, kind: str) -> None:
    rows = jacobian(tasks, 6, kind)
    direction = weights("imtl_g", rows @ rows.T) @ rows
    projections = rows @ direction / rows.norm(dim=1)
    assert torch.allclose(projections, projections.mean().expand(tasks), rtol=1e-5, atol=1e-9)
    assert weights("imtl_g", rows @ rows.T).sum() == pytest.approx(1)


@pytest.mark.parametrize("tasks", SIZES)
@pytest.mark.parametrize("kind", ["random", "conflict", "lengths"])
def test_bargaining_solution(tasks: int, kind: str) -> None:
    """Nash: `a_i <g_i, sum a g> = 1`; FairGrad: `w_i^(1/alpha) <g_i, sum w g> = 1`."""
    rows = jacobian(tasks, 7, kind)
    gram = rows @ rows.T
    a = tasks * weights("nash_mtl", gram, max_norm=0.0)
    assert torch.allclose(a * (gram @ a), torch.ones(tasks).double(), atol=1e-4)
    for alpha in (0.5, 1.0, 2.0):
        w = tasks * weights("fairgrad", gram, alpha=alpha)
        assert torch.allclose(w ** (1 / alpha) * (gram @ w), torch.ones(tasks).double(), atol=1e-3)


def test_nash_is_limited_in_length_and_computed_every_so_often() -> None:
    rows = jacobian(3, 8)
    for size in (1e-3, 1.0, 1e3):
        direction = 3 * weights("nash_mtl", size**2 * rows @ rows.T, max_norm=1.0) @ (size * rows)
        assert direction.norm() <= 1 + 1e-9
    rule = build("nash_mtl", 3, {"every": 3, "max_norm": 0.0})
    seen = []
    for k in range(6):
        rows = jacobian(3, k)
        seen.append(rule(signal(rows @ rows.T)))
    assert torch.equal(seen[0], seen[2]) and torch.equal(seen[3], seen[5]) and not torch.equal(seen[2], seen[3])


@pytest.mark.parametrize("name", ["nash_mtl", "fairgrad"])
def test_opposed_gradients_have_a_finite_fallback(name: str) -> None:
    rows = torch.randn(1, 20).double()
    gram = torch.cat([rows, -rows]) @ torch.cat([rows, -rows]).T
    w = weights(name, gram)
    assert torch.isfinite(w).all() and (w > 0).all()


@pytest.mark.parametrize("scale", ["min", "median", "rmse"])
@pytest.mark.parametrize("kind", ["random", "conflict", "lengths", "rank"])
def test_aligned_gradients_are_orthogonal(scale: str, kind: str) -> None:
    """Brute force: the mean of the rows of the nearest matrix with all singular values equal."""
    rows = jacobian(4, 9, kind)
    u, s, v = torch.linalg.svd(rows, full_matrices=False)
    s, rank = s[s > 1e-10 * s[0]], int((s > 1e-10 * s[0]).sum())
    squares = sorted((s**2).tolist())
    size = {"min": squares[0], "median": squares[(rank - 1) // 2], "rmse": sum(squares) / rank}[scale] ** 0.5
    aligned = size * u[:, :rank] @ v[:rank]
    found = weights("aligned_mtl", rows @ rows.T, scale=scale) @ rows
    assert torch.allclose(found, aligned.mean(0), atol=1e-6 * float(aligned.norm()))


@everywhere
def test_upgrad_never_conflicts(tasks: int, kind: str) -> None:
    rows = jacobian(tasks, 10, kind)
    direction = weights("upgrad", rows @ rows.T) @ rows
    assert (rows @ direction >= -1e-4 * rows.norm(dim=1) * direction.norm() - 1e-12).all()


def test_gradnorm_pulls_lengths_together() -> None:
    """With equal progress, weights move until all weighted gradients have one length."""
    rows = jacobian(3, 11)
    rows *= torch.tensor([[0.5], [1.0], [2.0]]) / rows.norm(dim=1, keepdim=True)
    rule = build("gradnorm", 3, {"weight_rate": 0.01})
    for _ in range(4000):
        w = rule(signal(rows @ rows.T))
    sizes = w * rows.norm(dim=1)
    assert sizes.tolist() == pytest.approx([float(sizes.mean())] * 3, rel=0.1)
    assert w.sum() == pytest.approx(1)


def test_gradnorm_favours_the_task_that_learns_slowly() -> None:
    rule, gram = build("gradnorm", 2), torch.eye(2)
    for k in range(20):
        losses = torch.tensor([[1.0, 1.0], [0.9**k, 0.9**k]])
        w = rule(signal(gram, losses))
    assert w[0] > w[1]


@pytest.mark.parametrize("name", ["mgda", "cosine_weighted"])
def test_a_gradient_that_opposes_the_main_one(name: str) -> None:
    main = torch.randn(20).double()
    rows = torch.stack([main, -main, main])
    w = weights(name, rows @ rows.T)
    if name == "mgda":
        assert (w @ rows).norm() < 1e-4 * main.norm()
    else:
        assert torch.allclose(w, torch.tensor([1, 0, 1]).double() / 3)


@pytest.mark.parametrize("scaling", ["l2", "loss", "loss+"])
def test_scaled_gradients_of_mgda(scaling: str) -> None:
    rows, losses = jacobian(3, 12, "lengths"), torch.tensor([[1.0, 1.0], [2.0, 2.0], [0.1, 0.1]]).double()
    scale = {"l2": rows.norm(dim=1), "loss": losses[:, 0], "loss+": rows.norm(dim=1) * losses[:, 0]}[scaling]
    found = build("mgda", 3, {"scaling": scaling})(signal(rows @ rows.T, losses))
    scaled = rows / scale[:, None]
    assert torch.allclose(found, weights("mgda", scaled @ scaled.T), atol=1e-8)


@pytest.mark.parametrize("name", DETERMINISTIC)
def test_order_of_tasks_does_not_matter(name: str) -> None:
    order = torch.tensor([0, 3, 1, 2] if name == "cosine_weighted" else [2, 0, 3, 1])  # its main task stays first
    rows = jacobian(4, 13, "conflict")
    gram = rows @ rows.T
    assert torch.allclose(weights(name, gram[order][:, order]), weights(name, gram)[order], atol=1e-5)


INVARIANT = [name for name in DETERMINISTIC if name not in ("nash_mtl", "fairgrad")]


@pytest.mark.parametrize("factor", [1e-6, 1e6])
@pytest.mark.parametrize("name", INVARIANT)
def test_scale_of_all_gradients_does_not_matter(name: str, factor: float) -> None:
    rows = jacobian(4, 14)
    gram = rows @ rows.T
    assert torch.allclose(weights(name, factor * gram), weights(name, gram), rtol=1e-4, atol=1e-6)


def test_scale_laws_of_bargaining() -> None:
    rows = jacobian(4, 15)
    gram = rows @ rows.T
    assert torch.allclose(3 * weights("nash_mtl", 9 * gram, max_norm=0.0), weights("nash_mtl", gram, max_norm=0.0))
    for alpha in (0.5, 1.0, 2.0):
        law = 9 ** (-alpha / (1 + alpha))
        ours = weights("fairgrad", 9 * gram, alpha=alpha)
        assert torch.allclose(ours, law * weights("fairgrad", gram, alpha=alpha), rtol=1e-6)


@pytest.mark.parametrize("name", [*RULES, "rlw+cagrad", "rlw+upgrad"])
@pytest.mark.parametrize("tasks", [1, 2, 5])
@pytest.mark.parametrize("case", ["zero", "identical", "tiny", "huge", "one zero", "opposed"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_never_not_a_number(name: str, tasks: int, case: str, dtype: torch.dtype) -> None:
    rows = jacobian(tasks, 16)
    if case in ("zero", "one zero"):
        rows[slice(None) if case == "zero" else slice(0, 1)] = 0
    if case == "identical":
        rows[:] = rows[0]
    if case == "opposed":
        rows[:] = rows[0] * torch.tensor([1, -1, 1, -1, 1])[:tasks, None]
    rows *= {"tiny": 1e-8, "huge": 1e8}.get(case, 1)
    rule, gram = build(name, tasks), (rows @ rows.T).to(dtype)
    for _ in range(2):
        seen = signal(gram, torch.ones(tasks, 2, dtype=dtype))
        found = rule(seen)
        assert torch.isfinite(found).all() and torch.isfinite(rule.heads(seen, found)).all()


def test_unit_rows() -> None:
    rows = jacobian(3, 17, "zero")
    cosines, lengths = unit_rows(rows @ rows.T)
    assert torch.allclose(lengths, rows.norm(dim=1))
    assert torch.allclose(cosines[1:, 1:], torch.nn.functional.cosine_similarity(rows[1:, None], rows[1:], dim=2))
    assert torch.equal(cosines[0], torch.tensor([1, 0, 0]).double())


GRAM = torch.tensor([[4.0, -1.0, 0.5], [-1.0, 2.0, 0.3], [0.5, 0.3, 1.0]], dtype=torch.float64)
FROZEN: dict[str, list[float]] = {
    "mgda": [0.19643, 0.35714, 0.44643],
    "pcgrad": [0.41667, 0.5, 0.33333],
    "gradvac": [0.41589, 0.49844, 0.33333],
    "cagrad": [0.26667, 0.43062, 0.47437],
    "imtl_g": [0.34422, 0.49008, 0.16569],
    "imtl": [0.34422, 0.49008, 0.16569],
    "nash_mtl": [0.10643, 0.15237, 0.14924],
    "fairgrad": [0.18435, 0.26391, 0.25849],
    "aligned_mtl": [0.15552, 0.2152, 0.2268],
    "upgrad": [0.41667, 0.5, 0.33333],
    "gradnorm": [0.31558, 0.34393, 0.34049],
    "rgw": [0.13006, 0.46898, 0.40096],
    "cosine_weighted": [0.33333, 0.0, 0.08333],
}


@pytest.mark.parametrize("name", RULES)
def test_frozen(name: str) -> None:
    """The numbers of today; whoever changes them says why."""
    losses = torch.tensor([[1.0, 1.0], [0.5, 0.5], [2.0, 2.0]], dtype=torch.float64)
    rule = build(name, 3)
    rule(signal(GRAM, losses))
    found = rule(signal(GRAM, losses.flip(0))).tolist()
    assert found == pytest.approx(FROZEN[name], abs=2e-5)
