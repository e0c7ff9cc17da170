"""The documented lines on stderr, in English or Chinese by locale."""

from __future__ import annotations

import os
from collections.abc import Callable

Say = Callable[[str], None]
"""Reports one line to the user while a monitor runs."""

_CHINESE = {
    "Preparing to monitor network interface: {}": "准备监控网络接口: {}",
    "XDP program loaded on {}": "XDP 程序已加载到 {}",
    "tc program loaded on {}": "tc 程序已加载到 {}",
    "counting ingress only; use --direction both to count egress too": (
        "只统计进入的流量 (ingress); --direction both 同时统计离开的流量"
    ),
}


def message(template: str, *arguments: object) -> str:
    """Return `template` in the user's language, with `arguments` filled in."""
    if _prefers_chinese():
        template = _CHINESE.get(template, template)
    return template.format(*arguments)


def _prefers_chinese() -> bool:
    """Return whether the first of LC_ALL, LC_MESSAGES and LANG that is set (POSIX) is a Chinese locale."""
    for name in ("LC_ALL", "LC_MESSAGES", "LANG"):
        value = os.environ.get(name)
        if value:
            return value.lower().startswith("zh")
    return False
