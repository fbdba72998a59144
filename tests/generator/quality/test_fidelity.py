"""FID, KID and inception score against their formulas; honest names and notes."""

import json

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from scipy.linalg import sqrtm
from torchmetrics.functional.image.lpips import _LPIPS
from torchvision.models import alexnet

from generator.canvas import to_canvas, to_tensor
from generator.errors import WeightsError
from generator.quality.class_agreement import ClassAgreement
from generator.quality.fidelity import measure
from generator.quality.windows import Window


@pytest.fixture(autouse=True)
def no_weights(monkeypatch, tmp_path):
    """Nothing of this machine's user is found."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))


def _images(count, level, seed):
    rng = np.random.default_rng(seed)
    base = rng.normal(level, 25, (count, 9, 14, 1)) + rng.normal(0, 15, (count, 9, 14, 3))
    return list(base.clip(0, 255).astype(np.uint8))


def test_fid_and_kid_are_those_of_their_papers(miniature):
    real, made = _images(30, 120, 0), _images(40, 140, 1)
    row = measure({"pit": real}, {"pit": made}, miniature)["pit"]
    a, b = miniature.embed(real).astype(float), miniature.embed(made).astype(float)
    ca, cb = np.cov(a.T), np.cov(b.T)
    fid = ((a.mean(0) - b.mean(0)) ** 2).sum() + np.trace(ca + cb - 2 * sqrtm(ca @ cb).real)
    assert row["fid_miniature"] == pytest.approx(fid, rel=1e-3)

    def kernel(x, y):
        return (x @ y.T / 16 + 1) ** 3

    m = 30  # a subset is all of the smaller side, and a random part of the larger one
    kaa = kernel(a, a)
    full = (kaa.sum() - np.trace(kaa)) / (m * (m - 1)) - 2 * kernel(a, b).mean()
    kbb = kernel(b, b)
    full += (kbb.sum() - np.trace(kbb)) / (40 * 39)
    assert row["kid_miniature"] == pytest.approx(full, abs=3 * row["kid_std_miniature"] / 50**0.5)


def test_a_set_is_nearer_to_its_like_and_random_state_is_left_alone(miniature):
    real = {"pit": _images(30, 120, 0)}
    before = torch.random.get_rng_state()
    near = measure(real, {"pit": _images(30, 120, 1)}, miniature)["pit"]
    flat = [(i // 4 + np.arange(14, dtype=np.uint8)[:, None] * 8) for i in _images(30, 120, 1)]
    far = measure(real, {"pit": flat}, miniature)["pit"]
    assert torch.equal(before, torch.random.get_rng_state())
    for key in ("fid_miniature", "kid_miniature"):
        assert near[key] < 0.5 * far[key]
    assert far["diversity_miniature"] < 0.7 * far["real_diversity_miniature"]
    assert near == measure(real, {"pit": _images(30, 120, 1)}, miniature)["pit"]


def test_few_pictures_are_said_to_be_few(miniature):
    rows = measure(
        {"pit": _images(5, 120, 0), "dent": _images(1, 90, 1)},
        {"pit": _images(40, 120, 2), "chip": _images(3, 90, 3)},
        miniature,
    )
    assert list(rows) == ["chip", "dent", "pit", "all"]
    assert rows["pit"]["note"].startswith("5 pictures on the smaller side for 16 features: FID is")
    assert "kid_miniature" in rows["pit"]
    for name in ("dent", "chip"):
        assert "too few" in rows[name]["note"]
        assert "fid_miniature" not in rows[name]
    assert rows["all"]["real"] == 6 and rows["all"]["synthetic"] == 43
    assert json.loads(json.dumps(rows)) == rows
    assert not any(key in ("fid", "kid", "lpips") for row in rows.values() for key in row)


def test_inception_score_is_one_for_one_class_and_grows_with_both(miniature):
    dark, light = _images(30, 60, 0), [np.rot90(i).copy() for i in _images(30, 60, 1)]
    for image in dark:
        image[:4] = 250
    for image in light:
        image[:, :3] = 250
    windows = [
        Window(f"{n}{k}", f"{n}{k}", n, i, np.ones(i.shape[:2], bool), k % 3)
        for n, images in (("pit", dark), ("dent", light))
        for k, i in enumerate(images)
    ]
    agreement = ClassAgreement(windows, ("pit", "dent"), miniature)
    sets = {"pit": dark, "dent": light}
    rows = measure(sets, sets, miniature, agreement)
    assert rows["pit"]["is_miniature"] < 1.1
    shares = np.exp(agreement.log_probabilities([*dark, *light], [frozenset()] * 60))
    expected = np.exp((shares * np.log(shares / shares.mean(axis=0))).sum(axis=1).mean())
    assert rows["all"]["is_miniature"] == pytest.approx(expected, rel=1e-4)
    assert 1.5 < expected <= 2


def test_lpips_is_torchmetrics_own_with_the_backbone_from_disk(miniature, tmp_path):
    torch.manual_seed(0)
    backbone = alexnet(weights=None)
    path = tmp_path / "alexnet-owt-7be5be79.safetensors"
    used = {k: v for k, v in backbone.state_dict().items() if k.startswith("features.")}
    save_file(used, path)
    images = _images(3, 120, 0)
    row = measure({"pit": images}, {"pit": images}, miniature, lpips_weights=tmp_path)["pit"]
    reference = _LPIPS(pretrained=True, net="alex", pnet_rand=True).eval()
    for part in (getattr(reference.net, f"slice{k}") for k in range(1, 6)):
        for number, layer in part.named_children():
            layer.load_state_dict(backbone.features[int(number)].state_dict())
    x = to_tensor(np.stack([to_canvas(i, 64) for i in images]))
    with torch.no_grad():
        expected = reference(x[[0, 0, 1]], x[[1, 2, 2]]).mean().item()
    assert row["lpips"] == pytest.approx(expected, rel=1e-5) and expected > 0
    save_file({"features.0.weight": torch.zeros(2)}, path)
    with pytest.raises(WeightsError, match="does not hold torchvision's alexnet"):
        measure({"pit": images}, {"pit": images}, miniature, lpips_weights=tmp_path)
