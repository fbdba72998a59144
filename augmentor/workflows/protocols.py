"""How a protocol's split is evaluated; docs/protocols.md compares it with the published code."""

from collections.abc import Mapping
from typing import Any

from augmentor.errors import ProjectError, UsageError
from augmentor.protocols import ANOMALYDIFFUSION, FEW_SHOT, RULES
from augmentor.workflows.project import Project

SETTINGS: dict[str, dict[str, Any]] = {
    FEW_SHOT: {},
    ANOMALYDIFFUSION: {
        "tasks": ("localisation", "classification"),
        "select": "both",
        "localisation_px": 256,
        "localisation_width": 64,
        "localisation_fold": 1,
        "localisation_balance": False,
        "localisation_batch": 8,
        "localisation_lr": 1e-4,
        "localisation_steps": 12_600,  # 200 epochs of 500 images
        "localisation_most_clean": 0.5,
        "classifier": "resnet34",
        "with_good": False,
        "classification_px": 256,
        "classification_batch": 8,
        "classification_lr": 1e-4,
        "classification_finish_on_real": 0.0,
        "classification_steps": 9_375,  # 30 epochs, each 5 times 500 images: those of one type
    },
}
"""Keys of `evaluate` that a protocol sets where nobody says otherwise."""


def protocol_of(project: Project, asked: str | None) -> str:
    """The protocol that an evaluation goes by: the one asked for, or that of the split.

    Raises:
        ProjectError: there is none of that name, or the images were split otherwise.
    """
    own = project.config.split.protocol
    if asked is None:
        return own
    if asked not in RULES:
        raise UsageError(
            f"There is no protocol {asked!r}; type --protocol {' or --protocol '.join(RULES)}."
        )
    if asked not in (own, FEW_SHOT):
        raise ProjectError(
            f"The images of this project were split by the protocol {own}, so a result can't go by "
            f"{asked}; make another project: augment import SOURCE --name NAME --protocol {asked}"
        )
    return asked


def protocol_notes(protocol: str, settings: Mapping[str, Any]) -> list[str]:
    """What the report says of the protocol, and of every setting that departs from it."""
    if protocol == FEW_SHOT:
        return []
    departures = [
        f"{key} {settings[key]} instead of {value}"
        for key, value in SETTINGS[protocol].items()
        if settings[key] != value
    ]
    if not departures:
        return [f"Evaluated by the protocol {protocol} (docs/protocols.md)."]
    return [f"Evaluated by the protocol {protocol}, departing from it in {', '.join(departures)}."]
