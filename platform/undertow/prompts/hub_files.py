"""Files on the Hugging Face hub and other servers: the local cache, and whether a request got an answer.

The hub client keeps every file that it has downloaded. fsspec does not use this cache, so data files of the
hub are opened through `local_copy`: once downloaded, they need no network.
"""

import re
import socket
from contextlib import suppress
from urllib.parse import unquote

from undertow.errors import causes, last_line

_COMMIT = re.compile(r"[0-9a-f]{40}")
# owner/name@revision/file, and no folder or pattern. Without a revision, "owner/name" could also be a name
# and a folder.
_DATA_FILE = re.compile(r"hf://datasets/([^/@]+/[^/@]+)@([^/]+)/([^*]+\.[a-z.]+)")


def local_copy(path: str) -> str:
    """The local path of a hub data set's file, downloaded if necessary.

    Other paths are returned as given, as are those of which the hub says that they are no file: fsspec opens
    folders, and reports what does not exist in one line.
    """
    if (match := _DATA_FILE.fullmatch(path)) is None or "*" in path:
        return path
    from huggingface_hub import get_hf_file_metadata, hf_hub_download, hf_hub_url
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    repository, revision, file = match[1], unquote(match[2]), match[3]

    def get(*, cached: bool = False) -> str:
        return hf_hub_download(
            repository, file, repo_type="dataset", revision=revision, local_files_only=cached
        )

    if _COMMIT.fullmatch(revision):
        with suppress(LocalEntryNotFoundError):
            return get(cached=True)
    try:
        # Without network, a download repeats its first request for half a minute; this one is not repeated.
        get_hf_file_metadata(hf_hub_url(repository, file, repo_type="dataset", revision=revision))
    except Exception as error:
        if no_answer(error):
            return get(cached=True)
    try:
        return get()
    except HfHubHTTPError as error:
        if no_answer(error):
            raise
        return path


def no_answer(error: BaseException) -> str:
    """Why a request got no answer: no network, an unknown host, a closed port, a time limit, a server error.

    "" if the server answered, such as that there is no such file or that access is denied.
    """
    import httpx2
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    kinds = (ConnectionError, TimeoutError, socket.gaierror, httpx2.TransportError, LocalEntryNotFoundError)
    words = ""
    for cause in causes(error):
        if isinstance(cause, HfHubHTTPError):
            if cause.response.status_code < 500:
                return ""
            words = last_line(cause)
        elif isinstance(cause, kinds):
            words = last_line(cause)  # the innermost message is the most specific
    return words
