"""A Ray cluster of three nodes on this machine: `python -m tests.chaos.nodes FOLDER [CPUS]`.

The head has CPUS (1), the others one each; a head without any lends no memory either, so that nothing is on
it that can be elsewhere. Prints its address, then a line for each node it adds; every line read asks for one.
Ends with its input.
"""

import sys

from ray.cluster_utils import Cluster

from undertow.cluster.connection import quiet

NODE = {"num_cpus": 1, "object_store_memory": 200 * 2**20, "include_dashboard": False}
LITTLE = 500_000  # bytes: less than a trial asks for


def main(folder: str, head_cpus: str = "1") -> None:
    quiet()
    lent = {"num_cpus": int(head_cpus)} if int(head_cpus) else {"num_cpus": 0, "memory": LITTLE}
    head = {**NODE, **lent, "temp_dir": folder}
    cluster = Cluster(initialize_head=True, head_node_args=head)
    for _ in range(2):
        cluster.add_node(**NODE)
    print(cluster.address, flush=True)
    for _ in sys.stdin:
        cluster.add_node(**NODE)
        print("added", flush=True)
    cluster.shutdown()


if __name__ == "__main__":
    main(*sys.argv[1:])
