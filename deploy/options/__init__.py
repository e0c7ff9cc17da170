"""Writes what follows from the table of options: shell completion, and its part of the documents.

    make options

tests/unit/options/test_generated.py fails where a file is not what this would write.
"""
