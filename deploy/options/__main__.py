"""`python -m deploy.options`: write the files that are not up to date."""

from __future__ import annotations

from deploy.options.files import ROOT, generated


def main() -> None:
    """Name each file that changed."""
    for path, text in generated().items():
        if not path.exists() or path.read_text() != text:
            path.write_text(text)
            print(path.relative_to(ROOT))


main()
