"""Deliberate changes to the product, one at a time: which of them do the tests notice? `python -m tests.changes -h`."""
