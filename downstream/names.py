"""Which metrics a report shows, in which order, and what they are called."""

from downstream.config import BASELINE

METRICS = {
    "detection": ("map50", "map", "f1"),
    "classification": ("macro_f1", "accuracy", "balanced_accuracy"),
    "localisation": ("pixel_ap", "pixel_f1", "pixel_auroc", "pro", "image_auroc", "image_ap"),
}
"""By task; the first is the one that the verdict is about."""

TITLES = {
    "map50": "mAP50",
    "map": "mAP50-95",
    "f1": "F1 at val threshold",
    "macro_f1": "macro F1",
    "accuracy": "accuracy",
    "balanced_accuracy": "balanced accuracy",
    "pixel_ap": "pixel AP",
    "pixel_f1": "pixel F1-max",
    "pixel_auroc": "pixel AUROC",
    "pro": "PRO",
    "image_auroc": "image AUROC",
    "image_ap": "image AP",
}

PER_CLASS = {
    "detection": "ap50_per_class",
    "classification": "f1_per_class",
    "localisation": "pixel_ap_per_class",
}
PER_CLASS_TITLES = {"detection": "AP50", "classification": "F1", "localisation": "pixel AP"}

FULL = "full"
"""The arm of all real data, where there is one: the ceiling."""

COPY_PASTE = "copy-paste"
"""The arm of pasted real defects, which anything generated must beat."""


def is_synthetic(arm: str) -> bool:
    """Whether an arm adds something to real images, by its name; `full` and `real:K` don't."""
    return arm not in (BASELINE, FULL) and not arm.startswith(f"{BASELINE}:")
