"""Real inspection data; skipped where it isn't beside the repository (it is not redistributed)."""

from pathlib import Path

import pytest

from augmentor.errors import SourceError
from augmentor.importers import import_source
from augmentor.splits import check_no_leak

DATA = Path(__file__).parents[2].parent / "shared" / "data"

pytestmark = pytest.mark.slow


def folder(name: str) -> Path:
    if not (DATA / name).is_dir():
        pytest.skip(f"{name} is not at {DATA / name}; see datasets/{name}.yaml for its source")
    return DATA / name


def test_magnetic_tile(tmp_path: Path) -> None:
    source = folder("magnetic-tile")
    with pytest.raises(SourceError, match="4 x empty mask under a defect class"):
        import_source(source, tmp_path / "data")
    outcome = import_source(source, tmp_path / "data", on_bad="skip", shots=12)
    assert outcome.layout == "pairs"
    assert outcome.classes == ("Blowhole", "Break", "Crack", "Fray", "Uneven")
    images = outcome.report["images"]
    assert images == {
        "Blowhole": 115, "Break": 85, "Crack": 57, "Fray": 32, "Uneven": 99, "good": 952,
    }  # fmt: skip
    assert sum(images.values()) - images["good"] == 388
    assert outcome.report["bad_counts"] == {"empty_mask": 4}
    assert all("MT_Uneven" in entry["path"] for entry in outcome.report["bad"])
    for label in outcome.classes:
        assert outcome.report["splits"][label]["train"] == 12
    check_no_leak(outcome.records)
    assert outcome.report["near_duplicates"]["apart"] > 100
    again = import_source(source, tmp_path / "data", on_bad="skip", shots=12)
    assert again.already_done and again.records == outcome.records


def test_magnetic_tile_with_look_alikes_kept_together(tmp_path: Path) -> None:
    source = folder("magnetic-tile")
    outcome = import_source(source, tmp_path / "data", on_bad="skip", group_by="similar")
    assert outcome.report["near_duplicates"]["apart"] == 0
    for label, sides in outcome.report["splits"].items():
        total = sum(sides.values())
        assert abs(sides["test"] / total - 0.2) < 0.05, label


def test_neu_det(tmp_path: Path) -> None:
    source = folder("neu-det")
    with pytest.raises(SourceError, match="2 x identical image with conflicting labels"):
        import_source(source, tmp_path / "data")
    outcome = import_source(source, tmp_path / "data", on_bad="skip")
    assert outcome.layout == "voc"
    assert len(outcome.classes) == 6 and len(outcome.records) == 1798
    kinds = {i.mask_kind for r in outcome.records for i in r.instances}
    assert kinds == {"approximate"}
    assert not any(r.is_clean for r in outcome.records)
    several = [r for r in outcome.records if len({i.class_name for i in r.instances}) > 1]
    assert len(several) == 123
