"""Which errors mean that MLflow is unreachable, which that it refused a request, and their reason in a line.

A sweep goes on without an unreachable MLflow (`link`); every other error is a refused request or a bug.
"""

from undertow.errors import last_line

# Top-level modules whose exceptions come from MLflow, its database or the connection to it.
MLFLOW = ("mlflow", "requests", "urllib3", "http", "sqlalchemy", "sqlite3", "alembic")
DATABASE = ("sqlalchemy", "sqlite3")
SQLALCHEMY_NOTES = ("(Background on this error", "[SQL:", "[parameters:")
S3 = ("boto3", "botocore")  # the same for an object store that holds MLflow's files
# Error codes of requests that MLflow understood and refused: an invalid name, a deleted run.
REFUSALS = (
    "BAD_REQUEST",
    "INVALID_PARAMETER_VALUE",
    "INVALID_STATE",
    "NOT_FOUND",
    "RESOURCE_ALREADY_EXISTS",
    "RESOURCE_DOES_NOT_EXIST",
)
# Errors of SQLAlchemy and sqlite3 for a statement that the database cannot execute whenever it is sent: a row
# that exists, a value that does not fit, a malformed statement.
REFUSED_BY_DATABASE = ("IntegrityError", "DataError", "StatementError", "InvalidRequestError")
# Errors of the operating system that a wrong path causes, and no lost connection.
WRONG_PATH = (FileNotFoundError, FileExistsError, IsADirectoryError, NotADirectoryError)


def unreachable_service(error: BaseException) -> str:
    """Names the service that `error` shows to be unreachable: "MLflow", "an object store", or "" for neither.

    "MLflow" includes its database and the connection to it. A request that MLflow refused is not a sign of an
    unreachable server, and neither is a bug of ours that MLflow wraps in its own exception.
    """
    modules = _modules_of(error)
    if modules & set(S3):  # first: S3's clients also raise errors of urllib3
        return "an object store"
    return "MLflow" if modules & set(MLFLOW) and not is_refusal(error) and not _wraps_bug(error) else ""


def reason_of(error: BaseException) -> str:
    """The reason of a failed request in one line: of a database, its own words.

    SQLAlchemy adds the statement and a link to its help to each error, and MLflow wraps both in its own.
    """
    for failure in (error, error.__cause__):
        original = getattr(failure, "orig", None)  # the database's error below SQLAlchemy's
        if isinstance(original, BaseException):
            return last_line(original)
    lines = [line for line in str(error).splitlines() if not line.strip().startswith(SQLALCHEMY_NOTES)]
    return last_line(Exception("\n".join(lines))) if any(map(str.strip, lines)) else last_line(error)


def is_connection_error(error: BaseException) -> bool:
    """Whether `error` is a failure of the connection to MLflow, its database or its file store.

    Such a failure can be temporary. Every other error is a bug or a request that MLflow refused.
    """
    if isinstance(error, OSError) and not _modules_of(error) & {*MLFLOW, *S3}:
        return not isinstance(error, WRONG_PATH)
    return bool(unreachable_service(error))


def is_refusal(error: BaseException) -> bool:
    """Whether MLflow or its database understood a request and refused it: sending it again cannot help."""
    for failure in (error, error.__cause__):
        if failure is not None and _modules_of(failure) & set(DATABASE):
            # MLflow reports some failures of its database as BAD_REQUEST, which is no refusal.
            return type(failure).__name__ in REFUSED_BY_DATABASE
    return "mlflow" in _modules_of(error) and getattr(error, "error_code", "") in REFUSALS


def _wraps_bug(error: BaseException) -> bool:
    """Whether `error` has a TypeError or the like as its cause.

    MLflow's database session turns every exception inside it into an MlflowException, bugs included.
    """
    cause = error.__cause__
    return type(cause).__module__ == "builtins" and not isinstance(cause, OSError | None)


def _modules_of(error: BaseException) -> set[str]:
    """The top-level modules of an error's classes."""
    return {kind.__module__.split(".")[0] for kind in type(error).__mro__}
