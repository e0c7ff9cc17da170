"""Which files are generated, wholly or in part."""

from __future__ import annotations

from pathlib import Path

from deploy.options import bash, documents, fish, zsh

ROOT = Path(__file__).resolve().parents[2]
COMPLETION = ROOT / "deploy/completion"


def generated() -> dict[Path, str]:
    """File -> what it should contain; documents keep what is outside of their generated parts."""
    manual, options = ROOT / "docs/man/xtrace-catch.8", ROOT / "docs/options.md"
    return {
        COMPLETION / "xtrace-catch.bash": bash.script(),
        COMPLETION / "_xtrace-catch": zsh.script(),
        COMPLETION / "xtrace-catch.fish": fish.script(),
        manual: documents.replace_parts(
            manual.read_text(),
            '.\\" generated: {}\n',
            '.\\" end\n',
            {"options": documents.manual_options(), "environment": documents.manual_environment()},
        ),
        options: documents.replace_parts(
            options.read_text(),
            "<!-- generated: {} -->\n",
            "<!-- end -->\n",
            {"options": documents.markdown_options(), "environment": documents.markdown_environment()},
        ),
    }
