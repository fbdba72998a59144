"""Scores of a project's samples: compared with the train split's real defects, each once."""

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

from augmentor.filters import apply_rules
from augmentor.workflows.project import Project
from augmentor.workflows.reporting import Reporter
from generator.quality.features import Extractor, open_extractor
from generator.quality.scoring import BLOCK, Scores, read_scores, scorer_key, write_scores
from generator.quality.scoring import Scorer as RealDefects
from generator.quality.windows import read_sample
from generator.records import DefectExample, SyntheticDefect


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
