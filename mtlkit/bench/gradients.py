"""Methods on task gradients as other libraries do them: TorchJD, and LibMTL where it is installed."""

import importlib.util
import sys
import types
from collections.abc import Callable

import torch
from torch import Tensor, nn

from mtlkit.bench.steps import PROBLEMS, weighted_step
from mtlkit.bench.timing import Method
from mtlkit.data.base import Samples
from mtlkit.engine.reference import Loss
from mtlkit.errors import MtlkitError
from mtlkit.optimizers import make_optimizer

NAMES = ("pcgrad", "cagrad", "mgda", "nash_mtl")
CELLS = [("lenet", 10, 64), ("light_lenet", 10, 64), ("resnet18", 3, 32)]
"""Network, T, B."""


def ours(network: nn.Module, loss: Loss, batch: Samples, name: str) -> Method:
    """Our step."""
    return weighted_step(network, loss, batch, None, name)


def by_torchjd(network: nn.Module, loss: Loss, batch: Samples, name: str, chunk: int | None = None) -> Method:
    """TorchJD's `mtl_backward`; `chunk=1` differentiates task by task, which is its fastest setting on the CPU."""
    from torchjd import aggregation, autojac

    tasks, optimizer = len(batch.targets), make_optimizer("sgd", network.parameters(), learning_rate=1e-3)
    aggregator = {"pcgrad": aggregation.PCGrad, "cagrad": lambda: aggregation.CAGrad(0.5), "mgda": aggregation.MGDA,
                  "nash_mtl": lambda: aggregation.NashMTL(tasks)}[name]()  # fmt: skip
    shared = list(network.shared_parameters())

    def step() -> None:
        z = network.encoder(batch.inputs)
        losses = [loss(head(z), target).mean() for head, target in zip(network.heads, batch.targets, strict=True)]
        autojac.mtl_backward(losses, features=z, parallel_chunk_size=chunk)
        autojac.jac_to_grad(shared, aggregator)
        optimizer.step()
        optimizer.zero_grad()

    return step


def by_libmtl(network: nn.Module, loss: Loss, batch: Samples, name: str) -> Method:
    """A weighting class of LibMTL, driven as its Trainer does: losses are written into one tensor."""
    tasks, optimizer = len(batch.targets), make_optimizer("sgd", network.parameters(), learning_rate=1e-3)
    weighting = libmtl(name)()
    shared, device = list(network.shared_parameters()), batch.inputs.device
    weighting.task_num, weighting.device, weighting.rep_grad = tasks, device, False
    weighting.task_name = list(range(tasks))
    weighting.get_share_params = lambda: shared
    weighting.zero_grad_share_params = lambda: [p.grad.zero_() for p in shared]
    options = {"calpha": 0.5, "rescale": 1, "mgda_gn": "none"}

    def step() -> None:
        losses = torch.zeros(tasks, device=device)
        for t, (prediction, target) in enumerate(zip(network(batch.inputs), batch.targets, strict=True)):
            losses[t] = loss(prediction, target).mean()
        optimizer.zero_grad()
        weighting.backward(losses, **options)
        optimizer.step()

    return step


def libmtl(name: str) -> type:
    """LibMTL's class, imported past the package's own `__init__`, which needs an older torchvision.

    Raises:
        MtlkitError: LibMTL is not installed, or this version has no such class.
    """
    spec = importlib.util.find_spec("LibMTL")
    if spec is None:
        raise MtlkitError("LibMTL is not installed; `pip install --no-deps LibMTL==1.1.5` adds it to the comparison.")
    if "LibMTL" not in sys.modules:
        package = types.ModuleType("LibMTL")
        package.__spec__ = spec
        package.__path__ = list(spec.submodule_search_locations or [])
        sys.modules["LibMTL"] = package
    from LibMTL import weighting

    wanted = {"pcgrad": "PCGrad", "cagrad": "CAGrad", "mgda": "MGDA", "nash_mtl": "Nash_MTL"}[name]
    if not hasattr(weighting, wanted):
        raise MtlkitError("not in LibMTL 1.1.5")
    return getattr(weighting, wanted)


CONTENDERS: dict[str, Callable[..., Method]] = {
    "ours": ours,
    "TorchJD": by_torchjd,
    "TorchJD, chunk 1": lambda *given: by_torchjd(*given, chunk=1),
    "LibMTL": by_libmtl,
}


def make(contender: str, rule: str, name: str, count: int, size: int, device: str = "cpu") -> Method:
    """One contender's step of method `rule`, on the problem `name` with T = `count`, B = `size`; fresh parameters."""
    problem = PROBLEMS[name]
    torch.manual_seed(0)
    network = problem.network(count).to(device)
    return CONTENDERS[contender](network, problem.loss, problem.batch(count, size, device), rule)


def hard_matrices(tasks: int, count: int, seed: int = 0) -> list[Tensor]:
    """Gram matrices `(tasks, tasks)` float64 that solvers stumble over: of small rank, with equal or zero rows, nearly
    opposed, of lengths from 1e-2 to 1e2, at scales from 1e-6 to 1e6."""
    random = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=random, dtype=torch.float64)

    found = []
    for k in range(count):
        rows = normal(tasks, 2 * tasks + 4)
        if k % 6 == 1:
            rows = normal(tasks, max(1, tasks // 2)) @ normal(max(1, tasks // 2), 2 * tasks + 4)
        if k % 6 == 2:
            rows[-1] = rows[0]
        if k % 6 == 3:
            rows[k % tasks] = 0
        if k % 6 == 4:
            rows[-1] = -rows[0] + 1e-2 * normal(2 * tasks + 4)
        if k % 2:
            rows *= 10 ** (4 * torch.rand(tasks, 1, generator=random, dtype=torch.float64) - 2)
        rows *= 10 ** (6 * torch.rand((), generator=random, dtype=torch.float64) - 3)
        found.append(rows @ rows.T)
    return found


def objectives(rule: str, gram: Tensor) -> dict[str, float]:
    """What every library's weights give of what MGDA (`w'Gw`) or CAGrad (its dual objective, c = 0.5) minimises over
    the simplex."""
    from torchjd import aggregation

    from mtlkit.weighting.solvers import conflict_averse, minimum_norm

    mean = gram.mean().clamp_min(0).sqrt()

    def value(w: Tensor) -> float:
        w = w.double().clamp_min(0) / w.double().clamp_min(0).sum()
        square = (w @ gram @ w).clamp_min(0)
        return float(square if rule == "mgda" else w @ gram.mean(1) + 0.5 * mean * square.sqrt())

    if rule == "mgda":
        found = {"ours": minimum_norm(gram), "TorchJD": aggregation.MGDAWeighting()(gram)}
        if (solve := _libmtl_solver()) is not None:
            found["LibMTL"] = solve(gram)
        return {key: value(w) for key, w in found.items()}
    theirs = aggregation.CAGradWeighting(0.5)(gram)
    added = theirs - 1 / len(gram)  # to the mean, along the minimiser
    found = {"ours": conflict_averse(gram, 0.5)[0]}
    if not theirs.any():  # near Pareto-stationary points it gives no direction
        found["TorchJD"] = torch.full_like(theirs, torch.nan)
    elif added.any():
        found["TorchJD"] = added
    return {key: value(w) for key, w in found.items()}


def _libmtl_solver() -> Callable[[Tensor], Tensor] | None:
    """LibMTL's search for the shortest combination, given a Gram matrix; NaN where it raises an error."""
    try:
        method = libmtl("mgda")()
    except MtlkitError:
        return None

    def solve(gram: Tensor) -> Tensor:
        values, vectors = torch.linalg.eigh(gram)
        rows = vectors * values.clamp_min(0).sqrt()  # its input are gradients: any with this Gram matrix
        try:
            return method._find_min_norm_element(rows.float())  # it cannot do with other types
        except (ArithmeticError, RuntimeError, UnboundLocalError):
            return torch.full_like(values, torch.nan)

    return solve
