"""What the App sorts by, maps and pairs up, from a real build."""

from helpers import augment, copy_project

from augmentor.fiftyone_io import connect
from augmentor.workflows.embedding import embed_dataset
from augmentor.workflows.project import open_project
from augmentor.workflows.reporting import Silent


def test_a_built_dataset_is_embedded_once_by_the_extractor_of_its_scores(imported, tmp_path):
    folder = copy_project(imported, tmp_path / "project", "embedded")
    code, output = augment(
        "build", "--ratio", "0.5", "--generator", "copy-paste", "--project", folder
    )
    assert code == 0, output
    project = open_project(folder)
    assert embed_dataset(project, project.mixed_name, Silent())
    dataset = connect().load_dataset(project.mixed_name)
    dataset.reload()
    made = dataset.match_tags("synthetic")
    (extractor,) = set(made.values("synthetic.scored_by"))
    key = extractor.replace("-", "_")
    assert sorted(dataset.list_brain_runs()) == [f"map_{key}", f"similar_{key}"]
    assert len(dataset.load_brain_results(f"map_{key}").points) == len(dataset)
    train = dataset.match_tags("real").match_tags("train")
    assert set(made.values("neighbour.nearest")) <= set(train.values("augment_id"))
    assert not embed_dataset(project, project.mixed_name, Silent())
