"""What was read and verified once is handed on, not read again."""

import pytest

from augmentor.importers import import_source
from augmentor.records_io import load_records
from augmentor.sample_data import write_sample_dataset
from augmentor.workflows import generators
from augmentor.workflows.generators import open_maker, training_examples
from augmentor.workflows.project import ProjectConfig, SourceConfig, save_project
from augmentor.workflows.reporting import Silent


def test_a_generator_opens_on_records_that_were_read_before(tmp_path, monkeypatch):
    photos = tmp_path / "photos"
    write_sample_dataset(photos, seed=3, per_class=5, clean=6)
    read = import_source(photos, tmp_path / "p/data")
    config = ProjectConfig(
        name="once", classes=tuple(read.classes), source=SourceConfig(path=photos)
    )
    project = save_project(tmp_path / "p", config)
    alone = open_maker(project, "copy-paste", Silent())

    def again(*args, **kwargs):
        raise AssertionError("the records were read again")

    records = load_records(project.data)
    monkeypatch.setattr(generators, "load_records", again)
    examples = training_examples(project, records)
    assert {r.split for r in examples} == {"train"}
    handed = open_maker(project, "copy-paste", Silent(), examples)
    assert handed.planner.fingerprint == alone.planner.fingerprint
    with pytest.raises(AssertionError, match="read again"):
        open_maker(project, "copy-paste", Silent())
