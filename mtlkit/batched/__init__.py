"""All seeds of one configuration as one batched model: the same results as alone, to rounding, for fewer launches."""

from mtlkit.batched.training import Batched, refusal

__all__ = ["Batched", "refusal"]
