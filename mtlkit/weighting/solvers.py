"""Small convex problems on a Gram matrix, solved on its device in a fixed number of steps.

All work in float64 on `G (K, K)`, the products of K gradients, made symmetric and divided by its mean diagonal. On a
GPU no value is read, so that nothing waits; on the CPU, where that is free, steps that would change nothing are left
out. What comes in finite comes out finite.
"""

from collections.abc import Callable

import torch
from torch import Tensor

STEP, CENTRING = 0.99, 0.1
"""Of the way to the boundary; and the share of the barrier parameter that a step aims at."""

READS_ARE_FREE = ("cpu",)
"""Devices on which nothing waits while a value is read."""

DONE = 1e-18
"""A barrier parameter at which the remaining steps would change nothing."""

EPS = 1e-10
"""Relative size of what keeps square roots away from zero."""


def minimum_norm(gram: Tensor) -> Tensor:
    """`argmin w'Gw` over the simplex, `(K,)`: MGDA's problem.

    Over `w >= 0` the quadratic `w'(G + b 11')w / 2 - b 1'w` has its minimum along the same ray, for any b > 0: here the
    square of the shortest length, in variables `|g_i| w_i`, so that lengths may differ by orders of magnitude.
    """
    gram, _ = _prepared(gram)
    size = gram.diagonal().clamp_min(EPS**2).sqrt()
    relative = size.amin() / size
    hessian = gram / size / size[:, None] + torch.outer(relative, relative)
    u = _nonnegative(lambda u, mu: (u @ hessian - relative, hessian), torch.full_like(size, 1 / len(gram)), 40)
    weights = u * relative
    return weights / weights.sum()


def dual_cone(gram: Tensor) -> Tensor:
    """Row i of the result `(K, K)` is `argmin v'Gv` over `v >= e_i`: the projection of gradient i onto the dual cone of
    all (UPGrad). All K problems are solved at once."""
    gram, _ = _prepared(gram)
    size = gram.diagonal().clamp_min(EPS**2).sqrt()
    cosines = gram / size / size[:, None]  # v_j = e_ij + u_j |g_i| / |g_j|, u >= 0
    u = _nonnegative(lambda u, mu: (cosines + u @ cosines, cosines), torch.ones_like(cosines), 24)
    return torch.eye(len(gram), dtype=gram.dtype, device=gram.device) + u * size[:, None] / size


def conflict_averse(gram: Tensor, c: float) -> tuple[Tensor, Tensor]:
    """CAGrad's problem: weights `w (K,)` that minimise `w'b + c |g0| sqrt(w'Gw)` over the simplex, with `b = G 1/K` and
    `|g0|^2 = 1'G1/K^2`; and `a (K,)` of which `sum_t a_t g_t` is `|g0| g_w / |g_w|`, where g_w is not zero.

    The objective h is homogeneous: over `u >= 0`, `h(u) + (1'u)^2 b / 2 - a 1'u` has its minimum along the same ray, if
    `a` is above h there. The square root is smoothed by the barrier parameter of the interior-point method, and its
    Hessian taken between primal and dual direction, which keeps Newton steps long near the cone's tip. That dual
    direction is `a / |g0|`; at the tip, where `g_w` has none, it still is the best one.
    """
    gram, _ = _prepared(gram)
    mean = gram.mean().clamp_min(EPS**2).sqrt()  # |g0|
    radius, linear = c / (1 + c), gram.mean(1) / mean / (1 + c)
    beta = 1.0
    height = beta + mean
    dual, before = torch.zeros_like(linear), None

    def derivatives(u: Tensor, mu: Tensor) -> tuple[Tensor, Tensor]:
        nonlocal dual, before
        smooth = mu / max(radius, 1e-9) + EPS
        product = gram @ u
        root = (smooth * smooth + (u @ product).clamp_min(0)).sqrt()
        size = root + smooth
        if before is not None:  # the dual direction after the step that was taken, pulled back into the unit ball
            last, last_product, last_root, last_size = before
            dual = (u - dual * (last_product @ (u - last) / last_root)) / last_size
            dual = dual / (dual @ gram @ dual).clamp_min(0).sqrt().clamp_min(1)
        before = u, product, root, size
        hessian = radius / size * (gram - torch.outer(gram @ dual, product / root)) + beta
        return radius / size * product + beta * u.sum() + linear - height, hessian

    u = _nonnegative(derivatives, torch.full_like(linear, 1 / len(gram)), 28)
    derivatives(u, torch.full_like(mean, EPS))
    w = u / u.sum()
    length = (w @ gram @ w).clamp_min(EPS**2).sqrt()
    to_zero = torch.full_like(w, -1 / len(w) / max(c, 1))  # for c >= 1 the ball holds a zero step
    rounding = 1e-14 * (dual.abs() @ gram.abs() @ dual.abs())  # where gradients cancel, the length is hardly known
    within = dual * (mean / (dual @ gram @ dual + rounding).clamp_min(1).sqrt())
    directions = torch.stack((within, w * (mean / length), to_zero))
    worst = (gram.mean(1) + c * (directions @ gram)).amin(1).nan_to_num(-torch.inf)
    return w, directions.gather(0, worst.argmax().expand(1, len(w)))[0]


def bargaining(gram: Tensor, power: float = 1.0) -> tuple[Tensor, Tensor]:
    """Positive `a (K,)` with `(G a)_i = a_i^-power`, and the residual `max_i |a_i^power (G a)_i - 1|`, `()`.

    There is a solution unless a convex combination of the gradients is zero, as with a zero row or two opposed ones;
    then the residual is far from zero. A zero row gets the `a` of a gradient of mean length that is orthogonal to all
    others; opposed ones get large ones.

    Newton's method on `G a = z`, `log z + power log a = 0`, with `a` and `z` as separate unknowns: where gradients
    nearly cancel, `a` then grows a hundredfold in a step.

    Args:
        gram: `(K, K)`.
        power: In [0.3, 2]; beyond, 20 iterations need not suffice.
    """
    gram, scale = _prepared(gram)
    length = gram.diagonal()
    length = torch.where(length > 1e-12, length, 1)
    unit = length ** (-1 / (1 + power))  # a = unit * s; s = 1 is the solution if all gradients are orthogonal
    system = (gram + torch.diag(length * (1 + 1e-13) - gram.diagonal())) * unit[:, None] ** power * unit
    state = torch.ones_like(unit).expand(2, -1)
    for _ in range(20):
        s, z = state
        miss = -(z.log() + power * s.log())
        right = z + z * miss - system @ s
        change = torch.linalg.solve_ex(system + torch.diag(power * z / s), right)[0].nan_to_num(0, 0, 0) / s
        relative = torch.stack((change, miss - power * change))
        # Growth as Newton's method has it; decline as in its logarithmic form, which cannot reach zero.
        state = state * (torch.nn.functional.elu(relative.clamp(-5, 1e3)) + 1)
    a = unit * state[0]
    return a * scale ** (-1 / (1 + power)), (a**power * (gram @ a) - 1).abs().amax()


def symmetric_eigen(matrix: Tensor) -> tuple[Tensor, Tensor]:
    """Eigenvalues `(K,)`, ascending, and eigenvectors `(K, K)` in columns, of a symmetric matrix.

    On the CPU by LAPACK; elsewhere, where its counterpart waits for an error code, by Jacobi's method.
    """
    matrix = matrix.double().nan_to_num(0, 0, 0)
    matrix = (matrix + matrix.T) / 2
    return torch.linalg.eigh(matrix) if matrix.device.type == "cpu" else _jacobi(matrix)


def _jacobi(matrix: Tensor, sweeps: int = 12) -> tuple[Tensor, Tensor]:
    """Rotations in round-robin order (Brent & Luk 1985): K/2 disjoint pairs at once, K - 1 rounds a sweep."""
    size = len(matrix)
    even = size + size % 2
    rotated = torch.nn.functional.pad(matrix, (0, even - size, 0, even - size))  # a row of zeros is never rotated
    places = torch.arange(even, device=matrix.device)
    # Index i meets its mirror image; then all but the first move on by one. even - 1 moves restore the order.
    onward = torch.cat((places[:1], places[1:].roll(1)))
    vectors = torch.eye(even, dtype=rotated.dtype, device=matrix.device)
    keep = vectors[:, onward]
    cross = keep.flip(0)
    tie = (even - 1 - 2 * places).to(rotated.dtype) * 1e-300  # equal diagonal entries turn by 45 degrees
    for _ in range(sweeps * (even - 1)):
        diagonal, opposite = rotated.diagonal(), rotated.flip(1).diagonal()
        twice = opposite + opposite.flip(0)  # exactly the same for both of a pair: so is their angle, but for its sign
        angle = (twice / (diagonal.flip(0) - diagonal + tie)).atan()[:, None] / 2
        rotation = angle.cos() * keep + angle.sin() * cross
        rotated, vectors = rotation.T @ rotated @ rotation, vectors @ rotation
    values, order = rotated.diagonal()[:size].sort()
    return values, vectors[:size, :size][:, order]


def _prepared(gram: Tensor) -> tuple[Tensor, Tensor]:
    """Symmetric, float64, with a mean diagonal of one; and what it was divided by."""
    gram = gram.double().nan_to_num(0, 0, 0)
    gram = (gram + gram.T) / 2
    scale = gram.diagonal().mean()
    scale = torch.where(scale > 0, scale, 1)
    return gram / scale, scale


def _nonnegative(derivatives: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]], u: Tensor, iterations: int) -> Tensor:
    """The minimiser over `u >= 0` of a convex function, by a primal-dual interior-point method.

    Args:
        derivatives: `(u, mu) -> (gradient, Hessian)`; `mu` `(..., 1)` is the present barrier parameter.
        u: `(..., K)`, positive: where to start.
        iterations: So many at most.
    """
    z = torch.ones_like(u)
    for _ in range(iterations):
        mu = (u * z).mean(-1, keepdim=True)
        if mu.device.type in READS_ARE_FREE and bool((mu < DONE).all()):
            break
        gradient, hessian = derivatives(u, mu)
        ratio, aim = z / u, CENTRING * mu / u
        ridge = torch.diag_embed(ratio + 1e-14 * hessian.diagonal(dim1=-2, dim2=-1))
        factors, pivots, _ = torch.linalg.lu_factor_ex(hessian + ridge)
        du = torch.linalg.lu_solve(factors, pivots, (aim - gradient).unsqueeze(-1)).squeeze(-1).nan_to_num(0, 0, 0)
        both = torch.stack((u, z))
        moves = torch.stack((du, aim - z - ratio * du))
        length = STEP / (-moves / both).amax((0, -1)).clamp_min(STEP)
        u, z = both + length[..., None] * moves
    return u
