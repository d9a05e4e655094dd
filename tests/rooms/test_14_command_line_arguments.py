"""What may be typed after a command: numbers, ages, IDs; each wrong line is one sentence."""

from __future__ import annotations

import argparse
import contextlib
import io
from datetime import timedelta

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

import smsbox


def parse(*words: str) -> argparse.Namespace | str:
    """Return what the words mean, or the sentence that refuses them."""
    told = io.StringIO()
    try:
        with contextlib.redirect_stderr(told):
            return smsbox.parse_arguments(words)
    except SystemExit as end:
        assert end.code == 2
    (sentence,) = told.getvalue().splitlines()
    assert sentence.startswith("smsbox: ")
    assert sentence.endswith(" --help shows how.")
    return sentence


def value(name: str, *words: str) -> object:
    args = parse(*words)
    assert isinstance(args, argparse.Namespace), args
    return getattr(args, name)


# --- whole numbers: --limit, --row, --next


@given(st.integers(1, 999_999_999), st.integers(0, 9))
def test_a_count_is_a_whole_number_from_one_on(number: int, zeros: int) -> None:
    typed = "0" * zeros + str(number)
    assert value("limit", "schedule", "a.csv", "--limit", typed) == number
    assert value("next", "list", f"--next={typed}") == number


@given(
    st.text(st.characters(exclude_categories=["Cs"])) | st.integers(max_value=0).map(str)
    | st.floats().map(str) | st.integers(10**9).map(str)
)  # fmt: skip
@example("0")
@example("1\n")
@example("１２")
@example("1_000")
@example("1,000")
@example("1e3")
@example("9" * 5000)
def test_what_is_no_count_is_refused_in_one_sentence(typed: str) -> None:
    args = parse("schedule", "a.csv", f"--limit={typed}")
    if isinstance(args, argparse.Namespace):
        assert typed.isascii()
        assert typed.isdigit()
        assert args.limit == int(typed) > 0
    else:
        assert "--limit: write a whole number from 1 on" in args


@given(st.text(st.characters(exclude_categories=["Cs"])))
@example("9" * 5000)
@example("-7")
def test_a_seed_is_a_number_or_refused_in_one_sentence(typed: str) -> None:
    for words in (["schedule", "a.csv"], ["demo"]):
        args = parse(*words, f"--seed={typed}")
        assert isinstance(args, str) or args.seed == int(typed)


# --- ages and seconds


@given(st.integers(1, 99), st.sampled_from("dmy"))
def test_an_age_is_at_least_as_long_as_it_says(number: int, unit: str) -> None:
    age = value("older_than", "forget", "--older-than", f"{number}{unit}")
    least, most = {"d": (1, 1), "m": (30, 31), "y": (365, 366)}[unit]
    assert isinstance(age, timedelta)
    assert least * number <= age.days <= most * number


@given(st.text(st.characters(exclude_categories=["Cs"])) | st.from_regex(r"-?[0-9]{0,7}[a-z]?"))
@example("0d")
@example("100y")
@example("2 y")
@example("2Y")
@example("-2y")
@example("2y\n")
def test_an_age_reaches_no_further_than_the_calendar_or_is_refused(typed: str) -> None:
    args = parse("forget", f"--older-than={typed}")
    if isinstance(args, argparse.Namespace):
        assert timedelta(days=1) <= args.older_than < timedelta(days=366 * 1000)
    else:
        assert "like 90d, 6m or 2y" in args


@given(st.text(st.characters(exclude_categories=["Cs"])) | st.floats().map(str))
@example("0")
@example("0.0")
@example("00.00")
@example("nan")
@example("inf")
@example("1e3")
def test_seconds_are_more_than_none_and_end(typed: str) -> None:
    args = parse("check", f"--lamps={typed}")
    assert isinstance(args, str) or 0 < args.lamps < 1000
    assert value("lamps", "check", "--lamps") == 6
    assert value("lamps", "check") is None


# --- IDs and phone numbers


@given(st.integers(0, 999_999_999))
def test_a_short_number_is_an_id(number: int) -> None:
    assert smsbox._parse_name(str(number)) == smsbox.RowFilter(ids=(smsbox.MessageId(number),))


@pytest.mark.parametrize("typed", ["213-555-2301", "(213) 555-2301", "+12135552301", "2135552301"])
def test_a_phone_number_is_read_as_people_write_it(typed: str) -> None:
    assert smsbox._parse_name(typed) == smsbox.RowFilter(number="+12135552301")


@given(st.text() | st.from_regex(r"[-+#]?[0-9 ().,-]{1,20}", fullmatch=True))
@example("")
@example("-1")
@example("١٢")
@example("0" * 5000)
def test_any_word_is_an_id_a_number_or_one_sentence(typed: str) -> None:
    try:
        found = smsbox._parse_name(typed)
    except smsbox.UsageError as error:
        assert str(error).startswith(f'"{typed}" is no ID and no phone number: ')
        return
    assert found.ids or found.number


@pytest.mark.parametrize("typed", ["-30m", "-2h", "-1d", "+30m"])
def test_a_span_that_begins_with_a_minus_is_a_value_and_no_option(typed: str) -> None:
    assert value("by", "reschedule", "41", "--by", typed) == typed


# --- the line as a whole

WORDS = st.lists(
    st.sampled_from(
        ["--yes", "--json", "--csv", "--campaign", "--limit", "--dry-run", "--dry-rum", "--start",
         "--map", "--by", "-v", "--database", "--", "-", "41", "-41", "x", "", "list", "--no",
         "+30m", "--yes=1", "a=b", "--lamps", "--older-than"]
    ) | st.text(max_size=5),
    max_size=6,
)  # fmt: skip


@given(st.sampled_from([*smsbox.COMMANDS, "statsu", "", "purge"]), WORDS)
def test_any_line_is_understood_or_refused_in_one_sentence(command: str, words: list[str]) -> None:
    if not {"-h", "--help", "--version"} & set(words):
        args = parse(command, *words)
        assert isinstance(args, str) or args.command == command


@pytest.mark.parametrize("name", smsbox.COMMANDS)
def test_no_option_may_be_shortened_and_a_slip_is_guessed(name: str) -> None:
    parser = smsbox.build_command_parser(name)
    for option in (word for action in parser._actions for word in action.option_strings):
        if option.startswith("--") and option != "--help":
            refused = parse(name, *(["x"] * 2 if name in ("send", "optout") else []), option[:-1])
            assert isinstance(refused, str), option
