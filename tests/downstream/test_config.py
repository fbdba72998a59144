import pytest
from pydantic import ValidationError

from downstream.config import ExperimentConfig


def test_a_number_of_seeds() -> None:
    assert ExperimentConfig(seeds=3).seeds == (0, 1, 2)
    assert ExperimentConfig(seeds=[7, 5]).seeds == (7, 5)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"seeds": 0}, "a number of seeds must be in"),
        ({"seeds": []}, "at least 1 item"),
        ({"seeds": [1, 1]}, "seeds names something twice"),
        ({"arms": ["real", "real"]}, "arms names something twice"),
        ({"detection_px": 100}, "multiple of 32"),
        ({"localisation_px": 224, "localisation_fold": 4}, "must be a multiple of 64 .*; take 256"),
        ({"localisation_px": 32, "localisation_fold": 4}, "; take 64"),
        ({"detektor": "yolo11n"}, "Extra inputs are not permitted"),
    ],
)
def test_refused(settings: dict[str, object], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        ExperimentConfig(**settings)


def test_a_run_depends_on_its_own_task_alone() -> None:
    base, other = ExperimentConfig(), ExperimentConfig(classification_px=64, jobs=2)
    assert base.training_settings("detection") == other.training_settings("detection")
    assert base.training_settings("classification") != other.training_settings("classification")


def test_every_field_is_described() -> None:
    for name, field in ExperimentConfig.model_fields.items():
        assert field.description, name
