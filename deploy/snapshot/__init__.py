"""tests/fixtures/public.txt: what users build on, one promise a line, as of the last `make snapshot`.

    make snapshot

adds what is new. What is gone or means something else fails tests/unit/test_public.py, unless CHANGELOG.md says so.
"""
