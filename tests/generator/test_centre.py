"""The centre square of images: what is cut, what is left out, and that it is said."""

import cv2
import numpy as np
import pytest

from generator.centre import centred, square_of
from generator.config import CropSettings
from generator.data import CropData
from generator.errors import TrainingError
from generator.images import ExampleReader
from generator.records import DefectExample, Instance

SIDE = 40


def example(folder, name, label, boxes, *, size=(90, 60), mask=True) -> DefectExample:
    """A ramp, so that every pixel tells where it is from; masks are ramps' upper halves."""
    width, height = size
    ramp = (np.add.outer(np.arange(height) * 2, np.arange(width)) % 256).astype(np.uint8)
    cv2.imwrite(str(folder / f"{name}.png"), ramp)
    instances = []
    for number, (x1, y1, x2, y2) in enumerate(boxes):
        path = folder / f"{name}-{number}.png"
        area = np.zeros((y2 - y1, x2 - x1), np.uint8)
        area[:, : max((x2 - x1) // 2, 1)] = 255
        cv2.imwrite(str(path), area)
        kind = {"mask_path": path, "mask_kind": "exact"} if mask else {}
        instances.append(Instance(class_name=label, box_xyxy=(x1, y1, x2, y2), **kind))
    return DefectExample(
        id=name,
        sha256=name * 4,
        image_path=folder / f"{name}.png",
        source_path=folder / f"{name}.png",
        width=width,
        height=height,
        grey=True,
        label=label,
        instances=tuple(instances),
        split="train",
    )


def test_boxes_and_masks_move_with_the_cut(tmp_path):
    """The square of a 90 x 60 image spans x 25 to 65 and y 10 to 50."""
    # Inside; cut on the right; cut so that only the empty half of its mask is left; outside.
    boxes = [(30, 20, 40, 28), (55, 12, 75, 22), (10, 30, 40, 40), (70, 30, 80, 40)]
    whole = example(tmp_path, "a", "pit", boxes)
    cut = centred([whole], SIDE)
    (inside,) = cut.examples
    assert square_of(whole, SIDE) == (25, 10, 65, 50)
    assert (inside.width, inside.height) == (40, 40)
    assert [i.box_xyxy for i in inside.instances] == [(5, 10, 15, 18), (30, 2, 40, 12)]
    reader = ExampleReader()
    assert np.array_equal(cut.reader.image(inside), reader.image(whole)[10:50, 25:65])
    first, second = (cut.reader.mask(inside, i) for i in inside.instances)
    assert first.shape == (8, 10) and first[:, :5].all() and not first[:, 5:].any()
    assert second.shape == (10, 10) and second.all()
    assert cut.notes == (
        "Outside of the centre 40 px lie 2 defects; 0 images have no other and are left out of "
        "training.",
    )


def test_images_smaller_than_the_square_stay_whole_along_that_axis(tmp_path):
    whole = example(tmp_path, "a", "pit", [(0, 0, 10, 8)], size=(50, 30))
    cut = centred([whole], 60)
    assert cut.examples == [whole] and cut.notes == ()
    assert square_of(whole, 40) == (5, 0, 45, 30)


def test_a_box_without_a_mask_gets_one_where_it_was_cut(tmp_path):
    whole = example(tmp_path, "a", "pit", [(55, 12, 75, 32)], mask=False)
    cut = centred([whole], SIDE)
    (instance,) = cut.examples[0].instances
    expected = ExampleReader().mask(whole, whole.instances[0])[:, :10]
    assert np.array_equal(cut.reader.mask(cut.examples[0], instance), expected)


def test_training_sees_the_square_alone_and_says_what_it_leaves_out(tmp_path):
    examples = [
        example(tmp_path, "a", "pit", [(30, 20, 40, 28)]),
        example(tmp_path, "b", "pit", [(0, 0, 12, 8)]),
        example(tmp_path, "c", "good", []),
    ]
    crops = CropSettings(size_px=32, least_px=32, centre_px=SIDE, brightness=0)
    data = CropData(examples, ("pit",), crops)
    assert data.notes == (
        "Outside of the centre 40 px lie 1 defects; 1 images have no other and are left out of "
        "training.",
    )
    assert data.instance_count == 1
    # In the square the ramp runs from 45 to 162; outside of it from 0 and to 207.
    for step in range(8):
        batch = data.batch(step, 1, 8)
        pixels = (batch.images + 1) * 127.5
        assert set(batch.example_ids) <= {"a", "c"}
        assert pixels.min() >= 45 and pixels.max() <= 39 + 2 * 39 + 45


def test_a_class_that_lies_outside_altogether_stops_the_training(tmp_path):
    examples = [
        example(tmp_path, "a", "pit", [(30, 20, 40, 28)]),
        example(tmp_path, "b", "dent", [(0, 0, 12, 8)]),
    ]
    crops = CropSettings(size_px=32, least_px=32, centre_px=SIDE)
    with pytest.raises(TrainingError, match=r"centre 40 px lie 1 defects.* No training .* dent;"):
        CropData(examples, ("pit", "dent"), crops)


def test_whole_images_are_cut_too(tmp_path):
    examples = [example(tmp_path, "a", "pit", [])]
    crops = CropSettings(whole_image_px=40, centre_px=SIDE, brightness=0, clean_share=0)
    data = CropData(examples, ("pit",), crops)
    found = ((data.batch(0, 0, 1).images[0, 0] + 1) * 127.5).round().numpy()
    expected = ExampleReader().image(examples[0])[10:50, 25:65, 0].astype(float)
    assert np.array_equal(found, expected)


@pytest.mark.parametrize("turns", [False, True])
def test_whole_images_stay_upright_unless_a_recipe_turns_them(tmp_path, turns):
    examples = [example(tmp_path, "a", "pit", [])]
    crops = CropSettings(
        whole_image_px=40, whole_image_turns=turns, centre_px=SIDE, brightness=0, clean_share=0
    )
    images = CropData(examples, ("pit",), crops).batch(0, 0, 64).images[:, 0]
    assert len({image.numpy().tobytes() for image in images}) == (8 if turns else 1)
