"""The FiftyOne App on a dataset: bound to this machine, on a free port, gone when it is closed."""

import logging
import socket
from typing import Any

from augmentor.errors import DatabaseError
from augmentor.fiftyone_io.connection import connect, database_errors, server_environment

PORTS_TRIED = 50


class AppSession:
    """An open App.

    Attributes:
        url: where it is.
        port: the port that it got.
        note: why it is not the port that was asked for; empty where it is.
    """

    def __init__(self, session: Any, url: str, port: int, note: str) -> None:
        self._session = session
        self.url = url
        self.port = port
        self.note = note

    def wait(self) -> None:
        """Block until every tab with the App is closed, or Ctrl-C; then leave nothing running."""
        try:
            self._session.wait()
        except KeyboardInterrupt:
            pass
        finally:
            self.close()

    def close(self) -> None:
        """Close the App and end its server."""
        import fiftyone as fo

        fo.close_app()


def launch_app(name: str, *, port: int = 5151, address: str = "127.0.0.1") -> AppSession:
    """Open the FiftyOne App on a dataset.

    Args:
        name: of the dataset.
        port: where to begin to look for a free port.
        address: to listen on; other machines can reach it only on an address of this machine
            that they can reach, or `0.0.0.0`.

    Raises:
        DatabaseError: no such dataset, no free port, or the database is out of order.
    """
    free = _free_port(port, address)
    fo = connect()
    with database_errors():
        if not fo.dataset_exists(name):
            listed = ", ".join(fo.list_datasets()) or "none"
            raise DatabaseError(
                f"FiftyOne has no dataset {name!r} (it has: {listed}); type `augment build` first."
            )
        dataset = fo.load_dataset(name)
        _hush()
        with server_environment():
            session = fo.launch_app(dataset, port=free, address=address)
    shown = "127.0.0.1" if address in ("0.0.0.0", "") else address
    note = "" if free == port else f"Port {port} is in use, so the App is on {free}."
    return AppSession(session, f"http://{shown}:{free}/datasets/{name}", free, note)


def _hush() -> None:
    """Keep FiftyOne's greeting, and its remark that a slow server is not there yet, off a
    standard output that may be read by a machine."""
    import fiftyone.core.session.client as client

    logging.getLogger("fiftyone").setLevel(logging.WARNING)
    vars(client)["print"] = lambda *_: None


def _free_port(port: int, address: str) -> int:
    for candidate in range(port, port + PORTS_TRIED):
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((address, candidate))
            except OSError:
                continue
            return candidate
    raise DatabaseError(
        f"No port from {port} to {port + PORTS_TRIED - 1} is free on {address}; choose another "
        "with `augment review --port`."
    )
