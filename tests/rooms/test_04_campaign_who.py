"""Who a number is: whatever form a network or a person gives it, judged by phonenumbers."""

from __future__ import annotations

import re
from collections.abc import Iterator

import phonenumbers
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from phonenumbers import PhoneNumberFormat, PhoneNumberType

import smsbox
from smsbox import Numbers, is_phone_number, is_same_number

LEAST = 8  # significant digits; of fewer only the whole number says who it is
INTERNATIONAL = ("E.164", "without +", "00", "011", "international, written")


def find_mobiles() -> Iterator[tuple[str, phonenumbers.PhoneNumber]]:
    for region in sorted(phonenumbers.SUPPORTED_REGIONS):
        number = phonenumbers.example_number_for_type(region, PhoneNumberType.MOBILE)
        if number is not None:
            yield region, number


def give_forms(number: phonenumbers.PhoneNumber) -> dict[str, str]:
    """Return the forms of a number as networks give it, as it is dialed, and as it is written."""
    e164 = phonenumbers.format_number(number, PhoneNumberFormat.E164)
    national = phonenumbers.national_significant_number(number)
    written = phonenumbers.format_number(number, PhoneNumberFormat.NATIONAL)
    region = phonenumbers.region_code_for_country_code(number.country_code or 0)
    rules = phonenumbers.PhoneMetadata.metadata_for_region(region)
    return {
        "E.164": e164,
        "without +": e164[1:],
        "00": f"00{e164[1:]}",
        "011": f"011{e164[1:]}",
        "international, written": phonenumbers.format_number(
            number, PhoneNumberFormat.INTERNATIONAL
        ),
        "national": national,
        "national with trunk prefix": ((rules and rules.national_prefix) or "") + national,
        "national, written": written,
        "national, dialed": re.sub(r"\D", "", written),
    }


MOBILES = dict(find_mobiles())
FORMS = {region: give_forms(number) for region, number in MOBILES.items()}
# A mobile of Argentina is dialed with a 15 in its middle inside the country, and no network says so
# in a sender.
KNOWN_EXCEPTIONS = {("AR", "national, written"), ("AR", "national, dialed")}


def is_told_apart(region: str, form: str) -> bool:
    """True if the rule knows somebody by this form: it has eight significant digits."""
    national = phonenumbers.national_significant_number(MOBILES[region])
    whole = len(FORMS[region]["without +"])
    return (whole if form in INTERNATIONAL else len(national)) >= LEAST


def test_every_form_of_every_region_s_number_is_that_number_and_no_other_exception() -> None:
    odd = {
        (region, form)
        for region, forms in FORMS.items()
        for form, text in forms.items()
        if is_told_apart(region, form)
        and not is_same_number(text, forms["E.164"]) & is_same_number(forms["E.164"], text)
    }
    assert odd == KNOWN_EXCEPTIONS
    assert len(FORMS) > 230


def test_number_too_short_to_tell_people_apart_fits_nobody() -> None:
    short = [
        (text, forms["E.164"])
        for region, forms in FORMS.items()
        for form, text in forms.items()
        if not is_told_apart(region, form)
        and text != forms["E.164"]
        and len(re.sub(r"\D", "", text)) < LEAST
    ]
    assert len(short) > 50
    assert [each for each in short if is_same_number(*each)] == []


def test_international_form_is_nobody_else_in_the_world() -> None:
    numbers = {forms["E.164"] for forms in FORMS.values()}
    for forms in FORMS.values():
        for form in INTERNATIONAL:
            fits = {each for each in numbers if is_same_number(forms[form], each)}
            assert fits <= {forms["E.164"]}, form


def test_national_form_fits_those_alone_whose_national_number_it_is() -> None:
    """Several fit where two countries have the same one: then all of them are held."""
    several = 0
    for region, forms in FORMS.items():
        mine = forms["national"]
        for other, theirs in FORMS.items():
            if forms["E.164"] == theirs["E.164"]:
                continue
            for form in forms.keys() - {*INTERNATIONAL}:
                if is_same_number(forms[form], theirs["E.164"]):
                    several += 1
                    dialed = re.sub(r"\D", "", forms[form])
                    assert dialed.endswith(theirs["national"]), (region, form, other)
                    assert mine.endswith(theirs["national"]) or theirs["national"].endswith(mine)
    assert several


CODES = sorted(set(phonenumbers.COUNTRY_CODE_TO_REGION_CODE) - {1})


@pytest.mark.parametrize("region", ["US", "GB", "DE", "MX", "JM"])
def test_same_digits_behind_another_country_code_are_somebody_else(region: str) -> None:
    forms = FORMS[region]
    own = MOBILES[region].country_code
    for code in CODES:
        if code == own:
            continue
        other = f"+{code}{forms['national']}"
        assert [each for each in INTERNATIONAL if is_same_number(forms[each], other)] == []
        assert is_same_number(forms["national"], other)  # who it is nobody can tell


def test_what_a_short_form_lacks_is_a_country_code_and_never_a_part_of_the_number() -> None:
    known = {str(code) for code in phonenumbers.COUNTRY_CODE_TO_REGION_CODE}
    for lacks in map(str, range(1, 10_000)):
        is_same = is_same_number("23456789", f"+{lacks}23456789")
        if lacks in known:
            assert is_same
        elif {lacks[:1], lacks[:2], lacks[:3]} & known or len(lacks) > 3:
            assert not is_same, lacks


@settings(max_examples=100)
@given(region=st.sampled_from(sorted(FORMS)), place=st.integers(1, 8), step=st.integers(1, 9))
def test_one_digit_that_differs_makes_somebody_else_in_any_form(
    region: str, place: int, step: int
) -> None:
    """Of the last eight: they are compared in every form."""
    number = FORMS[region]["E.164"]
    assume(len(number) > place)  # Tokelau's have seven digits, with its country code
    digit = (int(number[-place]) + step) % 10
    other = f"{number[:-place]}{digit}{number[len(number) - place + 1 :]}"
    assert [form for form, text in FORMS[region].items() if is_same_number(text, other)] == []


@settings(max_examples=100)
@given(one=st.text("0123456789+ -()", max_size=18), other=st.text("0123456789+", max_size=18))
def test_any_text_is_compared_alike_both_ways_and_with_itself(one: str, other: str) -> None:
    assert is_same_number(one, other) == is_same_number(other, one)
    assert is_same_number(one, one)
    assert (other in Numbers([one])) == is_same_number(one, other) or one[:1] == "+"


@pytest.mark.parametrize("sender", ["12345", "262966", "40404", "ACME", "", "unknown", "5551"])
def test_short_codes_and_names_are_no_phone_and_fit_nobody(sender: str) -> None:
    assert not is_phone_number(sender)
    for forms in FORMS.values():
        assert not is_same_number(sender, forms["E.164"])
        tail = forms["E.164"][-len(sender) :] if sender else ""
        assert len(tail) >= LEAST or not is_same_number(tail, forms["E.164"])


def test_every_form_of_a_number_is_a_phone_never_a_notice() -> None:
    for region, forms in FORMS.items():
        for form, text in forms.items():
            if is_told_apart(region, form):
                assert is_phone_number(text), (region, form)


def test_a_set_of_numbers_holds_who_is_in_it_by_any_form_that_a_network_gives() -> None:
    for region, forms in FORMS.items():
        for form, text in forms.items():
            if text[0] != "+" and is_told_apart(region, form):
                held = (region, form) not in KNOWN_EXCEPTIONS
                assert (forms["E.164"] in Numbers([text])) == held
    assert smsbox.PhoneNumber("+12135552301") not in Numbers(["+442135552301", "5552301"])
