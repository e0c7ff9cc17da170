"""The documented lines on stderr in both languages."""

from __future__ import annotations

import pytest

from xtrace.messages import message

PREPARING = "Preparing to monitor network interface: {}"
LOADED = "XDP program loaded on {}"
TC_LOADED = "tc program loaded on {}"


@pytest.fixture(autouse=True)
def no_locale(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("LC_ALL", "LC_MESSAGES", "LANG"):
        monkeypatch.delenv(name, raising=False)


def test_messages_are_english_without_a_locale() -> None:
    assert message(PREPARING, "eth0") == "Preparing to monitor network interface: eth0"
    assert message(LOADED, "eth0") == "XDP program loaded on eth0"
    assert message(TC_LOADED, "eth0") == "tc program loaded on eth0"


@pytest.mark.parametrize("locale", ["zh_CN.UTF-8", "zh_TW", "zh", "ZH_CN.UTF-8"])
def test_messages_are_chinese_under_a_chinese_lang(locale: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LANG", locale)
    assert message(PREPARING, "eth0") == "准备监控网络接口: eth0"
    assert message(LOADED, "eth0") == "XDP 程序已加载到 eth0"
    assert message(TC_LOADED, "eth0") == "tc 程序已加载到 eth0"


@pytest.mark.parametrize("locale", ["C", "C.UTF-8", "en_US.UTF-8", "POSIX"])
def test_messages_are_english_under_other_locales(locale: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LANG", locale)
    assert message(LOADED, "eth0") == "XDP program loaded on eth0"


@pytest.mark.parametrize(
    "environment, chinese",
    [
        ({"LC_ALL": "C", "LC_MESSAGES": "zh_CN", "LANG": "zh_CN"}, False),
        ({"LC_ALL": "zh_CN", "LC_MESSAGES": "C", "LANG": "C"}, True),
        ({"LC_MESSAGES": "zh_CN", "LANG": "C"}, True),
        ({"LC_MESSAGES": "en_US.UTF-8", "LANG": "zh_CN"}, False),
        ({"LC_ALL": "", "LC_MESSAGES": "", "LANG": "zh_CN"}, True),
    ],
)
def test_lc_all_goes_before_lc_messages_before_lang(
    environment: dict[str, str], chinese: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert (message(LOADED, "eth0") == "XDP 程序已加载到 eth0") is chinese


def test_message_without_a_translation_stays_english(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LANG", "zh_CN.UTF-8")
    assert message("something new on {}", "eth0") == "something new on eth0"


def test_braces_in_an_interface_name_are_left_alone() -> None:
    assert message(LOADED, "{0}") == "XDP program loaded on {0}"
