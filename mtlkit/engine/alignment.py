"""The alignment of every (task, sample) pair with a given direction in parameter space, for one tangent pass.

The alignment of pair (t, i) with direction `v` is `<grad L[t, i], v>`, a directional derivative: pushing `v` through
the network in forward mode gives it for all pairs at once. Where only the encoder's parameters count, the tangent goes
through the encoder alone and meets the heads' gradients at the representation; these then serve the update as well.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from mtlkit.engine.forward_mode import slots, split, tangents
from mtlkit.engine.reference import Inputs, Loss, loss_rows, padded
from mtlkit.errors import MtlkitError

CHUNK = 10
"""Tasks whose gradients at the representation are held twice for a moment."""

PATHS = ("representation", "network", "double_backward")


class Aligned:
    """Losses and scores of one batch, and the update that their weights will give.

    Attributes:
        losses: `(T, B)`, detached.
        scores: `(T, B)`, `<grad L[t, i], v>`.
    """

    def __init__(self, losses: Tensor, scores: Tensor, backward: Callable[[Tensor], None]) -> None:
        self.losses = losses
        self.scores = scores
        self.backward = backward
        """`backward(W)` with W `(T, B)`: adds the gradient of `(W * L).sum()` to `.grad`. Call it once."""


class SampleAlignment:
    """Exact sample alignments for one network.

    Args:
        network: Has `shared_parameters()`; with `encoder` and `heads` it is cheaper. Inputs of every task's own are
            for networks without an encoder, which take one pass for each.
        losses: T per-sample losses, `loss(prediction, target) -> (B,)`.
        main_head: Align the main task's head as well as the shared parameters.
        path: `representation` (tangent through the encoder; needs heads that treat samples independently), `network`
            (tangent through everything), `double_backward` (where an operator has no forward mode; 7 instead of 5
            forward passes), or `auto`: the first of these that is exact, found out on the first batch. No path
            approximates.
        total: Adds up what several processes have, for decisions about the path: all take the same one.

    Raises:
        MtlkitError: No path, or not the one asked for, is exact for this network.
    """

    def __init__(self, network: nn.Module, losses: Sequence[Loss], *, main_head: bool = False,
                 path: str = "auto",
                 total: Callable[[Sequence[Tensor]], Sequence[Tensor]] = lambda parts: parts) -> None:  # fmt: skip
        self.network = network
        self.losses = list(losses)
        self.shared = list(network.shared_parameters())
        split_known = hasattr(network, "encoder") and hasattr(network, "heads")
        if main_head and not hasattr(network, "heads"):
            raise MtlkitError(
                "aligning the main head needs a network with `heads`; align the shared parameters instead."
            )
        self.head = [p for p in network.heads[0].parameters() if p.requires_grad] if main_head else []
        self.parameters = self.shared + self.head
        """What a direction has one tensor for: the shared parameters, then the main head's if it is aligned."""
        self._network_slots = slots(network, self.parameters)
        inside = {id(p) for p in network.encoder.parameters()} if split_known else set()
        self._split = split_known and all(id(p) in inside for p in self.shared)
        if self._split:
            self._encoder_slots = slots(network.encoder, self.shared)
            self._head_slots = slots(network.heads[0], self.head)
        self._asked, self._total = path, total
        self._exact: dict[bool, str] = {}  # training mode -> path

    def __call__(self, inputs: Inputs, targets: Sequence[Tensor], direction: Sequence[Tensor]) -> Aligned:
        """Losses and scores of a batch.

        Args:
            inputs: `(B, ...)`, or T tensors `(B_t, ...)`, B the largest.
            targets: T targets, `(B_t, ...)` each.
            direction: One tensor per entry of `parameters`. Scores scale with its length.
        """
        mode = self.network.training
        if mode not in self._exact:
            self._exact[mode] = self._find_path(inputs, targets, direction)
        return self._run(self._exact[mode], inputs, targets, direction)

    def path(self) -> str | None:
        """The path that is used in the network's present mode; None before the first batch."""
        return self._exact.get(self.network.training)

    def _run(self, path: str, inputs: Inputs, targets: Sequence[Tensor], direction: Sequence[Tensor]) -> Aligned:
        return getattr(self, f"_by_{path}")(inputs, targets, direction)

    def _matrix(self, predictions: Sequence[Tensor], targets: Sequence[Tensor]) -> Tensor:
        return padded(loss_rows(self.losses, predictions, targets))

    def _by_representation(self, inputs: Tensor, targets: Sequence[Tensor], direction: Sequence[Tensor]) -> Aligned:
        network, shared = self.network, len(self.shared)
        with tangents(self._encoder_slots, self.shared, direction[:shared]):
            z, dz = split(network.encoder(inputs))
        dz = torch.zeros_like(z) if dz is None else dz.detach()
        # One leaf per task: the gradients at the representation stay separate, and no zeros flow through other heads.
        leaves = [z.detach().requires_grad_() for _ in self.losses]
        predictions, main_tangent = [], None
        if self.head:
            with tangents(self._head_slots, self.head, direction[shared:]):
                main, main_tangent = split(network.heads[0](leaves[0]))
            predictions.append(main)
        predictions += [network.heads[t](leaves[t]) for t in range(len(predictions), len(leaves))]
        matrix = self._matrix(predictions, targets)
        cotangent, at_predictions = z.new_empty(len(leaves), *z.shape), []
        for first in range(0, len(leaves), CHUNK):
            some = slice(first, first + CHUNK)
            gradients = torch.autograd.grad(matrix[some].sum(), [*predictions[some], *leaves[some]], retain_graph=True)
            at_predictions += gradients[: len(gradients) // 2]
            torch.stack(gradients[len(gradients) // 2 :], out=cotangent[some])
            del gradients
        cotangent = cotangent.flatten(2)
        scores = torch.einsum("tbn,bn->tb", cotangent, dz.flatten(1))
        if main_tangent is not None:
            scores[0] += (at_predictions[0] * main_tangent.detach()).flatten(1).sum(1)

        def backward(weights: Tensor) -> None:
            nonlocal cotangent
            through = torch.einsum("tbn,tb->bn", cotangent, weights.to(cotangent.dtype)).view_as(z)
            cotangent = None  # it can be larger than all activations
            pairs = zip(weights, at_predictions, strict=True)
            weighted = [w.to(g.dtype).view(-1, *[1] * (g.ndim - 1)) * g for w, g in pairs]
            torch.autograd.backward([*predictions, z], [*weighted, through], inputs=_leaves(network))

        return Aligned(matrix.detach(), scores, backward)

    def _by_network(self, inputs: Inputs, targets: Sequence[Tensor], direction: Sequence[Tensor]) -> Aligned:
        with tangents(self._network_slots, self.parameters, direction):
            matrix, scores = split(self._matrix(self.network(inputs), targets))
        scores = torch.zeros_like(matrix) if scores is None else scores
        return Aligned(matrix.detach(), scores.detach(), lambda weights: (weights * matrix).sum().backward())

    def _by_double_backward(self, inputs: Inputs, targets: Sequence[Tensor], direction: Sequence[Tensor]) -> Aligned:
        with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
            matrix = self._matrix(self.network(inputs), targets)
        # <grad (u * L).sum(), v> is linear in u, and its gradient in u is the matrix of alignments.
        dummy = torch.ones_like(matrix).requires_grad_()
        gradient = torch.autograd.grad((dummy * matrix).sum(), self.parameters, create_graph=True, allow_unused=True)
        product = sum((g * v).sum() for g, v in zip(gradient, direction, strict=True) if g is not None)
        (scores,) = torch.autograd.grad(product, dummy, retain_graph=True)
        return Aligned(matrix.detach(), scores, lambda weights: (weights * matrix).sum().backward())

    def _find_path(self, inputs: Inputs, targets: Sequence[Tensor], direction: Sequence[Tensor]) -> str:
        """The first exact path, tried on this batch; random state, buffers and gradients are put back afterwards."""
        candidates = PATHS if self._asked == "auto" else (self._asked,)
        reasons = []
        buffers = [(buffer, buffer.clone()) for buffer in self.network.buffers()]
        gradients = [(parameter, parameter.grad) for parameter in self.network.parameters()]
        devices = [direction[0].device] if direction[0].is_cuda else []
        for path in candidates:
            try:
                with torch.random.fork_rng(devices):
                    fault = self._fault(path, inputs, targets, direction)
            except (NotImplementedError, RuntimeError) as error:
                if not _about_differentiation(error):
                    raise
                fault = str(error).splitlines()[0]
            finally:
                for buffer, kept in buffers:
                    buffer.copy_(kept)
                for parameter, kept in gradients:
                    parameter.grad = kept
            if fault is None:
                return path
            reasons.append(f"{path}: {fault}")
        raise MtlkitError(f"no exact way to align this network's samples was found ({'; '.join(reasons)}).")

    def _fault(self, path: str, inputs: Inputs, targets: Sequence[Tensor], direction: Sequence[Tensor]) -> str | None:
        """Why `path` is not exact here, or None.

        Apart from the known limits of each path, randomly weighted scores must total what a backward pass gives: a
        derivative that an operator silently leaves out would show. So would activations that are computed anew for the
        path's own backward pass, and are not those of its forward pass.
        """
        if path == "representation" and not self._heads_are_independent(inputs, targets):
            return "the heads mix samples, or no encoder holds all shared parameters"
        torch.manual_seed(0)
        aligned = self._run(path, inputs, targets, direction)
        weights = torch.rand_like(aligned.scores)
        for parameter in self.network.parameters():
            parameter.grad = None
        aligned.backward(weights)
        backward = [parameter.grad for parameter in self.parameters]
        torch.manual_seed(0)
        matrix = self._matrix(self.network(inputs), targets)
        gradient = torch.autograd.grad((weights * matrix).sum(), self.parameters, allow_unused=True)
        found, expected = (sum((g * v).sum() for g, v in zip(one, direction, strict=True) if g is not None)
                           for one in (backward, gradient))  # fmt: skip
        parts = weights * aligned.scores
        scored, found, expected, size = self._total([parts.sum(), found, expected, parts.abs().sum()])
        tolerance = size * (1e-8 if matrix.dtype == torch.float64 else 2e-2)  # TF32 and bfloat16 round coarsely
        if (scored - expected).abs() > tolerance:
            return "its scores do not add up to what a backward pass gives"
        if (found - expected).abs() > tolerance:
            return "its backward pass does not give what a plain one does"
        return None

    def _heads_are_independent(self, inputs: Tensor, targets: Sequence[Tensor]) -> bool:
        """Whether losses of the first half of the batch leave the second half's representations out, and vice versa."""
        if not self._split:
            return False
        z = self.network.encoder(inputs)
        if not isinstance(z, Tensor) or z.shape[0] != inputs.shape[0]:
            return False
        z = z.detach().requires_grad_()
        matrix = self._matrix([head(z) for head in self.network.heads], targets)
        half = z.shape[0] // 2
        parts = [(matrix[:, :half], slice(half, None)), (matrix[:, half:], slice(0, half))]
        mixed = [torch.autograd.grad(part.sum(), z, retain_graph=True)[0][other].any() for part, other in parts]
        return not any(self._total([one.to(z.dtype) for one in mixed]))


def _leaves(network: nn.Module) -> list[nn.Parameter]:
    return [parameter for parameter in network.parameters() if parameter.requires_grad]


def _about_differentiation(error: Exception) -> bool:
    text = str(error).lower()
    known = ("forward ad", "forward mode", "forward-mode", "jvp", "derivative for", "is not implemented",
             "double backward",
             "differentiate twice", "appears to not have been used", "torch.utils.checkpoint")  # fmt: skip
    return any(phrase in text for phrase in known)
