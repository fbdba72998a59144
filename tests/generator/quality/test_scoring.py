"""Scores of a real pool, and the file that keeps them."""

import json
from functools import partial

import numpy as np
import pytest

import generator.quality.scoring as scoring_module
import generator.quality.windows as windows_module
from generator.baselines import make_baseline
from generator.compositing import composite
from generator.errors import PoolError
from generator.images import ExampleReader
from generator.masks import DraftPlanner
from generator.planner_settings import PlannerSettings
from generator.quality.agreement import MaskRules, judge
from generator.quality.rules import QualityRules
from generator.quality.scoring import (
    SCORES,
    Scorer,
    embeddings,
    read_scores,
    score_samples,
    scorer_key,
    write_scores,
)
from generator.quality.windows import assign_folds, defect_window, read_sample, windows_of
from generator.sampling import make_request, sample_pool


@pytest.fixture(scope="module")
def pasted(examples, tmp_path_factory):
    """Two pasted samples a class: (pool, record)."""
    pool = tmp_path_factory.mktemp("pool")
    classes = sorted({e.label for e in examples} - {"good"})
    planner = DraftPlanner(examples, classes, PlannerSettings(real_share=1, recombine=0))
    painter = make_baseline("copy-paste")
    requests = [make_request(painter.fingerprint, c, k, 0) for c in classes for k in range(2)]
    judged = partial(judge, rules=MaskRules())
    made = sample_pool(
        painter, planner, requests, pool, composite=composite, judge=judged, feather_px=3
    )
    return [(pool, record) for record in made]


def test_every_sample_gets_every_score(pasted, examples, classes, miniature):
    told = []
    scores = score_samples(
        pasted, examples, classes, miniature, on_sample=lambda done, total: told.append(done)
    )
    assert list(scores) == [sample.id for _, sample in pasted] and told == [10]
    ids = {e.id for e in examples if not e.is_clean}
    for found in scores.values():
        assert set(found) == {"class_agreement", "realism", "memorisation", "seam", "nearest_id"}
        assert 0 <= found["class_agreement"] <= 1
        assert min(found[k] for k in ("realism", "memorisation", "seam")) >= 0
        assert found["nearest_id"] in ids
    sources = [scores[s.id]["nearest_id"] in s.source_ids for _, s in pasted]
    assert np.mean(sources) >= 0.5  # one image in six would be met by chance
    assert json.loads(json.dumps(scores)) == scores


def test_the_lenders_model_does_not_judge_whatever_lies_behind(
    pasted, examples, classes, miniature
):
    """Painted into a defect image of another fold, whose own model saw the lender."""
    scorer = Scorer(examples, classes, miniature)
    folds = assign_folds(examples, 0)
    pairs = [(pool, s) for pool, s in pasted if s.lender is not None]
    shown = [read_sample(*pair) for pair in pairs]
    names, lenders = [s.class_name for _, s in pairs], [s.lender for _, s in pairs]
    windows = [defect_window(image, box) for image, _, box in shown]
    blind = scorer.agreement.scores(windows, names, [frozenset({folds[k]}) for k in lenders])
    found = [s["class_agreement"] for s in scorer.score(shown, names, lenders)]
    assert pairs and found == pytest.approx(blind, abs=1e-6)


def test_a_copy_is_found_in_a_class_too_large_to_be_at_hand(
    examples, classes, miniature, monkeypatch
):
    monkeypatch.setattr(windows_module, "MOST_OF_CLASS", 4)
    monkeypatch.setattr(scoring_module, "MOST_OF_CLASS", 4)
    scorer = Scorer(examples, classes, miniature)
    at_hand = {w.example_id for bank in scorer.memorisation._banks.values() for w in bank.windows}
    reader, least = ExampleReader(), QualityRules().memorisation.least
    left_out = [e for e in examples if not e.is_clean and e.id not in at_hand]
    assert len(left_out) >= 10
    for example in left_out:
        for window in windows_of(example, example.label, assign_folds(examples, 0), reader):
            shown = [(window.pixels, window.mask, (0, 0, *window.mask.shape[::-1]))]
            (found,) = scorer.score(shown, [example.label], [example.id])
            assert found["memorisation"] < least and found["nearest_id"] == example.id


def test_a_sample_scores_the_same_alone(pasted, examples, classes, miniature):
    together = score_samples(pasted[:4], examples, classes, miniature)
    _, third = pasted[2]
    alone = score_samples([pasted[2]], examples[::-1], classes, miniature)[third.id]
    assert alone == pytest.approx(together[third.id], abs=1e-5)


def test_nothing_to_score(examples, classes, miniature):
    assert score_samples([], examples, classes, miniature) == {}


def test_one_vector_for_each_image_and_sample(pasted, examples, miniature):
    ids, array = embeddings(pasted, examples, miniature, batch_size=7)
    assert ids == [e.id for e in examples] + [s.id for _, s in pasted]
    assert array.shape == (len(ids), 16) and array.dtype == np.float32
    assert np.allclose(np.linalg.norm(array, axis=1), 1, atol=1e-5)
    assert embeddings([], [], miniature)[1].shape == (0, 16)


def test_scores_are_kept_by_scorer(tmp_path):
    assert read_scores(tmp_path, "a") == {}
    write_scores(tmp_path, "a", {"2": {"seam": 0.5}, "1": {"seam": 1.5, "nearest_id": "x"}})
    write_scores(tmp_path, "a", {"3": {"realism": 0.1}})
    assert read_scores(tmp_path, "a") == {
        "1": {"seam": 1.5, "nearest_id": "x"},
        "2": {"seam": 0.5},
        "3": {"realism": 0.1},
    }
    assert read_scores(tmp_path, "b") == {}
    write_scores(tmp_path, "b", {"1": {"seam": 9.0}})
    assert read_scores(tmp_path, "a") == {} and len(read_scores(tmp_path, "b")) == 1


def test_a_damaged_file_says_what_to_do(tmp_path):
    (tmp_path / SCORES).write_text('{"id": "1"}\n')
    with pytest.raises(PoolError, match=r"scores.jsonl is damaged; delete it"):
        read_scores(tmp_path, "a")


def test_the_key_follows_the_examples_and_the_extractor(examples, classes, miniature):
    key = scorer_key(examples, classes, miniature)
    assert key == scorer_key(examples[::-1], classes, miniature) and len(key) == 16
    assert key != scorer_key(examples[1:], classes, miniature)
    miniature.fingerprint = "another"
    assert key != scorer_key(examples, classes, miniature)
