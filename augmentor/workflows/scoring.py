"""Scores of a project's samples: compared with the train split's real defects, each once."""

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

from augmentor.errors import ProjectError
from augmentor.filters import apply_rules
from augmentor.items import PoolSample
from augmentor.workflows.project import Project
from augmentor.workflows.reporting import Reporter
from generator.quality.features import Extractor, open_extractor
from generator.quality.scoring import BLOCK, Scores, read_scores, scorer_key, write_scores
from generator.quality.scoring import Scorer as RealDefects
from generator.quality.windows import read_sample
from generator.records import DefectExample, SyntheticDefect
from generator.sampling import MANIFEST, read_pool


class Scorer:
    """Compares samples with real defects; opened by the first sample that needs it.

    Nothing is compared where no rule asks for it, and where no real defect has a known place.

    Args:
        project: whose `filters` say which rules judge.
        examples: the train split.
        reporter: told when the extractor has to be trained first.
    """

    def __init__(
        self, project: Project, examples: Sequence[DefectExample], reporter: Reporter
    ) -> None:
        self.project = project
        self.examples = list(examples)
        self.reporter = reporter
        placed = any(example.instances for example in self.examples)
        self.enabled = placed and project.config.filters.compares
        self._known: dict[Path, dict[str, Scores]] = {}

    @cached_property
    def extractor(self) -> Extractor:
        """The project's feature extractor; trained first where that is still missing."""
        config = self.project.config
        return open_extractor(
            self.examples,
            config.classes,
            self.project.quality,
            weights=config.filters.weights,
            seed=config.seed,
            on_step=lambda done, total, loss: self.reporter.progress(
                "Learning to compare defects", done, total, f"loss {loss:.3f}"
            ),
        )

    @cached_property
    def _key(self) -> str:
        config = self.project.config
        return scorer_key(self.examples, config.classes, self.extractor, config.seed)

    @cached_property
    def _measured(self) -> RealDefects:
        """The real defects, measured once for all blocks of samples."""
        config = self.project.config
        return RealDefects(self.examples, config.classes, self.extractor, seed=config.seed)

    def scores(self, pool: Path, records: Sequence[SyntheticDefect]) -> dict[str, Scores]:
        """Scores of those of `records` that can be compared, by id; what is new is written down
        beside the pool."""
        if not self.enabled:
            return {}
        if pool not in self._known:
            self._known[pool] = dict(read_scores(pool, self._key))
        known = self._known[pool]
        new = [record for record in records if record.id not in known and record.boxes_xyxy]
        for first in range(0, len(new), BLOCK):
            block = new[first : first + BLOCK]
            made = self._measured.score(
                [read_sample(pool, record) for record in block],
                [record.class_name for record in block],
                [record.lender for record in block],
            )
            known.update({r.id: scores for r, scores in zip(block, made, strict=True)})
            write_scores(pool, self._key, known)
            if len(new) > BLOCK:
                done = min(first + BLOCK, len(new))
                self.reporter.progress(f"Comparing {pool.name}", done, len(new))
        return {record.id: known[record.id] for record in records if record.id in known}

    def judge(self, pool: Path, records: Sequence[SyntheticDefect]) -> list[SyntheticDefect]:
        """The records with their scores, and with the verdicts of the rules of today."""
        scores = self.scores(pool, records)
        name = self.extractor.name if scores else ""
        return apply_rules(records, self.project.config.filters, scores, name)


def judged_samples(
    project: Project,
    examples: Sequence[DefectExample],
    reporter: Reporter,
    generator: str | None = None,
) -> list[PoolSample]:
    """Every sample of the project's pools with its scores, judged by the rules of today.

    What an older checkpoint left in a pool is passed over, and what was made of an image that is
    not in the train split today.

    Args:
        project: whose pools are read.
        examples: the train split.
        reporter: told when something has to be learnt or measured first.
        generator: only its pool; None for all.

    Raises:
        ProjectError: there is no pool, or none of this generator.
    """
    folders = {p.parent.name: p.parent for p in sorted(project.pool("").glob(f"*/{MANIFEST}"))}
    # albumentations' copies of real images are an arm of the evaluation, and no samples
    folders.pop("classical", None)
    if generator is not None and generator not in folders:
        have = f"there are pools of {', '.join(folders)}" if folders else "there is no pool yet"
        raise ProjectError(
            f"There is no pool of {generator!r} ({have}); make one: augment sample -n 100 "
            f"--generator {generator}"
        )
    scorer = Scorer(project, examples, reporter)
    found, train = [], {example.id for example in examples}
    for name, folder in folders.items():
        records = read_pool(folder) if generator in (None, name) else []
        current = [
            record
            for record in records
            if record.fingerprint == records[-1].fingerprint and train.issuperset(record.source_ids)
        ]
        found += [PoolSample(folder, record) for record in scorer.judge(folder, current)]
    if not found:
        raise ProjectError(
            "There is no sample to look at yet; make some: augment build --ratio 0.5"
        )
    return found
