"""Trials: arms compared on val alone, for whoever has to choose before test may be looked at.

The test split takes no part by construction: the export is read without it, no detector is given
it, and a run's key says that it was not measured, so that a trial never passes for a result.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from downstream.comparison import compare
from downstream.config import PRIMARY, ExperimentConfig
from downstream.dataset import Export, read_export
from downstream.errors import SettingsError
from downstream.experiment import MayTrain, OnProgress, do_runs, fit_to_export
from downstream.outcomes import DefectOutcome, defect_outcomes
from downstream.runs import Run, plan_runs


@dataclass(frozen=True)
class Gain:
    """An arm's primary metric on val minus the incumbent's, with its interval."""

    difference: float
    low: float
    high: float


@dataclass(frozen=True)
class Trial:
    """What came of one arm.

    Attributes:
        arm: its name.
        values: the task's primary metric on val, one for each seed of the settings.
        gain: against the incumbent; None for the incumbent itself.
        keys: of its runs, one for each seed.
        outcomes: for each defect of val, what the arm's detectors made of it.
    """

    arm: str
    values: tuple[float, ...]
    gain: Gain | None
    keys: tuple[str, ...]
    outcomes: tuple[DefectOutcome, ...]

    @property
    def value(self) -> float:
        """Mean over the seeds."""
        return sum(self.values) / len(self.values)


@dataclass(frozen=True)
class Trials:
    """What came of several arms.

    Attributes:
        task, metric: what was trained, and what is compared.
        done: by arm, those of which every seed finished.
        failed: by arm, a sentence on its first failed run.
        left: arms that the budget did not reach, or not with every seed.
    """

    task: str
    metric: str
    done: Mapping[str, Trial]
    failed: Mapping[str, str]
    left: tuple[str, ...]


def run_trials(
    export: Path,
    out: Path,
    config: ExperimentConfig,
    incumbent: str,
    *,
    on_progress: OnProgress | None = None,
    may_train: MayTrain | None = None,
) -> Trials:
    """Train every arm with every seed on one task, and compare them with one of them on val.

    Runs that `out/runs` holds already are reused. Neither image nor label of test is opened, so
    the export need not have any.

    Args:
        export: a training export (docs/formats.md).
        out: where runs go.
        config: one task, and `measure` val.
        incumbent: the arm that the others are compared with.
        on_progress: see `OnProgress`.
        may_train: see `MayTrain`.

    Raises:
        ExportError, LeakError: the export is refused.
        SettingsError: the settings name more than one task or would measure test, or the
            incumbent is none of the arms.
    """
    if config.measure != "val" or len(config.tasks) != 1:
        raise SettingsError("A trial takes one task and measures val alone; set measure to val.")
    data = read_export(export, "val")
    config, _ = fit_to_export(config, data)
    assert config.arms is not None
    if incumbent not in config.arms:
        raise SettingsError(f"The incumbent {incumbent!r} is none of {', '.join(config.arms)}.")
    runs = plan_runs(data, out, config)
    results, failed, _ = do_runs(runs, data, config, on_progress=on_progress, may_train=may_train)
    (task,) = config.tasks
    metric = PRIMARY[task]
    whole = [arm for arm in config.arms if all(r.key in results for r in _of(runs, arm))]
    done = [run for run in runs if run.arm in whole]
    gaps = compare(data, config, task, done, results, incumbent, "val")
    broken = {run.arm: failed[run.key] for run in reversed(runs) if run.key in failed}
    return Trials(
        task,
        metric,
        {arm: _trial(data, arm, _of(runs, arm), results, gaps, metric) for arm in whole},
        broken,
        tuple(arm for arm in config.arms if arm not in whole and arm not in broken),
    )


def _of(runs: list[Run], arm: str) -> list[Run]:
    return [run for run in runs if run.arm == arm]


def _trial(
    export: Export, arm: str, runs: list[Run], results: Mapping, gaps: Mapping, metric: str
) -> Trial:
    gap = gaps.get(arm, {}).get(metric)
    return Trial(
        arm,
        tuple(float(results[run.key]["metrics"]["val"][metric]) for run in runs),
        Gain(gap["difference"], gap["low"], gap["high"]) if gap else None,
        tuple(run.key for run in runs),
        tuple(defect_outcomes(export, runs, results)),
    )
