"""Mode rdma: ports, counters, queue pairs."""
