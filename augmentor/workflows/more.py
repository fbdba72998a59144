"""More samples on a person's word: asked in the App, made in the background by `augment review`."""

import threading
from collections.abc import Callable, Sequence
from pathlib import Path

from augmentor import fiftyone_io
from augmentor.classical import NAME as CLASSICAL
from augmentor.decisions import now
from augmentor.errors import AugmentorError, BusyError, DatabaseError
from augmentor.items import PoolSample
from augmentor.workflows import queue
from augmentor.workflows.build import build_dataset, remarks, with_mix
from augmentor.workflows.built import as_built, content_key
from augmentor.workflows.deciding import project_of, reviewer
from augmentor.workflows.decisions import logged_decisions
from augmentor.workflows.embedding import embed_dataset
from augmentor.workflows.generators import Maker, open_maker, sample, training_examples
from augmentor.workflows.project import Project, open_project
from augmentor.workflows.queue import Asked, Finished, Progress
from augmentor.workflows.reporting import Reporter
from generator.config import load_recipe
from generator.errors import GeneratorError
from generator.files import sha256_of, sha256_of_file
from generator.pool import read_pools
from generator.records import PROCEDURAL, Likeness, SampleRequest, SyntheticDefect

MOST = 100
"""Most samples asked for at once for each selected one."""

TOGETHER = 16
"""Samples asked for together; they appear in the App together."""

POLL_S = 0.5


def ask_samples(name: str, sample_ids: Sequence[str], kind: queue.Kind, number: int) -> int:
    """Queue `number` samples like each selected one (`more`), or another try of each (`again`).

    Args:
        name: of the dataset.
        sample_ids: FiftyOne's ids of what is selected; real images are passed over.
        kind: `more` or `again`.
        number: of samples for each, 1 to `MOST`.

    Returns:
        How many samples were queued.
    """
    project = project_of(name)
    chosen = fiftyone_io.chosen_samples(name, sample_ids).synthetic
    number = max(1, min(number, MOST))
    step = max(1, TOGETHER // number)
    parts = [chosen[start : start + step] for start in range(0, len(chosen), step)]
    _ask(project, [{"kind": kind, "sample_ids": part, "number": number} for part in parts])
    return number * len(chosen)


def ask_rebuild(name: str, ratio: float) -> int:
    """Queue a build of the mixed dataset at a ratio; returns 1."""
    _ask(project_of(name), [{"kind": "rebuild", "ratio": ratio}])
    return 1


def _ask(project: Project, wanted: Sequence[dict[str, object]]) -> None:
    who, time = reviewer(), now()
    lines = [
        Asked.model_validate(
            {**one, "id": sha256_of([who, time, k])[:16], "who": who, "time": time}
        )
        for k, one in enumerate(wanted)
    ]
    queue.append(project.folder, lines)


def requests_of(
    one: Asked, asked: Sequence[Asked], records: dict[str, SyntheticDefect]
) -> list[SampleRequest]:
    """The requests that a line of the queue stands for.

    They follow from the line's place in the queue, so that it can be worked off again after a
    kill and leads to the same samples.

    Args:
        one: asks for samples.
        asked: the whole queue.
        records: of the samples named, by id; those that are gone are passed over.
    """
    before = [a for a in asked[: asked.index(one)] if a.kind == one.kind]
    requests = []
    for sample_id in one.sample_ids:
        record = records.get(sample_id)
        if record is None:
            continue
        tried = sum(a.number for a in before if sample_id in a.sample_ids)
        for attempt in range(tried, tried + one.number):
            seed = int(sha256_of([record.seed, one.kind, attempt])[:15], 16)
            more = one.kind == "more"
            requests.append(
                SampleRequest(
                    class_name=record.class_name,
                    index=attempt if more else record.index,
                    seed=seed,
                    like=(record.like or likeness(record)) if more else record.like,
                    origin=record.id,
                )
            )
    return requests


def likeness(record: SyntheticDefect) -> Likeness | None:
    """What `more like this` keeps of a sample; None where it has no mask and no place."""
    if record.mask_source_id is None or not record.boxes_xyxy:
        return None
    x1, y1 = (min(box[k] for box in record.boxes_xyxy) for k in (0, 1))
    x2, y2 = (max(box[k] for box in record.boxes_xyxy) for k in (2, 3))
    centre = ((x1 + x2) / 2 / record.width, (y1 + y2) / 2 / record.height)
    # a procedural shape is one, in however many parts it was painted
    several = len(record.boxes_xyxy) > 1 and not record.mask_source_id.startswith(PROCEDURAL)
    return Likeness(mask_source_id=record.mask_source_id, centre_xy=centre, several=several)


class _Ended(Exception):
    """The worker was told to end in the middle of a sample."""


class Worker(threading.Thread):
    """Works a project's queue off, one line after the other, as long as `augment review` runs.

    Args:
        folder: of the project; its augment.yaml is read anew for each line.
        name: of the dataset that new samples are added to.
        reporter: told what happens.
        on_done: called after each line.

    Attributes:
        fault: what ended it before it was told to; None as long as all is well.
    """

    def __init__(
        self, folder: Path, name: str, reporter: Reporter, on_done: Callable[[], None]
    ) -> None:
        super().__init__(name="augment-review-worker", daemon=True)
        self.fault: BaseException | None = None
        self._folder = folder
        self._dataset = name
        self._reporter = reporter
        self._on_done = on_done
        self._end = threading.Event()
        self._makers: dict[tuple[str, str], Maker] = {}
        self._made = 0
        self._said = ""
        self._embedded: set[str] = set()

    def stop(self, wait_s: float = 5.0) -> None:
        """Tell it to end after the sample that it is at, and give it some seconds.

        What was not finished stays in the queue; files and database bear being cut off anywhere.
        """
        self._end.set()
        self.join(wait_s)

    def run(self) -> None:
        """Work until `stop`."""
        try:
            while not self._end.is_set():
                with queue.sole_worker(self._folder) as mine:
                    while mine and not self._end.is_set():
                        self._work_off()
                        self._embed()
                        self._end.wait(POLL_S)
                self._end.wait(POLL_S)
        except _Ended:
            pass
        except Exception as fault:
            self.fault = fault

    def _work_off(self) -> None:
        for one in queue.pending(self._folder):
            if self._end.is_set():
                return
            try:
                made, faults = self._do(one)
                for fault in faults:
                    self._reporter.warn(fault)
                done = Finished(asked=one.id, made=tuple(made), error=" ".join(faults), time=now())
            except BusyError as busy:
                if self._said != str(busy):  # said once, and tried again until the other has ended
                    self._said = str(busy)
                    self._tell("", 0, 0)
                    self._reporter.say(f"What was asked for waits: {busy}")
                return
            except DatabaseError:
                raise  # nothing wrong with what was asked: the next `augment review` does it
            except _Ended:
                raise
            except Exception as error:
                # Whatever it was, the line is done with: left pending, it would end every review.
                known = isinstance(error, AugmentorError | GeneratorError)
                said = str(error) if known else f"{type(error).__name__}: {error}"
                done = Finished(asked=one.id, error=said, time=now())
                self._reporter.warn(said)
            self._made += len(done.made)
            self._said = done.error
            queue.append(self._folder, [done])
            self._tell("", 0, 0)
            self._on_done()

    def _embed(self) -> None:
        """Similarity, map and pairs for what is in the dataset now."""
        state = fiftyone_io.sample_keys(self._dataset)
        if state == self._embedded:
            return
        self._embedded = state
        try:
            if embed_dataset(open_project(self._folder), self._dataset, self):
                self._on_done()
        except DatabaseError:
            raise
        except (AugmentorError, GeneratorError) as error:
            self._reporter.warn(f"Similarity and map are not up to date: {error}")
        self._tell("", 0, 0)

    def say(self, text: str) -> None:
        """Pass a line of a workflow on."""
        self._reporter.say(text)

    def warn(self, text: str) -> None:
        """Pass a warning of a workflow on."""
        self._reporter.warn(text)

    def progress(self, task: str, done: int, total: int, note: str = "") -> None:
        """Take a workflow's progress for the panel; the place at which the worker can be ended."""
        if self._end.is_set():
            raise _Ended
        self._tell(task, done, total)

    def _do(self, one: Asked) -> tuple[list[str], list[str]]:
        """Do one line of the queue; returns the ids of the samples made, and a sentence on each
        that could not be."""
        project = open_project(self._folder)
        if one.kind == "rebuild":
            self._tell("Rebuilding the mix", 0, 1)
            built = build_dataset(with_mix(as_built(project), ratio=one.ratio), self)
            for line in remarks(built.summary):
                self.warn(line)
            # what came in anew has no place in the order of review yet
            fiftyone_io.prepare_views(self._dataset, project.config.classes)
            return [], []
        asked, _ = queue.read(self._folder)
        records, faults = _can_be_made(project, _records(project, one.sample_ids))
        made: list[str] = []
        count = self._count(one.number * len(records))
        for generator in sorted({record.generator for record in records.values()}):
            of_it = {i: r for i, r in records.items() if r.generator == generator}
            try:
                made += self._more(project, generator, requests_of(one, asked, of_it), count)
            except (BusyError, DatabaseError):
                raise
            except (AugmentorError, GeneratorError) as fault:  # the others' are made all the same
                faults.append(str(fault))
        fiftyone_io.rank(self._dataset)
        return made, faults

    def _more(
        self,
        project: Project,
        generator: str,
        requests: Sequence[SampleRequest],
        count: Callable[[SyntheticDefect], None],
    ) -> list[str]:
        """Make them, show them, return their ids."""
        maker = self._maker(project, generator)
        new = sample(project, maker, requests, count)
        pool = project.pool(maker.name)
        fiftyone_io.add_new(
            self._dataset, [PoolSample(pool, record) for record in new], project.config.classes
        )
        return [record.id for record in new]

    def _maker(self, project: Project, generator: str) -> Maker:
        """A generator, opened once for the settings, images, recipes and checkpoints of the day."""
        state = _made_from(project)
        if (generator, state) not in self._makers:
            self._makers = {k: m for k, m in self._makers.items() if k[1] == state}
            self._tell(f"Opening {generator}", 0, 1)
            opened = open_maker(project, _share_of(project, generator), self)
            state = _made_from(project)  # a recipe may have been trained for it
            self._makers[generator, state] = opened
        return self._makers[generator, state]

    def _count(self, total: int) -> Callable[[SyntheticDefect], None]:
        done = 0

        def count(record: SyntheticDefect) -> None:
            nonlocal done
            done += 1
            self.progress(f"Making samples of {record.class_name}", done, total)

        return count

    def _tell(self, task: str, done: int, total: int) -> None:
        queue.write_progress(
            self._folder,
            Progress(
                task=task,
                done=done,
                total=total,
                waiting=len(queue.pending(self._folder)),
                made=self._made,
                said=self._said,
            ),
        )


def _records(project: Project, sample_ids: Sequence[str]) -> dict[str, SyntheticDefect]:
    """Records of these samples, by id, from whichever pool they are in."""
    wanted = set(sample_ids)
    return {r.id: r for _, r in read_pools(project.pool("")) if r.id in wanted}


def _made_from(project: Project) -> str:
    """Hash of all that the project's generators are opened from."""
    files = [*project.checkpoint("").glob("*/done.json"), *project.recipes.glob("*.yaml")]
    settings = project.config.model_dump(mode="json")
    held = {str(path): sha256_of_file(path) for path in sorted(files)}
    return sha256_of([settings, content_key(training_examples(project)), held])


def _can_be_made(
    project: Project, records: dict[str, SyntheticDefect]
) -> tuple[dict[str, SyntheticDefect], list[str]]:
    """Those of the samples of which more can be made, and a sentence on each of the others."""
    held = logged_decisions(project)
    fit, faults = {}, []
    for sample_id, record in records.items():
        called = held[sample_id].class_name if sample_id in held else None
        if record.generator == CLASSICAL:
            faults.append(
                f"Sample {sample_id} is a copy of a whole real image: no defect in it was made."
            )
        elif called not in (None, record.class_name):
            faults.append(
                f"Sample {sample_id} was made as {record.class_name}, and so would more of it be; "
                f"for more {called} choose a sample that was made as that."
            )
        else:
            fit[sample_id] = record
    return fit, faults


def _share_of(project: Project, generator: str) -> str:
    """How the project names a generator: a recipe in a file goes by the file's path."""
    for name in project.shares:
        if Path(name).suffix in {".yaml", ".yml"} and load_recipe(name).name == generator:
            return name
    return generator
