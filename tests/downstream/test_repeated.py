"""Several splits' reports together: an effect that is there is found, and none is not."""

import json
import math

import numpy as np
import pytest
from scipy import stats

from downstream.config import ExperimentConfig
from downstream.names import METRICS
from downstream.repeated import rows_of, student
from downstream.repeated_page import format_splits, render_splits
from downstream.repeated_report import _line, summarise, verdict_sentence
from downstream.verdict import learned

SHARED = 1 / 3
CLASSES = ("crack", "stain")
TASK, METRIC = "classification", "macro_f1"


def report(
    values: dict[str, float],
    per_class: dict[str, tuple[float | None, float]],
    rising: bool = False,
) -> dict:
    """A split's report, as far as it is read: every metric of an arm is its value."""
    results = {
        arm: {
            side: {name: {"mean": value} for name in METRICS[TASK]} for side in ("val", "metrics")
        }
        | {
            "labels": list(CLASSES),
            "confusion_matrix": [[30, 20], [20, 30]],
            "per_class": dict(zip(CLASSES, per_class.get(arm, (value, value)), strict=True)),
        }
        for arm, value in values.items()
    }
    return {
        "tasks": [TASK],
        "arms": list(values),
        "classes": list(CLASSES),
        "baseline": "real",
        "primary": {TASK: METRIC},
        "settings": ExperimentConfig().model_dump(mode="json"),
        "results": {TASK: results},
        "counts": {
            "train": {arm: {"images": 300 if arm == "real" else 900} for arm in values},
            "test": {"images": 100},
        },
        "levelled": {TASK: {"mixed": {"levelled": not rising}}},
        "runs": [{"key": f"{arm}{value}"} for arm, value in values.items()],
    }


def planted(
    gains: dict[str, np.ndarray],
    crack: np.ndarray | None = None,
    failed: dict[int, str] | None = None,
) -> dict:
    """The report over splits, in which arm by arm the gain over `real` is planted."""
    n = len(next(iter(gains.values())))
    base = np.random.default_rng(1).normal(0.5, 0.1, n)
    reports = {}
    for k in range(n):
        values = {"real": base[k]} | {arm: base[k] + gain[k] for arm, gain in gains.items()}
        each = {"mixed": (base[k] + crack[k], base[k])} if crack is not None else {}
        reports[k + 1] = report({arm: float(v) for arm, v in values.items()}, each)
    return summarise("tiles", reports, failed or {})


def noise(n: int, size: float, seed: int = 0) -> np.ndarray:
    drawn = np.random.default_rng(seed).normal(0, size, n)
    return drawn - drawn.mean()


def test_differences_that_agree_say_no_more_than_their_signs():
    """A class with two defects on test has an AP50 of few values; three alike are nothing rare."""
    for gaps, p in (([0.5] * 3, 0.25), ([-0.5] * 8, 2**-7), ([0.0] * 3, 1.0)):
        found = student(gaps, SHARED)
        assert found.p == p and found.difference == gaps[0]
        assert (found.low <= 0 <= found.high) and found.new_low <= found.low
    assert student([0.5] * 3, SHARED).verdict(0.25, 0.95) == "no evidence"


def test_intervals_are_those_of_student_and_of_nadeau_and_bengio():
    gaps = [0.10, 0.04, 0.11, -0.02, 0.07]
    found = student(gaps, SHARED, 0.9)
    mean, error = np.mean(gaps), stats.sem(gaps)
    assert (found.low, found.high) == pytest.approx(stats.t.interval(0.9, 4, mean, error))
    wide = np.sqrt((1 / 5 + SHARED) * np.var(gaps, ddof=1)) * stats.t.ppf(0.95, 4)
    assert (found.new_low, found.new_high) == pytest.approx((mean - wide, mean + wide))
    assert found.p == pytest.approx(stats.ttest_1samp(gaps, 0).pvalue)
    assert found.splits == 5


def test_one_split_has_a_difference_and_nothing_else():
    found = student([0.1], SHARED)
    assert found.difference == 0.1 and found.low == -math.inf and found.p == 1.0
    report = planted({"mixed": np.array([0.1])})
    line = report["differences"][TASK]["mixed"]["test"][METRIC]
    assert line["low"] is None and line["verdict"] == "no verdict"
    assert json.loads(json.dumps(report, allow_nan=False)) == report


def test_an_effect_is_found_and_none_is_not():
    report = planted({"mixed": 0.06 + noise(6, 0.02), "copy-paste": noise(6, 0.02, 1)})
    found = report["differences"][TASK]
    mixed, pasted = (found[arm]["test"][METRIC] for arm in ("mixed", "copy-paste"))
    assert (mixed["verdict"], pasted["verdict"]) == ("helps", "no evidence")
    assert mixed["p_holm"] == pytest.approx(2 * mixed["p"])
    assert report["headline"] == "Over 6 splits, classification is helped by mixed."
    assert "mixed: macro F1 +0.060" in report["verdict"]


def test_harm_is_said_so():
    report = planted({"mixed": -0.06 + noise(6, 0.02)})
    assert report["headline"].startswith("Over 6 splits, classification is hurt by mixed")


def test_what_is_sure_of_these_photographs_alone_is_said_so():
    """0.06 with a spread of 0.05 over six splits: p 0.03, but not for new photographs."""
    drawn = noise(6, 1.0)
    report = planted({"mixed": 0.06 + 0.05 * drawn / drawn.std(ddof=1)})
    line = report["differences"][TASK]["mixed"]["test"][METRIC]
    assert line["verdict"] == "helps" and line["new_low"] < 0
    assert "of new ones of the same line it is not sure" in report["verdict"]


def test_gains_that_are_alike_on_all_splits_have_a_verdict():
    """Their spread is nothing, so that the intervals have no ends."""
    report = planted({"mixed": np.full(6, 0.1)})
    equal = student([0.125] * 6, SHARED)
    text = verdict_sentence(with_line(report, _line(equal) | {"verdict": "helps"}))
    assert "of new ones of the same line it is not sure" in text


def with_line(report: dict, line: dict) -> dict:
    known = report["differences"][TASK]["mixed"]["test"][METRIC]
    test = {METRIC: known | line}
    return report | {"differences": {TASK: {"mixed": {"test": test}}}}


def test_of_many_arms_one_that_chance_lifts_is_no_evidence():
    drawn = noise(6, 1.0)
    lucky = 0.06 + 0.05 * drawn / drawn.std(ddof=1)
    arms = {"mixed": lucky} | {f"mixed@0.{k}": noise(6, 0.05, k) for k in range(1, 6)}
    line = planted(arms)["differences"][TASK]["mixed"]["test"][METRIC]
    assert line["p"] < 0.05 < line["p_holm"]
    assert line["verdict"] == "no evidence"


def test_the_wider_interval_rests_on_the_images_that_are_there():
    """100 test images to the 300 of the baseline."""
    gain = 0.06 + noise(6, 0.02)
    line = planted({"mixed": gain})["differences"][TASK]["mixed"]["test"][METRIC]
    expected = student(list(gain), 1 / 3)
    assert (line["new_low"], line["new_high"]) == pytest.approx(
        (expected.new_low, expected.new_high)
    )


def test_without_a_baseline_there_are_values_and_nothing_to_compare():
    alone = report({"mixed": 0.6}, {}) | {"baseline": None}
    found = summarise("tiles", {1: alone, 2: alone}, {})
    assert found["headline"] == "Over 2 splits, there is nothing to compare."
    table = format_splits(found)
    assert "0.600" in table and "None" not in table


def test_a_class_that_gets_worse_stands_on_top():
    report = planted({"mixed": 0.06 + noise(6, 0.02)}, crack=-0.2 + noise(6, 0.02))
    assert report["differences"][TASK]["mixed"]["per_class"]["crack"]["verdict"] == "hurts"
    assert "worse than before: crack (classification, mixed)" in report["headline"]


def test_a_class_that_a_test_split_lacks_rests_on_the_others():
    one = report({"real": 0.5, "mixed": 0.6}, {"mixed": (None, 0.6), "real": (None, 0.5)})
    two = report({"real": 0.5, "mixed": 0.7}, {})
    found = summarise("tiles", {1: one, 2: two}, {})
    per_class = found["differences"][TASK]["mixed"]["per_class"]
    assert per_class["crack"]["splits"] == 1 and per_class["stain"]["splits"] == 2
    assert per_class["crack"]["difference"] == pytest.approx(0.2)


def test_the_share_of_the_gap_to_all_real_data():
    gap = 0.2 + noise(6, 0.02)
    report = planted({"mixed": gap / 2, "full": gap})
    share = report["closure"][TASK]["mixed"]
    assert share["value"] == pytest.approx(0.5)
    assert share["low"] == pytest.approx(0.5) and share["high"] == pytest.approx(0.5)
    none = planted({"mixed": gap / 2, "full": noise(6, 0.2)})["closure"][TASK]["mixed"]
    assert none["value"] is None and "not surely above real" in none["reason"]
    # the ceiling is judged beside the arms, but is nothing that was added
    assert "full" not in report["verdict"] and "full" not in report["closure"][TASK]


def test_what_is_above_copy_paste_is_said_so(tmp_path):
    paste = 0.1 + noise(6, 0.05)
    arms = {"copy-paste": paste, "mixed": paste + 0.05 + noise(6, 0.01, 2)}
    arms |= {"mixed@0.5": paste + noise(6, 0.02, 3), "full": paste + 0.1}
    report = planted(arms)
    found = report["beside"][TASK]
    assert list(found) == ["mixed", "mixed@0.5"], "neither copy-paste itself nor what is no mix"
    gap = arms["mixed"] - paste
    assert found["mixed"]["difference"] == pytest.approx(gap.mean())
    assert found["mixed"]["p"] == pytest.approx(stats.ttest_1samp(gap, 0).pvalue)
    assert found["mixed"]["p_holm"] == pytest.approx(2 * found["mixed"]["p"])
    assert [each["verdict"] for each in found.values()] == ["helps", "no evidence"]
    render_splits(report, tmp_path / "splits.html")
    sentence = "Against copy-paste mixed has +0.050 ["
    assert sentence in (tmp_path / "splits.html").read_text() and sentence in format_splits(report)
    assert planted({"mixed": paste})["beside"] == {}


def test_what_was_not_learned_or_still_rose_is_said_so():
    """Of two classes 0.5 is chance, and below 0.55 nothing has been learned."""
    high, low = {"real": 0.7, "mixed": 0.8}, {"real": 0.5, "mixed": 0.54}
    some = {1: report(high, {}, rising=True), 2: report(low, {}), 3: report(high, {})}
    found = summarise("tiles", some, {})
    assert "not learned by any arm in 1 of 3 splits" in found["verdict"]
    assert "had not levelled off in 1 of 3 splits, so train longer" in found["verdict"]
    none = {split: report(low, {}) for split in (1, 2, 3)}
    found = summarise("tiles", none, {})
    assert found["headline"] == "Over 3 splits, classification was not learned by any arm."
    assert "mixed: macro F1 +0.040 against real, no verdict." in found["verdict"]
    assert "helps" not in json.dumps(found["differences"])


def test_a_metric_that_no_split_has_is_said_so(tmp_path):
    """Image AUROC of a test without clean images."""
    reports = {}
    for split in (1, 2, 3):
        reports[split] = report({"real": 0.6, "mixed": 0.7}, {})
        for own in reports[split]["results"][TASK].values():
            own["val"]["accuracy"]["mean"] = own["metrics"]["accuracy"]["mean"] = None
    found = summarise("tiles", reports, {})
    assert "| none" in format_splits(found)
    render_splits(found, tmp_path / "splits.html")


def test_splits_are_matched_and_not_counted_off():
    reports = {
        3: report({"real": 0.5, "mixed": 0.6}, {}),
        7: report({"real": 0.1}, {}),
        9: report({"real": 0.3, "mixed": 0.3}, {}),
    }
    assert sorted(rows_of(reports)[TASK, "mixed"]) == [3, 9]
    found = summarise("tiles", reports, {})
    line = found["differences"][TASK]["mixed"]["test"][METRIC]
    assert line["by_split"] == pytest.approx([0.1, 0.0])
    assert found["results"][TASK]["mixed"]["test"][METRIC] == [0.6, None, 0.3]
    assert "| mixed | 0.450 " in format_splits(found)


def test_page_and_table_say_all_of_it(tmp_path):
    gains = {"mixed": 0.06 + noise(4, 0.02), "full": 0.2 + noise(4, 0.02)}
    report = planted(gains, crack=-0.2 + noise(4, 0.02), failed={9: "the disk was full"})
    render_splits(report, tmp_path / "splits.html")
    page, table = (tmp_path / "splits.html").read_text(), format_splits(report)
    for text in (page, table):
        assert report["headline"] in text and report["verdict"] in text
        assert "Split 9 is left out: the disk was full" in text
    assert "+0.060" in page and "▼" in page and "new photographs" in page
    assert "<script" not in page and "http" not in page.replace("http://www.w3.org", "")
    by_split = " ".join(f"{gain:+.3f}" for gain in gains["mixed"])
    assert by_split in table


def test_no_split_may_be_missing_without_a_word():
    report = planted({"mixed": noise(3, 0.1)}, failed={4: "a loss was no number"})
    assert report["failed"] == {"4": "a loss was no number"}


def test_of_classes_that_test_lacks_nobody_learns_anything():
    """One answer always: of two classes on test, among six, the balanced accuracy is a half."""
    arm = {
        "labels": [*"abcde", "good"],
        "metrics": {"balanced_accuracy": {"mean": 0.5}},
        "confusion_matrix": [[0] * 6] * 4 + [[0, 0, 0, 0, 0, 9], [0, 0, 0, 0, 0, 30]],
    }
    assert not learned({"results": {TASK: {"real": arm}}}, TASK)
    arm["metrics"]["balanced_accuracy"]["mean"] = 0.6
    assert learned({"results": {TASK: {"real": arm}}}, TASK)
