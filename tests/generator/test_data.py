"""Examples -> crops: geometry, balance, determinism."""

import cv2
import numpy as np
import pytest

from generator.canvas import from_canvas, scale, to_canvas, to_pixels, to_tensor
from generator.config import CropSettings
from generator.data import CropData
from generator.errors import ExampleError, TrainingError
from generator.records import DefectExample, Instance

CROPS = CropSettings(size_px=32, least_px=32, whole_image_px=32)


def test_batch_follows_from_seed_and_step_alone(tiny_examples, tiny_classes):
    examples = tiny_examples()
    one, other = (CropData(examples, tiny_classes, CROPS) for _ in range(2))
    one.batch(0, 3, 8)
    a, b = one.batch(5, 3, 8), other.batch(5, 3, 8)
    assert a.example_ids == b.example_ids
    assert (a.images == b.images).all()
    assert not (a.images == one.batch(6, 3, 8).images).all()
    assert not (a.images == one.batch(5, 4, 8).images).all()


def test_shapes_ranges_and_shares(tiny_examples, tiny_classes):
    data = CropData(tiny_examples(), tiny_classes, CROPS)
    batches = [data.batch(step, 0, 8) for step in range(40)]
    assert batches[0].images.shape == (8, 1, 32, 32)
    assert batches[0].masks.shape == (8, 1, 32, 32)
    for batch in batches:
        assert batch.images.abs().max() <= 1
        assert 0 <= batch.masks.min() <= batch.masks.max() <= 1
        assert (batch.class_ids == len(tiny_classes)).sum() == 2
        assert batch.masks.flatten(1).amax(1).min() > 0
    drawn = np.concatenate([b.class_ids for b in batches])
    assert np.isclose((drawn == 0).sum(), (drawn == 1).sum(), rtol=0.3)


def test_the_mask_lies_on_the_defect_through_every_augmentation(tiny_examples, tiny_classes):
    data = CropData(tiny_examples(), tiny_classes, CROPS)
    for step in range(20):
        batch = data.batch(step, 1, 8)
        for image, mask, class_id in zip(batch.images, batch.masks, batch.class_ids, strict=True):
            inside, outside = image[mask > 0.99].mean(), image[mask == 0].mean()
            if class_id == 0:
                assert inside < outside - 0.5
            elif class_id == 1:
                assert inside > outside + 0.5
            else:
                assert abs(inside - outside) < 0.2


def test_clean_crops_from_defect_free_regions(tiny_examples, tiny_classes):
    data = CropData(tiny_examples(clean=0), tiny_classes, CROPS)
    assert data.clean_source == "defect-free regions"
    for example, (x1, y1, x2, y2) in data.regions:
        assert 0 <= x1 < x2 <= example.width
        assert 0 <= y1 < y2 <= example.height
        a1, b1, a2, b2 = example.instances[0].box_xyxy
        assert x2 <= a1 or x1 >= a2 or y2 <= b1 or y1 >= b2
    assert (data.batch(0, 0, 8).class_ids == len(tiny_classes)).sum() == 2


def test_colour_keeps_three_channels_in_rgb_order(tiny_examples, tiny_classes):
    examples = tiny_examples(grey=False)
    data = CropData(examples, tiny_classes, CROPS)
    assert data.channels == 3
    expected = cv2.imread(str(examples[0].image_path))[..., ::-1]
    assert (data._pixels(examples[0]) == expected).all()
    assert data.batch(0, 0, 4).images.shape == (4, 3, 32, 32)


def test_image_level_labels_make_whole_images_the_crops(tiny_examples, tiny_classes):
    data = CropData(tiny_examples(instances=False), tiny_classes, CROPS)
    assert data.whole
    batch = data.batch(0, 0, 8)
    assert batch.images.shape == (8, 1, 32, 32)
    assert (batch.masks == 1).all()


def test_a_box_without_a_mask_gets_a_proposal(tiny_examples, tiny_classes):
    boxed = [
        e.model_copy(
            update={
                "instances": tuple(
                    i.model_copy(update={"mask_path": None, "mask_kind": "none"})
                    for i in e.instances
                )
            }
        )
        for e in tiny_examples()
    ]
    batch = CropData(boxed, tiny_classes, CROPS).batch(0, 0, 8)
    assert batch.masks.flatten(1).amax(1).min() > 0.5


def test_what_contradicts_itself_is_refused(tiny_examples, tiny_classes):
    examples = tiny_examples()
    with pytest.raises(TrainingError, match="no defect example"):
        CropData(examples[6:], tiny_classes, CROPS)
    with pytest.raises(ExampleError, match="classes scratch, which"):
        CropData(examples, ("pit",), CROPS)
    with pytest.raises(TrainingError, match="No training example of dent"):
        CropData(examples, (*tiny_classes, "dent"), CROPS)
    bare = examples[0].model_copy(update={"instances": ()})
    with pytest.raises(ExampleError, match="1 defect images have neither mask nor box"):
        CropData([bare, *examples[1:]], tiny_classes, CROPS)
    wrong = examples[0].model_copy(update={"width": examples[0].width + 3})
    data = CropData([wrong, *examples[1:]], tiny_classes, CROPS)
    with pytest.raises(ExampleError, match="its record says 99 x 48"):
        for step in range(20):
            data.batch(step, 0, 8)
    gone = examples[7].model_copy(update={"image_path": examples[7].image_path.with_name("x.png")})
    with pytest.raises(ExampleError, match=r"1 images are missing \(.*x\.png\)"):
        CropData([*examples[:7], gone], tiny_classes, CROPS)
    examples[1].instances[0].mask_path.unlink()
    data = CropData(examples, tiny_classes, CROPS)
    with pytest.raises(ExampleError, match="is missing or is not an image"):
        for step in range(20):
            data.batch(step, 0, 8)


def test_a_mask_lands_where_its_pixels_do():
    image = np.zeros((30, 50, 1), np.uint8)
    image[20:28, 30:45] = 255
    canvas, mask = to_canvas(image, 64)[..., 0], to_canvas(image[..., 0], 64)
    assert np.abs(canvas.astype(int) - mask).max() <= 1
    assert canvas[39:].max() == 255  # below the 30 rows of the window all is mirrored


def test_no_copy_of_a_defect_stays_in_sight_beside_its_mask(tmp_path):
    """The strip is lower than the window around the defect, so that the canvas mirrors it."""
    pixels = np.zeros((40, 120), np.uint8)
    pixels[10:34, 30:90] = 255
    strip, mask = tmp_path / "strip.png", tmp_path / "mask.png"
    cv2.imwrite(str(strip), pixels)
    cv2.imwrite(str(mask), np.full((24, 60), 255, np.uint8))
    instance = Instance(
        class_name="pit", box_xyxy=(30, 10, 90, 34), mask_path=mask, mask_kind="exact"
    )
    example = DefectExample(
        id="strip",
        sha256="0",
        image_path=strip,
        source_path=strip,
        width=120,
        height=40,
        grey=True,
        label="pit",
        split="train",
        instances=(instance,),
    )
    crops = CROPS.model_copy(update={"brightness": 0.0})
    batch = CropData([example], ("pit",), crops).batch(0, 0, 16)
    shown = 0
    for image, covered, class_id in zip(batch.images, batch.masks, batch.class_ids, strict=True):
        if class_id == 0:
            bright = to_pixels(image[None])[0, ..., 0] > 200
            assert not (bright & (covered[0].numpy() < 0.5)).any()
            shown += int(bright.sum())
    assert shown > 1000
    draft_mask = np.zeros((40, 84), bool)
    draft_mask[10:34, 12:72] = True
    canvas = to_canvas(draft_mask.astype(np.float32), 32)
    assert canvas[20:].max() > 0.5, "what is painted in the mirror image goes with it"


def test_scaling_keeps_the_number_of_axes():
    for axes in ((), (1,), (3,)):
        assert scale(np.zeros((6, 10, *axes), np.uint8), (3, 5)).shape == (3, 5, *axes)


@pytest.mark.parametrize("shape", [(40, 40), (30, 50), (90, 64)])
def test_canvas_and_back_keeps_the_window(shape):
    ramp = np.add.outer(np.arange(shape[0]), np.arange(shape[1])).astype(np.float32)
    back = from_canvas(to_canvas(ramp[..., None], 64), shape)
    assert back.shape == (*shape, 1)
    inner = np.abs(back[..., 0] - ramp)[3:-3, 3:-3]
    assert inner.max() < 1.5


def test_tensors_and_pixels_are_inverse():
    pixels = np.random.default_rng(0).integers(0, 256, (2, 5, 7, 3)).astype(np.float32)
    assert to_tensor(pixels).shape == (2, 3, 5, 7)
    assert np.abs(to_pixels(to_tensor(pixels)) - pixels).max() < 1e-3


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 6])
def test_every_batch_size_has_its_share_of_clean_crops(tiny_examples, tiny_classes, size):
    data = CropData(tiny_examples(), tiny_classes, CROPS)
    drawn = [data.draw_classes(np.random.default_rng([0, k]), size) for k in range(4000 // size)]
    clean = np.mean([k == len(tiny_classes) for batch in drawn for k in batch])
    assert clean == pytest.approx(CROPS.clean_share, abs=0.03)
    assert all(batch[-1] < len(tiny_classes) for batch in drawn) or size == 1


@pytest.mark.parametrize("shape", [(60, 1600), (1600, 60), (64, 1600), (1600, 64)])
def test_an_axis_that_shrinks_is_averaged_whatever_the_other_one_does(shape):
    grain = np.random.default_rng(0).normal(128, 40, shape).clip(0, 255).astype(np.uint8)
    assert scale(grain, (64, 64)).std() < 12
