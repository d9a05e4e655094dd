"""Pages, made of values alone: well formed, harmless, readable without color."""

from __future__ import annotations

import re
from html.parser import HTMLParser

import pytest

from smsbox import _KINDS, _PAGE_START, _PAGE_STYLE, Page, render_page

EVIL = (
    '<script>alert(1)</script>" onload="x\' & &amp; \x1b[2J\x00\x9b\u202e\u2066\ud800\u2028z\u00e9'
)
NEVER_CLOSED = {"meta"}
DAYS = (
    ("Mon 11/03", {"delivered": 68, "sent": 1, "failed": 3, "replied": 9}),
    ("Tue 11/04", {"delivered": 34, "held": 2, "scheduled": 0}),
    ("Wed 11/05", {"replied": 1}),
)
REPORT = Page(
    title="Campaign spring",
    words="72 of 346 messages are sent.",
    facts=[("planned", "346"), ("cost", "12.40 USD")],
    texts=[("First text, to Ana Ortiz", ["Hi Ana 🌷\n\nCome by.", "Reply STOP to opt out."])],
    left_out=[("opted out", 1_011), ("the same number twice", 2)],
    days=DAYS,
    failed=[
        ("Mon 11/03 09:10 AM", "Ana", "+14085551234", "no route"),
        ("Mon 11/03 09:20 AM", "Bob", "+14085551235", "not in use"),
        ("Mon 11/03 09:30 AM", "Cy", "+14085551236", "not in use"),
    ],
    zone="America/Los_Angeles (PST)",
)
EMPTY = Page("Campaign empty", "Nothing.", [], [], [], [], [], "UTC")
HOSTILE = Page(
    EVIL, EVIL, [(EVIL, EVIL)], [(EVIL, [EVIL, EVIL])], [(EVIL, 1)], [(EVIL, {"sent": 1})],
    [(EVIL, EVIL, EVIL, EVIL)], EVIL,
)  # fmt: skip
PAGES = pytest.mark.parametrize(
    "page", [REPORT, EMPTY, HOSTILE], ids=["report", "empty", "hostile"]
)


class Reader(HTMLParser):
    """Reads a page: its tags with their attributes, its words, the cells of its rows."""

    def __init__(self, page: Page) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.rows: list[list[str]] = []
        self.feed(render_page(page))
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in NEVER_CLOSED:
            self.open.append(tag)
        if tag == "tr":
            self.rows.append([])
        if tag in ("th", "td"):
            self.rows[-1].append("")

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.words.append(data)
        if self.open and self.open[-1] in ("th", "td"):
            self.rows[-1][-1] += data


def day_rows(page: Page) -> list[list[str]]:
    """Return the rows of the table by day, the head first."""
    rows = Reader(page).rows
    begin = next(i for i, row in enumerate(rows) if row[:1] == ["Day"])
    end = next(i for i, row in enumerate(rows) if row[:1] == ["All"])
    return rows[begin : end + 1]


@PAGES
def test_every_tag_that_is_opened_is_closed(page: Page) -> None:
    assert Reader(page).open == []


@PAGES
def test_page_is_ascii_and_begins_with_its_mark(page: Page) -> None:
    text = render_page(page)
    assert text.isascii()
    assert text.startswith(_PAGE_START)
    assert not re.search("[\x00-\x09\x0b-\x1f\x7f]", text)


@PAGES
def test_nothing_is_fetched_and_nothing_runs(page: Page) -> None:
    tags = Reader(page).tags
    assert not {tag for tag, _ in tags} & {"script", "link", "img", "iframe", "a", "form", "base"}
    assert not re.search(r"url\(|@import|https?:", _PAGE_STYLE)
    policy = {attrs.get("http-equiv"): attrs.get("content") for tag, attrs in tags if tag == "meta"}
    assert policy["Content-Security-Policy"] == "default-src 'none';style-src 'unsafe-inline'"


def test_no_attribute_comes_from_outside() -> None:
    for _, attrs in Reader(HOSTILE).tags:
        assert set(attrs) <= {
            "lang", "charset", "name", "content", "http-equiv", "class", "dir", "scope", "colspan",
            "style", "data-words",
        }  # fmt: skip
        assert not any("alert" in (value or "") for value in attrs.values())


def test_text_from_outside_is_shown_and_does_nothing() -> None:
    shown = '<script>alert(1)</script>" onload="x\' & &amp; '
    shown += "\\x1b[2J\\x00\\x9b\\u202e\\u2066\\ud800\\u2028z\u00e9"
    words = Reader(HOSTILE).words
    assert "".join(words).count(shown) == 15
    assert "<script" not in render_page(HOSTILE)
    assert "&#233;" in render_page(HOSTILE)
    assert "&#55296;" not in render_page(HOSTILE)


def test_bubble_keeps_its_line_breaks_and_emoji() -> None:
    assert "Hi Ana 🌷\n\nCome by." in Reader(REPORT).words
    assert render_page(REPORT).count('<p class="bubble"') == 2


def test_counts_of_each_day_add_up() -> None:
    head, *days, total = day_rows(REPORT)
    assert [row[0] for row in days] == [day for day, _ in DAYS]
    for column in range(2, len(head)):
        assert sum(int(row[column]) for row in days) == int(total[column])
    for row, (_, counts) in zip(days, DAYS, strict=True):
        assert sum(map(int, row[2:])) == sum(counts.values())


def test_kind_with_no_count_anywhere_gets_no_column() -> None:
    assert day_rows(REPORT)[0] == [
        "Day", "", "delivered", "sent, no report yet", "held", "failed or undelivered", "replied",
    ]  # fmt: skip


def test_bar_is_as_long_as_its_day_is_busy_and_leaves_out_replies() -> None:
    bars = re.findall(r'<td class="bar">(.*?)</td>', render_page(REPORT))
    assert [re.findall(r"width:([\d.]+)%", bar) for bar in bars] == [["100.0"], ["50.0"], [], []]
    assert re.findall(r"flex:(\d+)", bars[0]) == ["68", "1", "3"]


def test_days_with_replies_alone_have_no_bar() -> None:
    page = EMPTY._replace(days=[("Mon 11/03", {"replied": 2})])
    assert day_rows(page) == [["Day", "", "replied"], ["Mon 11/03", "", "2"], ["All", "", "2"]]


def test_failures_stand_under_their_reason_the_most_frequent_first() -> None:
    rows = Reader(REPORT).rows
    assert rows[-5:] == [
        ["not in use: 2"],
        ["Mon 11/03 09:20 AM", "Bob", "+14085551235"],
        ["Mon 11/03 09:30 AM", "Cy", "+14085551236"],
        ["no route: 1"],
        ["Mon 11/03 09:10 AM", "Ana", "+14085551234"],
    ]


def test_left_out_rows_are_counted() -> None:
    reader = Reader(REPORT)
    assert "Left out, and why: 1,013" in reader.words
    assert ["opted out", "1,011"] in reader.rows


def test_empty_page_says_so_and_leaves_out_empty_parts() -> None:
    words = Reader(EMPTY).words
    assert "No message yet." in words
    assert not any(word.startswith(("Left out", "Failed", "What the customer")) for word in words)


def test_zone_is_named_once() -> None:
    assert render_page(REPORT).count("America/Los_Angeles") == 1


def brightness(color: str) -> float:
    """Return the relative luminance of a color (WCAG 2)."""
    digits = color.lstrip("#")
    digits = digits if len(digits) == 6 else "".join(2 * digit for digit in digits)
    parts = [int(digits[i : i + 2], 16) / 255 for i in (0, 2, 4)]
    red, green, blue = (
        part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts
    )
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: str, other: str) -> float:
    """Return the contrast of two colors (WCAG 2)."""
    low, high = sorted((brightness(one), brightness(other)))
    return (high + 0.05) / (low + 0.05)


def test_text_and_bars_stand_out_in_both_schemes_and_in_print() -> None:
    schemes = [dict(re.findall(r"--(\w+):(#\w+)", part)) for part in re.findall(
        r":root\{([^}]*)\}", _PAGE_STYLE)]  # fmt: skip
    light, dark, paper = schemes
    for scheme in (light, dark, light | paper):
        for text in ("ink", "quiet"):
            assert contrast(scheme[text], scheme["paper"]) >= 4.5
        assert contrast(scheme["ink"], scheme["bubble"]) >= 4.5
        for _, color in _KINDS.values():
            if color != "--line":
                assert contrast(scheme[color[2:]], scheme["paper"]) >= 3


def test_thousand_failures_and_sixty_days_stay_small() -> None:
    counts = dict.fromkeys(_KINDS, 12)
    page = REPORT._replace(
        days=[(f"day {i}", counts) for i in range(60)], failed=[*REPORT.failed] * 334
    )
    assert len(render_page(page)) < 300_000
