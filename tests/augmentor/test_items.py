"""A sample's mask and its boxes become labels; where they disagree, nobody guesses."""

import numpy as np
import pytest
from PIL import Image

from augmentor.importers.instances import separate
from augmentor.items import PoolSample, synthetic_item
from generator.compositing import boxes_of
from generator.errors import PoolError
from generator.records import SyntheticDefect


def sample(folder, mask, boxes):
    Image.fromarray(mask.astype(np.uint8) * 255).save(folder / "m.png")
    height, width = mask.shape
    record = SyntheticDefect(
        id="0a1b",
        class_name="pit",
        index=0,
        seed=0,
        generator="g",
        fingerprint="f",
        image="i.png",
        mask="m.png",
        width=width,
        height=height,
        grey=True,
        boxes_xyxy=boxes,
        mask_kind="exact",
        background_id=None,
        mask_source_id=None,
        source_ids=(),
        feather_px=3,
        crop_xyxy=(0, 0, 10, 10),
        verdict="accepted",
    )
    return PoolSample(folder, record)


@pytest.fixture
def two_parts():
    mask = np.zeros((60, 100), bool)
    mask[5:25, 10:50] = True
    mask[40:50, 60:80] = True
    return mask


def test_a_crumb_without_a_box_is_no_label(two_parts, tmp_path):
    boxes = ((10, 5, 50, 25), (60, 40, 80, 50))
    two_parts[55, 2:6] = True
    item = synthetic_item(sample(tmp_path, two_parts, boxes))
    assert [(label.box_xyxy, int(label.mask.sum())) for label in item.labels] == [
        (boxes[0], 800),
        (boxes[1], 200),
    ]
    one = two_parts.copy()
    one[40:50] = False
    (label,) = synthetic_item(sample(tmp_path, one, boxes[:1])).labels
    assert label.mask.all() and label.mask.shape == (20, 40)


def test_a_sample_keeps_the_boxes_that_its_mask_has_as_a_photograph(two_parts, tmp_path):
    two_parts[5:25, 53:56] = True  # 3 px beside the first, as where a thin defect fades
    read = separate(two_parts)[0]
    assert [box for box, _ in read] == list(boxes_of(two_parts))
    item = synthetic_item(sample(tmp_path, two_parts, boxes_of(two_parts)))
    assert [label.box_xyxy for label in item.labels] == [box for box, _ in read]
    for label, (_, mask) in zip(item.labels, read, strict=True):
        assert np.array_equal(label.mask, mask)
    # two that have a box each stay two, however near
    near = ((10, 5, 50, 25), (60, 40, 80, 50), (53, 5, 56, 25))
    item = synthetic_item(sample(tmp_path, two_parts, near))
    assert [int(label.mask.sum()) for label in item.labels] == [800, 200, 60]


@pytest.mark.parametrize("boxes", [((10, 5, 50, 25),), ((0, 0, 5, 5), (60, 40, 80, 50))])
def test_a_part_without_a_box_is_refused(two_parts, tmp_path, boxes):
    with pytest.raises(PoolError, match="its mask and its boxes do not agree"):
        synthetic_item(sample(tmp_path, two_parts, boxes))
