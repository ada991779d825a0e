"""A Ray cluster of three nodes on this machine: `python -m tests.chaos.nodes FOLDER [CPUS]`.

The head node has CPUS CPUs (default 1), the others one each. A head node without CPUs offers no memory
either, so that Ray places as little on it as possible. The program prints the address of the cluster, then
adds a node and prints a line for each line on its standard input, and ends with its input.
"""

import sys

from ray.cluster_utils import Cluster

from undertow.engines.quiet import quiet

NODE = {"num_cpus": 1, "object_store_memory": 200 * 2**20, "include_dashboard": False}
LITTLE = 500_000  # bytes; less than a trial requires


def main(folder: str, head_cpus: str = "1") -> None:
    quiet()
    offered = {"num_cpus": int(head_cpus)} if int(head_cpus) else {"num_cpus": 0, "memory": LITTLE}
    head = {**NODE, **offered, "temp_dir": folder}
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
