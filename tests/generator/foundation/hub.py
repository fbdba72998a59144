"""A Hugging Face hub on this machine: the few requests of its client that fetching makes."""

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@contextmanager
def local_hub(name: str, folder: Path) -> Iterator[tuple[str, list[str]]]:
    """Serve `folder` as the repository `name`.

    Yields the address, and a list of the files brought and of all other paths asked for.
    """
    got: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self._answer(body=False)

        def do_GET(self) -> None:
            self._answer(body=True)

        def _answer(self, body: bool) -> None:
            path = self.path.split("?")[0]
            file = folder / path.removeprefix(f"/{name}/resolve/").partition("/")[2]
            if path == f"/api/models/{name}/revision/main" or path == f"/api/models/{name}":
                files = [{"rfilename": entry["path"]} for entry in _tree(folder)]
                about = {"id": name, "sha": COMMIT, "siblings": files}
                self._send(json.dumps(about).encode(), body)
            elif path.startswith(f"/api/models/{name}/tree/"):
                self._send(json.dumps(_tree(folder)).encode(), body)
            elif path.startswith(f"/{name}/resolve/") and file.is_file():
                if body:
                    got.append(str(file.relative_to(folder)))
                content = file.read_bytes()
                etag = hashlib.sha256(content).hexdigest()
                self._send(content, body, {"ETag": f'"{etag}"', "X-Repo-Commit": COMMIT})
            else:
                got.append(path)
                self.send_error(404)

        def _send(self, content: bytes, body: bool, more: dict[str, str] | None = None) -> None:
            self.send_response(200)
            for key, value in ({"Content-Length": str(len(content))} | (more or {})).items():
                self.send_header(key, value)
            self.end_headers()
            if body:
                self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", got
    finally:
        server.shutdown()
        server.server_close()


def _tree(folder: Path) -> list[dict[str, object]]:
    return [
        {
            "type": "file",
            "path": str(path.relative_to(folder)),
            "size": path.stat().st_size,
            "oid": hashlib.sha1(path.read_bytes()).hexdigest(),
        }
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    ]


def into_cache(folder: Path, cache: Path, name: str) -> Path:
    """Lay `folder` into a Hugging Face cache as its client would: contents, links, the branch."""
    home = cache / f"models--{name.replace('/', '--')}"
    snapshot = home / "snapshots" / COMMIT
    (home / "refs").mkdir(parents=True)
    (home / "refs" / "main").write_text(COMMIT)
    (home / "blobs").mkdir()
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        blob = home / "blobs" / hashlib.sha256(path.read_bytes()).hexdigest()
        blob.write_bytes(path.read_bytes())
        link = snapshot / path.relative_to(folder)
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(blob)
    return snapshot
