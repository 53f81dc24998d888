"""Solvers on hard Gram matrices against independent ones; nothing is read back from the device."""

import numpy as np
import pytest
import torch
from scipy.optimize import nnls
from torch import Tensor

from mtlkit.bench.gradients import hard_matrices
from mtlkit.weighting.solvers import (
    _jacobi,
    bargaining,
    conflict_averse,
    dual_cone,
    minimum_norm,
    symmetric_eigen,
)

SIZES = (2, 3, 10, 40)
COUNTS = [30, pytest.param(200, marks=pytest.mark.slow)]


def matrices(tasks: int, count: int) -> list[Tensor]:
    """Hard ones, with a mean diagonal of one."""
    count = count if tasks < 40 else count // 5 if count < 200 else count
    return [gram / gram.diagonal().mean() for gram in hard_matrices(tasks, count)]


def factor(gram: Tensor) -> np.ndarray:
    """Rows with this Gram matrix."""
    values, vectors = torch.linalg.eigh(gram)
    return (vectors * values.clamp_min(0).sqrt()).numpy()


def shortest(gram: Tensor) -> float:
    """`min w'Gw` over the simplex, by an active-set method for non-negative least squares, at several scales."""
    rows, found = factor(gram), []
    for scale in (1.0, 1e-2, *gram.diagonal().clamp_min(1e-16).sqrt().tolist()[:2]):
        below = np.full((1, len(rows)), scale)
        u, _ = nnls(np.vstack([rows.T, below]), np.r_[np.zeros(len(rows)), scale], maxiter=9999)
        if u.sum() > 0:
            w = torch.tensor(u / u.sum())
            found.append(float(w @ gram @ w))
    return min(found)


@pytest.mark.parametrize("count", COUNTS)
@pytest.mark.parametrize("tasks", SIZES)
def test_minimum_norm(tasks: int, count: int) -> None:
    """Suboptimality relative to the optimum, or to a ten-thousandth of the shortest gradient where that is larger."""
    for gram in matrices(tasks, count):
        w = minimum_norm(gram)
        assert (w >= 0).all() and w.sum() == pytest.approx(1)
        best = shortest(gram)
        floor = max(1e-4 * float(gram.diagonal().min()), 1e-12)
        assert float(w @ gram @ w) - best <= 1e-4 * max(best, floor)


@pytest.mark.parametrize("count", COUNTS)
@pytest.mark.parametrize("c", [0.5, 2.0])
@pytest.mark.parametrize("tasks", SIZES)
def test_conflict_averse(tasks: int, c: float, count: int) -> None:
    """By duality: what the direction gives the worst task is the dual objective, which bounds it from above. So the gap
    between the two is the suboptimality, of both; relative to the objective or a ten-thousandth of its scale."""
    for gram in matrices(tasks, count):
        w, towards = conflict_averse(gram, c)
        mean = gram.mean().clamp_min(0).sqrt()
        dual = w @ gram.mean(1) + c * mean * (w @ gram @ w).clamp_min(0).sqrt()
        assert (w >= 0).all() and w.sum() == pytest.approx(1)
        length = (towards @ gram @ towards).clamp_min(0).sqrt()
        assert length <= mean * (1 + 1e-9) + 1e-9
        primal = (gram.mean(1) + c * (gram @ towards)).min()
        assert dual - primal <= 1e-4 * max(abs(dual), mean)


@pytest.mark.parametrize("count", COUNTS)
@pytest.mark.parametrize("tasks", SIZES)
def test_dual_cone(tasks: int, count: int) -> None:
    """Suboptimality relative to the optimum, or to a ten-thousandth of the gradient that is projected."""
    for gram in matrices(tasks, count):
        rows, found = factor(gram), dual_cone(gram)
        assert (found >= torch.eye(tasks) - 1e-9).all()
        size = np.sqrt(np.diag(gram.numpy()).clip(1e-24))
        for i in np.random.default_rng(0).permutation(tasks)[:3]:
            if gram[i, i] < 1e-9:
                continue
            u, _ = nnls((rows / size[:, None]).T, -rows[i], maxiter=9999)
            v = torch.eye(tasks).double()[i] + torch.tensor(u / size)
            best = float(v @ gram @ v)
            mine = float(found[i] @ gram @ found[i])
            assert mine - best <= 1e-4 * max(best, 1e-2 * float(gram[i, i])) + 1e-9  # what the other one rounds


@pytest.mark.parametrize("count", COUNTS)
@pytest.mark.parametrize("power", [1.0, 0.5])
@pytest.mark.parametrize("tasks", SIZES)
def test_bargaining(tasks: int, power: float, count: int) -> None:
    for k, gram in enumerate(matrices(tasks, count)):
        a, residual = bargaining(gram, power)
        assert torch.isfinite(a).all() and (a > 0).all()
        rounding = 1e-13 * float((a**power * (gram.abs() @ a)).max())  # where there is no solution a is large
        assert residual == pytest.approx(float((a**power * (gram @ a) - 1).abs().max()), rel=1e-6, abs=1e-9 + rounding)
        if k % 6 not in (1, 3):  # of small rank or with a zero row there need be no solution
            assert residual <= 1e-5


def test_no_solution_shows_in_the_residual() -> None:
    a, residual = bargaining(torch.tensor([[1.0, -1.0], [-1.0, 1.0]]))
    assert torch.isfinite(a).all() and residual > 0.5


@pytest.mark.parametrize("tasks", [1, 2, 5, 10, 40])
def test_jacobi(tasks: int) -> None:
    random = torch.Generator().manual_seed(0)
    matrix = torch.randn(tasks, tasks, generator=random, dtype=torch.float64)
    matrix = matrix @ torch.diag(10 ** torch.linspace(-2, 2, tasks).double()) @ matrix.T
    values, vectors = _jacobi(matrix, 12)
    assert torch.allclose(values, torch.linalg.eigvalsh(matrix), rtol=0, atol=1e-10 * float(values[-1]))
    assert torch.allclose(vectors @ torch.diag(values) @ vectors.T, matrix, rtol=0, atol=1e-10 * float(values[-1]))
    assert torch.allclose(vectors.T @ vectors, torch.eye(tasks).double(), atol=1e-10)


SOLVERS = {
    "minimum_norm": minimum_norm,
    "conflict_averse": lambda gram: conflict_averse(gram, 0.5)[1],
    "dual_cone": dual_cone,
    "bargaining": lambda gram: bargaining(gram)[0],
    "symmetric_eigen": lambda gram: symmetric_eigen(gram)[1],
    "jacobi": lambda gram: _jacobi(gram.double(), 6)[1],
}


@pytest.mark.parametrize("name", SOLVERS)
@pytest.mark.parametrize("tasks", [1, 3])
def test_reads_no_value(name: str, tasks: int) -> None:
    """Tensors on the meta device have none."""
    found = SOLVERS[name](torch.empty(tasks, tasks, device="meta"))
    assert found.device.type == "meta" and found.dtype == torch.float64


@pytest.mark.parametrize("name", SOLVERS)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
@pytest.mark.parametrize("gram", [torch.zeros(3, 3), torch.ones(3, 3), 1e8 * torch.eye(3), 1e-12 * torch.eye(3),
                                  torch.tensor([[4.0, -2.0, 0.0], [-2.0, 1.0, 0.0], [0.0, 0.0, 0.0]])])  # fmt: skip
def test_finite(name: str, dtype: torch.dtype, gram: Tensor) -> None:
    assert torch.isfinite(SOLVERS[name](gram.to(dtype))).all()


def test_closed_forms_for_two_tasks() -> None:
    for a, b, product in ((1.0, 4.0, 0.5), (1.0, 4.0, 2.0), (3.0, 2.0, -1.0)):
        gram = torch.tensor([[a, product], [product, b]], dtype=torch.float64)
        first = min(1, max(0, (b - product) / (a + b - 2 * product)))
        assert minimum_norm(gram).tolist() == pytest.approx([first, 1 - first], abs=1e-5)
        expected = [[1, max(0, -product / b)], [max(0, -product / a), 1]]
        assert torch.allclose(dual_cone(gram), torch.tensor(expected).double(), atol=1e-5)
