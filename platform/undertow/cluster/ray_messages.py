"""What Ray reports to the driver while a sweep runs, such as a lost node: one plain line for each message.

Ray itself prints these messages with "(raylet)" and colour codes, also into files, also over several lines,
and also with `log_to_driver=False`.
"""

import re
from collections.abc import Mapping
from typing import Any

from undertow.cluster.worker_failures import in_one_line

# A local Ray has a higher limit (see `engines.quiet`); a cluster that was started before has its own.
WORKER_WARNING = "worker processes have been started on node"
RAYLET_LOG = "Last 20 lines of the Raylet logs"  # begins the end of a message about a raylet
LOST_NODE = re.compile(r"node with node id: (\w+) and address: (\S+) .*has been marked dead", re.DOTALL)


def line_of(message: str) -> str:
    """A message of Ray in one line; "" for the warning about worker processes, which calls for no action."""
    if WORKER_WARNING in message:
        return ""
    if match := LOST_NODE.search(message):
        return f"node {match[2]} ({match[1][:8]}) left the cluster; its work is done again on other nodes"
    return f"Ray: {in_one_line(message.partition(RAYLET_LOG)[0])}"


def print_plainly() -> None:
    """Replaces the function with which this process prints Ray's messages."""
    from ray._private import worker

    def print_to_stdstream(data: Mapping[str, Any], ignore_prefix: bool) -> None:
        for line in filter(None, map(line_of, data["lines"])):
            print(line, flush=True)

    worker.print_to_stdstream = print_to_stdstream
