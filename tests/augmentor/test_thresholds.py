"""Thresholds fitted to decisions: found where they are there to be found, and judged honestly."""

import numpy as np
import pytest

from augmentor.filters import FilterConfig, apply_rules
from augmentor.thresholds import BOUNDS, LEAST, Labelled, fit_thresholds
from generator.records import SyntheticDefect

GOOD = {"fill": 0.9, "contrast": 5.0, "leak": 0.0, "area_px": 120.0}
FINE = {"class_agreement": 0.9, "realism": 0.5, "memorisation": 2.0, "seam": 0.3}


def sample(number, rejected, generator="compact", source=None, **scores):
    record = SyntheticDefect(
        id=f"{number:016x}",
        class_name="pit",
        index=number,
        seed=number,
        generator=generator,
        fingerprint="f",
        image="i.png",
        mask="m.png",
        width=40,
        height=30,
        grey=True,
        boxes_xyxy=((3, 4, 9, 8),),
        mask_kind="exact",
        background_id="b",
        mask_source_id=source or f"real-{number}",
        source_ids=("b",),
        feather_px=3,
        crop_xyxy=(0, 0, 30, 30),
        scores=GOOD | FINE | scores,
        scored_by="own-1",
        verdict="accepted",
    )
    return Labelled(record, rejected)


def people(rule, number=120, seed=0, **fixed):
    """Decisions that follow `rule(realism, fill)`; both scores are spread evenly."""
    rng = np.random.default_rng(seed)
    drawn = rng.uniform(0, 1, (number, 2))
    return [
        sample(k, rule(2 * a, b), realism=2 * a, fill=b, **fixed) for k, (a, b) in enumerate(drawn)
    ]


def test_a_threshold_that_people_follow_is_found():
    filters = FilterConfig.model_validate({"mask": {"least_fill": 0.0}})
    fit = fit_thresholds(people(lambda realism, fill: realism > 0.6), filters)
    assert set(fit.changes) == {"quality.realism.most"}
    old, new = fit.changes["quality.realism.most"]
    assert old == 1.0
    assert new == pytest.approx(0.6, abs=0.05)
    assert fit.filters.quality.realism.most == new
    assert fit.better
    assert fit.held_out.balanced_accuracy > 0.95 > fit.today.balanced_accuracy
    assert fit.interval[0] <= fit.gain <= fit.interval[1]


def test_two_thresholds_are_fitted_together_and_the_rules_then_say_what_people_said():
    decisions = people(lambda realism, fill: realism > 1.4 or fill < 0.5, number=300)
    fit = fit_thresholds(decisions, FilterConfig())
    assert set(fit.changes) == {"quality.realism.most", "mask.least_fill"}
    records = [d.record for d in decisions]
    scores = {r.id: {k: r.scores[k] for k in FINE} for r in records}
    judged = apply_rules(records, fit.filters, scores)
    agreed = [
        (j.verdict == "rejected") == d.rejected for j, d in zip(judged, decisions, strict=True)
    ]
    assert np.mean(agreed) > 0.98


def test_chance_is_not_taken_for_knowledge():
    better = 0
    for seed in range(10):
        rng = np.random.default_rng(seed + 100)
        fit = fit_thresholds(
            people(lambda *_, r=rng: bool(r.random() < 0.5), 60, seed), FilterConfig()
        )
        better += fit.better
    assert better <= 2


def test_thresholds_that_are_right_already_stay():
    fit = fit_thresholds(people(lambda realism, fill: realism > 1.0 or fill < 0.35), FilterConfig())
    assert fit.changes == {}
    assert fit.today.balanced_accuracy == 1.0
    assert not fit.better


def test_a_rule_that_is_off_or_exempt_is_left_alone():
    off = FilterConfig.model_validate(
        {"mask": {"least_fill": 0.0}, "quality": {"realism": {"enabled": False}}}
    )
    assert fit_thresholds(people(lambda r, f: r > 0.6), off).filters.quality == off.quality
    rng = np.random.default_rng(0)
    copies = [
        sample(k, bool(m < 1.5), generator="copy-paste", memorisation=m)
        for k, m in enumerate(rng.uniform(0, 3, 80))
    ]
    assert fit_thresholds(copies, FilterConfig()).changes == {}
    own = [sample(k, d.rejected, memorisation=d.record.scores["memorisation"])
           for k, d in enumerate(copies)]  # fmt: skip
    assert fit_thresholds(own, FilterConfig()).filters.quality.memorisation.least == pytest.approx(
        1.5, abs=0.1
    )


def test_the_seam_of_compositing_is_no_compared_score():
    rng = np.random.default_rng(0)
    raw = [sample(k, bool(s > 5), seam=s) for k, s in enumerate(rng.uniform(0, 10, 80))]
    unscored = [Labelled(d.record.model_copy(update={"scored_by": ""}), d.rejected) for d in raw]
    assert "quality.seam.most" in fit_thresholds(raw, FilterConfig()).changes
    assert fit_thresholds(unscored, FilterConfig()).changes == {}


def test_samples_of_one_source_are_held_out_together():
    """Fifteen sources that people judge as a whole by a score that says which one it is: nothing
    can be learnt for a source that was not seen."""
    rng = np.random.default_rng(3)
    verdicts = rng.permutation([True] * 8 + [False] * 7)
    decisions = [
        sample(15 * j + k, bool(verdicts[k]), source=f"r{k}", realism=0.4 + 0.03 * k)
        for k in range(15)
        for j in range(6)
    ]
    alone = [
        Labelled(d.record.model_copy(update={"mask_source_id": f"x{i}"}), d.rejected)
        for i, d in enumerate(decisions)
    ]
    together = fit_thresholds(decisions, FilterConfig()).held_out.balanced_accuracy
    apart = fit_thresholds(alone, FilterConfig()).held_out.balanced_accuracy
    assert together < apart


def test_rejects_of_one_source_alone_teach_nothing_about_others():
    decisions = [sample(k, False, realism=0.4) for k in range(120)]
    decisions += [sample(200 + k, True, source="r", realism=0.9) for k in range(25)]
    fit = fit_thresholds(decisions, FilterConfig())
    assert (fit.gain, fit.better) == (0.0, False)
    assert fit.held_out.recall == 0


def test_too_few_decisions_are_refused():
    few = [sample(k, k < LEAST - 1) for k in range(3 * LEAST)]
    with pytest.raises(ValueError, match=f"at least {LEAST} rejected"):
        fit_thresholds(few, FilterConfig())


def test_every_bound_is_a_threshold_of_the_configuration():
    values = {bound.key: bound.value(FilterConfig()) for bound in BOUNDS}
    assert values["mask.least_fill"] == 0.35
    assert values["quality.realism.most"] == 1.0
    assert len(values) == 8
