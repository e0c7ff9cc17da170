"""What documents and workflows name exists: options, variables, metrics, fields, targets of make, files."""

from __future__ import annotations

import ast
import importlib.util
import json
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from deploy.messages.found import messages
from deploy.snapshot.promises import promises
from tests.push.shipped import DESCRIBED
from xtrace.options.labels import RESERVED_LABELS
from xtrace.options.table import OPTIONS, VARIABLES

ROOT = Path(__file__).parents[2]
DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")])
EACH = pytest.mark.parametrize("document", DOCUMENTS, ids=lambda document: document.name)

FLAGS = {flag for option in OPTIONS for flag in option.flags}
OF_OTHERS = {
    *("--repo", "--signer-workflow", "--predicate-type"),  # gh
    *("--cap-add", "--cap-drop", "--network", "--pid", "--privileged", "--security-opt", "-v"),  # container engines
    *("--web", "-n", "--seed", "--set"),  # Prometheus, tcpdump, python -m tests.changes, helm
    "--preserve-digests",  # skopeo
}
"""Options of other programs that documents quote."""
EXAMPLE = "xtrace_hello"
"""A series that a document sends by hand."""
LABELS_OF_SERVERS = {"instance", "job", "pod", "node"}
"""What who scrapes adds."""
NAMES_OF_OTHERS = {
    *("gso_type", "bpf_prog_active", "sched_process_exec", "sys_enter_bpf"),  # the kernel
    *("out_of_order_time_window", "NO_RECORDED_VALUE"),  # Prometheus, OpenTelemetry
    "kills_of_tool",  # part of a test's name
}
FILES_OF_OTHERS = {"train.py", "rdma_ports.py"}  # a user's; a name that was given up
VARIABLES_READ = {variable for option in OPTIONS for variable in option.variables} | {row.name for row in VARIABLES}


def quoted(document: Path) -> list[str]:
    """Inline code, and lines of blocks without the comments behind them."""
    text = document.read_text()
    blocks = [line.partition("  #")[0] for line in text.splitlines() if line.startswith("    ")]
    return [*re.findall(r"`([^`\n]+)`", text), *blocks]


def flags_in(code: str) -> Iterator[str]:
    """What stands for an option of ours: code that begins with one, and what follows our command."""
    if "docker run" in code:
        return
    for part in [code] if code.startswith("-") else re.findall(r"xtrace-catch ([^|#;&]*)", code):
        yield from re.findall(r"(?<![\w\[-])(--[a-z][a-z-]+|-[a-zA-Z])(?![\w-])", part)


def properties(schema: Any) -> Iterator[str]:
    """Names of all fields in a schema."""
    if isinstance(schema, dict):
        yield from schema.get("properties", {})
        for part in schema.values():
            yield from properties(part)
    elif isinstance(schema, list):
        for part in schema:
            yield from properties(part)


SCHEMA = json.loads((ROOT / "docs/output.schema.json").read_text())
FIELDS = set(properties(SCHEMA))


@EACH
def test_options_exist(document: Path) -> None:
    named = {flag for code in quoted(document) for flag in flags_in(code)}
    assert named - FLAGS - OF_OTHERS == set()


@EACH
def test_variables_exist(document: Path) -> None:
    named = set(re.findall(r"\b(?:XTRACE|VICTORIAMETRICS)_[A-Z_]+\b", " ".join(quoted(document)))) - VARIABLES_READ
    read = "".join(path.read_text() for part in ("tests", "xtrace", ".ci") for path in sources(ROOT / part))
    assert {name for name in named if f'"{name}"' not in read and f"{name} names" not in read} == set()


def sources(folder: Path) -> Iterator[Path]:
    """Files of the tree that may read variables of the tests."""
    yield from (path for path in folder.rglob("*") if path.suffix in ("", ".py", ".sh") and path.is_file())


@EACH
def test_metrics_exist(document: Path) -> None:
    """Or some that begin so, where `_*` follows."""
    named = set(re.findall(r"\bxtrace_\w+", document.read_text())) - {EXAMPLE}
    known = {*DESCRIBED, *(f"{name}_created" for name in DESCRIBED)}
    families = {name for name in named if name.endswith("_") and any(metric.startswith(name) for metric in known)}
    assert named - known - families == set()


def labels_in(document: Path) -> set[str]:
    """Labels that queries select by, and group by."""
    fenced = re.findall(r"```promql\n(.*?)```", document.read_text(), re.DOTALL)
    code = " ".join(part for part in (*quoted(document), *fenced) if "xtrace_" in part and EXAMPLE not in part)
    lists = re.findall(r"\b(?:by|on|without|ignoring|group_left|group_right) ?\(([\w, ]+)\)", code)
    lists += [re.sub(r'(?:=~|!=|!~|=)"[^"]*"', "", pairs) for pairs in re.findall(r"\bxtrace_\w+\{([^}]*)\}", code)]
    return {name for names in lists for name in re.findall(r"\w+", names)}


@EACH
def test_labels_of_queries_exist(document: Path) -> None:
    assert labels_in(document) - RESERVED_LABELS - LABELS_OF_SERVERS == set()


@cache
def tree() -> tuple[Path, ...]:
    """Files that are no build products."""
    folders = (".ci", ".github", "benchmarks", "csrc", "deploy", "docs", "tests", "xtrace")
    found = [*ROOT.glob("*"), *(path for folder in folders for path in (ROOT / folder).rglob("*"))]
    return tuple(path for path in found if path.is_file() and path.suffix not in (".o", ".so", ".pyc"))


@cache
def words_of_the_source() -> set[str]:
    """Names in code, tests and what is shipped: not in documents, nor in what is generated from them."""
    texts = (path.read_text(errors="replace") for path in tree() if path.suffix not in (".md", ".8"))
    return {word for text in texts for word in re.findall(r"\w+", text)}


def names_in(document: Path) -> set[str]:
    """Fields, records, functions, constants in a sentence: words with an underscore, or followed by parentheses. And
    what a command's environment sets."""
    sentences = " ".join(re.findall(r"`([^`\n]+)`", document.read_text()))
    word = r"(?<![\w./-])([A-Za-z][A-Za-z0-9]*(?:_[A-Za-z0-9]+)+|\w+(?=\(\)))(?![\w/-]|\.py)"
    variables = re.findall(r"(?<![\w./-])([A-Z][A-Z0-9_]+)=", " ".join(quoted(document)))
    return {*re.findall(word, sentences), *variables}


@pytest.mark.parametrize(
    "document", [path for path in DOCUMENTS if path.name != "CHANGELOG.md"], ids=lambda path: path.name
)
def test_names_in_code_exist(document: Path) -> None:
    """In all but the changes, which name what is gone."""
    assert names_in(document) - words_of_the_source() - set(DESCRIBED) - NAMES_OF_OTHERS == set()


@EACH
def test_modules_and_scripts_exist(document: Path) -> None:
    code = " ".join(quoted(document))
    modules = set(re.findall(r"python3? -m ([a-z]\w+(?:\.\w+)*)", code))
    assert [name for name in modules if importlib.util.find_spec(name) is None] == []
    assert [name for name in re.findall(r"(?<![\w/])\.ci/[\w-]+", code) if not (ROOT / name).is_file()] == []


@EACH
def test_exit_codes_exist(document: Path) -> None:
    known = {word for promise in promises() for word in re.findall(r"^exit code (\d+)", promise)}
    assert set(re.findall(r"exit code (\d+)", document.read_text())) - known == set()


@EACH
def test_fields_exist(document: Path) -> None:
    """Those of samples of JSON, and those that jq selects."""
    samples = [code for code in quoted(document) if "type" in code or "jq" in code]
    named = {name for code in samples for name in re.findall(r'"(\w+)":', code)}
    named |= {name for code in samples if "jq" in code for name in re.findall(r"(?<!\w)\.([a-z]\w+)\b", code)}
    assert named - FIELDS == set()


def targets() -> set[str]:
    """All targets of the Makefile."""
    rules = re.findall(r"^([a-z-]+(?: [a-z-]+)*):(?!=)", (ROOT / "Makefile").read_text(), re.MULTILINE)
    return {target for rule in rules for target in rule.split()}


@pytest.mark.parametrize(
    "file",
    [*DOCUMENTS, *sorted(ROOT.glob(".github/workflows/*.yml")), *sorted((ROOT / ".ci").iterdir())],
    ids=lambda file: file.name,
)
def test_targets_exist(file: Path) -> None:
    code = quoted(file) if file.suffix == ".md" else file.read_text().splitlines()
    named = {
        word
        for line in code
        if "apt-get" not in line
        for words in re.findall(r"\bmake ((?:[a-z][a-z-]*\b ?)+)", line)
        for word in words.split()
    }
    assert named - targets() == set()


def test_every_target_of_the_help_is_in_a_document() -> None:
    offered = set(re.findall(r"^([a-z-]+):.*## ", (ROOT / "Makefile").read_text(), re.MULTILINE))
    text = " ".join(code for document in DOCUMENTS for code in quoted(document))
    assert {target for target in offered if not re.search(rf"(?<![\w-]){target}(?![\w-])", text)} <= {"help"}


@EACH
def test_files_exist(document: Path) -> None:
    named = {
        name
        for code in quoted(document)
        for name in re.findall(r"(?<![\w/.])((?:deploy|tests|docs|csrc|xtrace|benchmarks)/[\w./-]+\w)", code)
    }
    assert {name for name in named if not any((ROOT / name).parent.glob(f"{Path(name).name}*"))} == set()
    short = {name for code in quoted(document) for name in re.findall(r"(?<![\w./-])([\w-]+\.(?:[ch]|py|sh))\b", code)}
    assert short - {path.name for path in tree()} - FILES_OF_OTHERS == set()


VALUES = (
    r"\.\.\.|\bxdp\b|CAP_BPF and|eth0|mlx5_9|\bN\b|ncclAllReduce|native|Connection refused|\b\d{3}\b|\bOK\b|No Content"
)
"""What differs in the messages that docs/faq.md quotes."""


def test_messages_that_the_faq_quotes_exist() -> None:
    """Whatever is no value in them is part of a text in the source."""
    headings = re.findall(r"\*\*(.+?)\*\*", (ROOT / "docs/faq.md").read_text(), re.DOTALL)
    quotes = [quote for heading in headings for quote in re.findall(r'"([^"]+)"', " ".join(heading.split()))]
    trees = (ast.walk(ast.parse(path.read_text())) for path in (ROOT / "xtrace").rglob("*.py"))
    texts = [str(node.value) for tree in trees for node in tree if isinstance(node, ast.Constant)]
    parts = {part.strip() for quote in quotes for part in re.split(VALUES, quote)} - {"", ":"}
    assert len(quotes) > 10
    assert [part for part in parts if not any(part in text for text in texts)] == []


def test_every_document_is_linked_from_the_readme() -> None:
    for readme in ("README.md", "README_CN.md"):
        linked = set(re.findall(r"\]\(docs/([\w-]+\.md)", (ROOT / readme).read_text()))
        assert {path.name for path in ROOT.glob("docs/*.md")} - linked == set(), readme


@pytest.mark.parametrize("kind", [rule["if"]["properties"]["type"]["const"] for rule in SCHEMA["allOf"]])
def test_every_field_of_a_record_is_described(kind: str) -> None:
    """In docs/output.schema.json itself, which the documents link to."""
    record = SCHEMA["$defs"][f"{kind}_record"]
    described = {
        name: field.get("description") or SCHEMA["$defs"][field["$ref"].rpartition("/")[2]].get("description")
        for name, field in record["properties"].items()
    }
    assert [name for name, text in described.items() if not text] == []


def test_every_variable_and_record_stands_in_a_document() -> None:
    text = "".join(document.read_text() for document in DOCUMENTS)
    records = {rule["if"]["properties"]["type"]["const"] for rule in SCHEMA["allOf"]}
    assert {name for name in records if f"`{name}`" not in text and f'"type":"{name}"' not in text} == set()
    assert {name for names in VARIABLES_READ for name in names.split(", ") if name not in text} == set()


def test_counts_of_what_documents_name() -> None:
    """Shown by -rP: how much the tests of this file looked up."""
    text = " ".join(document.read_text() for document in DOCUMENTS)
    code = [part for document in DOCUMENTS for part in quoted(document)]
    counts = {
        "documents": len(DOCUMENTS),
        "links": len(re.findall(r"\]\(([^)\s]+)\)", text)),
        "options": len({flag for part in code for flag in flags_in(part)} & FLAGS),
        "variables": len({name for name in VARIABLES_READ if name in text}),
        "metrics": len({name for name in DESCRIBED if name in text}),
        "labels": len({name for document in DOCUMENTS for name in labels_in(document)}),
        "fields": len({name for name in FIELDS if re.search(rf"\b{name}\b", text)}),
        "names in code": len({name for document in DOCUMENTS for name in names_in(document)}),
        "targets of make": len(targets()),
        "messages": len(messages()),
        "runnable blocks": text.count("<!-- runnable -->\n    "),
    }
    print(", ".join(f"{count} {name}" for name, count in counts.items()))
    assert all(counts.values())
