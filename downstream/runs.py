"""One run: an arm, a task and a seed. It has a key, a folder and a result that is written last.

<out>/runs/<task>-<arm>-<seed>-<first 10 digits of the key>/
    config.json                the key and everything that it is the hash of
    log.txt                    what the training said
    weights.safetensors        and model.json: the trained detector
    predictions-val.json       raw predictions, one entry an image
    predictions-test.json
    predictions-*-val-chosen.json  with `select: both`, those of the val-chosen weights
    maps-test/<id>.png         localisation: the anomaly maps of test, 8 bit, as squares
    result.json                written last; a folder without it is not finished
"""

import json
import os
import platform
import resource
import shutil
import time
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from shlex import quote
from typing import Any

from downstream.config import STARTS, ExperimentConfig, Task
from downstream.dataset import Export, Item, Split
from downstream.detectors.outcome import OnStep, Outcome, pick_device, use_bf16
from downstream.errors import LeakError, RunError, WeightsError, one_line
from downstream.files import read_json, sha256_of, sha256_of_file, write_json, write_text

LIBRARIES = ("torch", "torchvision", "ultralytics", "torchmetrics", "albumentations", "numpy")
"""A change of one of these may change a result, so their versions are part of a run's key."""

PROTOCOL: dict[Task, int] = {"detection": 4, "classification": 1, "localisation": 2}
"""Part of every key: raised when a change of a training itself makes old results others."""


def versions() -> dict[str, str]:
    """Versions of Python and of the libraries that a result depends on; a machine that only trains
    need not have all of them."""
    return {"python": platform.python_version(), **{name: _version(name) for name in LIBRARIES}}


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "absent"


@dataclass(frozen=True)
class Run:
    """One training to be done. `key` is the hash of all that its result depends on."""

    task: Task
    arm: str
    seed: int
    key: str
    folder: Path
    inputs: dict[str, Any]

    @property
    def name(self) -> str:
        """As it is shown: task, arm and seed."""
        return f"{self.task} {self.arm} seed {self.seed}"


def plan_runs(export: Export, out: Path, config: ExperimentConfig) -> list[Run]:
    """All runs of an experiment with their keys and folders: seed by seed, so that an experiment
    that is stopped early has compared whole sets of arms.

    Raises:
        SettingsError: the export has no such arm.
        WeightsError: what is to be started from can't be found.
        LeakError: it has learned from an image of val or test.
    """
    runs = []
    shared: dict[str, Any] = {
        "classes": list(export.classes),
        "versions": versions(),
    }
    device = pick_device(config.device)
    shared["device"] = device.partition(":")[0]
    shared["bf16"] = use_bf16(config.precision, device)
    for task in config.tasks:
        of_task: dict[str, Any] = {
            "task": task,
            "protocol": PROTOCOL[task],
            **_beginning_on(config, task, export),
            **{split: _hashes(export.items(split), task) for split in config.splits},
        }
        trains = {}
        for arm in config.arms or export.arms:
            items = export.items("train", arm)
            synthetic = any(item.kind == "synthetic" for item in items)
            trains[arm] = {
                "settings": config.training_settings(task, synthetic=synthetic),
                "train": _hashes(items, task),
            }
        for seed in config.seeds:
            for arm, of_arm in trains.items():
                inputs = {**shared, **of_task, **of_arm, "seed": seed}
                key = sha256_of(inputs)
                # Named by what was trained, not for whom: arms of the same images share a run.
                folder = out / "runs" / f"{task}-seed{seed}-{key[:10]}"
                runs.append(Run(task, arm, seed, key, folder, inputs))
    return runs


def read_result(run: Run) -> dict[str, Any] | None:
    """The result of a finished run with this very key, or None."""
    result = read_json(run.folder / "result.json")
    return result if result.get("key") == run.key else None


def count_other_looks(out: Path, runs: Sequence[Run]) -> int:
    """How many finished trainings in `out`, beside `runs`, were measured on test: whoever looks at
    test with many settings will once find what looks like a gain."""
    ours = {run.key for run in runs}
    found = map(read_json, (out / "runs").glob("*/result.json"))
    return sum(each.get("key") not in ours and "test" in each.get("metrics", {}) for each in found)


def execute(
    run: Run, export: Export, config: ExperimentConfig, on_step: OnStep = lambda done, total: None
) -> dict[str, Any]:
    """Train, measure val and, where `config.measure` says so, test, once each; write the run's
    files, `result.json` last.

    Raises:
        RunError: the training failed; the sentence names the run and its log.
    """
    if run.folder.exists():
        shutil.rmtree(run.folder)  # unfinished, or of another key with the same first digits
    run.folder.mkdir(parents=True)
    # beside the key's inputs: a sample's file says nothing of the photographs that it was made from
    made_from = {key for item in export.items("train", run.arm) for key in item.source_ids}
    about = {"key": run.key, "arm": run.arm, "sources": sorted(made_from), **run.inputs}
    write_json(run.folder / "config.json", about)
    log = run.folder / "log.txt"
    write_text(log, f"{run.name}\n")
    started, cpu = time.monotonic(), _cpu_seconds()
    pin_threads(config.jobs)
    try:
        outcome = _train(run, export, config, on_step)
        result = _measure(run, export, outcome, config.splits)
    except Exception as fault:
        with log.open("a", encoding="utf-8") as stream:
            stream.write(traceback.format_exc())
        write_json(run.folder / "failed.json", {"key": run.key, "error": _sentence(fault)})
        raise RunError(f"{run.name} failed: {_sentence(fault)} (see {log})") from fault
    for split, predictions in outcome.predictions.items():
        write_json(run.folder / f"predictions-{split}.json", predictions, indent=None)
    if outcome.val_chosen is not None:
        for split, predictions in outcome.val_chosen.predictions.items():
            path = run.folder / f"predictions-{split}-val-chosen.json"
            write_json(path, predictions, indent=None)
    result |= {
        "seconds": round(time.monotonic() - started, 2),
        "cpu_seconds": round(_cpu_seconds() - cpu, 2),
    }
    write_json(run.folder / "result.json", result)
    return result


def pin_threads(jobs: int) -> None:
    """Give torch its share of the cores, the same one for every run.

    Ultralytics sets the number of threads for the whole process, and sums of floats depend on it:
    a run would come out otherwise after a detector than in a process that was started anew.
    """
    import torch

    cores = int(os.environ.get("OMP_NUM_THREADS") or os.cpu_count() or 1)
    torch.set_num_threads(max(1, cores // jobs))


def read_predictions(run: Run, split: Split) -> list[dict[str, Any]]:
    """Raw predictions of a finished run.

    Raises:
        RunError: they are gone or damaged.
    """
    path = run.folder / f"predictions-{split}.json"
    try:
        rows = json.loads(path.read_text(encoding="utf-8"))
        known = isinstance(rows, list)
        if not known or not all(isinstance(row, dict) and "id" in row for row in rows):
            raise ValueError("it holds something else than predictions")
    except (OSError, ValueError, TypeError) as fault:
        raise RunError(
            f"{path} can't be read ({one_line(fault)}); train it again: rm -r "
            f"{quote(str(run.folder))} && augment evaluate"
        ) from None
    return rows


def _train(run: Run, export: Export, config: ExperimentConfig, on_step: OnStep) -> Outcome:
    held_out = {split: export.items(split) for split in config.splits}
    sides = (export.items("train", run.arm), held_out["val"], held_out.get("test", []))
    if run.task == "detection":
        from downstream.detectors.yolo import train_detector  # ultralytics takes seconds to import

        return train_detector(*sides, export.classes, config, run.seed, run.folder, on_step)
    if run.task == "localisation":
        from downstream.detectors.unet import train_localiser

        return train_localiser(*sides, export.classes, config, run.seed, run.folder, on_step)
    from downstream.detectors.resnet import train_classifier

    classes = export.told_apart(config.with_good)
    return train_classifier(*sides, classes, config, run.seed, run.folder, on_step)


def _measure(run: Run, export: Export, outcome: Outcome, splits: Sequence[Split]) -> dict[str, Any]:
    """The result of a run: its metrics on `splits`, and those of the val-chosen weights, if any."""
    result: dict[str, Any] = {
        "key": run.key,
        "task": run.task,
        "arm": run.arm,
        "seed": run.seed,
        "steps": outcome.steps,
        "selected_step": outcome.selected_step,
        "from_scratch": outcome.from_scratch,
        "weights": outcome.weights,
        "device": outcome.device,
        "parameters": outcome.parameters,
        "labels": list(outcome.labels),
        "history": outcome.history,
        "checks": outcome.checks,
        **_metrics(run.task, export, outcome.predictions, outcome.labels, splits),
    }
    if outcome.val_chosen is not None:
        chosen = outcome.val_chosen
        found = _metrics(run.task, export, chosen.predictions, outcome.labels, splits)
        result["val_chosen"] = {"step": chosen.step, **found}
    return result


def _metrics(
    task: Task,
    export: Export,
    predictions: Mapping[str, list[dict[str, Any]]],
    labels: Sequence[str],
    splits: Sequence[Split],
) -> dict[str, Any]:
    """`metrics` by split; for detection val gives the `threshold` first, then all are measured."""
    from downstream.metrics import (
        choose_threshold,
        classification_metrics,
        detection_metrics,
        f1_at,
        localisation_metrics,
    )

    n = len(labels)
    if task == "localisation":
        return {"metrics": {s: localisation_metrics(predictions[s], labels) for s in splits}}
    metrics: dict[str, Any] = {}
    if task == "classification":
        for split in splits:
            rows = predictions[split]
            guesses = [max(range(n), key=row["probabilities"].__getitem__) for row in rows]
            targets = [row["target"] for row in rows]
            metrics[split] = classification_metrics(targets, guesses, n)
        return {"metrics": metrics}
    boxes = {split: [i.boxes for i in export.items(split)] for split in splits}
    threshold = choose_threshold(predictions["val"], boxes["val"], n)
    for split in splits:
        f1 = f1_at(predictions[split], boxes[split], n, threshold)
        metrics[split] = {
            **detection_metrics(predictions[split], boxes[split], n),
            "f1": f1["f1"],
            "f1_per_class": f1["per_class"],
        }
    return {"metrics": metrics, "threshold": threshold}


def _hashes(items: list[Item], task: str) -> list[list[str]]:
    """What a training sees of its images: pixels and labels, whatever the files are called.

    Sorted by path and not by hash: the order is an input too, since seeds draw by position.
    """
    if task == "classification":
        return [[item.sha256, item.class_name] for item in items if item.has_one_label]
    if task == "localisation":
        return [[item.sha256, item.class_name, item.mask_sha256] for item in items]
    return [[item.sha256, item.label_sha256, sha256_of(item.boxes)] for item in items]


def _start(config: ExperimentConfig, task: Task) -> tuple[Path | None, Path | None]:
    """The file that a training starts from, and the folder of the earlier training that it is
    of."""
    if not config.pretrained:
        return None, None
    if task == "detection":
        from downstream.detectors.yolo import resolve_start

        start = resolve_start(config.detector, config.pretrained, config.weights_dir)
        return start.weights, start.run
    from downstream.detectors.earlier import about_run, earlier_run
    from downstream.detectors.fitting import WEIGHTS

    setting, _ = STARTS[task]
    run = earlier_run(getattr(config, setting))
    if run is None and task == "classification":
        from downstream.detectors.resnet import imagenet_weights

        return imagenet_weights(config.classifier), None
    if run is None:
        return None, None
    about_run(run, task)
    return run / WEIGHTS, run


def _beginning_on(config: ExperimentConfig, task: Task, export: Export) -> dict[str, Any]:
    """`beginning`, of which no image is of the export's val or test.

    Raises:
        WeightsError: as `beginning`.
        LeakError: one is.
    """
    about = beginning(config, task)
    held_out = [item for item in export.all_items if item.split != "train"]
    names = {key: (i.image.name, str(i.split)) for i in held_out for key in (i.sha256, i.id)}
    refuse_known(config, task, about, names)
    return about


def refuse_known(
    config: ExperimentConfig,
    task: Task,
    about: Mapping[str, Any],
    held_out: Mapping[str, tuple[str, str]],
) -> None:
    """Refuse a start that has learned from what is held out.

    Args:
        config: that names the start.
        task: of the training.
        about: of `beginning`.
        held_out: name and side of each image of val and test, by its id and by its file's SHA-256.

    Raises:
        LeakError: it has.
    """
    known = next((key for key in about.get("seen", ()) if key in held_out), None)
    if known is not None:
        name, side = held_out[known]
        setting, example = STARTS[task]
        raise LeakError(
            f"{getattr(config, setting)} has learned from {name}, which is in {side} here; set "
            f"{setting} to a run of other photographs, or to a name such as {example}."
        )


def beginning(config: ExperimentConfig, task: Task) -> dict[str, Any]:
    """Hash of the file that a training starts from (None: at random, with that of the architecture
    where it is a file of one's own) and, where that is an earlier training, `seen`: of every image
    that it or what it started from itself has learned from, and the ids of the images that its
    synthetic ones were made from.

    Raises:
        WeightsError: the earlier training is none, or does not say what it has learned from.
    """
    weights, run = _start(config, task)
    if weights is None:
        own = Path(config.detector)
        of_own = task == "detection" and own.suffix == ".yaml" and own.is_file()
        return {"weights": None} | ({"architecture": sha256_of_file(own)} if of_own else {})
    setting, _ = STARTS[task]
    about: dict[str, Any] = {"weights": sha256_of_file(weights)}
    if run is None:
        return about
    if shift := read_json(run / "model.json").get("good_shift"):
        about["without_shift"] = shift  # trainings of before kept it
    before = read_json(run / "config.json")
    try:
        settings = before["settings"]
        chose = settings.get("select") == "val" or settings.get("classification_adjust", False)
        sides = ("train", "val") if chose else ("train",)
        seen = {row[0] for side in sides for row in before[side]}
        seen |= {*before.get("sources", ()), *before.get("seen", ())}
    except (KeyError, TypeError, IndexError):
        raise WeightsError(
            f"{run / 'config.json'} does not say what the {setting} was trained on, so it may "
            f"know images of val or test; set {setting} to a whole folder of evaluation/runs."
        ) from None
    return about | {"seen": sorted(seen)}


def _cpu_seconds() -> float:
    return sum(os.times()[:2]) + resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime


def _sentence(fault: BaseException) -> str:
    text = one_line(fault, 400)
    return text if isinstance(fault, RunError) else f"{type(fault).__name__}: {text}"
