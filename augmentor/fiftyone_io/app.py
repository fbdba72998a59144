"""The FiftyOne App on a dataset: bound to this machine, on a free port, gone when it is closed."""

import errno
import logging
import os
import socket
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

from augmentor.errors import DatabaseError
from augmentor.fiftyone_io.connection import connect, database_errors, server_environment

PORTS_TRIED = 50
WATCH_S = 2.0
"""How often an open App's database and dataset are looked after."""

_PLUGINS = "FIFTYONE_PLUGINS_DIR"


class AppSession:
    """An open App.

    Attributes:
        url: where it is.
        port: the port that it got.
        note: why it is not the port that was asked for; empty where it is.
    """

    def __init__(self, session: Any, url: str, port: int, note: str, things: ExitStack) -> None:
        self._session = session
        self.url = url
        self.port = port
        self.note = note
        self._things = things

    def wait(self, look: Callable[[], None] = lambda: None) -> None:
        """Block until Ctrl-C, whether a tab shows the App or not; then leave nothing running.

        Args:
            look: called every `WATCH_S`; what it raises ends the waiting.
        """
        never = threading.Event()
        try:
            while not never.wait(WATCH_S):
                look()
        except KeyboardInterrupt:
            pass
        finally:
            self.close()

    def refresh(self) -> None:
        """Make every tab load the dataset anew."""
        # raised while the server isn't up yet; whoever opens a tab later sees all of it anyway
        with suppress(RuntimeError):
            self._session.refresh()

    def close(self) -> None:
        """Close the App and end its server."""
        import fiftyone as fo

        with self._things:
            fo.close_app()


def launch_app(
    name: str,
    *,
    port: int = 5151,
    address: str = "127.0.0.1",
    plugins: Sequence[Path] = (),
    environment: Mapping[str, str] | None = None,
) -> AppSession:
    """Open the FiftyOne App on a dataset.

    Args:
        name: of the dataset.
        port: where to begin to look for a free port.
        address: to listen on; other machines can reach it only on an address of this machine
            that they can reach, or `0.0.0.0`.
        plugins: folders of FiftyOne plugins that this App offers beside the user's own.
        environment: variables of the App's server.

    Raises:
        DatabaseError: no such dataset, no free port, the App's server is too slow to start, or the
            database is out of order.
    """
    free = _free_port(port, address)
    fo = connect()
    with ExitStack() as things, database_errors():
        if not fo.dataset_exists(name):
            listed = ", ".join(fo.list_datasets()) or "none"
            raise DatabaseError(
                f"FiftyOne has no dataset {name!r} (it has: {listed}); name one of them "
                "with: augment review --dataset NAME"
            )
        dataset = fo.load_dataset(name)
        _hush()
        folder = things.enter_context(_plugins_folder(fo.config.plugins_dir, plugins))
        with server_environment(), _variables({**(environment or {}), _PLUGINS: str(folder)}):
            session = _launch(fo, dataset, free, address)
        kept = things.pop_all()
    shown = "127.0.0.1" if address in ("0.0.0.0", "") else address
    note = "" if free == port else f"Port {port} is in use, so the App is on {free}."
    return AppSession(session, f"http://{shown}:{free}/datasets/{name}", free, note, kept)


def _launch(fo: Any, dataset: Any, port: int, address: str) -> Any:
    from fiftyone.core.service import ServiceListenTimeout

    try:
        return fo.launch_app(dataset, port=port, address=address)
    except ServiceListenTimeout:
        raise DatabaseError(
            "The App's server did not start within a minute, which happens on a busy machine; wait "
            "until it is less busy and run the same command again."
        ) from None


@contextmanager
def _plugins_folder(users: str, ours: Sequence[Path]) -> Iterator[Path]:
    """A folder in which FiftyOne finds the user's plugins and ours, by links, as long as it is
    needed: nothing is installed into the user's own."""
    with tempfile.TemporaryDirectory(prefix="augment-plugins-") as name:
        for number, folder in enumerate([*ours, Path(users)]):
            if folder.is_dir():
                (Path(name) / f"{number}-{folder.name}").symlink_to(folder.absolute())
        yield Path(name)


@contextmanager
def _variables(values: Mapping[str, str]) -> Iterator[None]:
    """Environment variables for a process that is started inside the block."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _hush() -> None:
    """Keep FiftyOne's greeting, and its remark that a slow server is not there yet, off a
    standard output that may be read by a machine."""
    import fiftyone.core.session.client as client

    logging.getLogger("fiftyone").setLevel(logging.WARNING)
    vars(client)["print"] = lambda *_: None


def _free_port(port: int, address: str) -> int:
    last = min(port + PORTS_TRIED, 2**16) - 1
    for candidate in range(port, last + 1):
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((address, candidate))
            except OSError as fault:
                if fault.errno in (errno.EADDRINUSE, errno.EACCES):
                    continue
                raise DatabaseError(
                    f"The App can't listen on {address} ({fault.strerror or fault}); name an IPv4 "
                    "address of this machine: augment review --address 127.0.0.1"
                ) from None
            return candidate
    raise DatabaseError(
        f"No port from {port} to {last} is free on {address}; choose another with `augment review "
        "--port`."
    )
