"""The gradient of every task on the shared parameters, and their Gram matrix.

Every head is differentiated once, at its own copy of the representation; the encoder is gone through once per task, and
no zeros flow through other heads. Rows are kept as lists of tensors where the encoder is large, as a matrix where it is
small.
"""

from collections.abc import Callable, Iterable, Sequence

import torch
from torch import Tensor, nn

from mtlkit.engine.reference import Inputs, Loss, frozen_statistics, loss_rows, padded, totals
from mtlkit.errors import MtlkitError, one_of

MATRIX = 1_000_000
"""Up to so many shared parameters, rows are one matrix; above, copying them into one costs more than it saves."""

BLOCK = 65_536
"""Elements of two rows that are multiplied at a time on the CPU, so that the other rows find them in the cache."""

CHUNK = 8
"""Rows that one batched backward pass computes on the GPU."""

AT = ("shared", "representation")


class TaskGradients:
    """Task gradients of one network.

    Args:
        network: Has `shared_parameters()`; with `encoder` and `heads` it is cheaper.
        losses: T per-sample losses.
        at: Gradients on the `shared` parameters, or on the `representation` that the encoder gives: an approximation
            of their Gram matrix that needs no backward pass through the encoder.
        keep: Rows that are held at once, 2 to T; fewer need less memory and more backward passes. None keeps all.
        batched: One batched backward pass for several rows instead of one each; None does so on the GPU.
        total: Adds up what several processes have of rows; the Gram matrix is that of the sums.

    Raises:
        MtlkitError: `at` asks for a representation that the network does not have.
    """

    def __init__(self, network: nn.Module, losses: Sequence[Loss], *, at: str = "shared", keep: int | None = None,
                 batched: bool | None = None,
                 total: Callable[[Sequence[Tensor]], Sequence[Tensor]] = lambda rows: rows) -> None:  # fmt: skip
        one_of("gradients", at, AT)
        if keep is not None and keep < 2:
            raise MtlkitError(f"keep is {keep!r}, which is not at least 2.")
        self.network, self.losses, self.at, self.keep, self.batched = network, list(losses), at, keep, batched
        self.total = total
        self.shared = list(network.shared_parameters())
        self.split = _splits(network, self.shared)
        if at == "representation" and not self.split:
            raise MtlkitError("gradients at the representation need a network with `encoder` and one head per task.")
        inside = {id(parameter) for parameter in self.shared}
        self.own = [p for p in network.parameters() if p.requires_grad and id(p) not in inside]
        """The parameters of the heads."""

    def __call__(self, inputs: Inputs, targets: Sequence[Tensor], weights: Tensor) -> "Batch":
        """One batch.

        Args:
            inputs: `(B, ...)`, or T tensors `(B_t, ...)`, B the largest.
            targets: T targets, `(B_t, ...)` each.
            weights: `(T, B)`; the loss of task t is `sum_i weights[t, i] L[t, i]`.
        """
        return (_Split if self.split else _Whole)(self, inputs, targets, weights)

    def summed(self, parts: Iterable[tuple[Inputs, Sequence[Tensor], Tensor]]) -> "Batch":
        """One batch in micro-batches, one after the other; arguments of each as for a call."""
        return _Summed(self, parts)


class Batch:
    """The task gradients of one batch, computed when they are asked for.

    Attributes:
        losses: `(T, B)`, detached.
    """

    losses: Tensor

    def __init__(self, of: TaskGradients) -> None:
        self.of = of
        self._rows: list[list[Tensor]] | Tensor | None = None

    def row(self, task: int) -> list[Tensor]:
        """Gradient of one task on the shared parameters."""
        raise NotImplementedError

    def head_gradients(self) -> list[list[Tensor | None]]:
        """T lists: what each task's own loss gives every parameter of the heads."""
        raise NotImplementedError

    def backward_shared(self, weights: Tensor) -> None:
        """Adds `sum_t weights[t] g_t` to the shared `.grad` by one more backward pass."""
        raise NotImplementedError

    def rows(self) -> list[list[Tensor]] | Tensor:
        """All T rows: a matrix `(T, P)` where P is small, else a list of tensors per task."""
        if self._rows is None:
            count, size = len(self.losses), sum(p.numel() for p in self.of.shared)
            if size > MATRIX:
                self._rows = [self.row(t) for t in range(count)]
            else:
                self._rows = torch.empty(count, size, dtype=self.of.shared[0].dtype, device=self.losses.device)
                for t in range(count):
                    torch.cat([g.reshape(-1) for g in self.row(t)], out=self._rows[t])
        return self._rows

    def gram(self) -> Tensor:
        """`(T, T)`, `<g_s, g_t>`."""
        count = len(self.losses)
        if self.of.keep is not None and self.of.keep <= count:
            return self._gram_by_blocks(self.of.keep - 1)
        rows = self.rows()
        if isinstance(rows, Tensor):
            (rows,) = self.of.total([rows])
            return rows @ rows.T
        rows = [self.of.total(row) for row in rows]
        return _products(rows, rows)

    def _gram_by_blocks(self, size: int) -> Tensor:
        """With `size` rows at hand at a time, and one more: rows of later blocks are computed anew for each block."""
        count = len(self.losses)
        gram = self.losses.new_zeros(count, count)
        for start in range(0, count, size):
            block = [self.of.total(self.row(t)) for t in range(start, min(start + size, count))]
            stop = start + len(block)
            gram[start:stop, start:stop] = _products(block, block)
            for t in range(stop, count):
                gram[start:stop, t] = gram[t, start:stop] = _products(block, [self.of.total(self.row(t))])[:, 0]
        return gram

    def backward(self, weights: Tensor, heads: Tensor) -> None:
        """Adds `sum_t weights[t] g_t` to the `.grad` of the shared parameters, and `heads[t]` times its own task's
        gradient to that of every head.

        Args:
            weights: `(T,)`.
            heads: `(T,)`.
        """
        self.backward_heads(heads)
        if self._rows is None:
            self.backward_shared(weights)
        elif isinstance(self._rows, Tensor):
            self.add(weights.to(self._rows.dtype) @ self._rows)
        else:
            rows, self._rows = self._rows, None  # each is gone once it is added
            weights = weights.to(rows[0][0].dtype)
            total = _scaled(rows.pop(), weights[-1])
            while rows:
                for t, g in zip(total, rows.pop(), strict=True):
                    t.addcmul_(g, weights[len(rows)])
            _accumulate(self.of.shared, total)

    def backward_heads(self, heads: Tensor) -> None:
        """The second half of `backward`."""
        for gradients, weight in zip(self.head_gradients(), heads, strict=True):
            known = [(p, g) for p, g in zip(self.of.own, gradients, strict=True) if g is not None]
            if known:
                own, found = map(list, zip(*known, strict=True))
                _accumulate(own, torch._foreach_mul(found, weight.to(found[0].dtype)))

    def add(self, gradient: Tensor) -> None:
        """Adds a gradient `(P,)` to the `.grad` of the shared parameters."""
        parts = gradient.split([p.numel() for p in self.of.shared])
        _accumulate(self.of.shared, [g.view_as(p) for g, p in zip(parts, self.of.shared, strict=True)])


class _Split(Batch):
    """Heads once, at a leaf per task; the encoder as often as it is asked for."""

    def __init__(self, of: TaskGradients, inputs: Tensor, targets: Sequence[Tensor], weights: Tensor) -> None:
        super().__init__(of)
        heads = of.network.heads
        self.z = of.network.encoder(inputs)
        leaves = [self.z.detach().requires_grad_() for _ in heads]
        predictions = [head(leaf) for head, leaf in zip(heads, leaves, strict=True)]
        matrix = padded(loss_rows(of.losses, predictions, targets))
        self.losses = matrix.detach()
        found = torch.autograd.grad((weights.to(matrix.dtype) * matrix).sum(), [*leaves, *of.own], allow_unused=True)
        self.at_z = or_zeros(found[: len(leaves)], leaves)
        """T gradients of the task losses at the representation."""
        self._own = dict(zip(map(id, of.own), found[len(leaves) :], strict=True))

    def row(self, task: int) -> list[Tensor]:
        return or_zeros(torch.autograd.grad(self.z, self.of.shared, self.at_z[task], retain_graph=True,
                                             allow_unused=True), self.of.shared)  # fmt: skip

    def rows(self) -> list[list[Tensor]] | Tensor:
        if self.of.at == "representation":
            return torch.stack(self.at_z).flatten(1)
        batched = self.losses.device.type == "cuda" if self.of.batched is None else self.of.batched
        if self._rows is None and batched:
            parts = [self._batched(start) for start in range(0, len(self.at_z), CHUNK)]
            self._rows = torch.cat([torch.cat([g.flatten(1) for g in part], 1) for part in parts])
        return super().rows()

    def gram(self) -> Tensor:
        if self.of.at == "representation":
            rows = self.rows()
            (gram,) = self.of.total([rows @ rows.T])
            return gram
        return super().gram()

    def _batched(self, start: int) -> list[Tensor]:
        cotangents = torch.stack(self.at_z[start : start + CHUNK])
        found = torch.autograd.grad(self.z, self.of.shared, cotangents, retain_graph=True, is_grads_batched=True,
                                    allow_unused=True)  # fmt: skip
        return [p.new_zeros(len(cotangents), *p.shape) if g is None else g
                for g, p in zip(found, self.of.shared, strict=True)]  # fmt: skip

    def head_gradients(self) -> list[list[Tensor | None]]:
        inside = [{id(p) for p in head.parameters()} for head in self.of.network.heads]
        return [[self._own[id(p)] if id(p) in mine else None for p in self.of.own] for mine in inside]

    def backward_shared(self, weights: Tensor) -> None:
        pairs = zip(self.at_z, weights, strict=True)
        self.backward_at_z(sum(g * w.to(g.dtype) for g, w in pairs))

    def backward_at_z(self, gradient: Tensor) -> None:
        """Adds to the shared `.grad` what a gradient at the representation gives."""
        torch.autograd.backward(self.z, gradient, inputs=self.of.shared)


class _Whole(Batch):
    """A backward pass through everything that a task's loss depends on, for every task: for networks of unknown
    structure, and for inputs of every task's own."""

    def __init__(self, of: TaskGradients, inputs: Inputs, targets: Sequence[Tensor], weights: Tensor) -> None:
        super().__init__(of)
        rows = loss_rows(of.losses, of.network(inputs), targets)
        self.losses = padded(rows).detach()
        self._each = totals(weights, rows)
        self._own: dict[int, list[Tensor | None]] = {}

    def row(self, task: int) -> list[Tensor]:
        found = torch.autograd.grad(self._each[task], [*self.of.shared, *self.of.own], retain_graph=True,
                                    allow_unused=True)  # fmt: skip
        self._own[task] = list(found[len(self.of.shared) :])
        return or_zeros(found[: len(self.of.shared)], self.of.shared)

    def head_gradients(self) -> list[list[Tensor | None]]:
        for task, loss in enumerate(self._each):
            if task not in self._own:
                self._own[task] = list(torch.autograd.grad(loss, self.of.own, retain_graph=True, allow_unused=True)
                                       if self.of.own else ())  # fmt: skip
        return [self._own[task] for task in range(len(self._each))]

    def backward_shared(self, weights: Tensor) -> None:
        total = sum(loss * w.to(loss.dtype) for loss, w in zip(self._each, weights, strict=True))
        torch.autograd.backward(total, inputs=self.of.shared)


class _Summed(_Split):
    """Rows and gradients of the heads are added up, micro-batch after micro-batch; no graph outlives its own. What is
    made of the gradients at the representation goes through the encoder once more."""

    def __init__(self, of: TaskGradients, parts: Iterable[tuple[Inputs, Sequence[Tensor], Tensor]]) -> None:
        Batch.__init__(self, of)
        self._inputs, losses, at_z, self._heads = [], [], [], None
        for part in parts:
            self._inputs.append(part[0])
            losses.append(self._take(of(*part), at_z))
        self.losses = torch.cat(losses, 1)
        if at_z:
            self.z, *self.at_z = (torch.cat(rows) for rows in zip(*at_z, strict=True))

    def _take(self, part: Batch, at_z: list[list[Tensor]]) -> Tensor:
        if self.of.at == "representation":
            at_z.append([part.z.detach(), *part.at_z])
        else:
            rows = part.rows()
            if self._rows is None:
                self._rows = rows
            elif isinstance(rows, Tensor):
                self._rows += rows
            else:
                self._rows = [torch._foreach_add(a, b) for a, b in zip(self._rows, rows, strict=True)]
        heads = part.head_gradients()
        self._heads = heads if self._heads is None else [
            [a if b is None else b if a is None else a + b for a, b in zip(*both, strict=True)]
            for both in zip(self._heads, heads, strict=True)
        ]  # fmt: skip
        return part.losses

    def head_gradients(self) -> list[list[Tensor | None]]:
        return self._heads

    def backward_at_z(self, gradient: Tensor) -> None:
        with frozen_statistics(self.of.network):  # they have moved already
            for inputs, part in zip(self._inputs, gradient.split([len(x) for x in self._inputs]), strict=True):
                torch.autograd.backward(self.of.network.encoder(inputs), part, inputs=self.of.shared)


def _splits(network: nn.Module, shared: Sequence[Tensor]) -> bool:
    """Whether an encoder holds all shared parameters, and no two heads share any."""
    if not (hasattr(network, "encoder") and hasattr(network, "heads")):
        return False
    inside = {id(p) for p in network.encoder.parameters()}
    heads = [id(p) for head in network.heads for p in head.parameters()]
    return all(id(p) in inside for p in shared) and len(set(heads)) == len(heads) and not inside & set(heads)


def _products(a: Sequence[Sequence[Tensor]], b: Sequence[Sequence[Tensor]]) -> Tensor:
    """`(len(a), len(b))`, the products of all pairs of rows; a symmetric matrix is computed once. Block after block, so
    that those of all rows are read from memory once and then from the cache."""
    pairs = [(i, j) for i in range(len(a)) for j in range(len(b)) if a is not b or i <= j]
    parts: dict[tuple[int, int], list[Tensor]] = {pair: [] for pair in pairs}
    for tensors in zip(*a, *b, strict=True):
        size = BLOCK if tensors[0].device.type == "cpu" else max(1, tensors[0].numel())
        for blocks in zip(*(tensor.reshape(-1).split(size) for tensor in tensors), strict=True):
            for i, j in pairs:
                parts[i, j].append(torch.dot(blocks[i], blocks[len(a) + j]))
    found = {pair: torch.stack(dots).sum() for pair, dots in parts.items()}
    return torch.stack([torch.stack([found[(i, j) if (i, j) in found else (j, i)] for j in range(len(b))])
                        for i in range(len(a))])  # fmt: skip


def _scaled(row: list[Tensor], weight: Tensor) -> list[Tensor]:
    """The row times `weight`; in place where no two of its tensors are one, which saves fresh memory."""
    if len({g.data_ptr() for g in row}) < len(row):
        return torch._foreach_mul(row, weight)
    torch._foreach_mul_(row, weight)
    return row


def or_zeros(gradients: Sequence[Tensor | None], like: Sequence[Tensor]) -> list[Tensor]:
    """`gradients`, with zeros in place of those that are None."""
    return [torch.zeros_like(p) if g is None else g for g, p in zip(gradients, like, strict=True)]


def _accumulate(parameters: Sequence[Tensor], gradients: Sequence[Tensor]) -> None:
    fresh = [(p, g) for p, g in zip(parameters, gradients, strict=True) if p.grad is None]
    more = [(p.grad, g) for p, g in zip(parameters, gradients, strict=True) if p.grad is not None]
    if more:
        torch._foreach_add_(*map(list, zip(*more, strict=True)))
    for parameter, gradient in fresh:
        if gradient.stride() != parameter.stride():  # a fused optimizer goes through both in the order of memory
            gradient = torch.empty_like(parameter).copy_(gradient)
        parameter.grad = gradient.clone() if gradient._base is not None else gradient
