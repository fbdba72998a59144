"""The report's sentences, table and page, on reports that are made up."""

import copy
import re
from pathlib import Path
from typing import Any

import pytest

from downstream.findings import findings
from downstream.page import render_html
from downstream.report import format_table
from downstream.verdict import headline, verdict_sentence


def metric(mean: float) -> dict[str, Any]:
    return {"mean": mean, "std": 0.01, "per_seed": [mean - 0.01, mean + 0.01]}


def gap(value: float, half: float, verdict: str) -> dict[str, Any]:
    return {
        "difference": value, "low": value - half, "high": value + half, "p": 0.01,
        "p_holm": 0.02, "verdict": verdict,
    }  # fmt: skip


def arm(level: float) -> dict[str, Any]:
    names = ("map50", "map", "f1", "macro_f1", "accuracy", "balanced_accuracy")
    return {
        "metrics": {name: metric(level) for name in names},
        "val": {name: metric(level) for name in names},
        "per_class": {"pit": level, "<b>scratch</b>": None},
        "labels": ["pit", "<b>scratch</b>"],
        "seeds": [0, 1],
        "thresholds": [0.2, 0.3],
        "confusion_matrix": [[8, 2], [1, 9]],
    }


@pytest.fixture
def report() -> dict[str, Any]:
    """Detection is helped by `mixed` and not by `copy-paste`; nothing helps classification."""
    arms = ["real", "copy-paste", "mixed"]
    count = {
        "images": 30, "real": 20, "synthetic": 10, "by_generator": {"compact": 10}, "clean": 5,
        "by_class": {"pit": 15, "<b>scratch</b>": 10, "good": 5},
        "instances": {"pit": 15, "<b>scratch</b>": 10},
    }  # fmt: skip
    classes = {"pit": gap(0.2, 0.1, "helps"), "<b>scratch</b>": gap(-0.1, 0.02, "hurts")}
    detection = {
        "mixed": {"map50": gap(0.05, 0.04, "helps"), "per_class": classes},
        "copy-paste": {"map50": gap(0.01, 0.04, "no evidence"), "per_class": {}},
    }
    none = {"macro_f1": gap(0.02, 0.05, "no evidence"), "per_class": {}}
    made = {
        "schema": 2,
        "name": "plates & <i>tiles</i>",
        "export": "somewhere",
        "verdict": "",
        "classes": ["pit", "<b>scratch</b>"],
        "tasks": ["detection", "classification"],
        "arms": arms,
        "baseline": "real",
        "seeds": [0, 1],
        "primary": {"detection": "map50", "classification": "macro_f1"},
        "counts": {"train": dict.fromkeys(arms, count), "val": count, "test": count},
        "results": {
            task: {name: arm(0.6 + 0.05 * k) for k, name in enumerate(arms)}
            for task in ("detection", "classification")
        },
        "differences": {
            "detection": detection,
            "classification": dict.fromkeys(("mixed", "copy-paste"), none),
        },
        "closure": {}, "power": {}, "levelled": {}, "curves": {}, "misses": {},
        "hashes": {"train": dict.fromkeys(arms, "a1"), "val": "b2", "test": "c3"},
        "costs": [
            {"task": "detection", "arm": "real", "runs": 2, "seconds": 6.0, "cpu": 9.0, "gpu": 0.0}
        ],
        "extras": {
            "sheets": [], "steps": [{"name": "build", "seconds": 33.5, "cpu_seconds": 60.25}],
            "removed": [{"generator": "compact", "rule": "realism", "number": 12}],
        },
        "runs": [
            {
                "task": task, "arm": name, "seed": seed, "key": "k", "folder": "runs/x",
                "state": "done", "seconds": 3.0, "cpu_seconds": 5.0, "gpu_seconds": 0.0,
                "steps": 20,
                "selected_step": 20, "weights": "random", "device": "cpu",
                "history": [[k, 5 - k / 10] for k in range(1, 21)],
            }
            for task in ("detection", "classification") for name in arms for seed in (0, 1)
        ],
        "failed": [],
        "settings": {
            "confidence": 0.95, "bootstrap_samples": 100, "detection_steps": 20,
            "classification_steps": 10, "arms": arms,
        },
        "versions": {"python": "3"},
        "machine": {"cpus": 2},
        "seconds": {"total": 1.0, "runs": 36.0},
        "notes": ["2 seeds: the intervals are weak."],
    }  # fmt: skip
    made["differences_to"] = {
        "real": made["differences"],
        "copy-paste": {"detection": {"mixed": {"map50": gap(0.04, 0.05, "no evidence")}}},
    }
    made["verdict"], made["headline"] = verdict_sentence(made), headline(made)
    made["findings"] = findings(made)
    return made


def test_verdict_names_gain_interval_and_losers(report: dict[str, Any]) -> None:
    verdict = report["verdict"]
    assert "Detection is helped by mixed +0.050 [+0.010, +0.090] (mAP50 against real)." in verdict
    assert "No evidence either way: copy-paste +0.010 [-0.030, +0.050]." in verdict
    assert "Classes that detection got worse at: <b>scratch</b> (mixed)." in verdict
    assert "No arm helps classification, as far as this can tell: copy-paste +0.020" in verdict


def test_a_training_too_short_says_nothing(report: dict[str, Any]) -> None:
    for each in report["results"]["detection"].values():
        each["metrics"]["map50"] = metric(0.01)
    sentence = verdict_sentence(report)
    assert sentence.startswith("Nothing can be said about detection: no arm has learned it in 20")
    assert "No arm helps classification" in sentence


def test_table(report: dict[str, Any]) -> None:
    lines = format_table(report).splitlines()
    assert lines[0] == report["verdict"]
    rows = [line for line in lines if line.startswith("| mixed")]
    assert "| 0.700 | 0.700" in rows[0] and "+0.050 [+0.010, +0.090] | helps" in rows[0]
    assert "none" in rows[1]  # a class that test doesn't have
    tables = [line for line in lines if line.startswith("|")]
    assert len({line.count("|") for line in tables[:5]}) == 1
    assert "- 2 seeds: the intervals are weak." in lines


def test_page_stands_alone(report: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    render_html(report, path)
    page = path.read_text()
    assert not re.search(r"https?:|//\w|<script|<link|@import|url\((?!#)", page)
    assert page.count("<svg") == 7 and page.count("</svg>") == 7
    assert "plates &amp; &lt;i&gt;tiles&lt;/i&gt;" in page and "<i>tiles" not in page
    assert "<b>scratch</b>" not in page
    assert "▲ helps" in page and "○ no evidence" in page
    assert "@media print" in page
    ids = re.findall(r'<clipPath id="([^"]+)"', page)
    assert len(ids) == len(set(ids))
    render_html(report, tmp_path / "again.html")
    assert (tmp_path / "again.html").read_text() == page


def test_page_of_failed_runs(report: dict[str, Any], tmp_path: Path) -> None:
    broken = copy.deepcopy(report)
    broken["results"]["detection"] = {}
    broken["differences"]["detection"] = {}
    broken["failed"] = ["detection real seed 0 failed: no memory"]
    for run in broken["runs"]:
        if run["task"] == "detection":
            kept = {name: run[name] for name in ("task", "arm", "seed", "key", "folder")}
            run.clear()
            run.update(kept, state="failed", error="no memory")
    render_html(broken, tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text()
    assert "No run finished." in page and "no memory" in page and page.count("<svg") == 4
    assert "**detection**: no run finished." in format_table(broken)


def test_without_synthetic_arms_the_others_are_told(report: dict[str, Any]) -> None:
    made = copy.deepcopy(report)
    gaps = made["differences"]
    for task in gaps:
        gaps[task] = {"full": gaps[task].pop("mixed")}
        made["results"][task]["full"] = made["results"][task].pop("mixed")
        made["results"][task].pop("copy-paste", None)
    made["arms"] = ["real", "full"]
    assert headline(made).startswith("Detection is helped by full")
    assert "Detection is helped by full +0.050" in verdict_sentence(made)


def test_without_real_it_is_said_what_is_missing(report: dict[str, Any]) -> None:
    made = copy.deepcopy(report) | {"differences": {}, "arms": ["copy-paste", "mixed"]}
    assert headline(made) == verdict_sentence(made) == "There is no arm real to compare with."


def test_an_arm_that_failed_is_named_on_top(report: dict[str, Any]) -> None:
    made = copy.deepcopy(report)
    del made["results"]["classification"]["mixed"]
    assert headline(made).endswith("; mixed failed and was not measured in classification.")
    made["failed"] = ["classification mixed seed 0 failed"]
    few = {"macro_f1": gap(0.02, 0.05, "no verdict"), "per_class": {}}
    made["differences"]["classification"] = {"copy-paste": few}
    said = verdict_sentence(made)
    assert "type the same command again." in said and "--seeds" not in said
