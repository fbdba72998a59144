"""The loop: better mixes round by round, chosen on val alone; then one look at test.

1. A sweep compares generators and ratios with the real images alone.
2. Each round asks what val shows the incumbent not to find, tries samples of those kinds, and
   tries to do without clusters of samples (loop_offers.py).
3. It stops when val can't tell that more is gained, or when the budget is spent (loop_rules.py).
4. The best mix becomes the built dataset and is evaluated on test, once (loop_end.py).

While it chooses, the test split is neither exported nor read: see `downstream.trials`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from augmentor import fiftyone_io
from augmentor.allocator import keep_freed_memory
from augmentor.errors import ProjectError, UsageError
from augmentor.records_io import content_of, load_records
from augmentor.workflows.alone import alone
from augmentor.workflows.arms import COPY_PASTE, parse_arm, without_pastes, write_arms_export
from augmentor.workflows.decisions import hand_decisions, logged_decisions
from augmentor.workflows.evaluate import evaluation_config
from augmentor.workflows.loop_end import Looped, finish, read_again
from augmentor.workflows.loop_offers import Bench
from augmentor.workflows.loop_rules import MARGIN, blind_spots, is_learned, reason_to_stop, winner
from augmentor.workflows.loop_state import (
    FOLDER,
    START,
    Book,
    Budget,
    Offer,
    Round,
    State,
    TrialLine,
    read_state,
)
from augmentor.workflows.project import Project
from augmentor.workflows.protocols import protocol_of
from augmentor.workflows.reporting import Reporter
from downstream.config import PRIMARY, ExperimentConfig
from downstream.errors import RunError
from downstream.names import TITLES
from downstream.runs import beginning, refuse_known, versions
from downstream.trials import Trials, run_trials
from generator.files import sha256_of, sha256_of_file

__all__ = ["RATIOS", "Asked", "Looped", "run_loop"]

RATIOS = (0.3, 0.5, 0.8)
"""Ratios of the sweep."""


@dataclass(frozen=True)
class Asked:
    """What a loop is asked to do; None takes what augment.yaml says.

    Attributes:
        task: the one that is improved.
        hours, runs: the budget, of wall time and of trainings; None: until val has no more to say.
        seeds, steps, jobs: of every training, as in `augment evaluate`.
        ratios, generators: of the sweep; generators joined by `+` share equally. None: the
            project's generators, copy-paste, and all of them together.
    """

    task: str | None = None
    hours: float | None = None
    runs: int | None = None
    seeds: int | None = None
    steps: int | None = None
    jobs: int | None = None
    ratios: tuple[float, ...] = RATIOS
    generators: tuple[str, ...] | None = None


@alone("loop")
def run_loop(
    project: Project, reporter: Reporter, asked: Asked, *, restart: bool = False
) -> Looped:
    """Improve the mix on val until nothing more is gained, then evaluate it on test, once.

    Killed and called again it goes on, and comes to what it would have come to undisturbed. Once
    test was evaluated, the same call returns that result and trains nothing.

    Args:
        project: whose mix it is; its dataset is replaced by the best one in the end.
        reporter: told of the progress.
        asked: what to try, how long.
        restart: forget what was tried; how often test was looked at is kept.

    Raises:
        ProjectError: a setting does not fit, or another loop was begun here.
        DatabaseError: another project has this one's name in FiftyOne.
        RunError: the incumbent could not be trained, or the evaluation failed.
        LeakError: what the trainings start from has learned from val or test.
    """
    keep_freed_memory()
    config, generators = _settings(project, asked)
    _refuse_known_start(project, config)
    folder = project.folder / FOLDER
    before = read_state(folder) if not restart else None
    if before and before.key == _key(project, config, asked, generators):
        before = _with_more(folder, before, asked, reporter)
        # without the database where there is nothing to do but to say it again
        if before.finished and (looped := read_again(project, before)):
            return looped
    # what is built in the end must not be refused then
    fiftyone_io.check_name(project.mixed_name, project.folder)
    hand_decisions(project)
    book = _open(project, config, _key(project, config, asked, generators), restart, reporter)
    budget = Budget(book, asked.hours, asked.runs)
    bench = Bench(project, generators, reporter)
    while not book.state.stopped:
        current = book.state.current or _begin(book, bench, config, asked)
        _try_all(book, bench, config, budget, current)
        _close(book, budget, reporter, len(project.config.classes) + config.with_good)
    reporter.say(book.state.stopped)
    return finish(project, bench, book, reporter, asked_steps=asked.steps, config=config)


def _refuse_known_start(project: Project, config: ExperimentConfig) -> None:
    """Refuse, before anything is chosen by it, a start that knows images of val or test.

    Raises:
        LeakError: it does.
        WeightsError: it does not say what it knows.
    """
    (task,) = config.tasks
    about = beginning(config, task)
    if "seen" not in about:
        return
    held_out: dict[str, tuple[str, str]] = {}
    for record in load_records(project.data):
        if record.split in ("val", "test"):
            named = record.source_path.name, str(record.split)
            # a run knows the file that it was trained on, which may be a normalised copy
            keys = (record.id, record.sha256, sha256_of_file(record.image_path))
            held_out |= dict.fromkeys(keys, named)
    refuse_known(config, task, about, held_out)


def _with_more(folder: Path, before: State, asked: Asked, reporter: Reporter) -> State:
    """The state of a loop that its budget stopped, as it was before that where more is allowed now.

    Once test was looked at it stays as it is: what is tried next would know of that.
    """
    book = Book(folder, before)
    if not before.spent or not Budget(book, asked.hours, asked.runs).allows():
        return before
    if before.looked_at_test:
        reporter.warn(
            "This loop ended by its budget and has looked at test since, so it does not go on; "
            "begin anew, with its finished trainings, and look once more: augment loop --restart"
        )
        return before
    last = before.rounds[-1].model_copy(update={"closed": False, "adopted": "", "said": ""})
    reporter.say("The budget is larger than the one that stopped this loop: it goes on")
    return book.put(
        rounds=before.with_round(last).rounds, stopped="", spent=False, finished=False, verdict=""
    )


def _settings(project: Project, asked: Asked) -> tuple[ExperimentConfig, tuple[str, ...]]:
    """How each trial is trained, and the sweep's generators."""
    protocol = protocol_of(project, None)
    task = asked.task or evaluation_config(project, {}, protocol=protocol).tasks[0]
    update: dict[str, Any] = {"tasks": (task,), "measure": "val"}
    update |= {"seeds": asked.seeds, "jobs": asked.jobs}
    # as the mix that is chosen is evaluated on test
    config = evaluation_config(
        project, update, [START.arm], (), asked.steps, protocol, "augment loop"
    )
    own = list(dict.fromkeys([*project.shares, *without_pastes(project, [COPY_PASTE])]))
    together = ["+".join(own)] if len(own) > 1 else []
    generators = tuple(
        "+".join(part.strip() for part in name.split("+"))
        for name in asked.generators or (*own, *together)
    )
    faulty = [ratio for ratio in asked.ratios if not 0 < ratio < 1]
    if faulty or not asked.ratios:
        raise UsageError(
            f"A ratio of the sweep must lie between 0 and 1, got {faulty[0] if faulty else 'none'}:"
            " type for example augment loop --ratios 0.3,0.5,0.8"
        )
    for name in generators:
        parse_arm(f"{name}@0.5")
    return config, generators


def _key(
    project: Project, config: ExperimentConfig, asked: Asked, generators: Sequence[str]
) -> str:
    """Hash of the data and of all settings that the loop's result follows from."""
    records = load_records(project.data)
    (task,) = config.tasks
    of_intervals = {"bootstrap_samples", "bootstrap_seed", "confidence"}
    return sha256_of(
        {
            "records": [content_of(r) for r in records],
            # what is left at its default is left out: a key that a later version adds is no change
            "project": project.config.model_dump(
                mode="json", exclude={"evaluate", "source"}, exclude_defaults=True
            ),
            "trials": [task, config.seeds, config.precision, config.training_settings(task)],
            # values of one network, or of one version of a library, are not those of another
            "start": beginning(config, task),
            "versions": versions(),
            "recipes": {path.stem: path.read_text("utf-8") for path in project.recipes.glob("*")},
            "intervals": config.model_dump(include=of_intervals),
            "ratios": asked.ratios,
            "generators": generators,
            "decisions": {k: v.model_dump() for k, v in logged_decisions(project).items()},
        }
    )


def _open(
    project: Project, config: ExperimentConfig, key: str, restart: bool, reporter: Reporter
) -> Book:
    folder = project.folder / FOLDER
    try:
        before = read_state(folder)
    except ProjectError:
        if not restart:
            raise
        before = None
        reporter.warn("How often earlier loops have looked at test can't be read any more.")
    if before is not None and not restart:
        if before.key != key:
            raise ProjectError(
                "The data or the settings are others than when this loop was begun, and earlier "
                f"loops have looked at test {_times(before)}; type it with the options that it was "
                "begun with, or begin anew, which will look at test once more: augment loop "
                "--restart"
            )
        return Book(folder, before)
    tests = before.tests if before else ()
    if before is not None:
        reporter.say(f"Begun anew; loops of this project have looked at test {_times(before)}.")
    (task,) = config.tasks
    state = State(key=key, task=task, metric=PRIMARY[task], seeds=len(config.seeds), tests=tests)
    return Book(folder, state)


def _times(state: State) -> str:
    return f"{len(state.tests)} time{'s' * (len(state.tests) != 1)}"


def _begin(book: Book, bench: Bench, config: ExperimentConfig, asked: Asked) -> Round:
    """Decide what the next round tries, and write it down before anything is trained."""
    past, start = book.state.rounds, book.state.incumbent
    if not past:
        bench.reporter.say("Sweep: generators and ratios")
        book.put_round(Round(number=0, start=START, offers=bench.sweep(asked.ratios)))
        return book.state.rounds[-1]
    bench.reporter.say(f"Round {len(past)}: what does val show of {start.arm}?")
    _write(bench, [start])
    # trained in an earlier round, so this only reads
    looked = _run(bench, book, config, start, [], Budget(book, None, None))
    needs, offers = bench.round(start, looked.done[start.arm].outcomes, past)
    book.put_round(Round(number=len(past), start=start, needs=needs, offers=offers))
    return book.state.rounds[-1]


def _try_all(
    book: Book, bench: Bench, config: ExperimentConfig, budget: Budget, current: Round
) -> None:
    """One trial after the other, each written down as it ends."""
    known = {trial.arm for trial in current.trials}
    todo = [offer for offer in current.offers if offer.arm not in known]
    if todo and budget.allows():
        _write(bench, [current.start, *current.offers])
    for offer in todo:
        if not budget.allows():
            return
        trials = _run(bench, book, config, current.start, [offer], budget)
        if trials.left:
            return
        start = trials.done[current.start.arm]
        keys = {key for trial in trials.done.values() for key in trial.keys}
        current = current.model_copy(
            update={
                "start_value": start.value,
                "trials": (*current.trials, _line(trials, offer.arm)),
            }
        )
        book.put(
            rounds=book.state.with_round(current).rounds,
            trained=tuple(sorted({*book.state.trained, *keys})),
        )


def _close(book: Book, budget: Budget, reporter: Reporter, classes: int) -> None:
    """Say what a round brought; take up its winner; decide whether to go on."""
    current = book.state.rounds[-1]
    ratios = {offer.arm: offer.ratio for offer in current.offers}
    metric, learned = book.state.metric, is_learned(current, book.state.metric, classes)
    adopted = winner(current.trials, ratios, MARGIN if current.number else 0.0) if learned else ""
    said = _said(current, adopted, TITLES[metric])
    closed = current.model_copy(update={"adopted": adopted, "said": said, "closed": True})
    rounds = book.state.with_round(closed).rounds
    stopped = budget.spent or reason_to_stop(rounds)
    if not stopped and not current.offers:
        stopped = "Nothing is left to try: val shows no need that samples could be made for."
    if not learned:
        stopped = (
            f"Nothing was learned ({TITLES[metric]} on val stays near chance), so nothing can be "
            "chosen: train longer, by the same command with --restart --steps N."
        )
    elif stopped:
        stopped = f"{stopped} {blind_spots(rounds)}".strip()
    reporter.say(f"{'Round ' + str(current.number) if current.number else 'Sweep'}: {said}")
    book.put(rounds=rounds, stopped=stopped, spent=learned and bool(budget.spent))


def _said(current: Round, adopted: str, title: str) -> str:
    for offer in current.offers:
        if offer.arm == adopted:
            (trial,) = (t for t in current.trials if t.arm == adopted)
            sure = trial.low is not None and trial.low > 0
            reached = f"reaches {MARGIN:g}" if current.number else "is the largest"
            why = "the interval is above zero" if sure else f"the gain {reached}, not sure as it is"
            return (
                f"{offer.arm} is adopted ({why}): {offer.what}; {title} on val "
                f"{trial.value:.3f}, {trial.difference:+.3f} [{trial.low:+.3f}, "
                f"{trial.high:+.3f}] against {current.start.arm}."
            )
    tried = len(current.trials)
    return f"none of {tried} tried was better than {current.start.arm} on val."


def _line(trials: Trials, arm: str) -> TrialLine:
    if arm in trials.failed:
        return TrialLine(arm=arm, error=trials.failed[arm])
    trial = trials.done[arm]
    gain = trial.gain
    return TrialLine(
        arm=arm,
        value=trial.value,
        per_seed=trial.values,
        difference=gain.difference if gain else None,
        low=gain.low if gain else None,
        high=gain.high if gain else None,
    )


def _write(bench: Bench, offers: Sequence[Offer]) -> Path:
    """The training sets of a round side by side, without the test split."""
    folder = bench.project.folder / FOLDER / "export"
    arms = {offer.arm: bench.arm(offer) for offer in offers}
    return write_arms_export(bench.project, folder, arms, without_test=True)


def _run(
    bench: Bench,
    book: Book,
    config: ExperimentConfig,
    start: Offer,
    offers: Sequence[Offer],
    budget: Budget,
) -> Trials:
    arms = tuple(dict.fromkeys([start.arm, *(offer.arm for offer in offers)]))
    trials = run_trials(
        book.folder / "export",
        book.folder,
        config.model_copy(update={"arms": arms}),
        start.arm,
        on_progress=lambda name, done, total: bench.reporter.progress(
            f"Trial {arms[-1]}", done, total
        ),
        may_train=budget.allows,
    )
    if start.arm in trials.failed:
        raise RunError(
            f"{start.arm} could not be trained, so nothing can be compared with it: "
            f"{trials.failed[start.arm]}; mend that and type the same command again."
        )
    return trials
