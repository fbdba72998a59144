"""Finished runs whose predictions are planted, so that what is compared is known beforehand."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from downstream.config import ExperimentConfig, Task
from downstream.dataset import Export
from downstream.files import write_json
from downstream.metrics import classification_metrics, detection_metrics
from downstream.report import build_report, render_html
from downstream.runs import Run

SPLITS = ("val", "test")


def plant_runs(
    export: Export,
    out: Path,
    task: Task,
    skill: Mapping[str, float | Mapping[str, float]],
    seeds: Sequence[int] = (0, 1, 2),
    *,
    luck: float = 0.0,
) -> tuple[list[Run], dict[str, dict[str, Any]]]:
    """Runs as if trained: of each arm, the share of images that it gets right (by split, if given
    so), give or take `luck` from seed to seed."""
    runs, results = [], {}
    for arm, levels in skill.items():
        for seed in seeds:
            rng = np.random.default_rng([seed, len(arm), sum(map(ord, arm))])
            folder = out / "runs" / f"{task}-{arm}-{seed}"
            folder.mkdir(parents=True)
            run = Run(task, arm, seed, f"{task}{arm}{seed}", folder, {})
            shift = luck * rng.normal()
            metrics = {}
            for split in SPLITS:
                level = levels if isinstance(levels, float) else levels[split]
                rows, metrics[split] = _guess(export, split, task, level + shift, rng)
                (folder / f"predictions-{split}.json").write_text(json.dumps(rows))
            labels = list(export.classes) if task == "detection" else [*export.classes, "good"]
            results[run.key] = {
                "key": run.key, "task": task, "arm": arm, "seed": seed, "labels": labels,
                "metrics": metrics, "threshold": 0.5, "seconds": 2.0, "cpu_seconds": 3.0,
                "steps": 10, "selected_step": 10, "weights": "random", "device": "cpu",
                "from_scratch": True, "parameters": 10,
                "history": [[k, 5.0 / k] for k in range(1, 11)],
            }  # fmt: skip
            runs.append(run)
    return runs, results


def _guess(
    export: Export, split: Any, task: Task, level: float, rng: np.random.Generator
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    items = export.items(split)
    n = len(export.classes) + (task == "classification")
    if task == "detection":
        rows = [
            {
                "id": item.id,
                "boxes": [
                    list(b[1:]) if rng.random() < level else [0, 0, 3, 3] for b in item.boxes
                ],
                "scores": [float(rng.uniform(0.6, 1)) for _ in item.boxes],
                "classes": [b[0] for b in item.boxes],
            }
            for item in items
        ]
        found = detection_metrics(rows, [item.boxes for item in items], n)
        return rows, {**found, "f1": found["map50"], "f1_per_class": found["ap50_per_class"]}
    names = [*export.classes, "good"]
    targets = [names.index(item.class_name) for item in items]
    guesses = [t if rng.random() < level else int((t + 1) % n) for t in targets]
    rows = [
        {"id": i.id, "target": t, "probabilities": np.eye(n)[g].tolist()}
        for i, t, g in zip(items, targets, guesses, strict=True)
    ]
    return rows, classification_metrics(targets, guesses, n)


def planted_report(
    export: Export,
    out: Path,
    skill: Mapping[str, float],
    seeds: Sequence[int] = (0, 1, 2),
    *,
    extras: Mapping[str, Any] | None = None,
    **settings: Any,
) -> dict[str, Any]:
    """Write report.json and report.html of planted detectors and classifiers; see `plant_runs`."""
    tasks: tuple[Task, ...] = ("detection", "classification")
    config = ExperimentConfig(
        **{"bootstrap_samples": 300, "device": "cpu", **settings},
        tasks=tasks, arms=tuple(skill), seeds=tuple(seeds),
    )  # fmt: skip
    runs: list[Run] = []
    results: dict[str, dict[str, Any]] = {}
    for task in tasks:
        planted, found = plant_runs(export, out, task, skill, seeds, luck=0.02)
        runs += planted
        results |= found
    report = build_report(export, config, runs, results, {}, set(), [], 9.0, extras)
    write_json(out / "report.json", report)
    render_html(report, out / "report.html")
    return report
