"""The files generated wholly or in part."""

from __future__ import annotations

from pathlib import Path

from deploy.messages import documents as messages
from deploy.options import bash, documents, fish, zsh

ROOT = Path(__file__).resolve().parents[2]
COMPLETION = ROOT / "deploy/completion"


def generated() -> dict[Path, str]:
    """Return the new contents of each file; documents keep everything outside their generated parts."""
    manual, options = ROOT / "docs/man/xtrace-catch.8", ROOT / "docs/options.md"
    troubleshooting = ROOT / "docs/troubleshooting.md"
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
        troubleshooting: documents.replace_parts(
            troubleshooting.read_text(),
            "<!-- generated: {} -->\n",
            "<!-- end -->\n",
            {"messages": messages.tables()},
        ),
    }
