"""What the loop decides by, on planted trials and needs; and what it remembers."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from augmentor.errors import ProjectError
from augmentor.workflows.loop_needs import measure_traits, need_lines
from augmentor.workflows.loop_rules import (
    MARGIN,
    Cell,
    apportion,
    blind_spots,
    is_learned,
    is_quiet,
    least_needed,
    matching,
    needs_of,
    over_represented,
    reason_to_stop,
    winner,
)
from augmentor.workflows.loop_state import (
    START,
    Book,
    Budget,
    NeedLine,
    Offer,
    Round,
    State,
    TrialLine,
    read_state,
)
from downstream.outcomes import DefectOutcome


def trial(arm: str, difference: float, low: float, high: float) -> TrialLine:
    return TrialLine(
        arm=arm, value=round(0.4 + difference, 6), difference=difference, low=low, high=high
    )


def round_of(number: int, *trials: TrialLine, adopted: str = "") -> Round:
    offers = tuple(Offer(arm=t.arm, kind="more", what=t.arm, ratio=0.5) for t in trials)
    return Round(
        number=number, start=START, offers=offers, trials=trials, adopted=adopted, closed=True
    )


# --- which arm goes on


def test_the_best_on_val_wins_and_of_equal_ones_the_smaller_ratio():
    trials = [
        trial("a@0.8", 0.10, -0.1, 0.2),
        trial("b@0.3", 0.10, -0.1, 0.2),
        trial("c@0.5", 0.05, 0.01, 0.2),
    ]
    ratios = {"a@0.8": 0.8, "b@0.3": 0.3, "c@0.5": 0.5}
    assert winner(trials, ratios, 0.0) == "b@0.3"


@pytest.mark.parametrize(
    ("one", "margin", "wins"),
    [
        (trial("a", 0.0, -0.1, 0.1), 0.0, False),  # equal is not better
        (trial("a", -0.05, -0.1, -0.01), 0.0, False),
        (trial("a", 0.004, -0.1, 0.1), 0.0, True),  # the sweep takes the best, however little
        (trial("a", 0.004, -0.1, 0.1), MARGIN, False),  # a later round does not
        (trial("a", 0.004, 0.001, 0.1), MARGIN, True),  # unless the interval is above zero
        (trial("a", 0.02, -0.1, 0.1), MARGIN, True),  # or the gain reaches the margin
        (TrialLine(arm="a", error="it failed"), 0.0, False),
    ],
)
def test_what_a_winner_must_have(one: TrialLine, margin: float, wins: bool):
    assert winner([one], {"a": 0.5}, margin) == ("a" if wins else "")


# --- when it stops


def test_below_a_detector_that_detects_nothing_is_chosen():
    near_nothing = round_of(0, trial("x", -0.39, 0.0, 0.0)).model_copy(update={"start_value": 0.0})
    assert is_learned(round_of(0), "map50", 3)  # the budget was spent before anything was trained
    for metric, floor in (("map50", 0.02), ("pixel_ap", 0.05), ("macro_f1", 0.4)):
        assert not is_learned(near_nothing, metric, 3)
        for value, learned in ((floor - 0.001, False), (floor, True)):
            past = near_nothing.model_copy(update={"start_value": value})
            assert is_learned(past, metric, 3) is learned


def test_two_quiet_rounds_in_a_row_stop_the_loop():
    sure, unsure = trial("x", 0.1, 0.02, 0.2), trial("x", 0.1, -0.02, 0.2)
    sweep = round_of(0, unsure)
    assert is_quiet(round_of(1, unsure)) and not is_quiet(round_of(1, unsure, sure))
    assert not reason_to_stop([sweep, round_of(1, unsure)])  # the sweep does not count
    assert not reason_to_stop([sweep, round_of(1, unsure), round_of(2, sure)])
    assert not reason_to_stop([sweep, round_of(1, sure), round_of(2, unsure)])
    said = reason_to_stop([sweep, round_of(1, sure), round_of(2, unsure), round_of(3, unsure)])
    assert "val can't tell whether more would be gained" in said


def test_classes_of_which_nothing_is_found_are_named_with_what_to_do():
    def line(name: str, found: float, defects: int = 6) -> NeedLine:
        thirds = (0.0, 0.0, defects - found)
        rest = {"confused": 0.0, "missed": defects - found}
        rest |= dict.fromkeys(("size", "contrast", "place"), thirds)
        return NeedLine(class_name=name, defects=defects, found=found, **rest)

    def looked(number: int, *lines: NeedLine) -> Round:
        return round_of(number).model_copy(update={"needs": lines})

    blind = looked(1, line("pit", 0.5), line("crack", 0), line("fray", 0), line("stain", 0, 0))
    said = blind_spots([round_of(0), blind])
    assert said.startswith("Nothing on val was found of crack, fray, so")
    assert said.endswith("the same command with --restart --steps N trains longer.")
    seeing = looked(2, line("pit", 0.5), line("crack", 0.5))
    assert not blind_spots([round_of(0), blind, seeing])  # the last look counts
    assert blind_spots([round_of(0), looked(1, line("crack", 0))]).startswith(
        "Nothing on val was found of crack, so"
    )
    assert not blind_spots([round_of(0)])


def book_of(folder: Path, **more: Any) -> Book:
    state = State(key="k", task="classification", metric="macro_f1", seeds=1, **more)
    return Book(folder, state)


def test_the_budget_counts_trainings_of_all_calls(tmp_path: Path):
    budget = Budget(book_of(tmp_path, trained=("a", "b")), hours=None, runs=3)
    assert budget.allows() and budget.allows(frozenset({"a", "b"}))
    assert not budget.allows(frozenset({"b", "c"}))
    assert budget.spent == "The budget of 3 trainings is spent."


def test_the_budget_counts_hours_of_all_calls(tmp_path: Path):
    assert Budget(book_of(tmp_path, seconds=3000.0), hours=1, runs=None).allows()
    spent = Budget(book_of(tmp_path, seconds=3600.0), hours=1, runs=None)
    assert not spent.allows() and spent.spent == "The budget of 1 hours is spent."
    assert Budget(book_of(tmp_path, seconds=1e9), hours=None, runs=None).allows()


# --- what is remembered


def test_the_state_comes_back_as_it_was_written(tmp_path: Path):
    book = book_of(tmp_path)
    won = round_of(0, trial("a", 0.1, 0.0, 0.2), adopted="a")
    book.put_round(won)
    book.put_round(Round(number=1, start=won.offers[0], offers=()))
    state = read_state(tmp_path)
    assert state == book.state
    assert state.incumbent.arm == "a" and state.current is not None and state.current.number == 1
    assert json.loads((tmp_path / "state.json").read_text())["schema"] == 1
    book.put_round(state.rounds[1].model_copy(update={"closed": True}))
    assert book.state.current is None and book.state.incumbent.arm == "a"
    assert read_state(tmp_path / "elsewhere") is None


def test_a_damaged_state_names_the_way_out(tmp_path: Path):
    (tmp_path / "state.json").write_text('{"schema": 1, "key": 3}')
    with pytest.raises(ProjectError, match="begin anew: augment loop --restart"):
        read_state(tmp_path)


# --- what val needs


def test_needs_are_what_was_not_found():
    small, large = Cell("pit", 0, 1, 2), Cell("pit", 2, 1, 2)
    needs = needs_of([(small, 1.0), (small, 0.5), (large, 0.0), (Cell("crack", 0, 0, 0), 1.0)])
    assert needs == {Cell("crack", 0, 0, 0): 1.0, small: 1.5}
    assert apportion(needs, 5, ["pit", "crack"]) == {Cell("crack", 0, 0, 0): 2, small: 3}
    assert apportion(needs, 5, ["pit"]) == {small: 5}  # nothing can be made of crack
    assert apportion({}, 5, ["pit"]) == {}


def test_samples_nearest_to_what_is_wanted_are_chosen_within_their_class():
    wanted = {Cell("pit", 0, 0, 0): 2, Cell("crack", 1, 1, 1): 1}
    pool = [
        ("far", Cell("pit", 2, 2, 2)),
        ("near", Cell("pit", 0, 1, 0)),
        ("exact", Cell("pit", 0, 0, 0)),
        ("other", Cell("crack", 2, 2, 2)),
        ("later", Cell("pit", 0, 0, 1)),
    ]
    assert matching(wanted, pool) == ["exact", "near", "other"]
    assert matching({Cell("stain", 0, 0, 0): 3}, pool) == []
    assert matching({Cell("crack", 0, 0, 0): 3}, pool) == ["other"]  # the pool runs short


def test_what_is_there_beyond_need_goes_first():
    often, seldom = Cell("pit", 0, 0, 0), Cell("crack", 0, 0, 0)
    samples = [("a", often), ("b", often), ("c", often), ("d", seldom)]
    assert least_needed(samples, {seldom: 2.0}, 2) == ["c", "b"]
    # pits are three quarters of the mix, but nine tenths of the needs
    assert least_needed(samples, {often: 9.0, seldom: 1.0}, 1) == ["d"]
    clusters = {"pit/0": ["a", "b"], "pit/1": ["c"], "crack": ["d"]}
    assert over_represented(clusters, samples, {seldom: 2.0}) == ["pit/0", "pit/1", "crack"]
    assert over_represented(clusters, samples, {often: 9.0, seldom: 1.0})[0] == "crack"


def test_the_table_of_needs_adds_up():
    def outcome(name: str, found: float, missed: float) -> DefectOutcome:
        return DefectOutcome("i", None, name, found, round(1 - found - missed, 6), missed)

    outcomes = [outcome("pit", 1, 0), outcome("pit", 0.5, 0.5), outcome("crack", 0, 0)]
    kinds = {0: Cell("pit", 0, 0, 0), 1: Cell("pit", 0, 2, 1), 2: Cell("crack", 2, 2, 2)}
    pit, crack = need_lines(outcomes, kinds, ["pit", "stain", "crack"])
    assert (pit.class_name, pit.defects, pit.found, pit.missed) == ("pit", 2, 1.5, 0.5)
    assert (pit.size, pit.contrast, pit.place) == ((0.5, 0, 0), (0, 0, 0.5), (0, 0.5, 0))
    assert (crack.class_name, crack.confused, crack.size) == ("crack", 1, (0, 0, 1))


def test_traits_of_a_planted_defect():
    image = np.full((80, 120, 3), 100, np.uint8)
    part = np.zeros((80, 120), dtype=bool)
    part[:, 20:] = True  # a backdrop on the left
    mask = np.zeros((80, 120), dtype=bool)
    mask[30:46, 40:49] = True  # 16 x 9
    image[mask] = 151
    traits = measure_traits(image, mask, part)
    scale = np.sqrt(80 * 120)
    assert traits.size == pytest.approx(12 / scale)
    assert traits.contrast == pytest.approx(51 / 255)
    # its middle, column 44, is 25 px from the backdrop's last column
    assert traits.place == pytest.approx(25 / scale, abs=1 / scale)
    everywhere = np.ones_like(part)
    assert measure_traits(image, mask, everywhere).place > traits.place
    assert measure_traits(image, everywhere, everywhere).contrast == 0
