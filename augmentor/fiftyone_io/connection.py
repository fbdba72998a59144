"""Importing FiftyOne, with its database running and its errors in plain words."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from typing import Any

import psutil

from augmentor import mongod
from augmentor.errors import DatabaseError
from augmentor.offline import stay_offline

_URI = "FIFTYONE_DATABASE_URI"
_own_uri: str | None = None


def connect() -> Any:
    """Import FiftyOne and make sure that its database answers.

    The database is started first, and FiftyOne imported while it starts, since both take seconds.
    Calling again is cheap; a database that has died since is started anew.

    Returns:
        The module `fiftyone`.

    Raises:
        DatabaseError: no mongod, or it can't be started or reached.
        DiskError: the database's folder can't be written to.
    """
    stay_offline()
    if mongod.database_uri() or (_own_uri and _answers(_own_uri)):
        fo = _first_use(None)
    else:
        # the lock is held until FiftyOne has made its own collections in an empty database
        with mongod.begin() as starting:
            fo = _first_use(starting)
    # FiftyOne's own bars and messages would stand between the lines of our commands
    fo.config.show_progress_bars = False
    return fo


def imported() -> Any:
    """The module `fiftyone` as it is, without looking after its database."""
    import fiftyone

    return fiftyone


def _first_use(starting: mongod.Starting | None) -> Any:
    """Import FiftyOne and let it connect: to what is being started, else to what it knows."""
    global _own_uri
    import fiftyone as fo
    import fiftyone.core.odm.database as database

    previous = _own_uri
    if starting:
        _own_uri = starting.finish(_join)
        fo.config.database_uri = _own_uri
    with database_errors():
        # the same address again: the server was only slow to answer, and the client still works
        if starting and previous and previous != _own_uri:
            database._disconnect()
            _forget_repositories()
        # at the first use FiftyOne connects and migrates; here, so that its errors are ours
        fo.list_datasets()
    return fo


def _forget_repositories() -> None:
    """FiftyOne keeps collections of its first client for good; after a reconnect they are of a
    closed one, and deleting a dataset would fail."""
    from fiftyone.factory import repo_factory

    repo_factory._db = None
    repo_factory.RepositoryFactory.repos.clear()


@contextmanager
def server_environment() -> Iterator[None]:
    """Let a process that is started inside the block, the App's server, find our database.

    Only inside: another process may belong to another database.
    """
    before = os.environ.get(_URI)
    if _own_uri:
        os.environ[_URI] = _own_uri
    try:
        yield
    finally:
        if _own_uri and before is None:
            del os.environ[_URI]


def database_status() -> tuple[bool, str]:
    """Whether the database works, and one line on which it is, for `augment doctor`.

    The database is really started and asked, FiftyOne is not imported.
    """
    import pymongo
    from pymongo.errors import PyMongoError

    given = mongod.database_uri()
    try:
        version = "" if given else mongod.mongod_version()
        with nullcontext() if given else mongod.begin() as starting:
            uri = starting.finish(lambda _: True) if starting else given
            client: pymongo.MongoClient[Any]
            with pymongo.MongoClient(uri, serverSelectionTimeoutMS=5000) as client:
                version = client.server_info()["version"]
    except PyMongoError as fault:
        return False, f"MongoDB does not answer ({str(fault)[:160]}); check {_URI}."
    except Exception as fault:  # doctor reports whatever is wrong, and goes on
        return False, str(fault)
    where = f"at {without_password(given)}" if given else f"in {mongod.database_dir()}"
    return True, f"mongod {version}, {where}"


def without_password(uri: str) -> str:
    """A database's address as it may be shown: no user's password, no options, which may hold
    secrets as well."""
    scheme, _, rest = uri.partition("://")
    authority = rest.split("?", 1)[0]
    user, at, hosts = authority.rpartition("@")
    named = f"{user.split(':', 1)[0]}{':***' if ':' in user else ''}{at}{hosts}"
    return f"{scheme}://{named}"


@contextmanager
def database_errors() -> Iterator[None]:
    """Turn what FiftyOne and MongoDB raise when the database is gone into `DatabaseError`.

    Raises:
        DatabaseError: instead of a lost connection or a refused one.
    """
    from mongoengine.errors import MongoEngineException
    from pymongo.errors import ConnectionFailure, PyMongoError

    try:
        yield
    except ConnectionFailure as fault:
        raise DatabaseError(
            "FiftyOne's database stopped answering, its mongod may have been killed; run the same "
            "command again, it starts the database anew and continues (`augment doctor` checks it)."
        ) from fault
    except (PyMongoError, MongoEngineException) as fault:
        raise DatabaseError(
            f"FiftyOne's database refused to work ({' '.join(str(fault).split())[:200]}); "
            f"{mongod.ADVICE}."
        ) from fault
    except OSError as fault:
        if "MongoDB" not in str(fault) and "mongod" not in str(fault):
            raise
        raise DatabaseError(f"{' '.join(str(fault).split())}; {mongod.ADVICE}.") from fault


def make_durable() -> None:
    """Bring everything written so far to disk.

    MongoDB acknowledges a write up to 100 ms before its journal is on disk; a server killed in
    between would lose samples of a dataset that its maker has noted as done.
    """
    import fiftyone.core.odm as odm
    from pymongo.errors import OperationFailure

    # a server of the user's own may not grant this right, and then has its own rules for it
    with suppress(OperationFailure):
        odm.get_db_conn().client.admin.command("fsync")


def _answers(uri: str) -> bool:
    # a busy machine may take seconds to answer; processes are looked through only then, and a
    # server that is gone is not waited for
    return _pings(uri, 1000) or (mongod.is_running() and _pings(uri, 15_000))


def _pings(uri: str, patience_ms: int) -> bool:
    import pymongo
    from pymongo.errors import PyMongoError

    client: pymongo.MongoClient[Any]
    try:
        with pymongo.MongoClient(uri, serverSelectionTimeoutMS=patience_ms) as client:
            client.admin.command("ping")
    except PyMongoError:
        return False
    return True


def _join(supervisor: psutil.Process) -> bool:
    """Become a client of a supervisor that another process started."""
    import fiftyone.service.util as service

    try:
        return service.send_ipc_message(supervisor, ("register", os.getpid())) is True
    except (OSError, psutil.Error):
        return False
