"""When things happen in a training: its length, rates, stages, and what falls due."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from generator.config import TrainSettings
from generator.tuning.tuning import Stage


@dataclass(frozen=True)
class Calendar:
    """A recipe's lengths in optimiser steps.

    Attributes:
        settings: the recipe's section.
        unit: steps in one of the recipe's units: 1, or those of an epoch.
        steps: the whole training.
        stages: spans in which the same weights move, by their start.
    """

    settings: TrainSettings
    unit: int
    steps: int
    stages: tuple[Stage, ...]

    @classmethod
    def of(
        cls,
        settings: TrainSettings,
        instances: int,
        stages: Sequence[Stage],
        clean_share: float = 0.0,
    ) -> "Calendar":
        """The calendar of a training on `instances` defect instances (or images, where no
        instance is known); `clean_share` of what it draws, as `CropData.draw_classes` does, are
        none of them."""
        size = settings.batch_size
        clean = min(clean_share * size, max(size - 1, 1))
        per_epoch = max(math.ceil(instances / ((size - clean) * settings.accumulation)), 1)
        unit = 1 if settings.epochs is None else per_epoch
        length = settings.steps if settings.epochs is None else settings.epochs
        assert length is not None
        return cls(settings, unit, length * unit, tuple(sorted(stages, key=lambda s: s.start)))

    def due(self, every: int, step: int) -> bool:
        """Whether something that happens every `every` units happens after `step` steps."""
        return every > 0 and step % (every * self.unit) == 0

    def stage(self, step: int) -> Stage:
        """The stage that step number `step` (from 0) belongs to."""
        return [stage for stage in self.stages if stage.start * self.unit <= step][-1]

    def rate(self, step: int) -> float:
        """Learning rate of step number `step` (from 0), its stage's factor included."""
        settings = self.settings
        base = settings.learning_rate
        if settings.schedule == "milestones":
            for start in sorted(settings.milestones):
                if start * self.unit <= step:
                    base = settings.milestones[start]
        base *= self.stage(step).rate
        if step < settings.warmup_steps:
            return base * (step + 1) / settings.warmup_steps
        if settings.schedule != "cosine":
            return base
        length = max(self.steps - settings.warmup_steps, 1)
        cosine = 0.5 * (1 + math.cos(math.pi * min((step - settings.warmup_steps) / length, 1)))
        return base * (settings.final_rate + (1 - settings.final_rate) * cosine)
