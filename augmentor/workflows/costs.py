"""What each step of a project has cost: a ledger beside augment.yaml, a line for each time that a
step did something, so that a report can add up what a result took."""

import json
import resource
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from augmentor.workflows.alone import is_first
from augmentor.workflows.project import Project

LEDGER = "costs.jsonl"
_KINDS = ("seconds", "cpu_seconds", "gpu_seconds")
LEAST_S = 1.0
"""What adds up to less is not written down: it found its work done."""


class Meter:
    """Adds up what the parts of a step take, and writes that down whenever it comes to `LEAST_S`:
    many short parts cost as much as a long one. What is killed leaves no line of its last part.

    Args:
        project: in whose ledger.
        step: what is done.
    """

    def __init__(self, project: Project, step: str) -> None:
        self._ledger, self._step = project.folder / LEDGER, step
        self._sums = dict.fromkeys(_KINDS, 0.0)

    @contextmanager
    def running(self) -> Iterator[None]:
        """Count what the body takes, even where it ends in an error."""
        started, before = time.monotonic(), _cpu_seconds()
        try:
            yield
        finally:
            seconds = time.monotonic() - started
            self._sums["seconds"] += seconds
            self._sums["cpu_seconds"] += _cpu_seconds() - before
            # in which this process held a GPU, however busy it was
            self._sums["gpu_seconds"] += seconds if _holds_gpu() else 0.0
            if self._sums["seconds"] >= LEAST_S and is_first():
                self._write()

    def _write(self) -> None:
        line = {"name": self._step, **{kind: round(sum_, 1) for kind, sum_ in self._sums.items()}}
        self._sums = dict.fromkeys(_KINDS, 0.0)
        with self._ledger.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(line) + "\n")


@contextmanager
def spent(project: Project, step: str) -> Iterator[None]:
    """Write down what the body took, even where it ends in an error; one killed leaves no line."""
    with Meter(project, step).running():
        yield


def read_costs(project: Project) -> list[dict[str, Any]]:
    """By step, in the order of their first lines: `name`, `times`, `seconds`, `cpu_seconds`,
    `gpu_seconds`, added up. What a killed step left half written is no step: hours of trainings
    don't end for it."""
    path = project.folder / LEDGER
    steps: dict[str, dict[str, Any]] = {}
    for text in path.read_text("utf-8", "replace").splitlines() if path.is_file() else []:
        if (line := _line(text)) is None:
            continue
        step = steps.setdefault(line["name"], {"name": line["name"], "times": 0})
        step["times"] += 1
        for kind in _KINDS:
            step[kind] = round(step.get(kind, 0.0) + line[kind], 1)
    return list(steps.values())


def _line(text: str) -> dict[str, Any] | None:
    try:
        line = json.loads(text)
        return {"name": str(line["name"]), **{kind: float(line[kind]) for kind in _KINDS}}
    except (ValueError, KeyError, TypeError):
        return None


def _cpu_seconds() -> float:
    own, children = (
        resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    )
    return own.ru_utime + own.ru_stime + children.ru_utime + children.ru_stime


def _holds_gpu() -> bool:
    torch = sys.modules.get("torch")
    return bool(torch is not None and torch.cuda.is_available() and torch.cuda.is_initialized())
