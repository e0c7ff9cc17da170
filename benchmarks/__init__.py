"""Measurements: ratios of one run. `make bench`; timing is no test's business."""
