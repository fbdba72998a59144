"""Generators of a project: opened by name, trained where that is still missing, and their pools
filled until enough samples are accepted."""

import difflib
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from augmentor.filters import apply_rules
from augmentor.records_io import load_records
from augmentor.splits import check_no_leak
from augmentor.workflows.project import Project
from augmentor.workflows.reporting import Reporter
from generator.baselines import BASELINES, make_baseline
from generator.compositing import composite
from generator.config import Recipe, load_recipe, recipe_names
from generator.errors import PoolError, RecipeError
from generator.interface import Painter
from generator.masks import DraftPlanner
from generator.quality.agreement import judge
from generator.records import DefectExample, SampleRequest, SyntheticDefect
from generator.sampling import (
    load_painter,
    make_request,
    read_pool,
    sample_id,
    sample_pool,
)
from generator.training import checkpoint_key, is_done, train

PASTING = frozenset({"copy-paste", "poisson-paste"})
"""Baselines that need a real defect's pixels, so only unmixed real shapes serve them."""


@dataclass(frozen=True)
class Maker:
    """A generator ready to sample: what paints, and what plans for it."""

    name: str
    painter: Painter
    planner: DraftPlanner


def training_examples(project: Project) -> list[DefectExample]:
    """The train split, after proving once more that it shares nothing with the others."""
    records = load_records(project.data)
    check_no_leak(records)
    return [record for record in records if record.split == "train"]


def train_recipe(project: Project, recipe: Recipe, reporter: Reporter) -> tuple[Path, bool]:
    """Fine-tune `recipe` on the train split; returns its checkpoint and whether there was work."""
    config, examples = project.config, training_examples(project)
    folder = project.checkpoint(recipe.name)
    key = checkpoint_key(recipe, examples, config.classes, config.seed)
    if is_done(folder, key):
        return folder, False
    defects = sum(not example.is_clean for example in examples)
    reporter.say(
        f"Training {recipe.name} on {defects} defect and {len(examples) - defects} clean images "
        f"of the train split, into {folder}"
    )
    train(
        recipe,
        examples,
        config.classes,
        folder,
        seed=config.seed,
        on_step=lambda done, total, loss: reporter.progress(
            f"Training {recipe.name}", done, total, f"loss {loss:.3f}"
        ),
    )
    return folder, True


def open_maker(project: Project, name: str, reporter: Reporter) -> Maker:
    """Open a baseline, or a recipe's checkpoint, trained first where it isn't yet."""
    examples = training_examples(project)
    config = project.config
    settings = config.masks
    if name in BASELINES:
        if name in PASTING:
            settings = settings.model_copy(update={"real_share": 1.0, "recombine": 0.0})
        return Maker(name, make_baseline(name), DraftPlanner(examples, config.classes, settings))
    _refuse_unknown(name)
    recipe = load_recipe(name)
    folder, _ = train_recipe(project, recipe, reporter)
    # What is sampled has to look like what was trained on: the same windows around a defect.
    crops = {"crop_factor": recipe.crops.factor, "least_px": recipe.crops.least_px}
    planner = DraftPlanner(
        examples,
        config.classes,
        settings.model_copy(update=crops),
        working_size=recipe.crops.whole_image_px,
    )
    return Maker(recipe.name, load_painter(folder), planner)


def _refuse_unknown(name: str) -> None:
    known = (*recipe_names(), *BASELINES)
    if name in known or Path(name).suffix in {".yaml", ".yml"}:
        return
    near = difflib.get_close_matches(name, known, n=1)
    hint = f"did you mean {near[0]!r}? " if near else ""
    raise RecipeError(
        f"There is no generator {name!r}; {hint}Recipes: {', '.join(recipe_names())}. "
        f"Baselines: {', '.join(BASELINES)}."
    )


def pool_of(project: Project, maker: Maker) -> list[SyntheticDefect]:
    """The samples in a maker's pool that it would make again today, in order, judged by the rules
    of today; samples of an older checkpoint or other mask settings stay on disk, unused."""
    pool = project.pool(maker.name)
    if not pool.is_dir():
        return []
    records = [record for record in read_pool(pool) if _is_current(project, maker, record)]
    records.sort(key=lambda r: (r.class_name, r.index))
    return apply_rules(records, project.config.rules)


def _is_current(project: Project, maker: Maker, record: SyntheticDefect) -> bool:
    (request,) = requests_for(
        project, maker, record.class_name, range(record.index, record.index + 1)
    )
    feather_px = project.config.feather_px
    return record.id == sample_id(maker.painter, maker.planner, request, feather_px)


def sample(
    project: Project,
    maker: Maker,
    requests: Sequence[SampleRequest],
    on_sample: Callable[[SyntheticDefect], None],
) -> list[SyntheticDefect]:
    """Make `requests`, except those that the pool holds already; judged by the rules of today."""
    made = sample_pool(
        maker.painter,
        maker.planner,
        requests,
        project.pool(maker.name),
        composite=composite,
        judge=partial(judge, rules=project.config.rules),
        feather_px=project.config.feather_px,
        on_sample=on_sample,
    )
    return apply_rules(made, project.config.rules)


def requests_for(
    project: Project, maker: Maker, class_name: str, numbers: range
) -> list[SampleRequest]:
    """The requests with these running numbers; a number always means the same sample."""
    seed = project.config.mix.seed
    return [make_request(maker.painter.fingerprint, class_name, n, seed) for n in numbers]


def fill_pool(
    project: Project,
    maker: Maker,
    wanted: Mapping[str, int],
    rejected_by_hand: frozenset[str],
    reporter: Reporter,
) -> list[SyntheticDefect]:
    """Sample until `wanted[class]` samples of each class are accepted, or the limit of attempts.

    Whole blocks are made, always at the same places of the running numbers, so that a run that was
    killed and repeated ends with the same files as one that was not.
    """
    block = maker.painter.batch_size
    for class_name, number in wanted.items():
        task, good = f"Sampling {maker.name} {class_name}", 0
        limit = max(block, math.ceil(number * project.config.mix.attempts))
        for start in range(0, limit, block):
            if good >= number:
                break
            requests = requests_for(project, maker, class_name, range(start, start + block))
            made = sample(project, maker, requests, lambda record: None)
            good += sum(r.verdict == "accepted" and r.id not in rejected_by_hand for r in made)
            reporter.progress(task, min(good, number), number)
    return pool_of(project, maker)


def read_samples(project: Project, chosen: Iterable[tuple[str, str]]) -> list[SyntheticDefect]:
    """The samples with these (generator, id), in that order.

    Raises:
        PoolError: one is no longer in its pool.
    """
    chosen = list(chosen)
    pools = {
        name: {record.id: record for record in read_pool(project.pool(name))}
        for name in dict.fromkeys(generator for generator, _ in chosen)
    }
    missing = [sample for name, sample in chosen if sample not in pools[name]]
    if missing:
        raise PoolError(
            f"{len(missing)} samples of the dataset are no longer in their pools, the first is "
            f"{missing[0]}; build it again: augment build"
        )
    return [pools[name][sample] for name, sample in chosen]
