"""Keeps the libraries from phoning home; imported before any of them."""

import os

SWITCHES = {
    "FIFTYONE_DO_NOT_TRACK": "true",
    "FIFTYONE_DATABASE_VALIDATION": "false",  # silences a warning about the bundled mongod 6.0
    "HF_HUB_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "NO_ALBUMENTATIONS_UPDATE": "1",
    "YOLO_OFFLINE": "true",
    "YOLO_AUTOINSTALL": "false",
}


def stay_offline(*, hub: bool = False) -> None:
    """Set the switches, except those that the user has set already.

    Args:
        hub: leave the way to the Hugging Face hub open, for the command that fetches weights.
    """
    for name, value in SWITCHES.items():
        if not (hub and name == "HF_HUB_OFFLINE"):
            os.environ.setdefault(name, value)
