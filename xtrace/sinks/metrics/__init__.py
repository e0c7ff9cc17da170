"""Snapshots as samples of metrics."""
