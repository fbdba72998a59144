"""The log of decisions: what stands, what a kill or two writers leave, what is refused."""

import json
import os
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta

import pytest

from augmentor import decisions as module
from augmentor.decisions import (
    LOG,
    Decision,
    append_decisions,
    merge_decisions,
    now,
    read_decision_file,
    read_decisions,
    standing,
    without_verdict,
)
from augmentor.errors import DecisionError

START = datetime(2026, 11, 21, 9, 0, tzinfo=UTC)


def decision(sample_id, action, minute=0, **fields):
    at = (START + timedelta(minutes=minute)).isoformat()
    return Decision(sample_id=sample_id, action=action, who="ann", time=at, **fields)


def test_the_later_decision_wins_whatever_the_order_of_the_lines():
    late = decision("a", "accept", 5)
    early = decision("a", "reject", 1, reason="mask is off")
    for order in ([early, late], [late, early]):
        assert standing(order)["a"].verdict == "accepted"
        assert standing(order)["a"].reason == ""


def test_undo_takes_back_one_decision_at_a_time():
    log = [
        decision("a", "reject", 1, reason="empty"),
        decision("a", "relabel", 2, class_name="pit"),
        decision("a", "accept", 3),
    ]
    undo = [decision("a", "undo", 4), decision("a", "undo", 5), decision("a", "undo", 6)]
    assert standing(log)["a"].verdict == "accepted"
    once = standing([*log, undo[0]])["a"]
    assert (once.verdict, once.class_name) == ("rejected", "pit")
    twice = standing([*log, *undo[:2]])["a"]
    assert (twice.verdict, twice.class_name, twice.reason) == ("rejected", None, "empty")
    assert standing([*log, *undo]) == {}
    assert standing([*log, *undo, decision("a", "undo", 7)]) == {}


@pytest.mark.parametrize(
    ("actions", "class_name"),
    [
        (("reject", "relabel"), "pit"),
        (("relabel", "reject"), "pit"),
        (("accept", "reject"), None),
        (("reject", "reject"), None),
        (("relabel",), "pit"),
    ],
)
def test_a_verdict_that_is_taken_away_leaves_the_class(actions, class_name):
    log = [
        decision("a", action, minute, class_name="pit" if action == "relabel" else "")
        for minute, action in enumerate(actions)
    ]
    added = without_verdict([*log, decision("b", "reject", 1)], "a", "bo")
    held = standing([*log, *added]).get("a")
    assert (held and held.verdict) is None
    assert (held and held.class_name) == class_name
    # and on another machine no line of it counts as one that is known
    assert len({(d.sample_id, d.time, d.who, d.action) for d in added}) == len(added)


def test_times_are_kept_as_utc_so_that_offsets_do_not_change_the_order():
    east = Decision(sample_id="a", action="accept", who="bo", time="2026-11-21T12:00:00+05:00")
    west = Decision(sample_id="a", action="reject", who="cy", time="2026-11-21T08:00:00Z")
    assert east.time == "2026-11-21T07:00:00.000000+00:00"
    assert standing([west, east])["a"].verdict == "rejected"


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"action": "relabel"}, "class_name goes with relabel"),
        ({"action": "reject", "class_name": "pit"}, "class_name goes with relabel"),
        ({"action": "accept", "time": "2026-11-21T08:00:00"}, "offset from UTC"),
        ({"action": "accept", "time": "yesterday"}, "isoformat"),
        ({"action": "accept", "sample_id": ""}, "at least 1 character"),
    ],
)
def test_a_contradictory_decision_is_refused(fields, message):
    whole = {"sample_id": "a", "who": "ann", "time": now(), **fields}
    with pytest.raises(ValueError, match=message):
        Decision(**whole)


def test_five_hundred_decisions_are_on_disk_in_half_a_second(tmp_path):
    many = [decision(f"{n:016x}", "reject", n, reason="leaves its mask") for n in range(500)]
    began = time.perf_counter()
    append_decisions(tmp_path, many)
    assert time.perf_counter() - began < 0.5
    assert read_decisions(tmp_path) == many


def test_an_unfinished_last_line_is_passed_over_and_cut_by_the_next_one(tmp_path):
    append_decisions(tmp_path, [decision("a", "reject")])
    whole = (tmp_path / LOG).read_bytes()
    (tmp_path / LOG).write_bytes(whole + whole[: len(whole) // 2])
    assert [d.sample_id for d in read_decisions(tmp_path)] == ["a"]
    append_decisions(tmp_path, [decision("b", "accept")])
    assert [d.sample_id for d in read_decisions(tmp_path)] == ["a", "b"]
    assert (tmp_path / LOG).read_bytes().startswith(whole + b"{")


def test_a_whole_last_line_without_its_end_is_kept(tmp_path):
    append_decisions(tmp_path, [decision("a", "reject")])
    (tmp_path / LOG).write_bytes((tmp_path / LOG).read_bytes().rstrip(b"\n"))
    append_decisions(tmp_path, [decision("b", "accept")])
    assert [d.sample_id for d in read_decisions(tmp_path)] == ["a", "b"]


def test_a_damaged_line_is_an_error_that_names_it(tmp_path):
    append_decisions(tmp_path, [decision("a", "reject"), decision("b", "reject")])
    lines = (tmp_path / LOG).read_text().splitlines(keepends=True)
    (tmp_path / LOG).write_text(lines[0] + "{oops\n" + lines[1])
    with pytest.raises(DecisionError, match=r"line 2 is no decision .*: augment decisions list$"):
        read_decisions(tmp_path)


def test_a_failed_write_leaves_nothing_of_it(tmp_path, monkeypatch):
    append_decisions(tmp_path, [decision("a", "reject")])
    before = (tmp_path / LOG).read_bytes()
    write = os.write

    def half_then_full(descriptor, data):
        if len(data) < 100:
            raise OSError(5, "Input/output error")
        return write(descriptor, bytes(data)[: len(data) - 50])

    monkeypatch.setattr(module.os, "write", half_then_full)
    with pytest.raises(OSError, match="Input/output"):
        append_decisions(tmp_path, [decision("b", "accept")])
    assert (tmp_path / LOG).read_bytes() == before


def test_two_writers_at_once_lose_nothing(tmp_path):
    code = (
        "import sys; from pathlib import Path; from augmentor.decisions import *\n"
        "for n in range(40):\n"
        "    append_decisions(Path(sys.argv[1]), [Decision(sample_id=f'{n}', action='accept',"
        " who=sys.argv[2], time=now(), reason='x' * 3000)])\n"
    )
    writers = [
        subprocess.Popen([sys.executable, "-c", code, str(tmp_path), who]) for who in ("ann", "bo")
    ]
    assert [writer.wait(60) for writer in writers] == [0, 0]
    found = read_decisions(tmp_path)
    assert len(found) == 80
    for who in ("ann", "bo"):
        assert [d.sample_id for d in found if d.who == who] == [str(n) for n in range(40)]


def test_merging_adds_what_is_new_and_only_that(tmp_path):
    here, there = tmp_path / "here", tmp_path / "there"
    shared = decision("a", "reject")
    append_decisions(here, [shared])
    append_decisions(there, [shared, decision("b", "accept", 1), decision("a", "undo", 2)])
    incoming = read_decision_file(there / LOG)
    assert merge_decisions(here, incoming) == 2
    assert merge_decisions(here, incoming) == 0
    assert sorted(standing(read_decisions(here))) == ["b"]


def test_a_file_to_import_must_be_whole(tmp_path):
    file = tmp_path / "theirs.jsonl"
    with pytest.raises(DecisionError, match="does not exist"):
        read_decision_file(file)
    good = json.dumps(decision("a", "reject").model_dump())
    file.write_text(good + "\n" + good[:40])
    with pytest.raises(DecisionError, match=r"line 2 .*augment decisions import"):
        read_decision_file(file)
