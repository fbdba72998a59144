"""Arms: the training sets that an evaluation compares, from their names to one export.

| name | trains on, besides the clean images of the train split |
| --- | --- |
| `real` | its real defect images |
| `real:K` | K of them a class, and of those set aside where K is more; 5 is a part of 12 |
| `full` | its real defect images and those that `--shots` set aside |
| `mixed` | the built dataset |
| `synthetic` | the synthetic images of the built dataset alone |
| `classical` | `real`, and as many images of each class as `mixed` adds, made by albumentations |
| `copy-paste` | `real`, and as many of each class as `mixed` adds: pasted real defects |
| `plain-paste` | the same, cut out along their masks and laid anywhere, as they are |
| `mixed@R` | `real`, and synthetic ones in the shares of the built dataset up to ratio R |
| `classical@R`, `copy-paste@R`, `plain-paste@R` | `real`, and as many as ratio R asks for |
| `NAME@R`, `NAME+NAME@R` | `real`, and synthetic ones of these generators, in equal shares |

`classical` may be one of several NAMEs. Ratio 1 leaves the real defect images out. The three
baselines stay what they are: no rule on what their images look like beside real ones judges them.
Every arm has the same clean images.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from augmentor.decisions import Standing
from augmentor.errors import ProjectError
from augmentor.exporters import write_training_export
from augmentor.items import PoolSample
from augmentor.mix_plan import MixPlan, plan_mix
from augmentor.mixing import check_sources
from augmentor.records_io import load_records
from augmentor.splits import shot_order
from augmentor.workflows.arm_names import (
    ARMS,
    CLASSICAL,
    COPY_PASTE,
    FULL,
    MIXED,
    PASTES,
    REAL,
    SYNTHETIC,
    ArmName,
    parse_arm,
)
from augmentor.workflows.build import choose, lopsided, pool_samples
from augmentor.workflows.built import as_built, build_again, built_lines
from augmentor.workflows.decisions import hand_decisions, logged_decisions
from augmentor.workflows.generators import (
    Maker,
    classical_copies,
    fill_pool,
    fill_pools,
    open_maker,
    read_samples,
    training_examples,
)
from augmentor.workflows.project import Project
from augmentor.workflows.recipes import open_recipe
from augmentor.workflows.reporting import Reporter
from generator.baselines import BASELINES

__all__ = ["ARMS", "COPY_PASTE", "MIXED", "REAL", "Arm", "parse_arm", "resolve_arms"]
__all__ += ["without_pastes", "write_arms_export"]


@dataclass(frozen=True)
class Arm:
    """One training set.

    Attributes:
        real: ids of its real images, clean ones included; of `train` and `reserve` alone.
        samples: its synthetic images.
        notes: sentences for whoever reads its results.
    """

    real: frozenset[str]
    samples: tuple[PoolSample, ...] = ()
    notes: tuple[str, ...] = ()


def resolve_arms(
    project: Project, names: Sequence[str], reporter: Reporter, *, as_baselines: bool = True
) -> dict[str, Arm]:
    """What each of these arms trains on; generators are trained and pools filled where needed.

    Args:
        project: whose arms they are.
        names: see the top of this file.
        reporter: told of the progress, and warned of samples that are missing.
        as_baselines: `copy-paste@R` and `plain-paste@R` are baselines; else the project's
            generators of these names, filtered like every other.

    Raises:
        ProjectError: a name that is none, or one that speaks of a dataset nobody built yet.
        RecipeError: there is no such generator.
        LeakError: one image stands on two sides of the split.
    """
    asked = [parse_arm(name) for name in dict.fromkeys(names)]
    for part in dict.fromkeys(part for one in asked for part in one.parts):
        if part not in (*ARMS, FULL, SYNTHETIC, *BASELINES):
            open_recipe(project, part.partition("@")[0])
    resolver = _Resolver(project, reporter, as_baselines)
    return {one.name: resolver.arm(one) for one in asked}


def without_pastes(project: Project, arms: Sequence[str]) -> tuple[str, ...]:
    """Those of `arms` that the project's labels allow: where no defect of the train split has a
    place, none can be cut out and pasted."""
    placed = any(example.instances for example in training_examples(project))
    return tuple(arm for arm in arms if placed or arm not in PASTES)


def write_arms_export(
    project: Project,
    folder: Path,
    arms: Mapping[str, Arm],
    *,
    notes: Sequence[str] = (),
    without_test: bool = False,
) -> Path:
    """Write one training export that holds every arm; each image says which arms train on it.

    Args:
        project: whose images they are.
        folder: where; an export that is there already is replaced.
        arms: by name.
        notes: sentences for whoever reads the results, before those of the arms.
        without_test: leave the test split out, for choices that must not see it.

    Returns:
        The folder.

    Raises:
        LeakError: a sample's sources touch val, test or reserve.
        ExportError: an arm names an image that is no training image.
        ProjectError: one sample has two classes, since somebody relabelled it after the build.
    """
    records = load_records(project.data)
    samples: dict[str, PoolSample] = {}
    for arm in arms.values():
        for sample in arm.samples:
            held = samples.setdefault(sample.record.id, sample)
            if held.record.class_name != sample.record.class_name:
                raise ProjectError(
                    f"Sample {sample.record.id} was relabelled after the dataset was built; build "
                    f"it again: {build_again(project)}"
                )
    check_sources(samples.values(), records)
    return write_training_export(
        folder,
        name=project.config.name,
        classes=project.config.classes,
        records=[r for r in records if not (without_test and r.split == "test")],
        samples=list(samples.values()),
        arms={
            name: arm.real | {sample.record.id for sample in arm.samples}
            for name, arm in arms.items()
        },
        notes=list(dict.fromkeys([*notes, *(note for arm in arms.values() for note in arm.notes)])),
    )


class _Resolver:
    """Resolves names one after the other; what several of them need is made once."""

    def __init__(self, project: Project, reporter: Reporter, as_baselines: bool) -> None:
        self.project = project
        self.as_baselines = as_baselines
        self.reporter = reporter
        self.records = load_records(project.data)
        self.train = training_examples(project)
        self.real = frozenset(r.id for r in self.train)
        self.clean = frozenset(r.id for r in self.train if r.is_clean)
        self._makers: dict[tuple[str, bool], Maker] = {}

    def arm(self, asked: ArmName) -> Arm:
        if asked.shots is not None:
            return self._few(asked.shots)
        if asked.ratio is None:
            return self._named(asked.parts[0])
        shares = dict.fromkeys(asked.parts, 1 / len(asked.parts))
        if asked.parts == (MIXED,):
            shares = as_built(self.project).shares
        plan = self._plan(asked.ratio, shares)
        real = self.clean if asked.ratio == 1 else self.real
        pastes = self.as_baselines and len(asked.parts) == 1 and asked.parts[0] in PASTES
        if pastes or asked.parts == (CLASSICAL,):
            numbers: Counter[str] = Counter()
            for (_, class_name), number in plan.wanted.items():
                numbers[class_name] += number
            samples = self._baseline(asked.parts[0], numbers)
            return Arm(real, tuple(samples), self._short(asked.name, plan.synthetic, samples))
        samples, notes = self._mix(plan)
        short = self._short(asked.name, plan.synthetic, samples)
        return Arm(real, tuple(samples), (*short, *(f"{asked.name}: {note}" for note in notes)))

    def _named(self, name: str) -> Arm:
        if name == REAL:
            return Arm(self.real)
        if name == FULL:
            aside = {r.id for r in self.records if r.split == "reserve"}
            same = () if aside else ("Nothing was set aside, so the arm full is the arm real.",)
            return Arm(self.real | aside, notes=same)
        if name == MIXED:
            return self._built
        if name == SYNTHETIC:
            return Arm(self.clean, self._built.samples)
        numbers = Counter(sample.record.class_name for sample in self._built.samples)
        samples = self._baseline(name, numbers)
        return Arm(self.real, tuple(samples), self._short(name, numbers.total(), samples))

    def _few(self, shots: int) -> Arm:
        seed, chosen, notes = self.project.config.split.seed, set(self.clean), []
        for name in self.project.config.classes:
            order = shot_order(self.records, name, seed=seed)
            chosen |= set(order[:shots])
            if len(order) < shots:
                notes.append(f"The arm real:{shots} has {len(order)} images of {name!r}: all.")
        return Arm(frozenset(chosen), notes=tuple(notes))

    def _plan(self, ratio: float, shares: Mapping[str, float]) -> MixPlan:
        config = self.project.config
        balance = as_built(self.project).config.mix.balance
        return plan_mix(self.train, ratio, classes=config.classes, balance=balance, shares=shares)

    def _mix(self, plan: MixPlan) -> tuple[list[PoolSample], list[str]]:
        """Samples for a plan, and a sentence for each class that one image lent too much of."""
        pools, _ = fill_pools(
            self.project, plan.wanted, self.train, self._standing, self.reporter, self._maker
        )
        mix = choose(plan, pools, self._standing, self.project.config.mix.seed)
        return pool_samples(self.project, mix.samples), lopsided(mix, self.train)

    def _baseline(self, name: str, numbers: Mapping[str, int]) -> list[PoolSample]:
        # as they are made: neither helped nor held back by rules on what they look like,
        # nor by what people accepted; only a wrong name that they mended is not taught on purpose
        decided = logged_decisions(self.project)
        mended = {k: v for k, v in decided.items() if v.class_name is not None}
        if name == CLASSICAL:
            pool_records = classical_copies(self.project, self.train, numbers, mended)
        else:
            maker = self._maker(name, as_baseline=True)
            pool_records = fill_pool(self.project, maker, numbers, mended, self.reporter)
        # what a person asked for in the review has no part in it either
        accepted = [r for r in pool_records if r.verdict == "accepted" and not r.origin]
        taken = [
            record
            for class_name, number in numbers.items()
            for record in [r for r in accepted if r.class_name == class_name][:number]
        ]
        return pool_samples(self.project, taken)

    def _maker(self, name: str, as_baseline: bool = False) -> Maker:
        key = name, as_baseline
        if key not in self._makers:
            self._makers[key] = open_maker(
                self.project, name, self.reporter, self.train, as_baseline=as_baseline
            )
        return self._makers[key]

    def _short(self, name: str, wanted: int, samples: Sequence[PoolSample]) -> tuple[str, ...]:
        """A sentence where an arm has fewer samples than it should."""
        if len(samples) == wanted:
            return ()
        sentence = f"The arm {name} has {len(samples)} synthetic images instead of {wanted}."
        self.reporter.warn(f"{sentence} See what the rules remove: augment filters report")
        return (sentence,)

    @cached_property
    def _standing(self) -> dict[str, Standing]:
        return hand_decisions(self.project)

    @cached_property
    def _built(self) -> Arm:
        """The built dataset as it is, with the classes that its labels have."""
        lines = built_lines(self.project, self.records)
        chosen = [
            (line["generator"], line["id"], line["class"])
            for line in lines
            if line["kind"] == "synthetic"
        ]
        in_mix = frozenset(line["id"] for line in lines if line["kind"] == "real")
        samples = pool_samples(self.project, read_samples(self.project, chosen))
        return Arm(self.real & in_mix, tuple(samples))
