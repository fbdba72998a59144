"""The localiser: squares and masks, equal steps in every arm, what it learns and what is kept."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from downstream.config import ExperimentConfig
from downstream.dataset import Item, read_export
from downstream.detectors.batches import augment
from downstream.detectors.outcome import Outcome
from downstream.detectors.squares import Draws, Squares, read_mask_square
from downstream.detectors.unet import build_unet, focal_loss, image_score, train_localiser
from downstream.errors import ExportError, SettingsError
from downstream.experiment import run_experiment
from downstream.localisation import localisation_metrics
from downstream.report_file import read_report
from downstream.runs import plan_runs

TINY = ExperimentConfig(
    tasks=("localisation",),
    seeds=1,
    localisation_steps=6,
    localisation_px=64,
    localisation_batch=4,
    localisation_width=4,
    bootstrap_samples=100,
    precision="fp32",
    device="cpu",
)


def train(
    folder: Path, out: Path, config: ExperimentConfig = TINY, arm: str = "real", **more: object
) -> Outcome:
    export = read_export(folder)
    out.mkdir(parents=True)
    sides = [export.items("train", arm), export.items("val"), export.items("test")]
    settings = {"seed": 0, "on_step": lambda done, total: None, **more}
    return train_localiser(*sides, export.classes, config, folder=out, **settings)  # type: ignore[arg-type]


def test_learns_an_easy_set_and_says_so(masked: Path, tmp_path: Path) -> None:
    config = TINY.model_copy(
        update={"localisation_steps": 50, "localisation_width": 8, "localisation_lr": 3e-3}
    )
    path = run_experiment(masked, tmp_path / "out", config)
    report = read_report(path)
    found = report["results"]["localisation"]["real"]
    assert 0.01 < found["defect_share"] < 0.06
    assert found["metrics"]["pixel_ap"]["mean"] > 0.6  # fifteen times chance
    assert found["metrics"]["image_auroc"]["mean"] > 0.9
    assert set(found["per_class"]) == {"dot", "bar"} and found["per_class"]["bar"] > 0.5
    gap = report["differences"]["localisation"]["mixed"]
    assert {"pixel_ap", "pixel_f1", "pixel_auroc", "pro", "image_auroc"} <= set(gap)
    assert set(gap["per_class"]) == {"dot", "bar"}
    assert any("resized to a square of 64 px" in note for note in report["notes"])
    again = read_report(run_experiment(masked, tmp_path / "out", config))
    assert {run["state"] for run in again["runs"]} == {"reused"}
    assert again["results"] == report["results"]


def test_what_a_run_leaves(masked: Path, tmp_path: Path) -> None:
    export = read_export(masked)
    told: list[tuple[int, int]] = []
    outcome = train(masked, tmp_path / "a", on_step=lambda done, total: told.append((done, total)))
    assert told == [(k, 6) for k in range(1, 7)] and outcome.steps == outcome.selected_step == 6
    assert outcome.from_scratch and outcome.labels == ("dot", "bar")
    rows = outcome.predictions["test"]
    assert [row["id"] for row in rows] == [item.id for item in export.items("test")]
    assert [row["class"] for row in rows[:3]] == ["dot", "bar", "good"]
    about = json.loads((tmp_path / "a/model.json").read_text())
    assert about["kind"] == "unet-localise" and about["px"] == 64
    network = build_unet(about)
    network.load_state_dict(load_file(tmp_path / "a/weights.safetensors"))
    image, _ = Squares(export.items("test"), 64).batch([0])
    mean, std = (torch.tensor(about[name]).view(3, 1, 1) for name in ("mean", "std"))
    with torch.no_grad():
        shares = network.eval()(((image.float() / 255) - mean) / std).sigmoid()[:, 0]
    assert float(image_score(shares)) == pytest.approx(rows[0]["score"], abs=2e-6)
    picture = Image.open(tmp_path / "a/maps-test" / f"{rows[0]['id']}.png")
    assert picture.mode == "L" and picture.size == (64, 64)
    np.testing.assert_allclose(np.asarray(picture) / 255, shares[0], atol=0.003)
    again = train(masked, tmp_path / "b")
    assert again.predictions == outcome.predictions


def test_arms_take_the_same_steps_at_the_same_rates(
    masked: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rates: list[float] = []
    real_step = torch.optim.AdamW.step

    def step(self, *args, **kwargs):
        rates.append(self.param_groups[0]["lr"])
        return real_step(self, *args, **kwargs)

    monkeypatch.setattr(torch.optim.AdamW, "step", step)
    outcomes = [train(masked, tmp_path / arm, arm=arm) for arm in ("real", "mixed")]
    assert len(rates) == 12 and rates[:6] == rates[6:]
    assert outcomes[0].predictions != outcomes[1].predictions


def test_draws_hold_clean_images_back_and_balance_the_classes(masked: Path) -> None:
    items = read_export(masked).items("train", "real")
    dots = [item for item in items if item.class_name == "dot"]
    bars = [item for item in items if item.class_name == "bar"]
    clean = [item for item in items if item.class_name == "good"]
    many = [dots[0], *bars, *clean * 30]
    drawn = Draws(many, 0.25, np.random.default_rng(0)).batch(4000)
    names = [many[k].class_name for k in drawn]
    assert abs(names.count("good") / 4000 - 0.25) < 0.03
    assert abs(names.count("dot") / names.count("bar") - 1) < 0.15
    few = [*dots, *bars, *clean[:1]]
    drawn = Draws(few, 0.25, np.random.default_rng(0)).batch(4000)
    assert abs(np.mean(drawn == len(few) - 1) - 1 / len(few)) < 0.03
    assert (Draws(dots, 0.25, np.random.default_rng(0)).batch(50) < len(dots)).all()


def test_what_is_mixed_in_takes_no_clean_images_place(masked: Path) -> None:
    items = read_export(masked).items("train", "mixed")
    shares = [
        Draws(own, 0.9, np.random.default_rng(0)).clean_share
        for own in (items, [item for item in items if item.kind == "real"])
    ]
    assert shares[0] == shares[1] == pytest.approx(1 / 3)


def test_the_last_steps_draw_real_images_alone(masked: Path) -> None:
    items = read_export(masked).items("train", "mixed")
    draws = Draws(items, 0.25, np.random.default_rng(0))
    assert any(items[k].kind == "synthetic" for k in draws.batch(200))
    draws.only_real()
    assert all(items[k].kind == "real" for k in draws.batch(200))
    assert {items[k].class_name for k in draws.batch(200)} == {"dot", "bar", "good"}


def test_image_and_mask_are_moved_alike() -> None:
    """Bright pixels are the defect, before and after."""
    rng = np.random.default_rng(2)
    images = torch.full((24, 3, 40, 40), 60, dtype=torch.uint8)
    masks = torch.zeros((24, 40, 40), dtype=torch.uint8)
    for k in range(24):
        x, y = rng.integers(0, 30, 2)
        images[k, :, y : y + 4, x : x + 9] = 200
        masks[k, y : y + 4, x : x + 9] = 1
    moved, moved_masks = augment(images, rng, masks)
    assert moved_masks is not None
    flat = moved[:, 0].flatten(1)
    bright = (flat > (flat.amin(1) + flat.amax(1))[:, None] / 2).view(24, 40, 40)
    assert torch.equal(bright, moved_masks.bool())
    assert not torch.equal(moved_masks, masks)
    alone, none = augment(images, np.random.default_rng(5))
    assert none is None
    assert torch.equal(alone, augment(images, np.random.default_rng(5), masks)[0])


def item_with_mask(folder: Path, mask: np.ndarray) -> Item:
    path = folder / "mask.png"
    Image.fromarray(mask).save(path)
    height, width = mask.shape
    return Item(
        id="a", image=path, label=path, mask=path, split="train", kind="real", width=width,
        height=height, sha256="", **{"class": "dot"},
    )  # fmt: skip


def test_masks_become_squares(tmp_path: Path) -> None:
    mask = np.zeros((100, 300), np.uint8)
    mask[50:, 150:] = 255
    square = read_mask_square(item_with_mask(tmp_path, mask), 40)
    expected = np.zeros((40, 40), np.uint8)
    expected[20:, 20:] = 1
    np.testing.assert_array_equal(square, expected)
    small = np.zeros((30, 20), np.uint8)
    small[10:15, 5:10] = 255
    square = read_mask_square(item_with_mask(tmp_path, small), 60)  # made larger
    assert square.sum() == 10 * 15 and square[20:30, 15:30].all()


def test_a_defect_smaller_than_a_pixel_of_the_square_does_not_vanish(tmp_path: Path) -> None:
    mask = np.zeros((640, 960), np.uint8)
    mask[321:323, 121:124] = 255  # a square's pixel is 30 x 20 px here
    square = read_mask_square(item_with_mask(tmp_path, mask), 32)
    assert square.sum() == 1 and square[16, 4] == 1


def test_a_mask_of_another_size_or_an_empty_one_is_refused(tmp_path: Path) -> None:
    item = item_with_mask(tmp_path, np.full((30, 20), 255, np.uint8))
    with pytest.raises(ExportError, match="not of its image's size, 30 x 20 px"):
        read_mask_square(item.model_copy(update={"width": 30, "height": 20}), 16)
    with pytest.raises(ExportError, match="is empty or not"):
        read_mask_square(item_with_mask(tmp_path, np.zeros((30, 20), np.uint8)), 16)


@pytest.mark.parametrize("fold", [1, 2, 4])
def test_the_network_keeps_the_size_and_begins_with_the_prior(fold: int) -> None:
    network = build_unet({"width": 4, "fold": fold}).eval()
    with torch.no_grad():
        logits = network(torch.randn(2, 3, 64, 64))
    assert logits.shape == (2, 1, 64, 64)
    assert float(logits.sigmoid().mean()) < 0.05


def test_every_image_weighs_alike_in_a_balanced_loss_and_its_area_in_a_plain_one() -> None:
    """Two images whose defects are missed as badly; one defect has sixteen times the pixels."""
    masks = torch.zeros(2, 40, 50, dtype=torch.uint8)
    masks[0, :20, :32], masks[1, :5, :8] = 1, 1
    logits = torch.full((2, 40, 50), -2.0).masked_fill(masks == 0, -30.0)
    p = 1 / (1 + np.exp(2))
    each = (1 - p) ** 2 * -np.log(p)
    balanced = [float(focal_loss(logits[k : k + 1], masks[k : k + 1], True)) for k in (0, 1)]
    plain = [float(focal_loss(logits[k : k + 1], masks[k : k + 1], False)) for k in (0, 1)]
    assert balanced == pytest.approx([each, each], rel=1e-5)
    assert plain == pytest.approx([each * 640 / 2000, each * 40 / 2000], rel=1e-5)
    clean = torch.zeros(1, 40, 50, dtype=torch.uint8)
    alarmed = torch.full((1, 40, 50), 2.0)
    expected = 2000 * each / (0.005 * 2000)
    assert float(focal_loss(alarmed, clean, True)) == pytest.approx(expected, rel=1e-5)


def test_image_score_by_hand() -> None:
    maps = torch.zeros(2, 40, 50)
    maps[0, 10:15, 20:26] = 1  # 30 of the 441 pixels of a window
    maps[1, 0, 0] = 1
    assert image_score(maps).tolist() == pytest.approx([30 / 441, 1 / 441])


def test_an_export_without_masks_leaves_localisation_out(blobs: Path, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="no exact mask of every defect"):
        run_experiment(blobs, tmp_path, TINY)
    config = TINY.model_copy(
        update={
            "tasks": ("classification", "localisation"), "classification_steps": 2,
            "classification_px": 32, "classification_batch": 4, "arms": ("real",),
        }
    )  # fmt: skip
    report = read_report(run_experiment(blobs, tmp_path, config))
    assert report["tasks"] == ["classification"]
    assert any("localisation was not evaluated" in note for note in report["notes"])


def test_the_key_holds_the_mask(masked: Path, tmp_path: Path) -> None:
    folder = tmp_path / "export"
    shutil.copytree(masked, folder)

    def keys(config: ExperimentConfig = TINY) -> dict[str, str]:
        return {run.name: run.key for run in plan_runs(read_export(folder), tmp_path, config)}

    base = keys()
    other = keys(TINY.model_copy(update={"localisation_width": 8}))
    assert all(other[name] != base[name] for name in base)
    path = folder / "masks/train/mixed-synthetic0.png"
    mask = np.asarray(Image.open(path)).copy()
    mask[0, 0] = 255 - mask[0, 0]
    Image.fromarray(mask).save(path)
    changed = keys()
    assert changed["localisation real seed 0"] == base["localisation real seed 0"]
    assert changed["localisation mixed seed 0"] != base["localisation mixed seed 0"]


def test_an_altered_mask_is_what_is_trained_on(
    make_export: Callable[..., Path], tmp_path: Path
) -> None:
    """Masks in the wrong place on val and test: the same training, and next to no pixel AP."""
    folder = make_export(task="segment", arms={"real": 0})
    config = TINY.model_copy(update={"localisation_steps": 30, "localisation_lr": 3e-3})
    right = train(folder, tmp_path / "a", config)
    for path in folder.glob("masks/test/*.png"):
        Image.fromarray(np.asarray(Image.open(path))[::-1, ::-1].copy()).save(path)
    wrong = train(folder, tmp_path / "b", config)
    assert wrong.predictions["val"] == right.predictions["val"]
    scores = [
        localisation_metrics(o.predictions["test"], o.labels)["pixel_ap"] for o in (right, wrong)
    ]
    assert scores[0] > 2 * scores[1]
