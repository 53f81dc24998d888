"""What a weighting rule may look at, computed exactly and cheaply. The engine never names a method."""

from mtlkit.engine.alignment import Aligned, SampleAlignment
from mtlkit.engine.reference import frozen_statistics, length, reference_pass

__all__ = ["Aligned", "SampleAlignment", "frozen_statistics", "length", "reference_pass"]
