"""Multi-task learning with auxiliary tasks: sample and task weighting, reproducibly.

Re-implements SLGrad (arXiv 2306.04519) and RLW (arXiv 2111.10603).

- Training: `mtlkit.data` loads, `mtlkit.nets` builds, `mtlkit.weighting` maps what a step sees to weights,
  `mtlkit.engine` computes what a method may look at, `mtlkit.steps` joins the two, `mtlkit.training` is the loop.
- Experiments: `mtlkit.parameters` checks what a notebook is given, `mtlkit.experiment` makes the record of a run,
  `mtlkit.studies` says which runs a comparison consists of.
- From records: `mtlkit.records` reads them, `mtlkit.selection` says which count, `mtlkit.report` and `mtlkit.plots`
  make tables and figures, `mtlkit.claims` verdicts.
"""

__version__ = "0.1.0"
