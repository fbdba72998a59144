"""Generators of a project: opened by name, trained where that is still missing, and their pools
filled until enough samples are accepted."""

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from augmentor.allocator import keep_freed_memory
from augmentor.classical import NAME as CLASSICAL
from augmentor.classical import write_classical_pool
from augmentor.decisions import Standing
from augmentor.evenness import count_even, most_of_one
from augmentor.filters import apply_decisions, apply_rules
from augmentor.mix_plan import lenders
from augmentor.records_io import load_records
from augmentor.splits import check_no_leak
from augmentor.workflows.alone import alone
from augmentor.workflows.built import build_again
from augmentor.workflows.costs import Meter, spent
from augmentor.workflows.project import Project
from augmentor.workflows.recipes import open_recipe
from augmentor.workflows.reporting import Reporter
from augmentor.workflows.scoring import Scorer
from generator.baselines import BASELINES, PLAIN_PASTE, make_baseline
from generator.checkpoints import SHELF
from generator.compositing import composite
from generator.config import Recipe
from generator.errors import CheckpointError, PoolError, RecipeError
from generator.interface import Painter
from generator.masks import DraftPlanner
from generator.plain_paste import PlainPlanner
from generator.pool import forget_lost, read_pool
from generator.quality.agreement import judge
from generator.records import DefectExample, SampleRequest, SyntheticDefect
from generator.sampling import (
    load_painter,
    make_request,
    sample_id,
    sample_pool,
)
from generator.training import checkpoint_key, take_up, train

PASTING = frozenset({"copy-paste", PLAIN_PASTE, "poisson-paste"})
"""Baselines that need a real defect's pixels, so only unmixed real shapes serve them."""


AS_BASELINE = {
    "own_share": 0.0,
    "background_candidates": 1,
    "together_share": 0.0,
    "least_severity": 1.0,
    "most_severity": 1.0,
}
"""Settings of the planner for what anybody would paste: one defect, as it is, on any surface."""


@dataclass(frozen=True)
class Maker:
    """A generator ready to sample: what paints, what plans for it, and what compares its samples
    with real defects (None judges them by their masks alone)."""

    name: str
    painter: Painter
    planner: DraftPlanner
    scorer: Scorer | None = None


def training_examples(
    project: Project, records: Sequence[DefectExample] | None = None
) -> list[DefectExample]:
    """The train split, after proving once more that it shares nothing with the others.

    Args:
        project: whose.
        records: all its records, where they were read already; None reads them.
    """
    records = load_records(project.data) if records is None else records
    check_no_leak(records)
    return [record for record in records if record.split == "train"]


@alone("train")
def train_recipe(
    project: Project,
    recipe: Recipe,
    reporter: Reporter,
    examples: Sequence[DefectExample] | None = None,
) -> tuple[Path, bool]:
    """Fine-tune `recipe` on the train split; returns its checkpoint and whether there was work.

    `examples` is the train split where it was read already; None reads it.
    """
    config = project.config
    examples = training_examples(project) if examples is None else examples
    folder = project.checkpoint(recipe.name)
    key = checkpoint_key(recipe, examples, config.classes, config.seed)
    if take_up(folder, key, recipe):
        return folder, False
    keep_freed_memory()
    defects = sum(not example.is_clean for example in examples)
    reporter.say(
        f"Training {recipe.name} on {defects} defect and {len(examples) - defects} clean images "
        f"of the train split, into {folder}"
    )
    with spent(project, f"train {recipe.name}"):
        train(
            recipe,
            examples,
            config.classes,
            folder,
            seed=config.seed,
            on_step=lambda done, total, loss: reporter.progress(
                f"Training {recipe.name}", done, total, f"loss {loss:.3f}"
            ),
            on_stage=lambda stage, moving: reporter.say(
                f"Stage {stage.name}: {moving:,} trainable parameters"
            ),
            on_note=reporter.say,
        )
    return folder, True


def open_maker(
    project: Project,
    name: str,
    reporter: Reporter,
    examples: Sequence[DefectExample] | None = None,
    *,
    as_baseline: bool = False,
) -> Maker:
    """Open a baseline, or a recipe's checkpoint, trained first where it isn't yet.

    Args:
        project: whose.
        name: of the generator. `NAME@STEP` is the checkpoint that a recipe with
            `training.keep_checkpoints` kept there.
        reporter: told of the progress.
        examples: the train split where it was read already; None reads it.
        as_baseline: one defect as it is, on any clean image, whatever `masks` says of that, and
            judged by the masks alone.

    Raises:
        RecipeError: there is no such generator, or it makes no samples on request.
    """
    if name == CLASSICAL:
        raise RecipeError(
            "classical copies whole real images and makes nothing on request; have it in a mix: "
            "augment build --generator copy-paste=0.5,classical=0.5"
        )
    examples = training_examples(project) if examples is None else examples
    config = project.config
    settings = config.masks
    if as_baseline:
        settings = settings.model_copy(update=AS_BASELINE)
    scorer = None if as_baseline else Scorer(project, examples, reporter)
    if name in BASELINES:
        if name in PASTING:
            settings = settings.model_copy(update={"real_share": 1.0, "recombine": 0.0})
        plan = PlainPlanner if name == PLAIN_PASTE else DraftPlanner
        planner = plan(examples, config.classes, settings)
        return Maker(name, make_baseline(name), planner, scorer)
    recipe_name, _, step = name.partition("@")
    recipe = open_recipe(project, recipe_name)
    folder = _checkpoint(project, recipe, step, examples, reporter)
    # What is sampled has to look like what was trained on: the same windows around a defect.
    crops = {"crop_factor": recipe.crops.factor, "least_px": recipe.crops.least_px}
    planner = DraftPlanner(
        examples,
        config.classes,
        settings.model_copy(update=crops),
        working_size=recipe.crops.whole_image_px,
    )
    painter = load_painter(folder)
    # A recipe from a file has a name of its own, and a kept checkpoint is another generator.
    painter.name = f"{recipe.name}@{step}" if step else recipe.name
    return Maker(painter.name, painter, planner, scorer)


def _checkpoint(
    project: Project,
    recipe: Recipe,
    step: str,
    examples: Sequence[DefectExample],
    reporter: Reporter,
) -> Path:
    """The finished checkpoint of a recipe, or the one that was kept after a step."""
    if not step:
        return train_recipe(project, recipe, reporter, examples)[0]
    shelf = project.checkpoint(recipe.name) / SHELF
    kept = {int(path.name.removeprefix("step-")): path for path in shelf.glob("step-*")}
    if not step.isdigit() or int(step) not in kept:
        steps = ", ".join(map(str, sorted(kept))) or "none; set training.keep_checkpoints"
        raise CheckpointError(
            f"Recipe {recipe.name} has no checkpoint after step {step!r} (kept: {steps}); type "
            f"augment train {recipe.name}, or leave away what stands behind the @."
        )
    key = checkpoint_key(recipe, examples, project.config.classes, project.config.seed)
    if not take_up(kept[int(step)], key, recipe):
        raise CheckpointError(
            f"{kept[int(step)]} was trained by another recipe or on other images than those of the "
            f"train split today; train it again: augment train {recipe.name}"
        )
    return kept[int(step)]


def pool_of(project: Project, maker: Maker) -> list[SyntheticDefect]:
    """The samples in a maker's pool that it would make again today, in order, judged by the rules
    of today; samples of an older checkpoint or other mask settings stay on disk, unused."""
    pool = project.pool(maker.name)
    if not pool.is_dir():
        return []
    records = [record for record in read_pool(pool) if is_current(project, maker, record)]
    records.sort(key=lambda r: (r.class_name, r.index))
    return _judged(project, maker, records)


def _judged(
    project: Project, maker: Maker, records: Sequence[SyntheticDefect]
) -> list[SyntheticDefect]:
    if maker.scorer is None:
        return apply_rules(records, project.config.filters)
    return maker.scorer.judge(project.pool(maker.name), records)


def is_current(project: Project, maker: Maker, record: SyntheticDefect) -> bool:
    """Whether the maker would make this sample again today."""
    if record.origin:  # a person asked for it, so no running number stands for it
        request = request_of(record)
    else:
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
    meter: Meter | None = None,
) -> list[SyntheticDefect]:
    """Make `requests`, except those that the pool holds already; judged by the rules of today.
    `meter` adds up what several calls take."""
    keep_freed_memory()
    with (meter or Meter(project, f"sample {maker.name}")).running():
        made = sample_pool(
            maker.painter,
            maker.planner,
            requests,
            project.pool(maker.name),
            composite=composite,
            judge=partial(judge, rules=project.config.filters.mask),
            feather_px=project.config.feather_px,
            on_sample=on_sample,
        )
    return _judged(project, maker, made)


def request_of(record: SyntheticDefect) -> SampleRequest:
    """The request that a sample was made for."""
    return SampleRequest(
        class_name=record.class_name,
        index=record.index,
        seed=record.seed,
        like=record.like,
        origin=record.origin,
    )


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
    standing: Mapping[str, Standing],
    reporter: Reporter,
) -> list[SyntheticDefect]:
    """Sample until `wanted[class]` samples of each class are accepted, none of its real images
    having lent more than its largest share of them, or the limit of attempts.

    Whole blocks are made, always at the same places of the running numbers, so that a run that was
    killed and repeated ends with the same files as one that was not.

    Args:
        project: whose pool is filled.
        maker: of this project.
        wanted: number of accepted samples by class.
        standing: what people decided, by sample id; it outranks the rules.
        reporter: told of the progress.

    Returns:
        The whole pool, judged by the rules and by people.

    Raises:
        DecisionError: a sample was relabelled to a class that doesn't exist.
    """

    def decided(records: Sequence[SyntheticDefect]) -> list[SyntheticDefect]:
        return apply_decisions(records, standing, project.config.classes)

    if lost := forget_lost(project.pool(maker.name)):
        reporter.warn(
            f"The image or mask of {lost} sample{'s' if lost > 1 else ''} in "
            f"{project.pool(maker.name)} is gone; what is wanted of them is made again."
        )
    block, meter = maker.painter.batch_size, Meter(project, f"sample {maker.name}")
    held = pool_of(project, maker) if standing else []
    moved = [
        now
        for before, now in zip(held, decided(held), strict=True)
        if now.verdict == "accepted" and now.class_name != before.class_name
    ]
    for class_name, number in wanted.items():
        task = f"Sampling {maker.name} {class_name}"
        most = most_of_one(number, len(lenders(maker.planner.examples, class_name)))
        good = Counter(record.lender for record in moved if record.class_name == class_name)
        limit = max(block, math.ceil(number * project.config.mix.attempts))
        for start in range(0, limit, block):
            if (even := count_even(good, most)) >= number:
                break
            reporter.progress(task, even, number)
            requests = requests_for(project, maker, class_name, range(start, start + block))
            made = decided(sample(project, maker, requests, lambda record: None, meter))
            good.update(
                r.lender for r in made if r.verdict == "accepted" and r.class_name == class_name
            )
        reporter.progress(task, min(good.total(), number), number)
    return decided(pool_of(project, maker))


def fill_pools(
    project: Project,
    wanted: Mapping[tuple[str, str], int],
    examples: Sequence[DefectExample],
    standing: Mapping[str, Standing],
    reporter: Reporter,
    maker_of: Callable[[str], Maker],
) -> tuple[dict[str, list[SyntheticDefect]], dict[str, str]]:
    """The pools that a mix is chosen from, and what identifies each one's generator.

    Args:
        project: whose pools are filled.
        wanted: number of accepted samples by generator and class.
        examples: the train split.
        standing: what people decided, by sample id.
        reporter: told of the progress.
        maker_of: opens a generator by name.

    Returns:
        Two mappings by generator: its whole pool, judged, and its fingerprint.
    """
    pools, fingerprints = {}, {}
    for name in dict.fromkeys(generator for generator, _ in wanted):
        numbers = {c: n for (generator, c), n in wanted.items() if generator == name}
        if name == CLASSICAL:
            pools[name] = classical_copies(project, examples, numbers, standing)
            fingerprints[name] = CLASSICAL
            continue
        maker = maker_of(name)
        pools[name] = fill_pool(project, maker, numbers, standing, reporter)
        fingerprints[name] = maker.painter.fingerprint
    return pools, fingerprints


def classical_copies(
    project: Project,
    examples: Sequence[DefectExample],
    wanted: Mapping[str, int],
    standing: Mapping[str, Standing],
) -> list[SyntheticDefect]:
    """Albumentations' copies of real defect images: `wanted[class]` that nobody rejected, as far as
    the limit of attempts allows. They carry real defects, so no rule judges them. A whole image can
    be copied for the class that it is labelled as, and for no other."""
    defects = [example for example in examples if not example.is_clean]
    labels = {example.label for example in defects}
    wanted = {name: number for name, number in wanted.items() if name in labels}
    limits = {c: math.ceil(n * project.config.mix.attempts) for c, n in wanted.items()}
    numbers = dict(wanted)
    while True:
        made = write_classical_pool(
            defects, numbers, project.pool(CLASSICAL), seed=project.config.mix.seed
        )
        made = apply_decisions(made, standing, project.config.classes)
        good = Counter(r.class_name for r in made if r.verdict == "accepted")
        more = {
            c: min(numbers[c] + n - good[c], limits[c]) for c, n in wanted.items() if good[c] < n
        }
        if all(numbers[c] >= n for c, n in more.items()):
            return made
        numbers |= more


def read_samples(project: Project, chosen: Iterable[tuple[str, str, str]]) -> list[SyntheticDefect]:
    """The samples with these (generator, id, class as labelled in the dataset), in that order.

    Raises:
        PoolError: one is no longer in its pool.
    """
    chosen = list(chosen)
    pools = {
        name: {record.id: record for record in read_pool(project.pool(name))}
        for name in dict.fromkeys(generator for generator, _, _ in chosen)
    }
    missing = [sample for name, sample, _ in chosen if sample not in pools[name]]
    if missing:
        raise PoolError(
            f"{len(missing)} samples of the dataset are no longer in their pools, the first is "
            f"{missing[0]}; build it again: {build_again(project)}"
        )
    # a person may have given it another class than it was made as
    return [
        pools[name][sample].model_copy(update={"class_name": class_name})
        for name, sample, class_name in chosen
    ]
