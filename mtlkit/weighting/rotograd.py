"""RotoGrad."""

import torch
from torch import Tensor, nn

from mtlkit.errors import MtlkitError
from mtlkit.weighting.base import Signal
from mtlkit.weighting.gradients import Direction


class RotoGrad(Direction):
    """Every task sees its own rotation of the representation, and gradients of one length (Javaloy & Valera 2022, arXiv
    2103.02631, Algorithm 1).

    Head t is given `R_t z`. With `G_t` the gradient of task t at z and `U_t = G_t / |G_t|`, the encoder gets `C mean_t
    U_t`, where `C = sum_t a_t |G_t|` and `a_t` is proportional to `|G_t|` relative to its first value. R_t is turned so
    that its gradient agrees with that: it minimises `-<R_t' dL_t/dr_t, C mean_s U_s>`.

    `R = (I - S)^-1 (I + S)` with S skew (Cayley); the S are parameters of the network's heads after `attach`, learnt by
    the same optimizer.

    Departures: Cayley in place of the exponential map; images are rotated across channels at every place; one learning
    rate for network and rotations.

    Args:
        tasks: T >= 1.
    """

    gradients = "representation"

    def __init__(self, tasks: int) -> None:
        super().__init__(tasks)
        self.register_buffer("first", torch.zeros(tasks))
        self._rotations: list[Rotation] = []

    def attach(self, network: nn.Module, inputs: Tensor) -> None:
        """Puts a rotation before every head."""
        if not (hasattr(network, "encoder") and hasattr(network, "heads")):
            raise MtlkitError("rotograd needs a network with `encoder` and `heads`.")
        with torch.no_grad():
            representation = network.encoder(inputs)
        if representation.ndim not in (2, 4):
            raise MtlkitError(f"rotograd rotates vectors or images; this representation has shape "
                              f"{tuple(representation.shape)}.")  # fmt: skip
        self._rotations = [Rotation(representation.shape[1]).to(representation) for _ in network.heads]
        network.heads = nn.ModuleList(map(nn.Sequential, self._rotations, network.heads))

    def forward(self, gradients: Tensor, signal: Signal, representation: Tensor | None) -> Tensor:
        if not self._rotations:
            raise MtlkitError("rotograd adds to the network: call rule.attach(network, inputs) before the optimizer is "
                              "made.")  # fmt: skip
        lengths = torch.linalg.vector_norm(gradients.flatten(1), dim=1)
        self.first = torch.where(self.first > 0, self.first, lengths.to(self.first.dtype))
        relative = lengths / torch.where(self.first > 0, self.first, 1)
        shares = relative / torch.where(relative.sum() > 0, relative.sum(), 1)
        units = gradients / torch.where(lengths > 0, lengths, 1).view(-1, *[1] * (gradients.ndim - 1))
        direction = (shares * lengths).sum() * units.mean(0)
        for rotation, gradient in zip(self._rotations, gradients, strict=True):
            rotation.turn(gradient, direction)
        return direction


class Rotation(nn.Module):
    """A rotation of `size` channels, the identity at the start."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.skew = nn.Parameter(torch.zeros(size, size))

    def forward(self, z: Tensor) -> Tensor:
        return torch.einsum("ij,bj...->bi...", self.matrix(), z)

    def matrix(self) -> Tensor:
        skew = torch.triu(self.skew, 1)
        skew = skew - skew.T
        eye = torch.eye(len(skew), dtype=skew.dtype, device=skew.device)
        return torch.linalg.solve_ex(eye - skew, eye + skew)[0]

    def turn(self, gradient: Tensor, wanted: Tensor) -> None:
        """Replaces the gradient of the rotation by that of `-<R'r, wanted>`, `r = R gradient` held fixed."""
        matrix = self.matrix()
        fixed = torch.einsum("ij,bj...->bi...", matrix.detach(), gradient)
        back = torch.einsum("ji,bj...->bi...", matrix, fixed)
        (self.skew.grad,) = torch.autograd.grad(-(back * wanted).sum(), self.skew)
