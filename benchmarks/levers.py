"""Levers on synthetic images, compared on val: the same detectors, arms told apart by one thing.

    python benchmarks/levers.py PROJECT --task classification --arms compact@0.8,copy-paste@0.8 \\
        --lever own: masks.own_share=1 --lever half: masks.own_share=0.5

Besides `real` (and whatever `--plain` names) every arm of `--arms` is trained once as augment.yaml
has it, and once for each lever. Values are means over seeds on val, with the interval of the
difference to the first plain arm. Test is not opened. Killed and repeated, it continues.
"""

import argparse
import json
import os
import time
from pathlib import Path
from typing import Any

from study import Lines, options


def main() -> None:
    """Resolve the arms under each lever, train them, print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("project", type=Path)
    parser.add_argument("--task", default="classification")
    parser.add_argument("--plain", default="real", help="arms without a lever, comma-separated")
    parser.add_argument("--arms", default="compact@0.8", help="arms that levers change")
    parser.add_argument(
        "--lever",
        action="append",
        nargs="+",
        default=[],
        metavar=("NAME:", "KEY=VALUE"),
        help="a name with a colon, then keys of augment.yaml and their values",
    )
    parser.add_argument("--only-levers", action="store_true", help="leave out what is as it is")
    parser.add_argument("--set", nargs="+", default=[], help="keys of `evaluate`, KEY=VALUE")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    given = parser.parse_args()
    levers = {name.rstrip(":"): options(keys) for name, *keys in given.lever}
    if not given.only_levers:
        levers = {"": {}, **levers}
    table = compare(
        given.project.resolve(),
        given.task,
        given.plain.split(","),
        given.arms.split(","),
        levers,
        {**options(given.set), "seeds": given.seeds, "jobs": given.jobs},
    )
    print(table)


def compare(
    home: Path,
    task: str,
    plain: list[str],
    names: list[str],
    levers: dict[str, dict[str, Any]],
    settings: dict[str, Any],
) -> str:
    """A Markdown table, one line an arm."""
    from augmentor.workflows.arms import resolve_arms, write_arms_export
    from augmentor.workflows.project import Project, ProjectConfig, open_project
    from downstream.config import ExperimentConfig
    from downstream.files import read_json
    from downstream.names import PER_CLASS
    from downstream.trials import run_trials
    from generator.files import sha256_of

    project, reporter = open_project(home), Lines()
    arms = dict(resolve_arms(project, plain, reporter))
    for lever, changes in levers.items():
        content = project.config.model_dump()
        for key, value in changes.items():
            _put(content, key, value)
        changed = Project(project.folder, ProjectConfig.model_validate(content))
        for name, arm in resolve_arms(changed, names, reporter, as_baselines=False).items():
            arms[f"{name} {lever}".strip()] = arm
    folder = home / "levers"
    # a folder of its own, so that two comparisons may run side by side
    own = sha256_of([task, settings, plain, names, levers])[:10]
    export = write_arms_export(project, folder / f"export-{own}", arms, without_test=True)
    config = ExperimentConfig(tasks=(task,), arms=tuple(arms), measure="val", **settings)
    trials = run_trials(export, folder, config, plain[0], on_progress=reporter.progress)
    results = {
        result["key"]: result["metrics"]["val"]
        for result in map(read_json, (folder / "runs").glob(f"{task}-*/result.json"))
    }
    lines = [
        f"{task}, val, {time.strftime('%d %B %Y')}, {json.dumps(settings)}\n",
        f"| arm | images | {trials.metric} | seeds | against {plain[0]} | by class |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for name, trial in trials.done.items():
        per_class = _by_class([results[key] for key in trial.keys], PER_CLASS[task])
        seeds = " ".join(f"{value:.3f}" for value in trial.values)
        gap = trial.gain
        gain = f"{gap.difference:+.3f} [{gap.low:+.3f}, {gap.high:+.3f}]" if gap else ""
        lines.append(
            f"| {name} | {len(arms[name].samples)} | {trial.value:.3f} | {seeds} | {gain} | "
            f"{per_class} |"
        )
    lines += [f"- {name} failed: {why}" for name, why in trials.failed.items()]
    return "\n".join(lines)


def _by_class(found: list[dict[str, Any]], key: str) -> str:
    columns = zip(*(metrics[key] for metrics in found), strict=True)
    return " ".join(f"{sum(c) / len(c):.2f}" for c in columns if None not in c)


def _put(content: dict[str, Any], key: str, value: Any) -> None:
    *sections, last = key.split(".")
    for section in sections:
        content = content[section]
    content[last] = value


if __name__ == "__main__":
    main()
