"""The user's region of interest, from one picture or from a folder."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from augmentor.errors import SourceError
from augmentor.importers import import_source
from augmentor.records_io import load_records
from augmentor.sample_data import write_sample_dataset
from generator.images import ExampleReader

SIZE_WH = (120, 80)


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sample dataset, every picture brought to one size, as a fixed camera would."""
    folder = tmp_path_factory.mktemp("roi") / "photos"
    write_sample_dataset(folder, seed=1, per_class=3, clean=4)
    for path in folder.rglob("*.png"):
        how = cv2.INTER_NEAREST if "ground_truth" in path.parts else cv2.INTER_AREA
        cv2.imwrite(str(path), cv2.resize(cv2.imread(str(path)), SIZE_WH, interpolation=how))
    return folder


def picture(path: Path, left: int, size_wh: tuple[int, int] = SIZE_WH) -> Path:
    """A region of interest right of `left`."""
    image = np.zeros(size_wh[::-1], np.uint8)
    image[:, left:] = 255
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), image)
    return path


def test_one_picture_serves_all_images_of_its_size(photos, tmp_path):
    roi = picture(tmp_path / "roi.png", 30)
    import_source(photos, tmp_path / "data", roi=roi, on_bad="skip")
    records = load_records(tmp_path / "data")
    assert len({record.roi_path for record in records}) == 1
    part = ExampleReader(2**20).foreground(records[0])
    assert part.shape == SIZE_WH[::-1]
    assert not part[:, :30].any() and part[:, 30:].all()


def test_a_changed_picture_is_read_again(photos, tmp_path):
    roi = picture(tmp_path / "roi.png", 30)
    import_source(photos, tmp_path / "data", roi=roi, on_bad="skip")
    picture(roi, 50)
    import_source(photos, tmp_path / "data", roi=roi, on_bad="skip")
    part = ExampleReader(2**20).foreground(load_records(tmp_path / "data")[0])
    assert not part[:, :50].any() and part[:, 50:].all()


def test_a_folder_is_matched_by_place_and_never_by_an_ambiguous_name(photos, tmp_path):
    picture(tmp_path / "roi" / "test" / "pit" / "000.png", 40)
    picture(tmp_path / "roi" / "001.png", 60)
    outcome = import_source(photos, tmp_path / "data", roi=tmp_path / "roi", on_bad="skip")
    found = [r.source_path.relative_to(photos) for r in outcome.records if r.roi_path]
    assert found == [Path("test/pit/000.png")]
    assert any("region of interest" in note for note in outcome.report["notes"])


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda path: path / "missing.png", "neither a picture nor a folder"),
        (lambda path: picture(path / "a.png", 10, (50, 50)), "fits no image"),
        (lambda path: picture(path / "b.png", 120), "marks nothing"),
    ],
)
def test_a_useless_region_is_refused(photos, tmp_path, make, words):
    with pytest.raises(SourceError, match=words):
        import_source(photos, tmp_path / "data", roi=make(tmp_path), on_bad="skip")
    assert not (tmp_path / "data" / "records.jsonl").exists()
