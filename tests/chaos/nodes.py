"""A Ray cluster of three nodes on this machine: `python -m tests.chaos.nodes FOLDER [CPUS]`.

The head has CPUS (1), the others one each. Prints its address, then a line for each node it adds; every line
read asks for one. Ends with its input.
"""

import sys

from ray.cluster_utils import Cluster

from undertow.cluster import quiet

NODE = {"num_cpus": 1, "object_store_memory": 200 * 2**20, "include_dashboard": False}


def main(folder: str, head_cpus: str = "1") -> None:
    quiet()
    head = {**NODE, "num_cpus": int(head_cpus), "temp_dir": folder}
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
