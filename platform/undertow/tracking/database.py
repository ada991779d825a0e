"""MLflow's default database, which is an SQLite file: its creation, and network file systems.

SQLite relies on the locks of the file system. On network file systems they are missing or unreliable,
depending on protocol, mount options and server (https://sqlite.org/faq.html#q5), and two programs that write
at once can damage the file. One program at a time is safe. A tracking server, with its database on a local
disk or in PostgreSQL, is the only process that opens the database.
"""

import os
import tempfile
from contextlib import suppress
from pathlib import Path

from undertow.errors import UserError
from undertow.storage.local_files import create_exclusively, set_permissions
from undertow.storage.mounts import lock_problem, network_file_system
from undertow.storage.store import Store

SERVER = "set MLFLOW_TRACKING_URI to a server"


def database_note(store: Store) -> str:
    """A line for the log if MLflow's database is on a network file system; "" otherwise.

    The storage's folder must exist. Raises UserError if files there cannot be locked at all.
    """
    if os.environ.get("MLFLOW_TRACKING_URI") or not store.is_local:
        return ""
    kind = network_file_system(store.root)
    if not kind:
        return ""
    if problem := lock_problem(store.root):
        raise UserError(
            f"--storage {store.url}: MLflow cannot keep its database there, because files on this {kind} "
            f"file system cannot be locked ({problem}); {SERVER}, or mount it with locks"
        )
    return (
        f"MLflow's database is on a network file system ({kind}), where SQLite's locks are unreliable: run "
        f"one sweep at a time on this storage, or {SERVER}"
    )


def create_database(path: Path) -> None:
    """Creates an SQLite database with MLflow's tables, unless another program creates it first.

    MLflow creates the tables in dozens of steps and without a lock. Of two sweeps that begin on a new storage
    at the same time, both fail, and they leave a database that MLflow cannot open any more. Therefore the
    tables are created in another file, which becomes the database when it is complete. If that is impossible,
    nothing is created, and MLflow's own attempt reports the reason.
    """
    from mlflow.store.tracking import DEFAULT_LOCAL_FILE_AND_ARTIFACT_PATH
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    with suppress(OSError), tempfile.TemporaryDirectory(dir=path.parent, prefix=".mlflow-") as folder:
        file = Path(folder) / "new.db"
        SqlAlchemyStore(f"sqlite:///{file.absolute()}", DEFAULT_LOCAL_FILE_AND_ARTIFACT_PATH).engine.dispose()
        set_permissions(Path(folder))  # SQLite never lets a group write
        create_exclusively(file, path)
