"""Class agreement and realism on points whose answer is known."""

import numpy as np
import pytest

from generator.quality.class_agreement import ClassAgreement
from generator.quality.realism import Realism
from generator.quality.windows import Window

CENTRES = {"pit": (1.0, 0.0, 0.0), "dent": (0.0, 1.0, 0.0), "good": (0.0, 0.0, 1.0)}


class Points:
    """Pictures of 1 x 1 px whose colour is the feature; it counts what each fold's twin saw."""

    name, fingerprint, dimensions = "points", "points", 3

    def embed(self, images, batch_size=64):
        array = np.array([i[0, 0] for i in images], np.float32).reshape(-1, 3) / 255 + 1e-3
        return array / np.linalg.norm(array, axis=1, keepdims=True)

    def without(self, fold):
        return self


def _point(name, rng, spread):
    colour = np.array(CENTRES[name]) * 160 + 60 + rng.normal(0, spread, 3)
    return np.round(colour).clip(0, 255).astype(np.uint8)[None, None]


def _windows(spread, each=30, seed=0, names=CENTRES):
    rng = np.random.default_rng(seed)
    return [
        Window(f"{n}{k}", f"{n}{k}", n, _point(n, rng, spread), np.ones((1, 1), bool), k % 3)
        for n in names
        for k in range(each)
    ]


def test_the_own_class_is_probable_and_another_is_not():
    agreement = ClassAgreement(_windows(15), ("pit", "dent"), Points())
    assert agreement.held_out_accuracy == 1
    image = _point("pit", np.random.default_rng(9), 5)
    own, other = agreement.scores([image, image], ["pit", "dent"], [frozenset()] * 2)
    assert own > 0.95 and other < 0.03


def test_probabilities_are_calibrated_on_held_out_images():
    """Classes that overlap: of windows given p, about p are right; and few real ones get little."""
    agreement = ClassAgreement(_windows(75, each=120), ("pit", "dent"), Points())
    fresh = _windows(75, each=400, seed=1)
    logs = agreement.log_probabilities([w.pixels for w in fresh], [frozenset()] * len(fresh))
    shares = np.exp(logs)
    assert np.allclose(shares.sum(axis=1), 1)
    labels = np.array([agreement.names.index(w.class_name) for w in fresh])
    right, sure = shares.argmax(axis=1) == labels, shares.max(axis=1)
    assert 0.5 < right.mean() < 0.95
    assert sure.mean() == pytest.approx(right.mean(), abs=0.05)
    own = shares[np.arange(len(fresh)), labels]
    assert (own < 0.01).mean() <= 0.02


def test_a_sample_is_judged_by_the_model_that_did_not_see_its_source():
    """The windows of fold 1 claim that a dent's colour is a pit's: only models that saw them
    believe it."""
    windows = _windows(8)
    lying = [
        Window(w.example_id, w.group, "pit", _point("dent", np.random.default_rng(k), 2), w.mask, 1)
        if w.class_name == "pit" and w.fold == 1
        else w
        for k, w in enumerate(windows)
    ]
    agreement = ClassAgreement(lying, ("pit", "dent"), Points())
    image = _point("dent", np.random.default_rng(5), 1)
    blind, *seen = agreement.scores(
        [image] * 3, ["pit"] * 3, [frozenset({1}), frozenset({0}), frozenset({2})]
    )
    assert blind < 0.1 and min(seen) > 5 * blind


def test_one_class_alone_has_no_agreement():
    only = ClassAgreement(_windows(8, names=["pit"]), ("pit",), Points())
    assert only.scores([_point("pit", np.random.default_rng(0), 1)], ["pit"], [frozenset()]) == [
        None
    ]
    assert only.held_out_accuracy is None


def test_real_ones_keep_the_bound_and_strangers_do_not():
    kept = []
    for seed in range(8):
        realism = Realism(_windows(12, each=40, seed=seed), ("pit", "dent"), Points())
        fresh = [w for w in _windows(12, each=100, seed=100 + seed) if w.class_name != "good"]
        scores = realism.scores([w.pixels for w in fresh], [w.class_name for w in fresh])
        kept += [score <= 1 for score in scores]
    assert 0.92 <= np.mean(kept) <= 0.98
    stranger = _point("good", np.random.default_rng(3), 2)
    assert realism.scores([stranger], ["pit"])[0] > 3


def test_images_of_one_group_are_no_neighbours_of_each_other():
    """Every image twice, in one group each: the copies must not make the real ones look close."""
    once = _windows(12, each=20)
    twice = [*once, *(Window(f"{w.example_id}'", *list(vars(w).values())[1:]) for w in once)]
    images = [w.pixels for w in _windows(12, each=10, seed=8)]
    names = ["pit"] * len(images)
    one = Realism(once, ("pit", "dent"), Points()).scores(images, names)
    two = Realism(twice, ("pit", "dent"), Points()).scores(images, names)
    assert np.allclose(one, two, rtol=0.1)


def test_a_class_of_one_image_has_no_realism():
    windows = [w for w in _windows(12) if w.class_name != "dent" or w.example_id == "dent0"]
    realism = Realism(windows, ("pit", "dent"), Points())
    image = _point("dent", np.random.default_rng(0), 2)
    assert realism.scores([image], ["dent"]) == [None]
    assert realism.scores([image], ["pit"])[0] > 1
