"""Turn snapshots into samples of metrics."""
