"""What is measured, as plain data: flows, RDMA ports, NCCL calls. Nothing here opens a socket or a file."""
