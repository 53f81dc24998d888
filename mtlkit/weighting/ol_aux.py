"""Online learning for auxiliary losses."""

import torch
from torch import Tensor

from mtlkit.errors import MtlkitError
from mtlkit.weighting.base import AlignmentRule, Signal


class OLAux(AlignmentRule):
    """Auxiliary weights grow while their gradients agree with the main task's (Lin et al. 2019, NeurIPS, "Adaptive
    auxiliary task weighting for reinforcement learning", eq. 6 and Algorithm 1).

    Every `horizon` steps `w_t <- w_t + weight_rate sum <g_t, g_main> / |g_main|` over these steps, for the auxiliary
    tasks; the main task keeps 1. All weights are divided by T. One backward and one tangent pass, whatever T.

    Departures: products are divided by the length of the main gradient, so that the rate does not depend on its scale;
    weights stay at 0 at least.

    Args:
        tasks: T >= 1.
        weight_rate: Above 0; 0.4 in the SLGrad release ("gradspeed").
        horizon: Steps between two updates of the weights, at least 1; 2 in the SLGrad release.
    """

    direction = "batch"

    def __init__(self, tasks: int, *, weight_rate: float = 0.4, horizon: int = 2) -> None:
        super().__init__(tasks)
        if weight_rate <= 0:
            raise MtlkitError(f"weight_rate is {weight_rate!r}, which is not above 0.")
        if horizon < 1:
            raise MtlkitError(f"horizon is {horizon!r}, which is not at least 1.")
        self.weight_rate, self.horizon, self._count = weight_rate, horizon, 0
        self.register_buffer("weights", torch.ones(tasks))
        self.register_buffer("sum", torch.zeros(tasks))

    def forward(self, signal: Signal) -> Tensor:
        weights, products = self.weights, signal.by_task(signal.alignment).float()
        self.sum = self.sum + torch.where(torch.isfinite(products), products, 0)
        self._count += 1
        if self._count % self.horizon == 0:
            moved = (weights + self.weight_rate * self.sum).clamp_min(0)
            self.weights = torch.cat([weights[:1], moved[1:]])
            self.sum = torch.zeros_like(self.sum)
        return (weights / self.tasks).to(signal.losses.dtype)

    def get_extra_state(self) -> int:
        return self._count

    def set_extra_state(self, state: int) -> None:
        self._count = state
