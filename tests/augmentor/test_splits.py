"""The split: deterministic, stratified, grouped, and no leak gets through."""

import hashlib
from collections import Counter
from pathlib import Path

import pytest

from augmentor.errors import LeakError, SplitError
from augmentor.splits import assign, check_no_leak, shot_order, split_warnings, splits_document
from generator.records import DefectExample, Instance


def record(name: str, label: str, group: str | None = None) -> DefectExample:
    sha = hashlib.sha256(name.encode()).hexdigest()
    path = Path("/data") / f"{name}.png"
    return DefectExample(
        id=sha[:16], sha256=sha, image_path=path, source_path=path, width=20, height=10,
        grey=True, label=label, group=group,
    )  # fmt: skip


def many(**counts: int) -> list[DefectExample]:
    return [record(f"{label}{k}", label) for label, n in counts.items() for k in range(n)]


def sides_of(records: list[DefectExample], **kwargs: object) -> dict[str, Counter[str]]:
    settings = {"seed": 0, "val": 0.2, "test": 0.2, **kwargs}
    sides = assign(records, **settings)  # type: ignore[arg-type]
    out: dict[str, Counter[str]] = {}
    for item in records:
        out.setdefault(item.label, Counter())[sides[item.id]] += 1
    return out


def test_each_class_gets_its_shares() -> None:
    counts = sides_of(many(good=100, pit=50, crack=10))
    assert counts["good"] == {"train": 60, "val": 20, "test": 20}
    assert counts["pit"] == {"train": 30, "val": 10, "test": 10}
    assert counts["crack"] == {"train": 6, "val": 2, "test": 2}


def test_order_of_records_does_not_matter_and_the_seed_does() -> None:
    records = many(good=30, pit=20)
    first = assign(records, seed=0, val=0.2, test=0.2)
    assert assign(records[::-1], seed=0, val=0.2, test=0.2) == first
    assert assign(records, seed=1, val=0.2, test=0.2) != first


@pytest.mark.parametrize("n", [3, 4, 5, 7])
def test_a_small_class_is_on_every_side(n: int) -> None:
    counts = sides_of(many(good=10, pit=n))["pit"]
    assert min(counts["train"], counts["val"], counts["test"]) >= 1
    assert sum(counts.values()) == n


def both(name: str, label: str, *classes: str) -> DefectExample:
    shown = tuple(Instance(class_name=c, box_xyxy=(0, 0, 2, 2)) for c in (label, *classes))
    return record(name, label).model_copy(update={"instances": shown})


@pytest.mark.parametrize("seed", range(6))
def test_a_class_that_only_comes_with_a_larger_one_is_on_every_side(seed: int) -> None:
    records = [both(f"d{k}", "dent", *(["scratch"] if k < 4 else [])) for k in range(20)]
    sides = assign(records, seed=seed, val=0.2, test=0.2, shots=3)
    scratched = Counter(sides[r.id] for r in records[:4])
    assert min(scratched["train"], scratched["val"], scratched["test"]) >= 1
    dented = Counter(sides[r.id] for r in records[4:])
    assert dented["train"] == 3 and min(dented["val"], dented["test"]) >= 1
    split = [r.model_copy(update={"split": sides[r.id]}) for r in records]
    order = shot_order(split, "scratch", seed=seed)
    assert set(order) == {r.id for r in records[:4] if sides[r.id] in ("train", "reserve")}
    left = [r for r in split if not (r.split == "test" and len(r.instances) > 1)]
    sentences = split_warnings(left, val=0.2, test=0.2, shots=3)
    assert [s for s in sentences if "in test" in s and "'scratch'" in s]


def test_one_image_is_trained_on_and_two_are_trained_and_tested() -> None:
    counts = sides_of(many(lone=1, pair=2))
    assert counts["lone"] == {"train": 1}
    assert counts["pair"] == {"train": 1, "test": 1}


def test_without_val_there_is_none() -> None:
    assert sides_of(many(pit=10), val=0.0, test=0.4)["pit"] == {"train": 6, "test": 4}


def test_shots_put_the_rest_aside_and_are_nested() -> None:
    records = many(good=50, pit=40)
    five = assign(records, seed=3, val=0.2, test=0.2, shots=5)
    twelve = assign(records, seed=3, val=0.2, test=0.2, shots=12)
    everything = assign(records, seed=3, val=0.2, test=0.2)
    trained = [{k for k, side in s.items() if side == "train"} for s in (five, twelve)]
    pits = {r.id for r in records if r.label == "pit"}
    assert len(trained[0] & pits) == 5 and len(trained[1] & pits) == 12
    assert trained[0] <= trained[1]
    assert Counter(twelve.values())["reserve"] == 24 - 12
    assert len(trained[0] - pits) == 30, "clean images are not put aside"
    for side in ("val", "test"):
        assert {k for k, s in five.items() if s == side} == {
            k for k, s in everything.items() if s == side
        }


def test_groups_are_never_cut() -> None:
    records = [record(f"p{k}", "pit", group=f"part{k // 4}") for k in range(60)]
    records += [record(f"g{k}", "good", group=f"part{k // 4}") for k in range(40)]
    sides = assign(records, seed=0, val=0.2, test=0.2, shots=8)
    by_group: dict[str | None, set[str]] = {}
    for item in records:
        by_group.setdefault(item.group, set()).add(sides[item.id].replace("reserve", "train"))
    assert all(len(found) == 1 for found in by_group.values())
    assert set(sides.values()) == {"train", "val", "test", "reserve"}
    check_no_leak([r.model_copy(update={"split": sides[r.id]}) for r in records])


def test_shots_are_exact_and_show_as_many_parts_as_they_can() -> None:
    records = [record(f"p{k}", "pit", group=f"part{k // 4}") for k in range(80)]
    sides = assign(records, seed=0, val=0.2, test=0.2, shots=8)
    kept = [r.group for r in records if sides[r.id] == "train"]
    assert len(kept) == len(set(kept)) == 8
    more = assign(records, seed=0, val=0.2, test=0.2, shots=14)
    assert Counter(Counter(r.group for r in records if more[r.id] == "train").values()) == {
        1: 10,
        2: 2,
    }


@pytest.mark.parametrize(("val", "test"), [(-0.1, 0.2), (0.5, 0.5), (1.0, 0.0), (0.2, 1.5)])
def test_shares_out_of_range_are_refused(val: float, test: float) -> None:
    with pytest.raises(SplitError, match="leave something to train on"):
        assign(many(pit=5), seed=0, val=val, test=test)


def test_no_shots_are_refused() -> None:
    with pytest.raises(SplitError, match="--shots must be at least 1, got 0"):
        assign(many(pit=5), seed=0, val=0.2, test=0.2, shots=0)


def test_a_planted_leak_is_refused() -> None:
    one = record("a", "pit").model_copy(update={"split": "train"})
    same = one.model_copy(update={"split": "test", "source_path": Path("/data/copy.png")})
    with pytest.raises(LeakError, match=r"a\.png \(train\) and /data/copy\.png \(test\)"):
        check_no_leak([one, same])
    left = record("b", "pit", "part1").model_copy(update={"split": "val"})
    right = record("c", "pit", "part1").model_copy(update={"split": "train"})
    with pytest.raises(LeakError, match=r"the same group \(part1\)"):
        check_no_leak([left, right])
    with pytest.raises(LeakError, match="has no side"):
        check_no_leak([record("d", "pit")])


def test_missing_sides_and_shots_are_told() -> None:
    records = many(pit=1, crack=8)
    sides = assign(records, seed=0, val=0.2, test=0.2, shots=12)
    split = [r.model_copy(update={"split": sides[r.id]}) for r in records]
    sentences = split_warnings(split, val=0.2, test=0.2, shots=12)
    assert "Class 'pit' (1 image) has none in val and test." in sentences
    assert "Class 'crack' trains on 4 images instead of 12." in sentences


def test_the_document_names_every_hash_and_side() -> None:
    split = [r.model_copy(update={"split": "train"}) for r in many(pit=2)]
    document = splits_document(split, {"seed": 7}, {split[0].id: {"bytes": 12}})
    assert document["seed"] == 7
    assert [f["sha256"] for f in document["files"]] == [r.sha256 for r in split]
    assert document["files"][0]["bytes"] == 12 and document["files"][1]["split"] == "train"


def test_known_images_keep_their_side_and_new_ones_fill_up_the_shares() -> None:
    few, more = many(good=30, pit=10, crack=1), many(good=60, pit=40, crack=4)
    first = assign(few, seed=3, val=0.2, test=0.2, shots=4)
    again = assign(more, seed=3, val=0.2, test=0.2, shots=4, known=first)
    moved = {name for name in first if first[name] != again[name]}
    assert not moved
    labels = {r.id: r.label for r in more}
    counts = Counter((labels[name], side) for name, side in again.items())
    assert [counts["good", s] for s in ("train", "val", "test")] == [36, 12, 12]
    assert [counts["pit", s] for s in ("train", "reserve", "val", "test")] == [4, 20, 8, 8]
    assert [counts["crack", s] for s in ("train", "val", "test")] == [2, 1, 1]
    assert assign(few, seed=3, val=0.2, test=0.2, shots=4, known=first) == first


def test_the_first_shots_are_those_that_are_trained_on() -> None:
    few, more = many(pit=10), many(pit=40)
    known = assign(few, seed=0, val=0.2, test=0.2, shots=4)
    sides = assign(more, seed=0, val=0.2, test=0.2, shots=4, known=known)
    records = [r.model_copy(update={"split": sides[r.id]}) for r in more]
    trained = {name for name, side in sides.items() if side == "train"}
    assert set(shot_order(records, "pit", seed=0)[:4]) == trained
