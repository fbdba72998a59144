"""The samples of a project's pools that count today, judged by the rules of today."""

from collections.abc import Sequence

from augmentor.classical import NAME as CLASSICAL
from augmentor.errors import ProjectError
from augmentor.items import PoolSample
from augmentor.workflows.built import as_built
from augmentor.workflows.generators import is_current, open_maker
from augmentor.workflows.project import Project
from augmentor.workflows.reporting import Reporter
from augmentor.workflows.scoring import Scorer
from generator.baselines import BASELINES
from generator.pool import MANIFEST, read_pool
from generator.records import DefectExample


def judged_samples(
    project: Project,
    examples: Sequence[DefectExample],
    reporter: Reporter,
    generator: str | None = None,
) -> list[PoolSample]:
    """Every sample of the project's pools with its scores, judged by the rules of today.

    What an older checkpoint or other settings left in a pool is passed over, and what was made of
    an image that is not in the train split today. Of a pool that was only filled as a baseline,
    which has settings of its own, all of the last painter counts.

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
    folders.pop(CLASSICAL, None)
    if generator == CLASSICAL:
        raise ProjectError(
            "classical copies whole real images, which are not judged; leave --generator out, or "
            "name another."
        )
    if generator is not None and generator not in folders:
        have = f"there are pools of {', '.join(folders)}" if folders else "there is no pool yet"
        raise ProjectError(
            f"There is no pool of {generator!r} ({have}); make one: augment sample -n 100 "
            f"--generator {generator}"
        )
    project = as_built(project)  # a number stands for another sample where the seed is another
    scorer = Scorer(project, examples, reporter)
    found, train = [], {example.id for example in examples}
    for name, folder in folders.items():
        records = read_pool(folder) if generator in (None, name) else []
        current = [
            record
            for record in records
            if record.fingerprint == records[-1].fingerprint and train.issuperset(record.source_ids)
        ]
        if current and name in BASELINES:  # nothing has to be trained to know
            maker = open_maker(project, name, reporter, examples)
            current = [r for r in current if is_current(project, maker, r)] or current
        found += [PoolSample(folder, record) for record in scorer.judge(folder, current)]
    if not found:
        raise ProjectError(
            "There is no sample to look at yet; make some: augment build --ratio 0.5"
        )
    return found
