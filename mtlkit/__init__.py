"""Multi-task learning with auxiliary tasks: sample and task weighting, reproducibly.

Re-implements SLGrad (arXiv 2306.04519) and RLW (arXiv 2111.10603). `mtlkit.weighting` maps what a step sees to weights,
`mtlkit.engine` computes what a rule may look at, `mtlkit.step` joins the two, `mtlkit.training` is the training loop.
"""

__version__ = "0.1.0"
