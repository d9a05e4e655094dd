"""Settings: the one table, its checks and its defaults, the example file."""

from __future__ import annotations

import dataclasses
import re
from datetime import date
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

import smsbox
from rig.paths import ROOT

EVERY_DAY = frozenset(range(7))
SETTINGS = [
    (section, each.name)
    for section, made_of in smsbox.SECTIONS.items()
    for each in dataclasses.fields(made_of)
]


def read_toml(text: str) -> dict[str, Any]:
    return smsbox.parse_toml(text, Path("box.toml"))


def refusal(toml: str) -> str:
    """Return the sentence with which a config is refused."""
    with pytest.raises(smsbox.ConfigError) as caught:
        smsbox.parse_config(read_toml(toml))
    return str(caught.value)


def section_and_key(toml: str) -> tuple[str, str]:
    match = re.match(r"\[(\w+)\]\n(\w+)", toml)
    assert match
    return match[1], match[2]


# --- defaults -----------------------------------------------------------------------------------


def test_defaults_are_the_ones_that_are_promised(config: smsbox.Config) -> None:
    modem = config.modem
    assert (modem.port, modem.baud, modem.sim_pin, modem.smsc) == ("auto", 115200, "", "")
    assert modem.delivery_reports is True
    assert modem.send_timeout_seconds == 120
    assert modem.power_key_gpio is None
    pace = config.pacing
    assert pace.first_after_seconds == 60
    assert pace.interval_minutes == (4, 7)
    assert pace.skip_chance == (0.15, 0.20)
    assert pace.skip_minutes == (10, 15)
    assert pace.bubble_gap_seconds == (2, 6)
    assert pace.max_messages_per_day == 0
    assert pace.max_segments_per_day == 0
    assert pace.max_recipients_per_month == 0
    assert pace.plan_month_starts_on == 1
    hours = config.business_hours
    assert hours.timezone == ZoneInfo("America/Los_Angeles")
    assert (hours.opens, hours.closes) == (9 * 60, 20 * 60)
    assert (hours.days, hours.closed_on) == (EVERY_DAY, frozenset())
    theirs = config.recipient_hours
    assert (theirs.enabled, theirs.strict) == (True, False)
    assert (theirs.opens, theirs.closes) == (8 * 60, 21 * 60)
    service = config.service
    assert (service.database, service.backup_dir) == ("", "")
    assert (service.poll_seconds, service.late_after_minutes) == (10, 2)
    assert service.expire_after_days == 7
    assert service.retry_minutes == (1, 5, 15)
    assert config.clock.require_trust is True
    assert config.clock.sources == ("ntp",)
    replies = config.replies
    assert (replies.sender_name, replies.help_contact) == ("", "")
    assert replies.stop_words == replies.help_words == replies.start_words == ()
    assert replies.hold_on_reply is False
    assert config.alerts.operator == ""
    assert config.cost.price_per_segment == 0
    lamps = config.lamps
    assert (lamps.ready, lamps.sending, lamps.fault, lamps.active_high) == (None, None, None, True)


def test_empty_sections_are_the_defaults(config: smsbox.Config) -> None:
    assert smsbox.parse_config({section: {} for section in smsbox.SECTIONS}) == config


def test_one_setting_leaves_the_others_alone(config: smsbox.Config) -> None:
    changed = smsbox.parse_config({"pacing": {"first_after_seconds": 5}})
    assert changed.pacing.first_after_seconds == 5
    assert changed.pacing.interval_minutes == config.pacing.interval_minutes
    assert changed.business_hours == config.business_hours


def test_every_field_of_a_section_is_declared_as_a_setting() -> None:
    assert list(smsbox.SECTIONS) == [each.name for each in dataclasses.fields(smsbox.Config)]
    for section in smsbox.SECTIONS.values():
        for each in dataclasses.fields(section):
            assert {"default", "read", "help", "example"} <= set(each.metadata), each.name


# --- the example file ---------------------------------------------------------------------------


def test_example_file_is_rendered_from_the_table() -> None:
    assert (ROOT / "config.example.toml").read_text() == smsbox.render_example_config()


def test_example_file_parses_to_the_defaults(config: smsbox.Config) -> None:
    assert smsbox.parse_config(read_toml(smsbox.render_example_config())) == config


def test_example_file_parses_when_its_commented_settings_are_put_in_force() -> None:
    text = re.sub(r"(?m)^# (\w+ = )", r"\1", smsbox.render_example_config())
    shown = {(section, key) for section, keys in read_toml(text).items() for key in keys}
    assert shown == set(SETTINGS)
    smsbox.parse_config(read_toml(text))


def test_every_line_of_the_example_file_says_what_it_means() -> None:
    lines = smsbox.render_example_config().splitlines()
    settings = [line for line in lines if " = " in line]
    assert len(settings) == len(SETTINGS)
    assert all(re.search(r"  # \S", line) for line in settings)


# --- good values --------------------------------------------------------------------------------


def test_fractions_are_fine() -> None:
    pace = smsbox.parse_config(
        read_toml(
            "[pacing]\ninterval_minutes = [0.01, 0.02]\nfirst_after_seconds = 0.5\n"
            "bubble_gap_seconds = [0, 0.1]\nskip_minutes = [0.5, 0.5]\n"
        )
    ).pacing
    assert pace.interval_minutes == (0.01, 0.02)
    assert pace.first_after_seconds == 0.5
    assert pace.bubble_gap_seconds == (0, 0.1)
    assert pace.skip_minutes == (0.5, 0.5)


def test_midnight_to_twenty_four_is_the_whole_day() -> None:
    toml = '[business_hours]\nopens = "00:00"\ncloses = "24:00"\n'
    hours = smsbox.parse_config(read_toml(toml)).business_hours
    assert (hours.opens, hours.closes) == (0, 24 * 60)


@pytest.mark.parametrize(
    ("written", "minutes"),
    [('"09:30"', 570), ('"9:30"', 570), ("09:30:00", 570), ('"00:01"', 1), ('"11:59"', 719)],
)
def test_time_of_day_is_a_text_or_a_time(written: str, minutes: int) -> None:
    toml = f'[business_hours]\nopens = {written}\ncloses = "12:00"\n'
    assert smsbox.parse_config(read_toml(toml)).business_hours.opens == minutes


@pytest.mark.parametrize(
    ("written", "days"),
    [
        ('["mon", "tue"]', {0, 1}),
        ('["Saturday", "SUNDAY"]', {5, 6}),
        ('["wed", "Wed", "wednesday"]', {2}),
        ('["mon", "tue", "wed", "thu", "fri", "sat", "sun"]', set(range(7))),
    ],
)
def test_days_are_names_in_any_case_and_length(written: str, days: set[int]) -> None:
    hours = smsbox.parse_config(read_toml(f"[business_hours]\ndays = {written}\n")).business_hours
    assert hours.days == days


def test_closed_on_takes_dates_with_and_without_quotes() -> None:
    toml = '[business_hours]\nclosed_on = ["2026-12-25", 2027-01-01]\n'
    closed_on = smsbox.parse_config(read_toml(toml)).business_hours.closed_on
    assert closed_on == {date(2026, 12, 25), date(2027, 1, 1)}


def test_whole_number_is_taken_where_a_fraction_may_stand() -> None:
    toml = "[cost]\nprice_per_segment = 1\n[service]\nretry_minutes = [2]\n"
    config = smsbox.parse_config(read_toml(toml))
    assert config.cost.price_per_segment == 1.0
    assert config.service.retry_minutes == (2.0,)


def test_pins_are_numbers() -> None:
    lamps = smsbox.parse_config(read_toml("[lamps]\nready = 17\nfault = 22\n")).lamps
    assert (lamps.ready, lamps.sending, lamps.fault) == (17, None, 22)


# --- bad values ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("toml", "mend"),
    [
        pytest.param("[modem]\nport = 3", r"quotes", id="a number for a text"),
        pytest.param("[modem]\nbaud = 1.5", r"whole number", id="a fraction for a whole number"),
        pytest.param("[modem]\nbaud = true", r"whole number", id="a flag for a whole number"),
        pytest.param('[modem]\nbaud = "115200"', r"whole number", id="a text for a number"),
        pytest.param("[modem]\nbaud = 12", r"1200", id="a baud rate below the least"),
        pytest.param("[modem]\nsim_pin = 1234", r"quotes", id="a PIN without quotes"),
        pytest.param('[modem]\nsim_pin = "12"', r"4 to 8 digits", id="a PIN of two digits"),
        pytest.param('[modem]\nsim_pin = "12a4"', r"digits", id="a PIN with a letter"),
        pytest.param('[modem]\ndelivery_reports = "yes"', r"true or false", id="a text for a flag"),
        pytest.param("[modem]\ndelivery_reports = 1", r"true or false", id="a number for a flag"),
        pytest.param("[modem]\nsend_timeout_seconds = 0", r"from 1", id="no time to send in"),
        pytest.param("[modem]\npower_key_gpio = 99", r"0 to 27", id="a pin that is not there"),
        pytest.param("[pacing]\nfirst_after_seconds = -1", r"0 or more", id="a negative span"),
        pytest.param("[pacing]\nfirst_after_seconds = nan", r"seconds", id="not a number"),
        pytest.param("[pacing]\nfirst_after_seconds = inf", r"seconds", id="endless"),
        pytest.param("[pacing]\ninterval_minutes = 5", r"\[4, 7\]", id="one number for two"),
        pytest.param("[pacing]\ninterval_minutes = [5]", r"\[4, 7\]", id="a list of one"),
        pytest.param("[pacing]\ninterval_minutes = [4, 5, 6]", r"\[4, 7\]", id="a list of three"),
        pytest.param("[pacing]\ninterval_minutes = [7, 4]", r"smaller first", id="the wrong order"),
        pytest.param('[pacing]\ninterval_minutes = ["4", "7"]', r"\[4, 7\]", id="texts in a span"),
        pytest.param("[pacing]\ninterval_minutes = [-4, 7]", r"minutes", id="a negative interval"),
        pytest.param("[pacing]\ninterval_minutes = [4, nan]", r"minutes", id="nan in a span"),
        pytest.param("[pacing]\nskip_chance = [15, 20]", r"0 to 1", id="per cent for a chance"),
        pytest.param("[pacing]\nmax_messages_per_day = -1", r"from 0", id="a negative cap"),
        pytest.param("[pacing]\nplan_month_starts_on = 31", r"1 to 28", id="no day of each month"),
        pytest.param('[business_hours]\nopens = "9"', r"24:00", id="an hour alone"),
        pytest.param('[business_hours]\nopens = "25:00"', r"24:00", id="hour 25"),
        pytest.param('[business_hours]\ncloses = "24:01"', r"24:00", id="after midnight"),
        pytest.param('[business_hours]\nopens = "9:5"', r"24:00", id="a minute of one digit"),
        pytest.param('[business_hours]\nopens = "9 AM"', r"24:00", id="AM"),
        pytest.param("[business_hours]\nopens = 9", r"24:00", id="a number for a time"),
        pytest.param('[business_hours]\ntimezone = "PST8"', r"America/Los_Angeles", id="no zone"),
        pytest.param('[business_hours]\ntimezone = ""', r"America/Los_Angeles", id="empty zone"),
        pytest.param(
            '[business_hours]\ntimezone = "../etc/passwd"', r"America/Los_Angeles", id="a path"
        ),
        pytest.param('[business_hours]\ntimezone = "America"', r"zone", id="a folder of zones"),
        pytest.param("[business_hours]\ntimezone = 8", r"quotes|zone", id="a number for a zone"),
        pytest.param("[business_hours]\ndays = []", r"mon", id="no day"),
        pytest.param('[business_hours]\ndays = "mon"', r"mon", id="a text for days"),
        pytest.param('[business_hours]\ndays = ["lundi"]', r"mon", id="an unknown day"),
        pytest.param('[business_hours]\ndays = ["monkey"]', r"mon", id="nearly a day"),
        pytest.param('[business_hours]\ndays = ["sunset", "mon"]', r"mon", id="like a day"),
        pytest.param("[business_hours]\ndays = [1, 2]", r"mon", id="numbers for days"),
        pytest.param('[business_hours]\nclosed_on = "2026-12-25"', r"list of dates", id="a date"),
        pytest.param('[business_hours]\nclosed_on = ["25.12."]', r"2026-12-25", id="no ISO date"),
        pytest.param('[business_hours]\nclosed_on = ["2026-02-30"]', r"2026-12-25", id="Feb 30"),
        pytest.param("[business_hours]\nclosed_on = [20261225]", r"2026-12-25", id="a number"),
        pytest.param("[recipient_hours]\nenabled = 0", r"true or false", id="0 for false"),
        pytest.param("[service]\npoll_seconds = 0", r"0\.05", id="no pause between polls"),
        pytest.param("[service]\npoll_seconds = 3600", r"60", id="an hour between polls"),
        pytest.param("[service]\nexpire_after_days = 0", r"days", id="expired at once"),
        pytest.param("[service]\nretry_minutes = 5", r"\[1, 5, 15\]", id="a number for a list"),
        pytest.param('[service]\nretry_minutes = ["1"]', r"\[1, 5, 15\]", id="texts for numbers"),
        pytest.param("[clock]\nsources = []", r"ntp", id="nobody vouches for the clock"),
        pytest.param('[clock]\nsources = ["gps"]', r"ntp", id="an unknown clock"),
        pytest.param('[clock]\nsources = "ntp"', r"list", id="a text for a list"),
        pytest.param('[replies]\nstop_words = "no"', r"list", id="a word for a list of words"),
        pytest.param("[replies]\nstop_words = [1]", r"list", id="a number for a word"),
        pytest.param("[cost]\nprice_per_segment = -0.1", r"0 or more", id="a negative price"),
        pytest.param('[lamps]\nready = "17"', r"whole number", id="a text for a pin"),
        pytest.param("[lamps]\nready = -1", r"0 to 27", id="a negative pin"),
    ],
)
def test_bad_value_is_refused_with_key_and_mend(toml: str, mend: str) -> None:
    section, key = section_and_key(toml)
    sentence = refusal(toml)
    assert section in sentence
    assert key in sentence
    assert re.search(mend, sentence), sentence


@pytest.mark.parametrize("section", ["business_hours", "recipient_hours"])
@pytest.mark.parametrize(
    ("opens", "closes"), [("20:00", "09:00"), ("09:00", "09:00"), ("24:00", "24:00")]
)
def test_hours_that_close_before_they_open_are_refused(
    section: str, opens: str, closes: str
) -> None:
    sentence = refusal(f'[{section}]\nopens = "{opens}"\ncloses = "{closes}"\n')
    assert section in sentence
    assert "opens" in sentence
    assert "closes" in sentence


@pytest.mark.parametrize(
    ("toml", "wrong", "near"),
    [
        ("[pacing]\nintervall_minutes = [4, 7]", "intervall_minutes", "interval_minutes"),
        ("[pacing]\nskip = 1", "skip", "skip_"),
        ("[business_hours]\nopen = 9", "open", "opens"),
        ("[modem]\nbaudrate = 9600", "baudrate", "baud"),
        ("[business_hour]\nopens = 9", "business_hour", "business_hours"),
        ("[lamp]\nready = 1", "lamp", "lamps"),
    ],
)
def test_unknown_name_is_refused_with_the_nearest_known_one(
    toml: str, wrong: str, near: str
) -> None:
    sentence = refusal(toml)
    assert re.search(rf"\b{wrong}\b", sentence)
    assert near in sentence.replace(wrong, "", 1)


def test_key_without_its_section_is_refused_with_the_section() -> None:
    assert "[pacing]" in refusal("pacing = 3")
    sentence = refusal("interval_minutes = [4, 7]")
    assert "interval_minutes" in sentence
    assert "pacing" in sentence


def test_list_of_tables_is_no_section() -> None:
    assert "pacing" in refusal("[[pacing]]\nfirst_after_seconds = 3\n")


def test_broken_toml_is_refused_with_the_file_and_its_line() -> None:
    with pytest.raises(smsbox.ConfigError, match=r"box\.toml.*line \d"):
        read_toml("[pacing]\ninterval_minutes = [4,\n7\nfirst = 1")


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.dates() | st.times(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)


@given(setting=st.sampled_from(SETTINGS), value=VALUES)
def test_any_value_is_either_taken_or_refused_by_name(
    setting: tuple[str, str], value: object
) -> None:
    section, key = setting
    try:
        smsbox.parse_config({section: {key: value}})
    except smsbox.ConfigError as error:
        assert section in str(error)


@given(tables=st.dictionaries(st.text() | st.sampled_from(["pacing", "modem"]), VALUES))
def test_any_table_is_either_taken_or_refused_in_words(tables: dict[str, Any]) -> None:
    try:
        smsbox.parse_config(tables)
    except smsbox.ConfigError as error:
        assert str(error)


# --- a PIN that comes as a credential


@pytest.mark.parametrize(
    ("toml", "pin"),
    [(None, "4321"), ("", "4321"), ('[modem]\nsim_pin = ""\n', "4321"),
     ('[modem]\nsim_pin = "9876"\n', "9876"), ("[modem]\nbaud = 9600\n", "4321")],
)  # fmt: skip
def test_pin_comes_from_the_service_manager_where_the_config_has_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, toml: str | None, pin: str
) -> None:
    (tmp_path / "sim_pin").write_text("4321\n")
    config = tmp_path / "box.toml"
    if toml is not None:
        config.write_text(toml)
    monkeypatch.setattr(smsbox, "DEFAULT_CONFIG", config)
    monkeypatch.delenv("SMSBOX_CONFIG", raising=False)
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    assert smsbox.load_config(None).modem.sim_pin == pin
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path / "none"))
    assert smsbox.load_config(None).modem.sim_pin == ("9876" if pin == "9876" else "")
    monkeypatch.delenv("CREDENTIALS_DIRECTORY")
    (tmp_path / "sim.pin").write_text("5555\n")  # beside the config, for root
    assert smsbox.load_config(None).modem.sim_pin == ("9876" if pin == "9876" else "5555")


def test_sentence_about_a_pin_does_not_show_it() -> None:
    for toml in ('[modem]\nsim_pin = "43217a"\n', "[modem]\nsim_pin = 4321\n"):
        assert "4321" not in refusal(toml)


def test_time_of_the_network_is_refused_with_what_takes_its_place() -> None:
    with pytest.raises(smsbox.ConfigError) as refused:
        smsbox.parse_config({"clock": {"sources": ["network"]}})
    told = str(refused.value)
    assert "[clock] sources" in told
    assert '"network" is gone: give the box the Internet, "ntp", or a clock with a battery' in told
