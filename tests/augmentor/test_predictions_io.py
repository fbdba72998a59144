"""Predictions in FiftyOne: fields, FiftyOne's own evaluation, what was gained and lost; real
mongod."""

import numpy as np
import pytest
from PIL import Image
from small_records import CLASSES, HEIGHT, WIDTH, real, synthetic

from augmentor.errors import DatabaseError
from augmentor.fiftyone_io import Predicted, connect, prepare_views, register_mix, show_predictions
from augmentor.fiftyone_io.predictions import Found, Gain, Guess, field_of
from generator.records import GOOD

BOX = (10.0, 5.0, 22.0, 13.0)
SHIFTED = (11.0, 5.0, 23.0, 13.0)  # IoU 0.85 with BOX
AWAY = (40.0, 20.0, 52.0, 28.0)
VAL, ONE, TWO, CLEAN = (f"{k:016x}" for k in (2, 3, 4, 5))


@pytest.fixture(scope="module")
def fo():
    return connect()


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return tmp_path_factory.mktemp("predictions")


@pytest.fixture
def dataset(fo, data):
    records = [
        real(data, 0, GOOD, "train"),
        real(data, 1, "pit", "train"),
        real(data, 2, "pit", "val"),
        real(data, 3, "pit", "test"),
        real(data, 4, "scratch", "test"),
        real(data, 5, GOOD, "test"),
    ]
    if fo.dataset_exists("predicted"):
        fo.delete_dataset("predicted")
    register_mix("predicted", records, [synthetic(data, 0)], CLASSES, {})
    return fo.load_dataset("predicted")


def two_arms() -> list[Predicted]:
    """`real` finds the scratch of TWO, `mixed@0.5` the pit of ONE; both the pit of VAL."""
    return [
        Predicted(
            "real",
            "arm real, seed 0",
            0.4,
            {
                VAL: [Found("pit", BOX, 0.9)],
                ONE: [Found("pit", BOX, 0.39), Found("scratch", BOX, 0.9)],
                TWO: [Found("scratch", BOX, 0.8)],
                CLEAN: [],
            },
            {ONE: Guess("scratch", 0.7), CLEAN: Guess(GOOD, 0.6)},
        ),
        Predicted(
            "mixed@0.5",
            "arm mixed@0.5, seed 0",
            0.2,
            {
                VAL: [Found("pit", SHIFTED, 0.5)],
                ONE: [Found("pit", SHIFTED, 0.3), Found("pit", (-4.0, -2.0, 9.0, 9.0), 0.25)],
                TWO: [Found("scratch", AWAY, 0.9)],
                CLEAN: [Found("pit", (50.0, 30.0, 66.0, 44.0), 0.9)],
            },
        ),
    ]


def by_id(dataset) -> dict:
    dataset.reload()
    return {sample.augment_id: sample for sample in dataset}


def test_detections_count_from_the_threshold_on_and_stay_in_the_image(fo, dataset):
    show_predictions("predicted", two_arms(), None)
    samples = by_id(dataset)
    assert [d.label for d in samples[ONE].pred_real.detections] == ["scratch"]
    first, outside = samples[ONE].pred_mixed_0_5.detections
    assert first.bounding_box == pytest.approx(
        [11 / WIDTH, 5 / HEIGHT, 12 / WIDTH, 8 / HEIGHT], abs=1e-9
    )
    assert first.confidence == 0.3
    assert outside.bounding_box == pytest.approx([0, 0, 9 / WIDTH, 9 / HEIGHT])
    (clipped,) = samples[CLEAN].pred_mixed_0_5.detections
    x, y, w, h = clipped.bounding_box
    assert (x + w, y + h) == pytest.approx((1, 1))
    assert samples[ONE].class_real.label == "scratch"
    assert samples[ONE].class_real.confidence == 0.7
    assert samples["syn-0"].pred_real is None
    assert (
        "arm real, seed 0; detections at score 0.400" in dataset.get_field("pred_real").description
    )


def test_fiftyone_counts_hits_and_misses(dataset, capsys):
    show_predictions("predicted", two_arms(), None)
    assert capsys.readouterr().out == "", "standard output belongs to --json"
    samples = by_id(dataset)
    counts = {
        image: [
            [samples[image][f"eval_{arm}_{kind}"] for kind in ("tp", "fp", "fn")]
            for arm in ("real", "mixed_0_5")
        ]
        for image in (VAL, ONE, TWO, CLEAN)
    }
    assert counts == {
        VAL: [[1, 0, 0], [1, 0, 0]],
        ONE: [[0, 1, 1], [1, 1, 0]],
        TWO: [[1, 0, 0], [0, 1, 1]],
        CLEAN: [[0, 0, 0], [0, 1, 0]],
    }
    assert set(dataset.list_evaluations()) == {"eval_real", "eval_mixed_0_5"}


def test_what_was_gained_and_lost_on_test(dataset):
    gain = show_predictions("predicted", two_arms(), ("real", "mixed@0.5"))
    assert gain == Gain("mixed@0.5", "real", 1, 1)
    samples = by_id(dataset)
    assert samples[ONE].gain.found_only_with_synthetic == 1
    assert samples[ONE].gain.lost_with_synthetic == 0
    assert samples[TWO].gain.lost_with_synthetic == 1
    assert samples[VAL].gain is None, "val chose the threshold"
    for title, image in (("found only with synthetic", ONE), ("lost with synthetic", TWO)):
        assert dataset.load_saved_view(title).values("augment_id") == [image]
    assert "by mixed@0.5 alone" in dataset.get_field("gain.found_only_with_synthetic").description


def test_again_with_other_predictions_it_is_written_anew(dataset):
    show_predictions("predicted", two_arms(), ("real", "mixed@0.5"))
    mixed = two_arms()[1]
    better = Predicted("mixed@0.5", "better", 0.2, {**mixed.found, TWO: [Found("scratch", BOX, 1)]})
    assert show_predictions("predicted", [better], ("real", "mixed@0.5")) == Gain(
        "mixed@0.5", "real", 1, 0
    )
    samples = by_id(dataset)
    assert samples[TWO].eval_mixed_0_5_tp == 1
    assert samples[TWO].pred_real.detections[0].confidence == 0.8, "the other arm stays"
    assert len(dataset.load_saved_view("lost with synthetic")) == 0
    assert len(dataset.list_evaluations()) == 2


def test_a_second_build_keeps_them_and_the_sidebar_shows_them(dataset, data, fo):
    show_predictions("predicted", two_arms(), ("real", "mixed@0.5"))
    records = [real(data, k, "pit", "test") for k in (3,)] + [real(data, 0, GOOD, "train")]
    register_mix("predicted", records, [synthetic(data, 0)], CLASSES, {"ratio": 0.5})
    prepare_views("predicted", CLASSES)
    assert by_id(dataset)[ONE].pred_mixed_0_5.detections[0].confidence == 0.3
    groups = {g.name: g.paths for g in dataset.app_config.sidebar_groups}
    assert {"pred_real", "class_real", "eval_mixed_0_5_fn", "gain.lost_with_synthetic"} <= set(
        groups["predictions"]
    )


def test_an_image_whose_defect_has_no_place_is_not_called_missed(fo, data):
    placeless = real(data, 6, "pit", "test").model_copy(update={"instances": ()})
    records = [placeless, real(data, 3, "pit", "test")]
    register_mix("placeless", records, [], CLASSES, {})
    found = {placeless.id: [Found("pit", BOX, 0.9)], ONE: [Found("pit", BOX, 0.9)]}
    arms = [Predicted("real", "", 0.1, found), Predicted("mixed", "", 0.1, found)]
    assert show_predictions("placeless", arms, ("real", "mixed")) == Gain("mixed", "real", 0, 0)
    samples = by_id(fo.load_dataset("placeless"))
    assert samples[placeless.id].eval_real_fn is None
    assert samples[ONE].eval_real_tp == 1


def test_an_anomaly_map_lies_over_its_image(dataset, data):
    path = data / f"{ONE}.png"
    Image.fromarray(np.arange(64, dtype=np.uint8).reshape(8, 8)).save(path)
    show_predictions("predicted", [Predicted("real", "arm real", maps={ONE: path})], None)
    samples = by_id(dataset)
    assert samples[ONE].map_real.map_path == str(path)
    assert samples[TWO].map_real is None


def test_predictions_of_other_images_are_refused(dataset):
    stray = Predicted("real", "", 0.1, {"f" * 16: []})
    with pytest.raises(DatabaseError, match=r"none of the images that were evaluated.*build"):
        show_predictions("predicted", [stray], None)


def test_names_of_arms_become_names_of_fields():
    assert field_of("compact+poisson-paste@0.5") == "compact_poisson_paste_0_5"
    assert field_of("real:5") == "real_5"
