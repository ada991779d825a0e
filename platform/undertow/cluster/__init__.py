"""Ray: connecting, engine pools, failures of workers and nodes, placement groups, interrupts."""
