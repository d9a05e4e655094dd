"""Campaign: what shops' own systems export, rebuilt with made-up people, becomes a right plan.

tests/exports holds an export of each product; the tables here say what becomes of it.
"""

from __future__ import annotations

import csv
import io
import re
import time
import zoneinfo
from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import NamedTuple

import phonenumbers
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from phonenumbers import timezone as phonenumber_zones

import smsbox
from rig.paths import ROOT

EXPORTS = ROOT / "tests" / "exports"
FALL = (EXPORTS / "fall.txt").read_text().strip()


def read(
    text: str,
    template: str | None = FALL,
    only: Sequence[tuple[str, str]] = (),
    **columns: str,
) -> smsbox.Reading:
    order = smsbox.ReadingOrder("fall", None, template, columns, only)
    return smsbox.read_campaign(io.StringIO(text, newline=""), order)


def decode(octets: bytes) -> str:
    return octets.decode(smsbox.detect_encoding(octets))


def write_csv(rows: Sequence[Sequence[str]], delimiter: str = ",", end: str = "\r\n") -> str:
    text = io.StringIO(newline="")
    csv.writer(text, delimiter=delimiter, lineterminator=end).writerows(rows)
    return text.getvalue()


def plan_of(reading: smsbox.Reading) -> list[tuple[int, str, str, str]]:
    return [(m.row, m.phone_number, m.customer_name, m.message_content) for m in reading.messages]


def count_reasons(reading: smsbox.Reading) -> dict[str, int]:
    """Count the rows left out: no, not asked, repeated."""
    words = {"said no": "no", "not asked": "not asked", "same number": "repeated"}
    kinds = [
        kind for each in reading.skipped for said, kind in words.items() if said in each.reason
    ]
    assert len(kinds) == len(reading.skipped)
    return {kind: kinds.count(kind) for kind in words.values()}


# --- the exports of products --------------------------------------------------------------------


class Export(NamedTuple):
    """What becomes of an export."""

    encoding: str
    columns: str  # of the phone, the name, and of consent
    planned: int
    no: int
    not_asked: int
    repeated: int
    bad: int


TABLE = {
    "shopify.csv": Export(
        "utf-8-sig", "Phone | First Name, Last Name | Accepts SMS Marketing", 103, 70, 0, 3, 24
    ),
    "shopify_old.csv": Export(
        "utf-8-sig", "Phone | First Name, Last Name | Accepts SMS Marketing", 92, 94, 0, 3, 11
    ),
    "klaviyo.csv": Export(
        "utf-8-sig", "Phone Number | First Name, Last Name | SMS Marketing Consent",
        55, 125, 0, 0, 20,
    ),
    "square.csv": Export("utf-8-sig", "Phone Number | First Name, Last Name | ", 158, 0, 0, 8, 34),
    "hubspot.csv": Export(
        "utf-8-sig", "Mobile Phone Number | First Name, Last Name | ", 164, 0, 0, 1, 35
    ),
    "mailchimp.csv": Export(
        "utf-8-sig", "Phone Number | First Name, Last Name | ", 157, 0, 0, 7, 36
    ),
    "toast.csv": Export("utf-8-sig", "phone1 | firstName, lastName | ", 148, 0, 0, 6, 46),
    "outlook.csv": Export("cp1252", "Mobile Phone | First Name, Last Name | ", 152, 0, 0, 8, 40),
    "contacts.csv": Export(
        "utf-8-sig", "Phone 1 - Value | First Name, Last Name | ", 4, 0, 0, 1, 2
    ),
    "sheets_title.csv": Export("utf-8-sig", "Phone # | Customer | Opt in", 66, 113, 1, 0, 21),
    "excel_semicolon.csv": Export(
        "cp1252", "Handy | Vorname, Nachname | SMS Einwilligung", 81, 103, 0, 0, 16
    ),
    "excel_unicode.txt": Export("utf-16", "Cell | Name | OK to text?", 69, 65, 45, 3, 19),
    "mac.csv": Export("mac-roman", "Mobile | Name | ", 151, 0, 0, 5, 44),
}  # fmt: skip


def name_columns(reading: smsbox.Reading) -> str:
    names = [("phone_number",), ("customer_name", "last_name")]
    places = [[reading.columns[n] for n in some if n in reading.columns] for some in names]
    return " | ".join(
        ", ".join(reading.header[i] for i in each) for each in [*places, reading.consent]
    )


@pytest.mark.parametrize("name", TABLE)
def test_export_becomes_the_right_plan(name: str) -> None:
    octets, expected = (EXPORTS / name).read_bytes(), TABLE[name]
    assert smsbox.detect_encoding(octets) == expected.encoding
    reading = read(decode(octets))
    reasons = count_reasons(reading)
    assert expected == Export(
        smsbox.detect_encoding(octets), name_columns(reading), len(reading.messages),
        reasons["no"], reasons["not asked"], reasons["repeated"], len(reading.rejected),
    )  # fmt: skip


def judge_number(cell: str) -> str | None:
    """Judge a number by Google's library; what the exports hold is meant for North America."""
    cell = cell.lstrip("'")
    if re.search(r"[A-Za-z/]|\(0\)|E\+", cell):
        return None
    try:
        number = phonenumbers.parse(cell, "US")
    except phonenumbers.NumberParseException:
        return None
    area = str(number.national_number)[:3]
    possible = phonenumbers.is_possible_number_with_reason(number)
    if possible != phonenumbers.ValidationResult.IS_POSSIBLE or cell.startswith("0"):
        return None
    if number.country_code == 1 and area in ("800", "900"):
        return None
    return str(phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.E164))


@pytest.mark.parametrize("name", sorted({*TABLE} - {"contacts.csv"}))  # its phones have labels
def test_nobody_but_those_who_may_be_written_to_is_planned_and_all_of_them(name: str) -> None:
    """The same rules once more, by the csv module, a library of numbers and a list of noes."""
    text = decode((EXPORTS / name).read_bytes()).replace("\r\n", "\n").replace("\r", "\n")
    delimiter = max(",;\t", key=text[:3000].count)
    rows = list(csv.reader(io.StringIO(text), delimiter=delimiter))
    phone, _, consent = TABLE[name].columns.split(" | ")
    at = next(i for i, row in enumerate(rows) if phone in row)
    header, wanted, refused = rows[at], set[str](), set[str]()
    for row in rows[at + 1 :]:
        number = judge_number(row[header.index(phone)]) if len(row) == len(header) else None
        said = row[header.index(consent)] if consent else "yes"
        if number:
            (wanted if said.casefold() in YES else refused).add(number)
    planned = [message.phone_number for message in read(text).messages]
    assert sorted(planned) == sorted(wanted - refused)


YES = {"yes", "y", "true", "ja", "subscribed"}


@pytest.mark.parametrize("name", TABLE)
@pytest.mark.parametrize(
    ("encoding", "end"),
    [("utf-8", "\n"), ("utf-8-sig", "\r\n"), ("utf-16", "\r\n"), ("cp1252", "\r\n"),
     ("mac-roman", "\r")],
)  # fmt: skip
def test_file_saved_in_another_way_gives_the_same_plan(name: str, encoding: str, end: str) -> None:
    text = decode((EXPORTS / name).read_bytes())
    expected = read(text)
    plain = re.sub(r"\r\n|\r", "\n", re.sub("[^\0-\u00ff“”’–…]", "", text))
    plain = plain.replace("\u00ad", "")
    saved = plain.replace("\n", end).encode(encoding)
    if encoding not in ("cp1252", "mac-roman") or not plain.isascii():
        assert smsbox.detect_encoding(saved).startswith(encoding.removesuffix("-sig"))
    again = read(decode(saved))
    assert plan_of(again) == plan_of(expected)
    assert again.skipped == expected.skipped


def test_first_answer_asks_everything_at_once_and_the_second_command_is_right() -> None:
    text = (
        "Sale list,,,,\n,,,,\nphone,name,status,SMS consent,City\n"
        "2135552301,Ana,active,yes,LA\n2135552302,Ben,active,ask again,LA\n12,Cy,gone,yes,LA\n"
    )
    with pytest.raises(smsbox.CampaignError) as caught:
        read(text, None)
    sentence = str(caught.value)
    for words in (
        "--template text.txt", "{customer_name|there}", "--map message_content=COLUMN",
        '"active" 2, "gone" 1', "--only status=active", "--map status=",
        '"ask again" 1', '--only "SMS consent=yes"', "--map consent=",
        "1 row can't be taken", "--skip-invalid",
    ):  # fmt: skip
        assert words in sentence, words
    assert "\n" not in sentence
    reading = read(text, "Hi {name}", [("SMS consent", "yes")], status="")
    assert [message.row for message in reading.messages] == [4]
    assert reading.notes == ["the header is row 3: rows 1-2 above it skipped"]


# --- further products: their headers, as their help pages and exports have them ------------------

PRODUCTS = {
    "WooCommerce": ("user_id,first_name,last_name,user_email,billing_first_name,billing_company,"
                    "billing_phone,shipping_phone", "billing_phone", ""),
    "BigCommerce": ("Customer ID,Customer Name,First Name,Last Name,Email,Phone,Notes,Store Credit,"
                    "Customer Group,Receive Marketing Emails?", "Phone", ""),
    "Wix": ("First Name,Last Name,Email 1,Phone 1,Labels,Email subscriber status,"
            "SMS subscriber status", "Phone 1", "SMS subscriber status"),
    "Lightspeed eCom": ("Customer - Internal ID,Customer - First name,Customer - Last Name,"
                        "Customer - Phone,Customer - Mobile,Customer - Company Name",
                        "Customer - Mobile", ""),
    "Lightspeed Retail": ("id,customer_code,first_name,last_name,company_name,email,do_not_email,"
                          "phone,mobile,fax", "mobile", ""),
    "Clover": ("Customer ID,First Name,Last Name,Phone Number,Email Address,Marketing Allowed,"
               "Customer Since", "Phone Number", "Marketing Allowed"),
    "Constant Contact": ("First name,Last name,Email address,Email status,Phone - home,"
                         "Phone - work,Phone - mobile,SMS permission", "Phone - mobile",
                         "SMS permission"),
    "ActiveCampaign": ("Email,First Name,Last Name,Phone,Tags,IP Address", "Phone", ""),
    "Omnisend": ("email,emailStatus,phone,smsStatus,firstName,lastName", "phone", "smsStatus"),
    "Attentive": ("Phone,Email,SMS opt-in source,SMS subscription status,First name", "Phone",
                  "SMS subscription status"),
    "Postscript": ("phone_number,first_name,last_name,email,subscribed,created_at", "phone_number",
                   "subscribed"),
    "SimpleTexting": ("Phone,First Name,Last Name,Lists,Subscription Status", "Phone",
                      "Subscription Status"),
    "Mindbody": ("ID,Last Name,First Name,Mobile Phone,Home Phone,Work Phone,Email Opt-In,"
                 "Promotional texts opt-in", "Mobile Phone", "Promotional texts opt-in"),
    "Vagaro": ("First Name,Last Name,Cell Phone,Day Phone,Night Phone,Text Marketing,"
               "Email Marketing", "Cell Phone", "Text Marketing"),
    "Squarespace": ("Email,First Name,Last Name,Phone Number,Accepts Marketing,Subscriber Since",
                    "Phone Number", "Accepts Marketing"),
    "Salesforce": ("FirstName,LastName,Phone,MobilePhone,HomePhone,HasOptedOutOfEmail,DoNotCall",
                   "MobilePhone", "DoNotCall"),
    "Zoho": ("Record Id,First Name,Last Name,Account Name,Phone,Mobile,Email Opt Out,SMS Opt Out",
             "Mobile", "SMS Opt Out"),
    "Google Contacts": ("First Name,Last Name,E-mail 1 - Value,Phone 1 - Value,Labels",
                        "Phone 1 - Value", ""),
    "Outlook, German": ("Anrede,Vorname,Nachname,Firma,Telefon geschäftlich,Telefon (privat),"
                        "Mobiltelefon,Fax geschäftlich", "Mobiltelefon", ""),
    "Outlook, French": ("Titre,Prénom,Nom,Société,Tél. bureau,Téléphone (domicile),Tél. mobile",
                        "Tél. mobile", ""),
    "Outlook, Spanish": ("Nombre,Apellidos,Organización,Teléfono del trabajo,Teléfono móvil",
                         "Teléfono móvil", ""),
    "Brevo": ("EMAIL,FIRSTNAME,LASTNAME,SMS,LANDLINE_NUMBER,SMS blocklisted", "SMS",
              "SMS blocklisted"),
    "Brevo, French": ("EMAIL,NOM,PRENOM,SMS,DATE_INSCRIPTION", "SMS", ""),
    "Mailchimp with SMS": ("Email Address,First Name,Last Name,Phone,SMS Phone Number,"
                           "SMS Marketing Status,SMS_OPTIN_TIME", "SMS Phone Number",
                           "SMS Marketing Status"),
    "Square with texts": ("Reference ID,First Name,Last Name,Phone Number,"
                          "Email Subscription Status,Text Message Subscription Status",
                          "Phone Number", "Text Message Subscription Status"),
    "a salon's own list": ("Client Name,Contact Number,Can we text you?,Whatsapp ok",
                           "Contact Number", "Can we text you?"),
    "a Spanish list": ("Nombre completo,Celular,Acepta SMS,Acepta correos", "Celular",
                       "Acepta SMS"),
    "a French list": ("Nom,Prénom,Portable,Consentement SMS", "Portable", "Consentement SMS"),
}  # fmt: skip


def fill_row(header: Sequence[str], phone: str, consent: str, number: str, says: str) -> list[str]:
    """Write a row; every other column that could be taken for one of these says otherwise."""
    cells = []
    for name in header:
        words = smsbox.words_of(name)
        if name in (phone, consent):
            cells.append(number if name == phone else says)
        elif re.search("phone|mobil|telefon|tel|number|landline|fax", words):
            cells.append("+13105559999")
        elif re.search("mail|whats|correo", words):
            cells.append("no" if "value" not in words and words.find("address") < 0 else "a@b.c")
        elif re.search("date|since|created|time", words):
            cells.append("2025-01-02")
        elif re.search("source", words):
            cells.append("Footer form")
        else:
            cells.append({"first name": "Ana", "id": "7"}.get(words, "Ana"))
    return cells


@pytest.mark.parametrize("product", PRODUCTS)
def test_headers_of_a_product_name_its_mobile_number_and_its_consent(product: str) -> None:
    line, phone, consent = PRODUCTS[product]
    header = line.split(",")
    yes, no = ("0", "1") if consent in OUT else ("yes", "no")
    rows = [
        fill_row(header, phone, consent, "2135552301", yes),
        fill_row(header, phone, consent, "2135552302", no),
        fill_row(header, phone, consent, "2135552303", ""),
    ]
    reading = read(write_csv([header, *rows]), "Hi {customer_name}")
    assert header[reading.columns["phone_number"]] == phone
    assert [header[place] for place in reading.consent] == [consent] * bool(consent)
    planned = [2] if consent and consent not in OUT else [2, 4] if consent else [2, 3, 4]
    assert [message.row for message in reading.messages] == planned
    assert reading.messages[0].customer_name.startswith("Ana")


OUT = {"DoNotCall", "SMS Opt Out", "SMS blocklisted"}


def test_of_several_phones_with_labels_the_mobile_one_is_taken() -> None:
    text = (
        "First Name,Phone 1 - Label,Phone 1 - Value,Phone 2 - Label,Phone 2 - Value\n"
        "Ana,Work,2135552301,Mobile,2135552302\nBen,Mobile,2135552303,,\n"
        "Cy,Work,2135552304,,\nDi,,2135552305,,\n"
    )
    reading = read(text)
    assert [m.phone_number[-1] for m in reading.messages] == ["2", "3", "5"]
    assert [(each.row, "no phone" in each.problem) for each in reading.problems] == [(4, True)]


# --- consent ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "header",
    ["Accepts SMS Marketing", "SMS Marketing Consent", "OK to text?", "Text opt-in", "SMS opt in",
     "Accepts texts", "Receive text messages", "Mobile opt-in", "sms_consent", "SMSOptIn", "SMS",
     "Text?", "Opt in", "Consent", "Opt-In Status", "SMS Einwilligung", "Einwilligung SMS",
     "Acepta SMS", "Consentimiento SMS", "Consentement SMS", "Accepte les SMS", "SMS erlaubt",
     "Permission to text", "Subscribed to SMS", "TCPA consent", "Email and SMS consent"],
)  # fmt: skip
def test_header_that_speaks_of_texts_and_of_agreeing_is_a_consent_column(header: str) -> None:
    text = write_csv([["Phone", "Name", header], ["2135552301", "Ana", "yes"],
                      ["2135552302", "Ben", "no"], ["2135552303", "Cy", ""]])  # fmt: skip
    reading = read(text, "Hi")
    assert [message.row for message in reading.messages] == [2]
    assert [(each.row, each.reason.split(" (")[0]) for each in reading.skipped] == [
        (3, "said no to texts"), (4, "not asked"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    "header", ["SMS opt-out", "Opted out of SMS", "Unsubscribed from texts", "Do not text",
               "SMS unsubscribed", "Text opt out", "Do not contact", "SMS Abmeldung"],
)  # fmt: skip
def test_yes_to_an_opt_out_is_a_no_and_a_blank_is_none(header: str) -> None:
    text = write_csv([["Phone", "Name", header], ["2135552301", "Ana", "no"],
                      ["2135552302", "Ben", "yes"], ["2135552303", "Cy", ""]])  # fmt: skip
    reading = read(text, "Hi")
    assert [message.row for message in reading.messages] == [2, 4]
    assert [each.row for each in reading.skipped] == [3]


def test_header_that_names_texts_and_something_else_needs_cells_that_speak_for_themselves() -> None:
    for cells, planned in ((("SUBSCRIBED", "NOT_SUBSCRIBED"), [2]), (("yes", "no"), [2, 3])):
        rows = [[f"213555230{n}", "Ana", cell] for n, cell in enumerate(cells)]
        for header in ("SMS shop state", "Text message reminders"):
            text = write_csv([["Phone", "Name", header], *rows])
            assert [message.row for message in read(text, "Hi").messages] == planned


@pytest.mark.parametrize(
    ("header", "cells"),
    [
        ("SMS Marketing Consent Timestamp", ["2025-03-04 10:11:12", ""]),
        ("SMS opt-in IP", ["1.2.3.4", "10.0.0.1"]),
        ("SMS consent source", ["Footer form", "Checkout"]),
        ("SMS opt-in", ["Website popup", "Footer form"]),
        ("Accepts Email Marketing", ["no", "yes"]),
        ("Email consent", ["no", "no"]),
        ("WhatsApp opt-in", ["no", "yes"]),
        ("Push notifications consent", ["no", "yes"]),
        ("Opt in", ["web", "store"]),
        ("Consent", ["2025-03-04", "2025-03-05"]),
        ("Marketing contact status", ["Non-marketing contact", "Marketing contact"]),
        ("Tax Exempt", ["no", "yes"]),
        ("Instant Profile", ["No", "Yes"]),
    ],
)
def test_what_tells_something_else_is_no_consent_column(header: str, cells: list[str]) -> None:
    rows = [[f"213555230{n}", "Ana", cell] for n, cell in enumerate(cells)]
    reading = read(write_csv([["Phone", "Name", header], *rows]), "Hi")
    assert reading.consent == []
    assert len(reading.messages) == len(cells)


@pytest.mark.parametrize(
    ("cell", "answer"),
    [(cell, smsbox.Answer.YES) for cell in (
        "yes", "Y", "TRUE", "1", "x", "✓", "Sí", "oui", "ja", "SUBSCRIBED", "opted-in", "Opted In",
        "Accepted", "vrai", "wahr", "Yes please", "confirmed", "double opt-in")]
    + [(cell, smsbox.Answer.NO) for cell in (
        "no", "N", "FALSE", "0", "nein", "non", "UNSUBSCRIBED", "NEVER_SUBSCRIBED",
        "not subscribed", "nonSubscribed", "Opted out", "STOP", "declined", "No thanks", "✗",
        "revoked", "baja")]
    + [(cell, smsbox.Answer.BLANK) for cell in ("", "-", "null", "N/A", "unknown", "pending")]
    + [(cell, None) for cell in ("maybe", "ask", "2025-01-02", "call first", "yes and no", "3")],
)  # fmt: skip
def test_cell_of_consent_is_read(cell: str, answer: smsbox.Answer | None) -> None:
    assert smsbox.read_consent(cell, False) is answer


def test_of_several_columns_any_no_wins() -> None:
    text = ("Phone,Name,SMS consent,Text opt-out\n2135552301,A,yes,yes\n2135552302,B,no,no\n"
            "2135552303,C,yes,\n2135552304,D,,\n")  # fmt: skip
    assert [message.row for message in read(text, "Hi").messages] == [4]


def test_no_in_any_row_of_a_number_holds_for_the_number() -> None:
    text = ("Phone,Name,SMS consent,City\n2135552301,A,yes,LA\n(213) 555-2301,A,no,NY\n"
            "2135552302,B,yes,LA\n+1 213 555 2302,B,,LA\n2135552303,C,yes,LA\n")  # fmt: skip
    for reading in (read(text, "Hi"), read(text, "Hi", [("City", "LA")])):
        assert [message.row for message in reading.messages] == [6]
    [first] = [each.reason for each in read(text, "Hi").skipped if each.row == 2]
    assert first == 'said no to texts in row 3 ("SMS consent" no)'


def test_consent_column_may_be_said_and_may_be_none() -> None:
    text = "Phone,Name,Agreed,SMS ok\n2135552301,A,yes,no\n2135552302,B,no,yes\n"
    assert [m.row for m in read(text, "Hi", consent="Agreed").messages] == [2]
    assert [m.row for m in read(text, "Hi", consent="").messages] == [2, 3]


def test_several_numbers_of_a_name_and_e_mail_are_told() -> None:
    text = "Phone,Name,E-mail\n2135552301,Ana,a@b.c\n2135552302,Ana,A@b.c\n2135552303,Ben,a@b.c\n"
    [note] = read(text, "Hi").notes
    assert "rows 2 and 3" in note


# --- the text -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "header", ["OK to text?", "SMS", "Accepts texts", "Text opt-in", "Receive text messages",
               "Last message", "Context", "Message ID", "Message status", "Text"],
)  # fmt: skip
@pytest.mark.parametrize("cells", [("yes", "no"), ("12", "7"), ("1/2/2025", "2025-03-04")])
def test_text_is_never_guessed(header: str, cells: tuple[str, str]) -> None:
    rows = [[f"213555230{n}", "Ana", cell] for n, cell in enumerate(cells)]
    with pytest.raises(smsbox.CampaignError, match="--template"):
        read(write_csv([["Phone", "Name", header], *rows]), None)


@pytest.mark.parametrize(
    ("text", "left"),
    [("Hi {{first_name}}!", "{{first_name}}"), ("Hi { first_name }", "{ first_name }"),
     ("Hi *|FNAME|*", "*|FNAME|*"), ("Hi %FIRSTNAME%", "%FIRSTNAME%"), ("Hi %%Name%%", "%%Name%%"),
     ("Hi {leadfield=firstname}", "{leadfield=firstname}"), ("Hi [First Name]", "[First Name]"),
     ("Hi [name]", "[name]"), ("Hi <<Name>>", "<<Name>>"), ("Hi {{ contact.firstname }}", "{{"),
     ("Hi ${name}", "{name}"), ("Hi {!Contact.Name}", "{!Contact.Name}"), ("[Your Company]", "["),
     ("Hi #N/A", "#N/A"), ("#REF! off", "#REF!"), ("#NAME?", "#NAME?"), ("#VALUE!", "#VALUE!"),
     ("#DIV/0!", "#DIV/0!"), ("#NV", "#NV"), ("&apos;", "&apos;"), ("a &amp; b", "&amp;"),
     ("Don&#039;t", "&#039;"), ("caf&eacute;", "&eacute;"), ("a<br>b", "<br>"),
     (r"a\nb", r"\n"), (r"a\r\nb", r"\r\n"), ("#####", "#####")],
)  # fmt: skip
def test_what_a_program_left_is_a_problem(text: str, left: str) -> None:
    rows = [["Phone", "Name", "Message"], ["2135552301", "Ana", text]]
    [problem] = read(write_csv(rows), None).problems
    assert left in problem.problem


@pytest.mark.parametrize(
    "text",
    ["20% off", "20%off and 30% more", "Click [here]", "[BUBBLE] a", "a & b; c", "R&B; rock", "#1!",
     "#sale", "AT&T;", "5 < 6 > 4", "50 %", "100% cotton, 20% wool", "[x]", "[today]", "{", "}{",
     "C:\\", "¯\\_(ツ)_/¯", "save $5", "<3", "=)", "a *b* | c", "(name)", "10% - 20%"],
)  # fmt: skip
def test_what_people_write_is_none(text: str) -> None:
    rows = [["Phone", "Name", "message_content"], ["2135552301", "Ana", text]]
    assert read(write_csv(rows), None).messages[0].message_content == text


@pytest.mark.parametrize(
    "foreign", ["{{first_name}}", "*|FNAME|*", "{{ customer.name }}", "%NAME%", "[First Name]"]
)
def test_placeholder_of_another_program_in_the_template_is_asked(foreign: str) -> None:
    with pytest.raises(smsbox.CampaignError, match=r"the template: .* is a placeholder"):
        read("Phone,First Name\n2135552301,Ana\n", f"Hi {foreign}!")


@pytest.mark.parametrize(
    ("template", "text"),
    [("{First Name|there}", "there"), ("{customer_name|friend}", "friend"), ("{City|LA}", "LA")],
)
@pytest.mark.parametrize("cell", ["", "null", "N/A", "-"])
def test_fallback_stands_in_for_what_is_missing(template: str, text: str, cell: str) -> None:
    rows = f"Phone,First Name,City\n2135552301,{cell},{cell}\n2135552302,Ana,NY\n"
    first, second = (m.message_content for m in read(rows, template).messages)
    assert first == text
    assert second in ("Ana", "NY")
    [problem] = read(rows, template.partition("|")[0] + "}").problems
    assert "|there}" in problem.problem


def test_card_of_a_till_is_told_and_no_name_where_there_is_a_fallback() -> None:
    text = "phone,firstName,lastName\n2135552301,VISA,CARDHOLDER\n2135552302,Ana,Cole\n"
    reading = read(text, "Hi {First Name|there}")
    assert [m.message_content for m in reading.messages] == ["Hi there", "Hi Ana"]
    assert len(reading.notes) == 1


@pytest.mark.parametrize("name", ["First Name", "firstname", "customer_name", "name", "Vorname"])
def test_name_in_a_template_is_found_whatever_the_file_calls_it(name: str) -> None:
    for header in ("Vorname,Nachname", "First Name,Last Name", "Prénom,Nom"):
        text = f"Handy,{header}\n2135552301,Ana,Cole\n"
        [message] = read(text, f"Hi {{{name}}}").messages
        assert message.message_content in ("Hi Ana", "Hi Ana Cole")
    [message] = read("Handy,Name\n2135552301,Ana Cole\n", "Hi {customer_name}").messages
    assert message.message_content == "Hi Ana Cole"


# --- the sheet ----------------------------------------------------------------------------------


def test_title_rows_above_the_header_are_skipped_and_rows_stay_the_file_s() -> None:
    for titles in ("Fall Sale\n", "Fall Sale,,\n,,\n", "Phone list of the shop,,\nby,Pat,\n\n"):
        reading = read(f"{titles}Name,Phone,City\nAna,2135552301,LA\n", "Hi")
        row = titles.count("\n") + 2
        assert [message.row for message in reading.messages] == [row]
        assert f"the header is row {row - 1}" in reading.notes[0]


def test_title_with_another_delimiter_does_not_hide_the_header() -> None:
    text = 'Sale, fall, 2026\n\n"Name";"Phone";"Note"\nAna;2135552301;a, b, c\n'
    assert [message.row for message in read(text, "Hi").messages] == [4]


def test_first_row_is_the_header_where_no_row_names_a_phone() -> None:
    with pytest.raises(smsbox.CampaignError, match='"who", "what"'):
        read("who,what\nAna,call my phone\n", "Hi")
    assert read("who,what\nAna,2135552301\n", "Hi", phone_number="what", customer_name="who")


def test_zone_that_is_none_lets_the_area_code_decide_and_is_counted() -> None:
    text = "Phone,Name,TIMEZONE\n2135552301,A,PST\n2135552302,B,America/Denver\n2135552303,C,PST\n"
    reading = read(text, "Hi")
    assert [message.timezone for message in reading.messages] == ["", "America/Denver", ""]
    assert '"PST" 2' in reading.notes[0]


def test_column_may_be_said_not_to_be_there() -> None:
    text = "Phone,First Name,Campaign,Message\n2135552301,Ana,May,Hi\n"
    reading = read(text, None, campaign_name="", customer_name="")
    assert [(m.campaign_name, m.customer_name) for m in reading.messages] == [("fall", "")]
    with pytest.raises(smsbox.CampaignError, match="--template"):
        read(text, None, message_content="")


CELLS = {
    "brace": "{", "one": "1 ", "dash": "a-a-", "zero": "0", "bracket": "[", "percent": "%a",
    "question": "é?", "entity": "&#1", "star": "*|", "bubble": "bub", "line": "\n",
    "row": "2135551234,a,b\n", "address": "é a.bb?", "space": " ", "no": "no ", "angle": "<<",
}  # fmt: skip


@pytest.mark.parametrize("piece", CELLS.values(), ids=CELLS)
def test_cell_of_any_length_is_read_in_a_second(piece: str) -> None:
    cell = (piece * 130_000)[:130_000]
    header = ["phone", "name", "message", "SMS consent", "timezone"]
    good = ["2135552301", "Ana", "Hi", "yes", "America/New_York"]
    for place in range(5):
        text = write_csv([header, [*good[:place], cell, *good[place + 1 :]]])
        began = time.process_time()
        try:
            read(text, None)
        except smsbox.CampaignError as error:
            assert len(str(error)) < 2000
        assert time.process_time() - began < 1


# --- numbers, judged by Google's library ---------------------------------------------------------


def regions() -> Iterator[tuple[int, str]]:
    """Each country's code and an example of its mobile numbers."""
    for region in sorted(phonenumbers.SUPPORTED_REGIONS):
        kind = phonenumbers.PhoneNumberType.MOBILE
        example = phonenumbers.example_number_for_type(region, kind)
        if example and example.country_code and example.country_code != 1:
            yield example.country_code, phonenumbers.national_significant_number(example)


@pytest.mark.parametrize(("code", "national"), [*regions()])
def test_trunk_zero_behind_the_country_code_is_refused_but_where_it_belongs(
    code: int, national: str
) -> None:
    plain = f"+{code}{national}"
    if len(plain) > 8:
        assert smsbox.parse_phone_number(plain) == plain
        assert smsbox.parse_phone_number(f"(+{code}) {national}") == plain
    if not national.startswith("0"):
        if code in (39, 226, 378):
            return  # Italy, Burkina Faso, San Marino: both are numbers
        for written in (f"+{code}0{national}", f"+{code} 0 {national}", f"+{code} (0){national}"):
            with pytest.raises(ValueError, match=r"leave it out|two numbers|8 to 15"):
                smsbox.parse_phone_number(written)


def test_eight_behind_seven_is_refused() -> None:
    assert smsbox.parse_phone_number("+7 912 345-67-89") == "+79123456789"
    with pytest.raises(ValueError, match=r"8 after \+7"):
        smsbox.parse_phone_number("+7 8 912 345-67-89")


# The library has 689, an overlay of Orlando's 407, in Chicago's zone, and 879, one of
# Newfoundland's 709, in Puerto Rico's.
ODD_AREAS = {689, 879}


def test_area_codes_are_taken_and_lie_in_all_the_zones_that_the_library_knows() -> None:
    winter, summer = (datetime(2026, month, 5, 12) for month in (1, 7))

    def offsets(names: set[str]) -> set[tuple[object, object]]:
        zones = [zoneinfo.ZoneInfo(name) for name in names]
        return {
            (winter.replace(tzinfo=zone).utcoffset(), summer.replace(tzinfo=zone).utcoffset())
            for zone in zones
        }

    known = 0
    for area in {*range(200, 1000)} - ODD_AREAS:
        number = phonenumbers.parse(f"+1{area}5552301")
        theirs = {*phonenumber_zones.time_zones_for_geographical_number(number)}
        if phonenumber_zones.UNKNOWN_TIMEZONE in theirs or len(theirs) > 5:
            continue  # no area code, or one of no place
        taken = smsbox.parse_phone_number(f"{area}-555-2301")
        ours = {zone.key for zone in smsbox.recipient_zones(taken)}
        assert offsets(theirs) <= offsets(ours), area
        known += 1
    assert known > 400


@pytest.mark.parametrize(
    ("written", "number"),
    [('="2135552301"', "+12135552301"), ("p:+12135552301", "+12135552301"),
     ("sms:+12135552301", "+12135552301"), ("whatsapp:+447700900123", "+447700900123"),
     ("(+44) 7700 900123", "+447700900123"), ("(+44)7700900123", "+447700900123"),
     ("tel: (213) 555-2301", "+12135552301"), ("Mobile: 213 555 2301", "+12135552301"),
     ("'=\"2135552301\"", "+12135552301")],
)  # fmt: skip
def test_what_programs_put_around_a_number_is_taken_off(written: str, number: str) -> None:
    [message] = read(write_csv([["Phone", "Name"], [written, "Ana"]]), "Hi").messages
    assert message.phone_number == number


# --- exports of any kind ------------------------------------------------------------------------

SPELLINGS = ["{0}{1}{2}", "({0}) {1}-{2}", "+1 {0} {1} {2}", "1-{0}-{1}-{2}", "'+1{0}{1}{2}",
             "{0}.{1}.{2}", '="{0}{1}{2}"', "tel:+1{0}{1}{2}", "{0}{1}{2}.0"]  # fmt: skip
SAYS = {
    "yes": ["yes", "Y", "TRUE", "1", "SUBSCRIBED", "ja", "oui", "Sí", "opted in"],
    "no": ["no", "N", "FALSE", "0", "UNSUBSCRIBED", "NEVER_SUBSCRIBED", "nein", "non", "opted out"],
    "": ["", " ", "n/a", "null"],
}
OUT_SAYS = {"yes": ["no", "FALSE", "", "subscribed"], "no": ["yes", "TRUE", "1", "unsubscribed"]}
HEADINGS = {
    "phone": ["Phone", "Phone Number", "Mobile Phone", "Cell", "Handy", "Teléfono móvil",
              "Téléphone portable", "phone1", "Mobile Phone Number", "Mobiltelefon"],
    "first": ["First Name", "firstName", "Given Name", "Vorname", "Prénom", "first_name"],
    "last": ["Last Name", "lastName", "Surname", "Nachname", "Apellidos"],
    "in": ["Accepts SMS Marketing", "SMS Marketing Consent", "OK to text?", "SMS Einwilligung",
           "Acepta SMS", "Consentement SMS", "Text opt-in", "smsOptIn"],
    "out": ["SMS opt-out", "Opted out of texts", "Do not text"],
}  # fmt: skip
NOISE = {
    "Accepts Email Marketing": ["no", "yes"], "Company Name": ["Acme"], "Total Spent": ["12.50"],
    "Work Phone": ["3105550000", ""], "Tags": ["vip, fall", "{{x}}"], "Note": ["call first"],
    "Last Visit": ["2026-10-01"], "Last message": ["hello"], "Lead Status": ["NEW"],
    "Tax Exempt": ["no"], "WhatsApp opt-in": ["no"], "SMS Consent Timestamp": ["2025-03-04"],
    "City": ["Los Angeles", "Málaga"], "Message ID": ["77"], "Email": [""],
}  # fmt: skip
PEOPLE = ["Ana", "José", "Zoë", "Jürgen", "Chloé", "Ben", "Sofía", "D’Angelo"]


def restyle(name: str, style: str) -> str:
    known = {"upper": name.upper(), "title": name.title(), "_": name.replace(" ", "_")}
    return known.get(style) or style.format(name)


@st.composite
def exports(draw: st.DrawFn) -> tuple[list[list[str]], list[tuple[str, str, str]]]:
    """An export's rows, the header first, and of each row: number, first name, what it says."""
    kinds = ["phone", "first", draw(st.sampled_from(["in", "out"]))]
    kinds += ["last"] if draw(st.booleans()) else []
    noise = draw(st.lists(st.sampled_from(sorted(NOISE)), max_size=6))  # doubled now and then
    columns = draw(st.permutations([*kinds, *noise]))
    style = draw(st.sampled_from(["{}", " {} ", "upper", "title", "_"]))
    header = [
        restyle(draw(st.sampled_from(HEADINGS[kind])), style) if kind in HEADINGS else kind
        for kind in columns
    ]
    says_of = OUT_SAYS if "out" in kinds else SAYS
    rows, truth = [], []
    for _ in range(draw(st.integers(1, 8))):
        line = str(draw(st.integers(2301, 2305)))
        says = draw(st.sampled_from(sorted(says_of)))
        name = draw(st.sampled_from(PEOPLE))
        values = {
            "phone": draw(st.sampled_from(SPELLINGS)).format("213", "555", line),
            "first": name, "last": "Núñez", kinds[2]: draw(st.sampled_from(says_of[says])),
        }  # fmt: skip
        rows.append([
            values[kind] if kind in values else draw(st.sampled_from(NOISE[kind]))
            for kind in columns
        ])  # fmt: skip
        truth.append((f"+1213555{line}", name, says))
    return [header, *rows], truth


@given(
    made=exports(),
    delimiter=st.sampled_from(",;\t"),
    saved=st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "cp1252", "mac-roman"]),
    titles=st.sampled_from([[], [["Fall Sale 2026"]], [["Customers"], [""]]]),
)
@settings(max_examples=150, suppress_health_check=[HealthCheck.too_slow])
def test_export_of_any_kind_wrongs_nobody(
    made: tuple[list[list[str]], list[tuple[str, str, str]]],
    delimiter: str, saved: str, titles: list[list[str]],
) -> None:  # fmt: skip
    rows, truth = made
    end = "\r" if saved == "mac-roman" else "\r\n"
    text = write_csv([*titles, *rows], delimiter, end)
    octets = text.encode(saved)
    reading = read(decode(octets), "Hi {customer_name|there}! 20% off")
    first = len(titles) + 2
    refused = {number for number, _, says in truth if says != "yes"}
    planned = {message.phone_number for message in reading.messages}
    assert planned == {number for number, _, _ in truth} - refused
    assert len(planned) == len(reading.messages)
    for message in reading.messages:
        number, name, _ = truth[message.row - first]
        assert message.phone_number == number
        assert message.customer_name.split()[0] == name
        assert message.message_content == f"Hi {message.customer_name}! 20% off"
    told = {each.row for each in reading.skipped} | {each.row for each in reading.problems}
    assert told == set(range(first, first + len(truth))) - {m.row for m in reading.messages}
    assert all(each.reason for each in reading.skipped)
    assert plan_of(read(text, "Hi {customer_name|there}! 20% off")) == plan_of(reading)
    with pytest.raises(smsbox.CampaignError, match="--template"):
        read(text, None)
