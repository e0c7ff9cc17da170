"""Mode nccl: probes on libraries, call tables, NCCL's RAS service."""
