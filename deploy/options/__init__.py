"""Generates shell completion and parts of the documents from the table of options.

    make options

tests/unit/options/test_generated.py fails if a file is out of date.
"""
