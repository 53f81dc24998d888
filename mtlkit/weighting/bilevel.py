"""Methods that learn task weights through a step of the network."""

import torch
from torch import Tensor

from mtlkit.errors import MtlkitError
from mtlkit.weighting.base import Signal, Weighting
from mtlkit.weighting.history import Adam
from mtlkit.weighting.solvers import minimum_norm


class Bilevel(Weighting):
    """Learns task weights `(T,)` by what a tentative step with them does to losses on the reference batch.

    The step takes the present weights, hands the hypergradient to `forward`, and updates the network with the weights
    it returns. Weights total 1 where they are those of equal weighting.

    Attributes:
        every_task: The reference losses of all tasks count, not only the main one's.
    """

    needs = "bilevel"
    every_task = False

    def weights(self) -> Tensor:
        """The present weights `(T,)`."""
        raise NotImplementedError

    def forward(self, hypergradient: Tensor, signal: Signal) -> Tensor:
        """The new weights.

        Args:
            hypergradient: `(S, T)`, the derivative of S reference losses after the tentative step by the T weights.
            signal: The losses of the training batch.
        """
        raise NotImplementedError


class AutoLambda(Bilevel):
    """Weights that lower the main task's reference loss one step ahead (Liu et al. 2022, arXiv 2202.03091, eq. 3 to 5).

    `theta' = theta - eta grad(sum_t w_t L_t)` by the optimizer, and `w_t <- Adam(w_t, d L_main(theta') / d w_t)`, where
    the derivative is `-eta <grad L_main(theta'), grad L_t(theta)>` over shared parameters and the main head. The
    weights start at `initial / T` each.

    Departures: that product is exact, by one tangent pass, in place of a finite difference; the reference set serves as
    validation data (the authors take another training batch); weights stay at 0 at least.

    Args:
        tasks: T >= 1.
        initial: Above 0; 0.1 in the authors' code, and 1 here, so that training starts as equal weighting.
        weight_rate: Adam's learning rate for T times the weights, above 0; 1e-4 in the authors' code.
    """

    def __init__(self, tasks: int, *, initial: float = 1.0, weight_rate: float = 1e-4) -> None:
        super().__init__(tasks)
        if initial <= 0 or weight_rate <= 0:
            raise MtlkitError(f"initial is {initial!r} and weight_rate {weight_rate!r}; both must be above 0.")
        self.adam = Adam(tasks, weight_rate)
        self.register_buffer("scale", torch.full((tasks,), float(initial)))

    def weights(self) -> Tensor:
        return self.scale / self.tasks

    def forward(self, hypergradient: Tensor, signal: Signal) -> Tensor:
        gradient = hypergradient[0].float()
        move = self.adam(torch.where(torch.isfinite(gradient), gradient, 0))
        self.scale = (self.scale + move).clamp_min(0)
        return self.weights()


class MOML(Bilevel):
    """Weights that lower the reference losses of all tasks one step ahead (Ye et al. 2021, NeurIPS, "Multi-objective
    meta learning", Algorithm 1 for multi-task weights).

    The derivatives of the T reference losses after a tentative step by the weights, `(T, T)`, are combined by the
    shortest convex combination (as in MGDA), and the logits of the weights take a step of Adam along it. Weights are
    their softmax, and total 1.

    Departure: products of gradients are exact and of first order in the network's rate (one tentative step).

    Args:
        tasks: T >= 1.
        weight_rate: Adam's learning rate for the logits, above 0.
    """

    every_task = True

    def __init__(self, tasks: int, *, weight_rate: float = 1e-3) -> None:
        super().__init__(tasks)
        if weight_rate <= 0:
            raise MtlkitError(f"weight_rate is {weight_rate!r}, which is not above 0.")
        self.adam = Adam(tasks, weight_rate)
        self.register_buffer("logits", torch.zeros(tasks))

    def weights(self) -> Tensor:
        return self.logits.softmax(0)

    def forward(self, hypergradient: Tensor, signal: Signal) -> Tensor:
        weights = self.weights().double()
        found = torch.where(torch.isfinite(hypergradient), hypergradient, 0).double()
        by_logits = found * weights - (found @ weights)[:, None] * weights  # chain rule of the softmax
        gradient = minimum_norm(by_logits @ by_logits.T) @ by_logits
        self.logits = self.logits + self.adam(gradient.to(self.logits.dtype))
        return self.weights()
