"""Build: real images, a ratio, and whatever is still missing, to a mixed dataset."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from augmentor import fiftyone_io
from augmentor.classical import NAME as CLASSICAL
from augmentor.decisions import Standing
from augmentor.errors import UsageError
from augmentor.exporters import write_training_export
from augmentor.filters import HAND, count_decisions, count_rejections
from augmentor.items import PoolSample
from augmentor.mix_plan import MixPlan, lenders, plan_mix
from augmentor.mixing import Mix, check_sources, mixed_records, select, uneven
from augmentor.records_io import load_records, located
from augmentor.workflows.alone import alone
from augmentor.workflows.built import MANIFEST, STAMP, content_key, manifest_hash
from augmentor.workflows.costs import spent
from augmentor.workflows.decisions import classes_as_made, hand_decisions
from augmentor.workflows.generators import (
    fill_pools,
    open_maker,
    training_examples,
)
from augmentor.workflows.project import MixConfig, Project, ProjectConfig
from augmentor.workflows.reporting import Reporter
from downstream.files import read_json
from generator.config import parse
from generator.files import sha256_of, write_json
from generator.quality.sheet import write_sheet
from generator.records import DefectExample, SyntheticDefect


@dataclass(frozen=True)
class Built:
    """A built dataset: its folder, and what the CLI prints of it."""

    export: Path
    summary: dict[str, Any]


def with_mix(
    project: Project,
    *,
    ratio: float | None = None,
    generators: str | None = None,
    balance: str | None = None,
    seed: int | None = None,
) -> Project:
    """The project with another mix, as the options of `augment build` ask for it.

    Raises:
        ProjectError: an option is out of its bounds; the sentence says which.
    """
    asked = {"ratio": ratio, "balance": balance, "seed": seed}
    update: dict[str, Any] = {name: value for name, value in asked.items() if value is not None}
    if generators is not None:
        update["generators"] = _shares(generators)
    mix = parse(
        {**project.config.mix.model_dump(), **update}, MixConfig, "augment build", UsageError
    )
    config: ProjectConfig = project.config.model_copy(update={"mix": mix})
    return Project(project.folder, config)


def _shares(text: str) -> dict[str, float]:
    """`a`, `a,b` in equal parts, or `a=0.7,b=0.3`.

    Raises:
        UsageError: it is none of these.
    """
    given, how = f"--generator {text!r}", "write for example --generator compact=0.7,copy-paste=0.3"
    parts = [part.partition("=") for part in text.split(",")]
    names = [name.strip() for name, _, _ in parts]
    if "" in names or len(set(names)) < len(names):
        raise UsageError(f"{given} names no generator, or one twice; {how}")
    if len({equals for _, equals, _ in parts}) > 1:
        raise UsageError(f"{given} gives some generators a share and others none; {how}")
    shares = {}
    for name, (_, equals, share) in zip(names, parts, strict=True):
        try:
            shares[name] = float(share) if equals else 1.0
        except ValueError:
            shares[name] = math.nan
        if not 0 < shares[name] < math.inf:
            raise UsageError(f"The share of {name!r} is no number above 0: {share!r}; {how}")
    return shares


@alone("build")
def build_dataset(project: Project, reporter: Reporter) -> Built:
    """Train and sample what is missing, filter, mix, register in FiftyOne, export.

    Raises:
        DatabaseError: another project has this one's name in FiftyOne.
        DecisionError: the log of decisions is damaged, or names a class that doesn't exist.
        LeakError: a sample's sources touch val, test or reserve.
        RatioError: the ratio is out of range or can't be related to anything.
    """
    config, mix_config = project.config, project.config.mix
    records = load_records(project.data)
    train = training_examples(project, records)
    plan = plan_mix(
        train,
        mix_config.ratio,
        classes=config.classes,
        balance=mix_config.balance,
        shares=project.shares,
    )
    reporter.say(
        f"Train split: {sum(plan.available.values())} defect and {plan.clean} clean images; ratio "
        f"{plan.ratio:g} asks for {plan.synthetic} synthetic ones of {', '.join(project.shares)}"
    )
    # before the long part, and before another project's tags are taken for decisions
    fiftyone_io.check_name(project.mixed_name, project.folder)
    standing = hand_decisions(project)
    pools, fingerprints = fill_pools(
        project,
        plan.wanted,
        train,
        standing,
        reporter,
        lambda name: open_maker(project, name, reporter, train),
    )
    mix = choose(plan, pools, standing, mix_config.seed)
    key = sha256_of(
        {
            "records": [located(r) for r in records],
            "plan": {**asdict(plan), "wanted": sorted((*k, n) for k, n in plan.wanted.items())},
            "samples": [s.id for s in mix.samples],
            "makers": fingerprints,
            "judged": [r.model_dump(mode="json") for pool in pools.values() for r in pool],
            "decisions": [held.model_dump() for held in standing.values()],
        }
    )
    return write_dataset(project, records, mix, pools, standing, key, reporter)


def write_dataset(
    project: Project,
    records: Sequence[DefectExample],
    mix: Mix,
    pools: Mapping[str, Sequence[SyntheticDefect]],
    standing: Mapping[str, Standing],
    key: str,
    reporter: Reporter,
) -> Built:
    """Make a mix the project's built dataset: export, sheet and FiftyOne.

    Args:
        project: whose mix it is.
        records: all real images.
        mix: what was chosen.
        pools: by generator, what else there was to choose from.
        standing: what people decided, by sample id.
        key: of all that the dataset follows from; nothing is written where it is there already.
        reporter: told of the progress.

    Raises:
        LeakError: a sample's sources touch val, test or reserve.
    """
    check_sources(mix.samples, records)
    summary = _summary(project, mix, pools, standing, records)
    stamp = project.dataset / STAMP
    fiftyone_io.check_name(project.mixed_name, project.folder)
    if _done(project, key) and fiftyone_io.is_dataset_of(project.mixed_name, project.folder):
        return Built(project.dataset, {**summary, "unchanged": True})
    with spent(project, "write the dataset"):
        _write(project, records, mix, summary, reporter)
        reporter.say(f"Registering them in FiftyOne ({project.mixed_name})")
        _register(project, records, mix, pools, summary)
        # people may have gone on deciding in the App while the samples were made
        held = hand_decisions(project)
        relabelled = {name for name, one in held.items() if one.class_name}
        made_as = classes_as_made(project, relabelled)
        fiftyone_io.mirror(project.mixed_name, held, made_as=made_as)
    written = {"key": key, "records": content_key(records), "summary": summary}
    write_json(stamp, {**written, "manifest": manifest_hash(project.dataset / MANIFEST)})
    return Built(project.dataset, {**summary, "unchanged": False})


def choose(
    plan: MixPlan,
    pools: Mapping[str, Sequence[SyntheticDefect]],
    standing: Mapping[str, Standing],
    seed: int,
) -> Mix:
    """Choose samples for a plan as `select` does, after what people decided about them: whoever
    gives a sample another class wants it."""
    rejected = {name for name, held in standing.items() if held.verdict == "rejected"}
    return select(
        plan,
        pools,
        seed=seed,
        rejected_ids=frozenset(rejected),
        preferred_ids=frozenset(standing.keys() - rejected),
    )


def pool_samples(project: Project, samples: Sequence[SyntheticDefect]) -> list[PoolSample]:
    """Each sample with the pool that its files lie in."""
    return [PoolSample(project.pool(sample.generator), sample) for sample in samples]


def _done(project: Project, key: str) -> bool:
    stamp = read_json(project.dataset / STAMP)
    whole = stamp.get("manifest") == manifest_hash(project.dataset / MANIFEST)
    return bool(stamp) and stamp.get("key") == key and whole


def _write(
    project: Project,
    records: Sequence[DefectExample],
    mix: Mix,
    summary: Mapping[str, Any],
    reporter: Reporter,
) -> None:
    kept = mixed_records(records, mix.plan)
    samples = pool_samples(project, mix.samples)
    reporter.say(f"Writing {len(kept)} real and {len(samples)} synthetic images")
    write_training_export(
        project.dataset,
        name=project.mixed_name,
        classes=project.config.classes,
        records=kept,
        samples=samples,
        arms=None,
        notes=remarks(summary),
    )
    _sheet(project, records, samples)


def _register(
    project: Project,
    records: Sequence[DefectExample],
    mix: Mix,
    pools: Mapping[str, Sequence[SyntheticDefect]],
    summary: Mapping[str, Any],
) -> None:
    """The mix, and beside it what the pools hold besides, to be looked at and decided about."""
    chosen = {sample.id for sample in mix.samples}
    rest = [r for pool in pools.values() for r in pool if r.id not in chosen]
    fiftyone_io.register_mix(
        project.mixed_name,
        mixed_records(records, mix.plan),
        pool_samples(project, mix.samples),
        project.config.classes,
        {**summary, "project": str(project.folder.resolve())},
        pool_samples(project, rest),
    )


def _sheet(
    project: Project, records: Sequence[DefectExample], samples: Sequence[PoolSample]
) -> None:
    train = [r for r in records if r.split == "train"]
    write_sheet(
        project.dataset / "sheet.png",
        {c: lenders(train, c) for c in project.config.classes},
        {
            c: [(s.pool, s.record) for s in samples if s.record.class_name == c]
            for c in project.config.classes
        },
    )


def _summary(
    project: Project,
    mix: Mix,
    pools: Mapping[str, Sequence[SyntheticDefect]],
    standing: Mapping[str, Standing],
    records: Sequence[DefectExample],
) -> dict[str, Any]:
    rejections = {name: count_rejections(pool) for name, pool in pools.items()}
    short = [
        f"Nothing of {class_name!r} can be copied by {generator}, since on train images it is only "
        "ever the smaller defect; take another generator: augment build --generator copy-paste"
        if generator == CLASSICAL and not mix.plan.available[class_name]
        else f"{number} samples of {class_name!r} are missing: {generator} made "
        f"{sum(r.class_name == class_name for r in pools[generator])}, of which were rejected "
        f"{_reasons(pools[generator], class_name)}; see what they remove with `augment filters "
        "report`, loosen `filters` or raise `mix.attempts` in augment.yaml, or ask for a lower "
        "--ratio."
        for (generator, class_name), number in mix.shortfall.items()
    ]
    short += [
        f"Nothing can be made of {name!r}: no image of the train split shows it."
        for name in mix.plan.sourceless
        if mix.plan.ratio > 0
    ]
    return {
        "ratio": mix.plan.ratio,
        "achieved_ratio": mix.achieved_ratio,
        "balance": mix.plan.balance,
        "seed": project.config.mix.seed,
        "generators": project.shares,
        "counts": [
            {"class": r.name, "real": r.real, "synthetic": r.synthetic, "missing": r.missing}
            for r in mix.counts
        ],
        "rejections": rejections,
        "decisions": count_decisions([r for pool in pools.values() for r in pool], standing),
        "scored_by": sorted({r.scored_by for p in pools.values() for r in p if r.scored_by}),
        "short": short,
        "uneven": lopsided(mix, records),
        "unjudged": unjudged(mix),
        "export": str(project.dataset),
        "fiftyone": project.mixed_name,
        "sheet": str(project.dataset / "sheet.png"),
    }


def remarks(summary: Mapping[str, Any]) -> list[str]:
    """What a build's summary (`build.json`) has to say about the dataset, for people."""
    return [s for key in ("short", "uneven", "unjudged") for s in summary.get(key, ())]


def lopsided(mix: Mix, records: Sequence[DefectExample]) -> list[str]:
    """A sentence for each class that one real image lent too many samples of.

    Args:
        mix: what was chosen.
        records: the real images.
    """
    names = {record.id: record.source_path.name for record in records}
    return [
        f"{one.lent} of {one.total} samples of {one.class_name!r} by {one.generator} come from one "
        f"real image, {names.get(one.image, one.image)}, of {one.images} (at most {one.most} "
        "would be even): see what the rules remove of the others with `augment filters report`, "
        "loosen `filters` or raise `mix.attempts` in augment.yaml, or ask for a lower --ratio."
        for one in uneven(mix)
    ]


def unjudged(mix: Mix) -> list[str]:
    """A sentence where samples are whole images, which no filter looks at."""
    whole = [s for s in mix.samples if s.mask is None and not s.boxes_xyxy]
    made = sum(sample.generator != CLASSICAL for sample in whole)
    if not made:
        return []
    return [
        f"No filter judged {made} of {len(mix.samples)} samples, since labels are image-level and "
        "say no place; look at them before you trust them: augment review"
    ]


def _reasons(pool: Sequence[SyntheticDefect], class_name: str) -> str:
    of_class = [r for r in pool if r.class_name == class_name]
    counts = count_rejections(of_class)
    by_hand = sum(r.rule == HAND for r in of_class)
    said = [f"{number} by {rule}" for rule, number in counts.items()]
    return ", ".join([*said, *([f"{by_hand} by hand"] if by_hand else [])]) or "none"
