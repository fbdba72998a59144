"""Evaluations after one another: what is done is not done again, and FiftyOne shows it."""

import json
import shutil

import pytest
import yaml
from helpers import augment

from augmentor import fiftyone_io
from augmentor.cli.errors import EXIT_PROJECT, EXIT_USAGE
from augmentor.fiftyone_io import connect
from augmentor.workflows.evaluate import evaluation_config
from augmentor.workflows.project import open_project
from augmentor.workflows.protocols import SETTINGS, protocol_notes

pytestmark = pytest.mark.timeout(900)  # the first test waits for two trainings

SETTINGS_OF_THE_TEST = {
    "seeds": 1,
    "detection_steps": 2,
    "detection_px": 64,
    "detection_batch": 4,
    "classification_steps": 2,
    "classification_px": 32,
    "bootstrap_samples": 100,
}


@pytest.fixture(scope="module")
def evaluated(imported, tmp_path_factory):
    """A project whose arms `real` and `mixed` were evaluated and brought into FiftyOne."""
    folder = tmp_path_factory.mktemp("evaluated") / "project"
    shutil.copytree(imported, folder)
    config = yaml.safe_load((folder / "augment.yaml").read_text())
    config |= {"name": "evaluated", "evaluate": SETTINGS_OF_THE_TEST}
    (folder / "augment.yaml").write_text(yaml.safe_dump(config))
    code, output = augment("build", "--generator", "poisson-paste", "--project", folder)
    assert code == 0, output
    code, output = augment("evaluate", "--arms", "real,mixed", "--to-fiftyone", "--project", folder)
    assert code == 0, output
    assert "Of the defects on test" in output
    return folder


def report_of(folder):
    return json.loads((folder / "evaluation" / "report.json").read_text())


def run_of(folder, task, arm):
    (line,) = [r for r in report_of(folder)["runs"] if (r["task"], r["arm"]) == (task, arm)]
    return folder / "evaluation" / line["folder"]


def test_predictions_stand_beside_the_truth(evaluated):
    dataset = connect().load_dataset("evaluated-mixed")
    held_out = dataset.match_tags(["val", "test"])
    assert {"pred_real", "pred_mixed", "class_real", "class_mixed"} <= set(
        dataset.get_field_schema()
    )
    assert None not in held_out.values("class_mixed.label")
    rows = json.loads(
        (run_of(evaluated, "detection", "real") / "predictions-test.json").read_text()
    )
    result = json.loads((run_of(evaluated, "detection", "real") / "result.json").read_text())
    kept = {r["id"]: sum(s >= result["threshold"] for s in r["scores"]) for r in rows}
    test = dataset.match_tags("test")
    assert (
        dict(
            zip(
                test.values("augment_id"),
                map(len, test.values("pred_real.detections")),
                strict=True,
            )
        )
        == kept
    )


def test_a_detector_that_finds_everything_gains_every_defect_that_real_missed(evaluated):
    folder = run_of(evaluated, "detection", "mixed")
    lines = (evaluated / "evaluation/export/manifest.jsonl").read_text().splitlines()
    truths = {
        line["id"]: line["boxes"] for line in map(json.loads, lines) if line["split"] == "test"
    }
    path = folder / "predictions-test.json"
    before = path.read_text()
    planted = [
        {"id": i, "boxes": [b[1:] for b in boxes], "scores": [1.0] * len(boxes),
         "classes": [b[0] for b in boxes]}
        for i, boxes in truths.items()
    ]  # fmt: skip
    path.write_text(json.dumps(planted))
    code, output = augment("predictions", "--arms", "real,mixed", "--json", "--project", evaluated)
    path.write_text(before)
    assert code == 0, output
    told = json.loads(output[output.index("{") :])
    test = connect().load_dataset("evaluated-mixed").match_tags("test")
    defects = sum(len(boxes) for boxes in truths.values())
    assert defects > 0
    assert told["gain"]["found"] == defects - test.sum("eval_real_tp")
    assert told["gain"]["lost"] == 0
    assert test.sum("eval_mixed_tp") == defects
    assert test.sum("gain.found_only_with_synthetic") == told["gain"]["found"]


def test_another_evaluation_of_the_project_reuses_what_it_shares(evaluated):
    before = {
        task: (run_of(evaluated, task, "real") / "result.json").stat().st_mtime_ns
        for task in ("detection", "classification")
    }
    code, output = augment(
        "evaluate", "--arms", "real,synthetic", "--ratios", "0.2", "--tasks", "classification",
        "--project", evaluated,
    )  # fmt: skip
    assert code == 0, output
    report = report_of(evaluated)
    assert report["arms"] == ["real", "synthetic", "mixed@0.2"]
    states = {run["arm"]: run["state"] for run in report["runs"]}
    assert states == {"real": "reused", "synthetic": "done", "mixed@0.2": "done"}
    real = run_of(evaluated, "classification", "real")
    assert (real / "result.json").stat().st_mtime_ns == before["classification"]
    # and back: the first evaluation is still there, whatever the export looks like now
    code, output = augment("evaluate", "--arms", "real,mixed", "--project", evaluated)
    assert code == 0, output
    assert {run["state"] for run in report_of(evaluated)["runs"]} == {"reused"}


def test_an_arm_that_failed_is_left_out_and_named(evaluated):
    results = [
        run_of(evaluated, task, "mixed") / "result.json" for task in ("detection", "classification")
    ]
    for path in results:
        path.rename(path.with_suffix(".away"))
    code, output = augment("predictions", "--project", evaluated)
    refused, said = augment("predictions", "--arms", "real,mixed", "--project", evaluated)
    for path in results:
        path.with_suffix(".away").rename(path)
    assert code == 0, output
    assert "Left out, as no training with seed 0 is finished: mixed (type `augment eval" in output
    assert refused == EXIT_PROJECT
    assert "No training of the arm 'mixed' with seed 0 is finished; type: augment evaluate" in said


def test_predictions_of_what_was_not_evaluated(evaluated, imported):
    code, output = augment("predictions", "--arms", "real,full", "--project", evaluated)
    assert code == EXIT_PROJECT
    assert "has no arm 'full'" in output and "augment evaluate --arms" in output
    code, output = augment("predictions", "--seed", "7", "--project", evaluated)
    assert code == EXIT_PROJECT
    assert "no seed 7, it has 0" in output
    code, output = augment("predictions", "--project", imported)
    assert code == EXIT_PROJECT
    assert "Nothing was evaluated yet; type: augment evaluate" in output


def test_a_protocol_sets_what_nobody_says_otherwise(evaluated, imported):
    project = open_project(evaluated)
    plain = evaluation_config(project, {})
    assert plain.tasks == ("detection", "classification")
    published = evaluation_config(
        project, {"select": "last"}, ratios=[0.3, 0.5], steps=50, protocol="anomalydiffusion"
    )
    assert published.tasks == ("localisation", "classification")
    assert (published.classifier, published.with_good) == ("resnet34", False)
    assert published.arms == ("real", "classical", "copy-paste", "mixed", "mixed@0.3", "mixed@0.5")
    assert published.classification_px == 32, "augment.yaml goes before the protocol"
    assert published.localisation_steps == published.detection_steps == 50
    (note,) = protocol_notes("anomalydiffusion", published.model_dump())
    for said in ("select last instead of both", "classification_px 32 instead of 256"):
        assert said in note
    assert "classifier" not in note
    own = evaluation_config(open_project(imported), {}, protocol="anomalydiffusion")
    assert protocol_notes("anomalydiffusion", own.model_dump()) == [
        "Evaluated by the protocol anomalydiffusion (docs/protocols.md)."
    ]
    assert all(getattr(own, key) == value for key, value in SETTINGS["anomalydiffusion"].items())


def test_weights_in_the_project_are_meant_from_anywhere(evaluated, tmp_path, monkeypatch):
    folder = tmp_path / "project"
    (folder / "evaluation/runs/a").mkdir(parents=True)
    (folder / "weights").mkdir()
    shutil.copytree(evaluated / "data", folder / "data")
    content = yaml.safe_load((evaluated / "augment.yaml").read_text())
    content["evaluate"] = {"detector": "yolo11n", "localiser": "evaluation/runs/a"}
    (folder / "augment.yaml").write_text(yaml.safe_dump(content))
    monkeypatch.chdir(tmp_path)
    assert evaluation_config(open_project(folder), {}).weights_dir is None
    (folder / "yolo11n.pt").write_bytes(b"")
    for given in ({}, {"weights_dir": "weights"}):
        found = evaluation_config(open_project(folder), given)
        assert found.weights_dir == folder
        assert found.localiser == str(folder / "evaluation/runs/a")
        assert (found.detector, found.classifier) == ("yolo11n", "resnet18")
    (folder / "weights/yolo11n.pt").write_bytes(b"")
    (folder / "mine").mkdir()
    (folder / "mine/result.json").write_text("{}")
    named = evaluation_config(open_project(folder), {"classifier": "mine"})
    assert named.classifier == str(folder / "mine")
    found = evaluation_config(open_project(folder), {"weights_dir": "weights"})
    assert found.weights_dir == folder / "weights"


def test_nothing_is_compared_with_a_mix_of_other_photographs(evaluated, tmp_path):
    folder = shutil.copytree(evaluated, tmp_path / "project")
    stamp = folder / "dataset" / "build.json"
    content = json.loads(stamp.read_text())
    stamp.write_text(json.dumps({**content, "records": "0" * 64}))  # as after another import
    for arms in ("real,mixed", "real,synthetic"):
        code, output = augment("evaluate", "--arms", arms, "--project", folder)
        assert code == EXIT_PROJECT, output
        assert "have changed since the mixed dataset was built" in " ".join(output.split())


def test_a_result_goes_by_the_protocol_of_its_split(evaluated):
    code, output = augment("evaluate", "--protocol", "anomalydiffusion", "--project", evaluated)
    assert code == EXIT_PROJECT
    assert "were split by the protocol few-shot" in output
    assert "augment import SOURCE --name NAME --protocol anomalydiffusion" in output
    code, output = augment("evaluate", "--protocol", "half", "--project", evaluated)
    assert code == EXIT_USAGE and "--protocol few-shot or --protocol anomalydiffusion" in output


def test_the_dataset_has_to_be_there(evaluated):
    connect().delete_dataset("evaluated-mixed")
    assert not fiftyone_io.dataset_exists("evaluated-mixed")
    code, output = augment("predictions", "--project", evaluated)
    assert code == EXIT_PROJECT
    assert "no dataset 'evaluated-mixed'; build it: augment build" in output
