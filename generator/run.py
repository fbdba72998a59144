"""A training on its way: everything built, what is written after a step, and the end."""

import json
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor

from generator.assembly import Parts, autocast, base_hash, build, image_channels, pick_precision
from generator.calendar import Calendar
from generator.checkpoints import (
    DATA,
    FEATURES,
    METRICS,
    RECIPE,
    SAMPLES,
    SHELF,
    VALIDATION,
    State,
    clear,
    describe_data,
    load_state,
    save_finished,
    save_state,
    state_path,
)
from generator.config import Recipe, dump_recipe
from generator.data import CropData
from generator.errors import RecipeError
from generator.feed import Feed
from generator.files import read_lines, write_json, write_lines, write_text
from generator.portions import release_memory
from generator.prior import Prior, forget_prior
from generator.records import DefectExample
from generator.sheets import write_sheet
from generator.stepping import Stepper
from generator.team import Team
from generator.tuning.tuning import CONDITIONING, Stage
from generator.validation import Validation, as_watched, numbers

T = TypeVar("T")

_BLIND = (
    "Conditioning {!r} does not see the background, so it can only learn whole images, and these "
    "examples mark where their defects are; choose conditioning 'class_mask_background'."
)


@dataclass
class Run:
    """A training on its way."""

    recipe: Recipe
    folder: Path
    key: str
    seed: int
    data: CropData
    parts: Parts
    average: dict[str, Tensor]
    calendar: Calendar
    stepper: Stepper
    feed: Feed
    team: Team
    step: int
    notes: tuple[str, ...]
    examples: Sequence[DefectExample]
    tell: Callable[[str], None]
    validation: Validation | None = None

    @classmethod
    def open(
        cls,
        recipe: Recipe,
        examples: Sequence[DefectExample],
        classes: Sequence[str],
        folder: Path,
        key: str,
        seed: int,
        tell: Callable[[str], None] = lambda said: None,
    ) -> "Run":
        """Build everything, and continue from a state where there is one; `tell` hears what the
        data led to and what takes long."""
        settings = recipe.training
        team = Team(settings.tracker, folder, _flat(recipe.model_dump(mode="json")))
        team.rows(settings.batch_size * settings.accumulation)
        grey = all(e.grey for e in examples)
        data = CropData(examples, classes, recipe.crops, image_channels(recipe, grey))
        parts = build(recipe, classes, data.channels, spread=data.spread(seed), seed=seed)
        if not (data.whole or parts.conditioning.sees_background or parts.backbone.blends):
            raise RecipeError(_BLIND.format(recipe.conditioning.kind))
        notes = (*data.notes, *parts.conditioning.begin(data, seed))
        precision = pick_precision(recipe, team.device)
        parts.backbone.settle(team.device, precision, training=True)
        parts.conditioning.to(team.device)
        if settings.gradient_checkpointing and hasattr(parts.backbone, "save_memory"):
            parts.backbone.save_memory()
        optimizer = torch.optim.AdamW(
            _groups(parts),
            lr=settings.learning_rate,
            weight_decay=settings.weight_decay,
            fused=True,
        )
        average = {name: p.detach().clone() for name, p in parts.trained.items()}
        scaler = torch.amp.GradScaler(team.device.type, enabled=precision == torch.float16)
        state = load_state(folder, key)
        if state is not None and (scale := state.restore(parts.trained, average, optimizer)):
            scaler.load_state_dict(scaler.state_dict() | scale)
        stepper = Stepper(
            parts=parts,
            optimizer=optimizer,
            scaler=scaler,
            in_precision=autocast(team.device, precision),
            team=team,
            seed=seed,
            clip=settings.gradient_clip,
            at_once=settings.batch_size,
        )
        stages = parts.tuning.stages(parts.trained)
        calendar = Calendar.of(settings, data.instance_count, stages, data.clean_share)
        for note in notes:
            tell(note)
        variants, device = settings.variants, team.device
        feed = Feed(data, parts, seed=seed, variants=variants, device=device, tell=tell)
        if settings.compile and hasattr(parts.backbone, "compile_blocks"):
            parts.backbone.compile_blocks()
        run = cls(
            *(recipe, folder, key, seed, data, parts, average),
            *(calendar, stepper, feed, team, 0 if state is None else state.step, notes, examples),
            tell,
        )
        team.wait()
        if team.leads:
            run._describe(examples, fresh=state is None)
        team.wait()
        run._keep_prior()
        return run

    def _keep_prior(self) -> None:
        """What the untouched network paints, where the objective keeps it in mind."""
        if self.parts.objective.prior is None:
            if self.team.leads:
                forget_prior(self.folder)
            return
        prior = Prior(
            *(self.recipe, self.parts, self.folder, self.key, self.seed),
            *(self.data.canvas_px, self.team.device),
        )
        if self.team.leads:
            prior.paint(untouched=self.step == 0)
        self.team.wait()
        self.feed.prior = prior.read()

    def enter(self, stage: Stage) -> int:
        """Let the stage's weights move and hold all others; returns how many move."""
        for name, parameter in self.parts.trained.items():
            parameter.requires_grad_(name in stage.names)
            parameter.grad = None
        if hasattr(self.parts.backbone, "enter"):
            self.parts.backbone.enter(stage.name)
        self.parts.backbone.train()
        return sum(self.parts.trained[name].numel() for name in stage.names)

    def follow(self) -> None:
        """Exponential moving average; a young one follows faster, so it forgets the start."""
        share = 1 - min(self.recipe.training.ema_decay, (1 + self.step) / (10 + self.step))
        with torch.no_grad():
            torch._foreach_lerp_(
                list(self.average.values()), list(self.parts.trained.values()), share
            )

    def report(self, loss: float, norm: float) -> None:
        """What is written after a step: metrics, sheets, measurements, states."""
        settings, calendar, step = self.recipe.training, self.calendar, self.step
        if not self.team.leads:
            return
        last = step == calendar.steps
        line = {"step": step, "loss": loss, "gradient_norm": norm, "rate": calendar.rate(step - 1)}
        if step % settings.log_every == 0 or last:
            _append(self.folder / METRICS, line | {"stage": calendar.stage(step - 1).name})
            self.team.log({name: line[name] for name in ("loss", "gradient_norm", "rate")}, step)
        if calendar.due(settings.sheet_every, step) or last:
            picture = self.folder / SAMPLES / f"step-{step:06d}.png"
            self._watched(
                lambda recipe: write_sheet(
                    *(picture, recipe, self.parts, self.data, self.seed, self.team.device)
                )
            )
        if calendar.due(settings.validate_every, step) or (last and settings.validate_every):
            self._validate()
        if calendar.due(settings.checkpoint_every, step) and not last:
            self._keep()

    def _validate(self) -> None:
        """Measure fixed-seed samples; a line of validation.jsonl, and the tracker."""
        if self.validation is None:
            self.validation = Validation(
                self.data, self.examples, self.folder / FEATURES, self.seed
            )
        measured = self.validation
        rows = self._watched(lambda recipe: measured.measure(recipe, self.parts, self.team.device))
        if rows is not None:
            _append(self.folder / VALIDATION, {"step": self.step, "scores": rows})
            self.team.log(numbers(rows), self.step)

    def _watched(self, look: Callable[[Recipe], T]) -> T | None:
        """What is seen with the averaged weights; None where memory runs out over it, as beside a
        training there may be too little, which goes on without."""
        seen = None
        try:
            with averaged(self.parts, self.average):
                seen = look(as_watched(self.recipe))
        except torch.OutOfMemoryError:
            self.tell(
                f"There was too little memory to look at step {self.step}; the training goes on."
            )
        finally:
            self.parts.backbone.train()
        if seen is None:
            release_memory()
        return seen

    def finish(self) -> None:
        """The finished checkpoint; nothing is left to resume."""
        if self.team.leads:
            self.parts.tuning.export(self.parts.backbone, self.average, self.folder)
            conditioning = self.parts.conditioning
            own = {name: self.average[CONDITIONING + name] for name in conditioning.own_weights()}
            conditioning.export(own, self.folder)
            # Last, since it vouches for the rest.
            save_finished(self.folder, self.key, self.step, self.average)
            # The state is several times as large as the weights.
            shutil.rmtree(state_path(self.folder).parent, ignore_errors=True)
        # First, since a tracker's end takes the connection between the processes down.
        self.team.wait()
        self.team.leave()

    def _keep(self) -> None:
        """A state to resume from, and perhaps a checkpoint to sample from."""
        keep = self.recipe.training.keep_checkpoints
        if keep:
            shelf = self.folder / SHELF
            place = shelf / f"step-{self.step:06d}"
            for name in (RECIPE, DATA):
                write_text(place / name, (self.folder / name).read_text(encoding="utf-8"))
            save_finished(place, self.key, self.step, self.average)
            for old in sorted(shelf.glob("step-*"))[:-keep]:
                shutil.rmtree(old)
        scaler = {k: v for k, v in self.stepper.scaler.state_dict().items() if "factor" not in k}
        state = State.of(
            *(self.key, self.step, self.parts.trained, self.average, self.stepper.optimizer),
            scaler,
        )
        save_state(self.folder, state)

    def _describe(self, examples: Sequence[DefectExample], *, fresh: bool) -> None:
        """What is written before the first step of this process."""
        if fresh:
            clear(self.folder)
        write_text(self.folder / RECIPE, dump_recipe(self.recipe))
        said = describe_data(examples, self.data.classes) | {
            "channels": self.data.channels,
            "whole_images": self.data.whole,
            "clean_crops_from": self.data.clean_source,
            "spread": self.parts.conditioning.spread,
            "seed": self.seed,
            "key": self.key,
            "base": base_hash(self.recipe),
            "notes": list(self.notes),
            "conditioning": self.parts.conditioning.describe(),
        }
        write_json(self.folder / DATA, said)
        for name in (METRICS, VALIDATION):
            if (self.folder / name).exists():
                past = read_lines(self.folder / name)
                write_lines(self.folder / name, [x for x in past if x["step"] <= self.step])


def _groups(parts: Parts) -> list[dict[str, Any]]:
    """What is trained, in its order, by its share of the learning rate."""
    own = {n: p for n, p in parts.trained.items() if n.startswith(CONDITIONING)}
    groups = [
        {"params": [p for n, p in parts.trained.items() if n not in own], "share": 1.0},
        {"params": list(own.values()), "share": parts.conditioning.rate},
    ]
    return [group for group in groups if group["params"]]


@contextmanager
def averaged(parts: Parts, average: Mapping[str, Tensor]) -> Iterator[None]:
    """The averaged weights in the network, for the time of the block."""
    kept = {name: parameter.data for name, parameter in parts.trained.items()}
    try:
        for name, parameter in parts.trained.items():
            parameter.data = average[name]
        yield
    finally:
        for name, parameter in parts.trained.items():
            parameter.data = kept[name]


def _flat(content: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings as `section.key`, as trackers take them."""
    flat: dict[str, Any] = {}
    for key, value in content.items():
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = (
                value if isinstance(value, int | float | str | bool) else str(value)
            )
    return flat


def _append(path: Path, line: dict[str, Any]) -> None:
    with path.open("a", encoding="utf-8") as stream:
        stream.write(json.dumps(line, sort_keys=True) + "\n")
