"""Which metrics a report shows, in which order, and what they are called."""

METRICS = {
    "detection": ("map50", "map", "f1"),
    "classification": ("macro_f1", "accuracy", "balanced_accuracy"),
}
"""By task; the first is the one that the verdict is about."""

TITLES = {
    "map50": "mAP50",
    "map": "mAP50-95",
    "f1": "F1 at val threshold",
    "macro_f1": "macro F1",
    "accuracy": "accuracy",
    "balanced_accuracy": "balanced accuracy",
}

PER_CLASS = {"detection": "ap50_per_class", "classification": "f1_per_class"}
PER_CLASS_TITLES = {"detection": "AP50", "classification": "F1"}
