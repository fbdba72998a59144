"""Review: the FiftyOne App on a dataset, with a project's views, operators and background work."""

from importlib.resources import files
from pathlib import Path

from augmentor import fiftyone_io
from augmentor.decisions import read_decisions, standing
from augmentor.errors import DatabaseError, ProjectError
from augmentor.workflows.built import build_again
from augmentor.workflows.deciding import REVIEWER
from augmentor.workflows.decisions import take_over_tags
from augmentor.workflows.more import Worker
from augmentor.workflows.project import Project
from augmentor.workflows.reporting import Reporter

PLUGIN = Path(str(files("augmentor"))) / "plugin"


class Review:
    """An open review: the App, and the worker that makes what is asked for in it.

    Attributes:
        url: where the App is.
        note: why it is not on the port that was asked for; empty where it is.
    """

    def __init__(
        self,
        name: str,
        session: fiftyone_io.AppSession,
        project: Project | None,
        reporter: Reporter,
    ) -> None:
        self.url, self.note = session.url, session.note
        self._name, self._session, self._project = name, session, project
        self._worker: Worker | None = None
        if project is not None:
            self._worker = Worker(project.folder, name, reporter, session.refresh)
            self._worker.start()

    def wait(self) -> None:
        """Block until Ctrl-C, then leave nothing running.

        Raises:
            DatabaseError: the database died.
            ProjectError: the dataset was deleted.
        """
        try:
            self._session.wait(self._look)
        finally:
            self.close()

    def close(self) -> None:
        """End the App and the worker."""
        self._session.close()
        if self._worker is not None:
            self._worker.stop()

    def _look(self) -> None:
        try:
            held = fiftyone_io.dataset_exists(self._name, start=False)
        except DatabaseError as fault:
            raise DatabaseError(f"{fault} {self._kept()}") from fault
        if not held:
            raise ProjectError(
                f"The dataset {self._name!r} was deleted while the App was open. {self._kept()} "
                "Make it again with: augment build"
            )
        if self._worker is not None and self._worker.fault is not None:
            raise self._worker.fault

    def _kept(self) -> str:
        if self._project is None:
            return ""
        number = len(read_decisions(self._project.folder))
        return f"The {number} decisions so far are kept in the project's log."


def open_review(
    name: str,
    project: Project | None,
    *,
    port: int,
    address: str,
    who: str | None,
    reporter: Reporter,
) -> Review:
    """Open the App on a dataset.

    Args:
        name: of the dataset.
        project: that it is the mixed dataset of; None for any other dataset, which is just shown.
        port: where to begin to look for a free one.
        address: to listen on.
        who: signs the decisions; None for the account's name.
        reporter: told what is prepared, and what is made in the background.

    Raises:
        ProjectError: FiftyOne has no dataset of that name.
        DatabaseError: the dataset is another project's, the database is out of order, or no port is
            free.
    """
    if project is not None and not fiftyone_io.dataset_exists(name):
        raise ProjectError(
            f"FiftyOne has no dataset {name!r}; build it first: {build_again(project)}"
        )
    if project is not None:
        prepare(name, project, reporter)
    session = fiftyone_io.launch_app(
        name,
        port=port,
        address=address,
        plugins=[PLUGIN] if project is not None else [],
        environment={REVIEWER: who} if who else {},
    )
    return Review(name, session, project, reporter)


def prepare(name: str, project: Project, reporter: Reporter) -> None:
    """Bring decisions, views and colours of a mixed dataset up to date; safe to repeat.

    Raises:
        DatabaseError: the dataset is another project's, or the database is out of order.
    """
    fiftyone_io.check_name(name, project.folder)
    fiftyone_io.note(name, project=str(project.folder.absolute()))
    taken = take_over_tags(project)
    if taken:
        reporter.say(f"Took {taken} tags that were set by hand over into the decisions' log")
    changed = fiftyone_io.mirror(name, standing(read_decisions(project.folder)))
    if changed:
        reporter.say(f"Brought {changed} samples in line with the decisions in the log")
    fiftyone_io.prepare_views(name, project.config.classes)
