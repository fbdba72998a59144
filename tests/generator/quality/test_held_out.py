"""Real defects that nothing was fitted on pass every rule; what is plainly wrong does not.

The whole scorer with the project's own extractor, on the sample dataset and on real photographs.
"""

from collections import Counter
from pathlib import Path

import cv2
import numpy as np
import pytest

from augmentor.importers import import_source
from generator.quality.own_features import open_own
from generator.quality.rules import QualityRules, judge_quality
from generator.quality.scoring import Scorer
from generator.quality.windows import real_windows

REAL = Path(__file__).parents[4] / "shared" / "data" / "magnetic-tile"
RULES = ("class-agreement", "realism", "memorisation", "seam")

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


def _share_rejected(scorer, windows):
    """Share of windows that each rule rejects; nothing about them is known to the scorer."""
    shown = [(w.pixels, w.mask, (0, 0, *w.pixels.shape[1::-1])) for w in windows]
    scores = scorer.score(shown, [w.class_name for w in windows], [None] * len(windows))
    verdicts = Counter(v.rule for s in scores for v in judge_quality(s, QualityRules()))
    return {rule: verdicts[rule] / len(windows) for rule in RULES}


def _cut_hard(windows, clean):
    """The defects' shapes filled with a darkened piece of clean surface, without any blend."""
    made = []
    for k, window in enumerate(windows):
        surface = cv2.resize(clean[k % len(clean)].pixels, window.mask.shape[::-1])
        cut = surface.copy()
        cut[window.mask] = surface[::-1, ::-1][window.mask] // 2
        made.append(type(window)(**{**vars(window), "pixels": cut}))
    return made


def test_on_the_sample_dataset(draw, classes, tmp_path):
    train = draw(tmp_path / "train", per_class=12, clean=40)
    scorer = Scorer(train, classes, open_own(train, classes, tmp_path))
    assert scorer.agreement.held_out_accuracy > 0.85
    fresh = real_windows(draw(tmp_path / "fresh", per_class=40, clean=12, seed=7), classes)
    defects = [w for w in fresh if w.class_name != "good"]
    assert len(defects) >= 200
    rejected = _share_rejected(scorer, defects)
    assert max(rejected.values()) <= 0.06, rejected
    clean = [w for w in fresh if w.class_name == "good"]
    wrong = _share_rejected(scorer, _cut_hard(defects, clean))
    assert wrong["realism"] >= 0.4 and wrong["seam"] >= 0.4, wrong
    swapped = [
        type(w)(**{**vars(w), "class_name": classes[classes.index(w.class_name) - 1]})
        for w in defects
    ]
    assert _share_rejected(scorer, swapped)["class-agreement"] >= 0.6


@pytest.mark.skipif(not REAL.is_dir(), reason=f"real data is not at {REAL}")
def test_on_magnetic_tile(tmp_path):
    found = import_source(REAL, tmp_path / "data", shots=12, on_bad="skip", group_by="similar")
    train = [r for r in found.records if r.split == "train"]
    others = [r for r in found.records if r.split != "train" and not r.is_clean]
    scorer = Scorer(train, found.classes, open_own(train, found.classes, tmp_path))
    assert scorer.agreement.held_out_accuracy > 0.5  # six classes
    defects = [w for w in real_windows(others, found.classes) if w.class_name != "good"]
    assert len(defects) >= 250
    rejected = _share_rejected(scorer, defects)
    assert max(rejected.values()) <= 0.06, rejected
    clean = [w for w in real_windows(train, found.classes) if w.class_name == "good"]
    wrong = _share_rejected(scorer, _cut_hard(defects, clean))
    assert wrong["seam"] >= 0.5, wrong
    assert np.mean(list(wrong.values())) > 3 * np.mean(list(rejected.values()))
