"""Names of metrics: how tables call them, in which order, and which way they are better."""

LABELS = {
    "loss": "loss",
    "mae": "MAE",
    "auc": "ROC AUC",
    "average_precision": "average precision",
    "balanced_accuracy": "balanced accuracy",
    "accuracy": "accuracy",
    "f1": "F1",
    "miou": "mIoU, %",
    "pixel_accuracy": "pixel accuracy, %",
    "abs_err": "absolute error",
    "rel_err": "relative error",
    "mean_angle": "mean angle, °",
    "median_angle": "median angle, °",
    "within_11": "within 11.25°, %",
    "within_22": "within 22.5°, %",
    "within_30": "within 30°, %",
    "max_f": "max F, %",
}

HIGHER_IS_BETTER = {
    name: name not in ("loss", "mae", "abs_err", "rel_err", "mean_angle", "median_angle") for name in LABELS
}
