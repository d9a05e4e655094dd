"""Campaign: CSV rows -> Messages; columns, consent, numbers, repeats, templates, bubbles."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable, Mapping, Sequence

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

import smsbox

HEADER = "phone_number,customer_name,message_content\n"
ANA = "2135551234,Ana,Hi\n"


def read(
    text: str,
    *,
    campaign: str | None = None,
    template: str | None = None,
    columns: Mapping[str, str] | None = None,
    only: Sequence[tuple[str, str]] = (),
) -> smsbox.Reading:
    order = smsbox.ReadingOrder("stem", campaign, template, columns or {}, only)
    return smsbox.read_campaign(io.StringIO(text, newline=""), order)


def read_text(content: str) -> smsbox.Reading:
    """Read a file of one row with this message_content."""
    cells = io.StringIO()
    csv.writer(cells).writerow(["2135551234", "Ana", content])
    return read(HEADER + cells.getvalue())


def refusal(read_it: Callable[[], object]) -> str:
    with pytest.raises(smsbox.CampaignError) as caught:
        read_it()
    return str(caught.value)


def rows_of(reading: smsbox.Reading) -> list[int]:
    return [message.row for message in reading.messages]


def only_problem(reading: smsbox.Reading) -> smsbox.Problem:
    [problem] = reading.problems
    return problem


# --- encodings ----------------------------------------------------------------------------------

TEXT = HEADER + "2135551234,Zoë,Café à 5 € “maintenant”\n"


@pytest.mark.parametrize(
    ("octets", "encoding"),
    [
        pytest.param(TEXT.encode(), "utf-8", id="UTF-8"),
        pytest.param(TEXT.encode("utf-8-sig"), "utf-8", id="UTF-8 with BOM"),
        pytest.param(b"\xff\xfe" + TEXT.encode("utf-16-le"), "utf-16", id="UTF-16 LE with BOM"),
        pytest.param(b"\xfe\xff" + TEXT.encode("utf-16-be"), "utf-16", id="UTF-16 BE with BOM"),
        pytest.param(TEXT.encode("utf-16-le"), "utf-16", id="UTF-16 LE"),
        pytest.param(TEXT.encode("utf-16-be"), "utf-16", id="UTF-16 BE"),
        pytest.param(TEXT.encode("cp1252"), "cp1252", id="Windows-1252"),
        pytest.param(HEADER.encode() + ANA.encode(), "utf-8", id="ASCII"),
        pytest.param(b"", "utf-8", id="empty"),
        pytest.param(
            ((HEADER + ANA) * 2000).encode() + b"\xe9", "cp1252", id="one odd octet at the end"
        ),
        pytest.param(
            ("x" * 65535 + "é" + "x" * 65535 + "😀").encode(), "utf-8", id="a cut in a character"
        ),
        pytest.param(("жжж\n" * 1000).encode("utf-16"), "utf-16", id="no Latin letter"),
    ],
)
def test_encoding_is_found_and_gives_the_text_back(octets: bytes, encoding: str) -> None:
    found = smsbox.detect_encoding(octets)
    assert found.startswith(encoding)
    decoded = octets.decode(found)
    assert not decoded.startswith("\ufeff")
    assert "\0" not in decoded
    if encoding != "cp1252" and octets[:2] not in (b"\xff\xfe", b"\xfe\xff"):
        assert decoded.encode(found).endswith(octets[-10:])


@pytest.mark.parametrize(
    "octets",
    [
        pytest.param(b"PK\x03\x04" + b"\x14\0\6\0" * 100, id="xlsx"),
        pytest.param(b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + b"\0" * 100, id="xls"),
    ],
)
def test_workbook_is_refused_with_the_way_out(octets: bytes) -> None:
    assert "save as CSV UTF-8" in refusal(lambda: smsbox.detect_encoding(octets))


@pytest.mark.parametrize("encoding", ["utf-32-le", "utf-32-be"])
def test_utf32_is_refused_with_the_way_out(encoding: str) -> None:
    octets = ("\ufeff" + TEXT).encode(encoding)
    assert "CSV UTF-8" in refusal(lambda: smsbox.detect_encoding(octets))


def test_binary_is_refused() -> None:
    binary = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + bytes(range(1, 256))
    assert "CSV UTF-8" in refusal(lambda: smsbox.detect_encoding(binary))


@given(st.binary(max_size=300))
def test_any_octets_have_an_encoding_or_are_refused(octets: bytes) -> None:
    try:
        found = smsbox.detect_encoding(octets)
    except smsbox.CampaignError:
        return
    assert "".encode(found) is not None


# --- records ------------------------------------------------------------------------------------


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("line_end", ["\n", "\r\n", "\r"])
def test_delimiters_and_line_ends_of_spreadsheets_are_read(delimiter: str, line_end: str) -> None:
    lines = [["phone", "name", "message"], ["2135551234", "Ana", "one"], ["2135551235", "B", "two"]]
    text = "".join(delimiter.join(cells) + line_end for cells in lines)
    reading = read(text)
    assert rows_of(reading) == [2, 3]
    assert [message.message_content for message in reading.messages] == ["one", "two"]


def test_other_delimiters_inside_cells_are_text() -> None:
    [message] = read('phone;name;message\n2135551234;"Ana; Bo";a, b, c\n').messages
    assert message.customer_name == "Ana; Bo"
    assert message.message_content == "a, b, c"


def test_delimiters_inside_quoted_headers_do_not_count() -> None:
    text = '"phone, mobile, cell, or so";name;"""text"","\n2135551234;Ana;Hi\n'
    [message] = read(text).messages
    assert message.phone_number == "+12135551234"


@pytest.mark.parametrize("sep", [";", ",", "\t", "|"])
@pytest.mark.parametrize("line_end", ["\n", "\r\n"])
def test_sep_line_of_excel_names_the_delimiter_and_counts_as_no_row(
    sep: str, line_end: str
) -> None:
    text = (HEADER + ANA).replace(",", sep).replace("\n", line_end)
    reading = read(f"sep={sep}{line_end}{text}")
    assert rows_of(reading) == [2]


def test_quoted_line_breaks_belong_to_the_text() -> None:
    reading = read(HEADER + '2135551234,Ana,"one\r\ntwo\rthree\nfour"\r\n2135551235,Ben,Hi\r\n')
    assert rows_of(reading) == [2, 3]
    assert reading.messages[0].message_content == "one\ntwo\nthree\nfour"


def test_blank_rows_are_passed_over_and_counted_as_the_spreadsheet_does() -> None:
    text = HEADER + "\n" + ANA + ",,\n  ,\t,\n" + "2135551235,Ben,Hi\n" + "\n\n,,\n"
    assert rows_of(read(text)) == [3, 6]


def test_row_after_a_quoted_line_break_is_the_spreadsheets_next_row() -> None:
    reading = read(HEADER + '2135551234,Ana,"a\nb\nc"\n12,Ben,Hi\n')
    assert only_problem(reading).row == 3


def test_doubled_quotes_are_quotes() -> None:
    [message] = read(HEADER + '2135551234,"Ana ""A"" B","say ""hi"""\n').messages
    assert (message.customer_name, message.message_content) == ('Ana "A" B', 'say "hi"')


@pytest.mark.parametrize(
    ("body", "line"),
    [
        pytest.param('2135551234,Ana,"Hi\n2135551235,Ben,Hi\n', 2, id="to the end"),
        pytest.param(ANA + ANA + '2135551234,Ana,"Hi', 4, id="in the last row"),
        pytest.param('2135551234,Ana,"a\nb"\n2135551235,"Ben,Hi\n', 4, id="after a line break"),
        pytest.param(
            '2135551234,Ana,"Hi\n2135551235,Ben,"Hello"\n', 2, id="closed by the next row's quote"
        ),
        pytest.param('2135551234,Ana,"Hi" there\n', 2, id="text after the closing quote"),
        pytest.param("\n\n" + '2135551234,Ana,"Hi\n', 4, id="after blank rows"),
    ],
)
def test_unterminated_quote_is_an_error_with_its_line(body: str, line: int) -> None:
    sentence = refusal(lambda: read(HEADER + body))
    assert re.search(rf"\bline {line}\b", sentence)
    assert "quote" in sentence


def test_unterminated_quote_counts_its_line_after_a_sep_line() -> None:
    text = "sep=,\n" + HEADER + ANA + '2135551235,Ben,"Hi\n'
    assert re.search(r"\bline 4\b", refusal(lambda: read(text)))


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(
            '2135551234,Ana,"Hi\n2135551235,Ben,Hello"\n2135551236,Cleo,Hi\n', id="one row"
        ),
        pytest.param(
            '2135551234,Ana,"Hi\n2135551235,Ben,Hello\n2135551236,Cleo,Hi"\n', id="two rows"
        ),
        pytest.param('2135551234,Ana,"Hi\n(213) 555-1235,Ben,Hello"\n', id="another form"),
    ],
)
def test_quote_that_swallows_a_row_is_a_problem_of_its_row(body: str) -> None:
    reading = read(HEADER + body)
    problem = only_problem(reading)
    assert (problem.row, problem.column) == (2, "message_content")
    assert "quote" in problem.problem
    assert all("2135551235" not in message.message_content for message in reading.messages)


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize(
    "body",
    [
        pytest.param('2135551234,"Ana,Hi\n2135551235,Ben",Hello\n', id="from name to name"),
        pytest.param('2135551234,"Ana,Hi\n2135551235",Ben,Hello\n', id="from name to number"),
        pytest.param('"2135551234,Ana,Hi\r\n2135551235,Ben,Hello"\n', id="two whole rows"),
        pytest.param(
            '2135551234,"Ana,Hi\n2135551235,Ben,Hi\n2135551236,Cleo",Hi\n', id="a row between"
        ),
    ],
)
def test_quote_in_any_cell_that_swallows_a_row_is_a_problem(body: str, delimiter: str) -> None:
    reading = read((HEADER + body).replace(",", delimiter))
    assert not reading.messages
    problem = only_problem(reading)
    assert "quote" in problem.problem
    assert "2135551235" in problem.value


def test_row_that_was_swallowed_shows_a_way_out_that_works() -> None:
    line = "2135552309, Oak Street, Shop"
    problem = only_problem(read_text(f"Come to\n{line}"))
    assert problem.value == line
    assert "begin the line with a word" in problem.problem
    assert read_text(f"Come to\nTel. {line}").messages


@pytest.mark.parametrize(
    "content",
    ["Come to\n(213) 555-2309, Oak Street Shop", "Hi,\n2135552309\nOak St, 5, LA",
     "a, b, c\n2135552309, Oak Street", "Hi\n2135552309; Oak Street; Shop"],
)  # fmt: skip
def test_an_address_in_a_text_of_several_lines_is_no_swallowed_row(content: str) -> None:
    assert read_text(content).messages[0].message_content == content


def test_a_phone_number_in_a_text_of_several_lines_is_no_swallowed_row() -> None:
    [message] = read_text("Hi\ncall 213-555-1234, ask for Bo\nbye, Cy, and Di").messages
    assert "213-555-1234" in message.message_content


def test_cell_longer_than_the_csv_module_s_limit_is_told_as_a_long_text() -> None:
    long = "word " * 40_000
    try:
        reading = read(HEADER + f'2135551234,Ana,"{long}"\n')
    except smsbox.CampaignError as error:
        assert "not closed" not in str(error), "the quote is closed: the text is too long"
    else:
        assert "segments" in only_problem(reading).problem


def test_empty_file_and_header_alone_are_refused() -> None:
    assert "empty" in refusal(lambda: read(""))
    assert "no row" in refusal(lambda: read(HEADER))
    assert "no row" in refusal(lambda: read(HEADER + ",,\n\n"))


# --- headers ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "header",
    [
        "phone_number,customer_name,message_content",
        "Phone Number,Customer Name,Message Content",
        "PHONE-NUMBER,CUSTOMER-NAME,MESSAGE-CONTENT",
        " phoneNumber , customerName , messageContent ",
        '"phone number","customer name","message content"',
        "Phone,Name,Message",
        "mobile,full name,text",
        "Cell Phone,First Name,SMS",
        "Telephone,Client,Body",
        "MSISDN,contact,msg",
        "tel.,Name:,Text*",
        "Customer Phone (mobile),Customer,Message (body)",
        "Teléfono móvil,Nombre completo,Mensaje",
        "Téléphone,Nom,Texte",
        "Handynummer,Name,Nachricht",
        "\ufeffPhone,Name,Message",
    ],
)
def test_headers_in_any_spelling_of_their_words_are_known(header: str) -> None:
    [message] = read(header.removeprefix("\ufeff") + "\n" + ANA).messages
    assert (message.phone_number, message.customer_name, message.message_content) == (
        "+12135551234", "Ana", "Hi",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        pytest.param(
            "mobile,phone_number,customer_name,message_content", "+13105551111", id="phone_number"
        ),
        pytest.param("Home phone,Phone,Name,Message", "+13105551111", id="phone before home phone"),
        pytest.param("phone carrier,Mobile,Name,Message", "+13105551111", id="mobile is a name"),
    ],
)
def test_exact_name_beats_a_partial_one(header: str, expected: str) -> None:
    reading = read(f"{header}\n2135551234,3105551111,Ana,Hi\n")
    assert [message.phone_number for message in reading.messages] == [expected]
    assert reading.unused == [header.split(",", maxsplit=1)[0]]


def test_customer_name_beats_name_and_a_company_s_name_is_no_person() -> None:
    reading = read(
        "phone,Company Name,Last Name,name,customer_name,message\n2135551234,Acme,T,N,Ana,Hi\n"
    )
    assert reading.messages[0].customer_name == "Ana"
    assert reading.unused == ["Company Name", "Last Name", "name"]


@pytest.mark.parametrize(
    ("header", "taken", "others"),
    [
        ("Phone,Mobile", 1, []),
        ("Phone Number,Mobile Phone Number", 1, []),
        ("Mobile,Cell", 0, [1]),
        ("Home phone,Work phone", 0, [1]),
        ("Business Phone,Phone", 1, []),
        ("Phone,Telephone", 0, [1]),
        ("Mobile,phone_number", 1, []),
        ("Phone 1,Phone 2", 0, []),
        ("Mobile carrier,Phone", 1, []),
        ("Fax number,Tel.", 1, []),
        ("Assistant's phone,Telefon", 1, []),
    ],
)
def test_best_column_is_taken_of_equals_the_leftmost_and_the_others_are_named(
    header: str, taken: int, others: list[int]
) -> None:
    reading = read(f"{header},name,message\n2135551234,3105551111,Ana,Hi\n")
    assert reading.columns["phone_number"] == taken
    assert reading.passed_over["phone_number"] == others
    assert [m.phone_number for m in reading.messages] == [("+12135551234", "+13105551111")[taken]]


def test_two_columns_that_could_be_the_text_are_both_named() -> None:
    reading = read("phone,name,Message,Text\n2135551234,Ana,Hi,Ho\n")
    assert (reading.columns["message_content"], reading.passed_over["message_content"]) == (2, [3])


def test_column_without_a_cell_gives_way() -> None:
    text = "Mobile,Phone,name,Message,Text\n,3105551111,Ana,,Ho\n,3105551112,Ben,,Ho\n"
    assert [m.message_content for m in read(text).messages] == ["Ho", "Ho"]


def test_map_says_which_column_is_meant_in_any_spelling() -> None:
    text = "Home phone,Work phone,name,message\n2135551234,3105551111,Ana,Hi\n"
    [message] = read(text, columns={"phone_number": "WORK-PHONE"}).messages
    assert message.phone_number == "+13105551111"


def test_map_takes_a_column_that_another_field_would_have_had() -> None:
    text = "phone,name,message,text\n2135551234,Ana,Hi,Ho\n"
    [message] = read(text, columns={"message_content": "text"}).messages
    assert message.message_content == "Ho"


def test_map_takes_the_exact_spelling_first_and_the_letter_that_the_error_shows() -> None:
    text = "phone,Phone,PHONE,name,message\n1,2135551234,3105551111,Ana,Hi\n"
    [message] = read(text, columns={"phone_number": "Phone"}).messages
    assert message.phone_number == "+12135551234"
    doubled = text.replace("PHONE", "Phone")
    assert read(doubled).passed_over["phone_number"] == [1, 2]
    assert 'C "Phone"' in refusal(lambda: read(doubled, columns={"phone_number": "Phone"}))
    [message] = read(doubled, columns={"phone_number": "C"}).messages
    assert message.phone_number == "+13105551111"


@pytest.mark.parametrize("header", ["Message Status", "status_code", "Lead Status", "STATE"])
def test_only_a_column_that_is_called_status_is_the_status(header: str) -> None:
    reading = read(f"phone,name,text,{header}\n2135551234,Ana,Hi,SUG\n2135551235,Ben,Hi,sent\n")
    assert [message.customer_name for message in reading.messages] == ["Ana", "Ben"]
    assert reading.unused == [header]


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        pytest.param({"phone_number": "nope"}, ("nope", "Phone"), id="no such column"),
        pytest.param({"fone": "Phone"}, ("fone", "phone_number"), id="no such field"),
        pytest.param(
            {"customer_name": "TWICE"}, ("TWICE", "2", 'D "twice"'), id="two such columns"
        ),
    ],
)
def test_map_that_says_nothing_sure_is_refused(
    columns: dict[str, str], words: tuple[str, ...]
) -> None:
    text = "Phone,name,message,twice,Twice\n2135551234,Ana,Hi,,\n"
    sentence = refusal(lambda: read(text, columns=columns))
    for word in words:
        assert word in sentence


def test_missing_column_is_an_error_with_the_columns_there_are() -> None:
    sentence = refusal(lambda: read("who,what\nAna,Hi\n"))
    for word in ("phone_number", "who", "what", "--map"):
        assert word in sentence


def test_further_columns_are_kept_with_the_message() -> None:
    [message] = read(
        "ID,Phone,Name,Message,Time Zone,Consent At,consent-source\n"
        "K-17,2135551234,Ana,Hi,America/Denver,2025-01-02,web form\n"
    ).messages
    assert message.campaign_message_id == "K-17"
    assert message.timezone == "America/Denver"
    assert (message.consent_at, message.consent_source) == ("2025-01-02", "web form")


def test_without_an_id_the_row_number_is_it() -> None:
    [first, second] = read(
        "id,phone,name,message\n,2135551234,Ana,Hi\n7,2135551235,B,Hi\n"
    ).messages
    assert (first.campaign_message_id, second.campaign_message_id) == ("2", "7")


def test_unused_columns_are_named_and_used_ones_are_not() -> None:
    reading = read("phone,name,message,Shoe Size,,City\n2135551234,Ana,Hi,38,,LA\n")
    assert reading.unused == ["Shoe Size", "City"]
    assert read(HEADER + ANA).unused == []


def test_row_with_more_cells_than_the_header_is_a_problem() -> None:
    problem = only_problem(read(HEADER + "2135551234,Ana,Hi, you\n"))
    assert problem.row == 2
    assert "quote" in problem.problem


def test_row_with_too_few_cells_misses_its_text_alone() -> None:
    problem = only_problem(read(HEADER + "2135551234,Ana\n"))
    assert (problem.row, problem.column) == (2, "message_content")


def test_trailing_empty_cells_beyond_the_header_do_no_harm() -> None:
    assert rows_of(read(HEADER + "2135551234,Ana,Hi,,\n")) == [2]


# --- phone numbers ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("written", "number"),
    [
        ("2135551234", "+12135551234"),
        ("12135551234", "+12135551234"),
        ("+12135551234", "+12135551234"),
        ("(213) 555-1234", "+12135551234"),
        ("(213)555-1234", "+12135551234"),
        ("213-555-1234", "+12135551234"),
        ("213.555.1234", "+12135551234"),
        ("213 555 1234", "+12135551234"),
        ("213/555-1234", "+12135551234"),
        ("1-213-555-1234", "+12135551234"),
        ("1 (213) 555-1234", "+12135551234"),
        ("+1 213 555 1234", "+12135551234"),
        ("+1-213-555-1234", "+12135551234"),
        ("+1 (213) 555-1234", "+12135551234"),
        ("+1.213.555.1234", "+12135551234"),
        ("  213 555 1234  ", "+12135551234"),
        ("tel:+1-213-555-1234", "+12135551234"),
        ("TEL: 213-555-1234", "+12135551234"),
        ("2135551234.0", "+12135551234"),
        ("12135551234.00", "+12135551234"),
        ("'2135551234", "+12135551234"),
        ("'+12135551234", "+12135551234"),
        ("213\u2011555\u20111234", "+12135551234"),
        ("213\u2013555\u20131234", "+12135551234"),
        ("213\u2212555\u22121234", "+12135551234"),
        ("213\u00a0555\u00a01234", "+12135551234"),
        ("213\u202f555\u202f1234", "+12135551234"),
        ("\u202a+12135551234\u202c", "+12135551234"),
        ("\u200e213-555-1234", "+12135551234"),
        ("\ufeff2135551234", "+12135551234"),
        ("２１３５５５１２３４", "+12135551234"),
        ("＋１２１３５５５１２３４", "+12135551234"),
        ("2135550234", "+12135550234"),
        ("2135550099", "+12135550099"),
        ("2135550200", "+12135550200"),
        ("8085551234", "+18085551234"),
        ("8765551234", "+18765551234"),
        ("2135121234", "+12135121234"),
        ("+447911123456", "+447911123456"),
        ("+44 7911 123456", "+447911123456"),
        ("+49 151 23456789", "+4915123456789"),
        ("+33 (6) 12 34 56 78", "+33612345678"),
        ("tel:+33-6-12-34-56-78", "+33612345678"),
        ("+52 1 55 1234 5678", "+5215512345678"),
        ("+6421123456", "+6421123456"),
        ("+29012345", "+29012345"),
        ("+4915123456789.0", "+4915123456789"),
        ("+971412345678901", "+971412345678901"),
        ("+39 06 1234 5678", "+390612345678"),
        ("+2135551234", "+2135551234"),
        ("+372 5123 4567", "+37251234567"),
    ],
)
def test_good_number_becomes_e164(written: str, number: str) -> None:
    assert smsbox.parse_phone_number(written) == number


@pytest.mark.parametrize(
    ("written", "reason"),
    [
        ("", r"(?i)no phone number"),
        ("   ", r"(?i)no phone number"),
        ("'", r"(?i)no phone number"),
        ("tel:", r"(?i)no phone number"),
        ("2.13555E+09", r"Excel.*Text"),
        ("2,13555E+09", r"Excel.*Text"),
        ("1.21356E+10", r"Excel.*Text"),
        ("2.1e9", r"Excel.*Text"),
        ("2E+09", r"Excel.*Text"),
        ("213-555-1234 x5", r"extension"),
        ("213-555-1234x567", r"extension"),
        ("2135551234 ext 5", r"extension"),
        ("2135551234 ext. 5", r"extension"),
        ("2135551234, Ext: 5", r"extension"),
        ("213-555-1234 extension 12", r"extension"),
        ("213-555-1234 #12", r"extension"),
        ("tel:+1-213-555-1234;ext=12", r"extension"),
        ("1-800-FLOWERS", r"letters"),
        ("213-555-CALL", r"letters"),
        ("Ana", r"letters"),
        ("2135551234 (mobile)", r"letters"),
        ("213555l234", r"letters"),
        ("n/a", r"letters"),
        ("#N/A", r"letters"),
        ("жук", r"letters"),
        ("+44 (0)7911 123456", r"\(0\)"),
        ("+49(0)15123456789", r"\(0\)"),
        ("213-555-1234 / 310-555-1234", r"two numbers"),
        ("2135551234/3105551234", r"two numbers"),
        ("213-555-1234, 310-555-1234", r"two numbers"),
        ("2135551234;3105551234", r"two numbers"),
        ("2135551234 or 3105551234", r"two numbers"),
        ("2135551234 & 3105551234", r"two numbers"),
        ("2135551234\n3105551234", r"two numbers"),
        ("+12135551234 +13105551234", r"two numbers"),
        ("+12135551234+13105551234", r"two numbers"),
        ("213+5551234", r"\+"),
        ("213-555-1234 310-555-1234", r"two numbers"),
        ("2135551234 3105551234", r"two numbers"),
        ("213 555 1234 310 555 1234", r"two numbers"),
        ("+1 213 555 1234 310 555 1234", r"two numbers"),
        ("555-1234 555-9876", r"two numbers"),
        ("+(213) 555-1234", r"(?=.*\+1 before)(?=.*\+2135551234)"),
        ("+213-555-1234", r"\+1 before"),
        ("+ 213.555.1234", r"\+1 before"),
        ("+44 0 7911 123456", r"0 after \+44.*leave"),
        ("+4407911123456", r"0 after \+44.*leave"),
        ("+49 0151 23456789", r"0 after \+49.*leave"),
        ("+353 086 123 4567", r"0 after \+353.*leave"),
        ("9115551234", r"911"),
        ("4115551234", r"411"),
        ("2139111234", r"911"),
        ("2134111234", r"411"),
        ("+1 611 555 1234", r"611"),
        ("2135550100", r"555-01"),
        ("2135550123", r"555-01"),
        ("+1 213 555 0199", r"555-01"),
        ("8005551234", r"toll-free"),
        ("1-888-555-1234", r"toll-free"),
        ("+1 833 555 1234", r"toll-free"),
        ("8445551234", r"toll-free"),
        ("8555551234", r"toll-free"),
        ("8665551234", r"toll-free"),
        ("8775551234", r"toll-free"),
        ("9005551234", r"premium"),
        ("0135551234", r"North American"),
        ("1135551234", r"North American"),
        ("11135551234", r"North American"),
        ("22135551234", r"North American"),
        ("2930551234", r"293|055"),
        ("2130551234", r"055"),
        ("2131551234", r"155"),
        ("5551234", r"7 digits"),
        ("555-1234", r"7 digits"),
        ("213555123", r"9 digits"),
        ("0", r"1 digit"),
        ("121355512345", r"12 digits"),
        ("447911123456", r"(?=.*12 digits)(?=.*\+)"),
        ("00447911123456", r"prefix.*\+"),
        ("0044 7911 123456", r"prefix.*\+"),
        ("011 44 7911 123456", r"prefix.*\+"),
        ("+0447911123456", r"country code"),
        ("+4412", r"8 to 15"),
        ("+1234567890123456", r"."),
        ("+44123456789012345", r"8 to 15"),
        ("+1213555123", r"."),
        ("+121355512345", r"."),
        ("+1", r"."),
        ("+", r"."),
        ("()", r"."),
        ("---", r"."),
        ("-2135551234.5", r"."),
        ("213_555_1234", r"."),
        ("213*5551234", r"."),
        ("2135551234?", r"."),
        ("٢١٣٥٥٥١٢٣٤", r"."),
        ("1/2", r"."),
        ("2025-01-02", r"8 digits"),
        ("true", r"letters"),
        ("\x002135551234", r"."),
        ("213555\ud8001234", r"."),
    ],
)
def test_refused_number_says_why(written: str, reason: str) -> None:
    with pytest.raises(ValueError) as caught:
        smsbox.parse_phone_number(written)
    sentence = str(caught.value)
    assert re.search(reason, sentence), sentence
    assert len(sentence) > 20


NUMBER_PIECES = st.sampled_from(
    ["+", "1", "0", "213", "555", "1234", "44", "7911", " ", "-", "(", ")", ".", "/", ",", "x",
     "ext", "tel:", "'", "E+09", "\u00a0", "\u2013", "２", "٢", "²", "½", "①", "\n", "\0", "or"]
)  # fmt: skip


@given(st.text() | st.lists(NUMBER_PIECES, max_size=12).map("".join))
@example("+1²135551234")
@example("½135551234")
def test_any_text_is_an_e164_number_or_a_value_error_and_nothing_else(text: str) -> None:
    try:
        number = smsbox.parse_phone_number(text)
    except ValueError as error:
        assert not isinstance(error, UnicodeError)
        assert str(error)
    else:
        assert re.fullmatch(r"\+[1-9][0-9]{7,14}", number, re.ASCII)
        assert smsbox.parse_phone_number(number) == number
        assert not number.startswith("+1") or len(number) == 12


@given(
    st.from_regex(r"[2-8][0-8][2-9][2-9][0-9]{2}[2-9][0-9]{3}", fullmatch=True),
    st.sampled_from(["{}{}{}", "({}) {}-{}", "1{}{}{}", "+1 {} {} {}", "{}.{}.{}", "tel:{}-{}-{}"]),
)
def test_all_forms_of_a_number_are_the_same_number(digits: str, form: str) -> None:
    area, exchange, line = digits[:3], digits[3:6], digits[6:]
    written = form.format(area, exchange, line)
    try:
        expected = smsbox.parse_phone_number(digits)
    except ValueError as refused:
        with pytest.raises(ValueError, match=re.escape(str(refused))):
            smsbox.parse_phone_number(written)
    else:
        assert expected == "+1" + digits
        assert smsbox.parse_phone_number(written) == expected


# --- texts --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "content",
    ["cr?me br?l?e", "Hi ?? there", "Caf\ufffd", "\ufffd",
     "CafÃ© con leche", "JosÃ©", "â€œquotedâ€\u009d", "itâ€™s", "ðŸ˜€ hi", "5 Â€", "NiÃ±o",
     "ï»¿Hi", "Itï¿½s", "cÅ“ur", "â‚¬5", "ÐŸÑ€Ð¸Ð²ÐµÑ‚", "“CafÃ©”", "Î“ÎµÎ¹Î±", "ã\u0081‚ã\u0081„",
     "Ã\u0081gua", "Å\u0081Ã³dÅº"],
)  # fmt: skip
def test_lost_letters_are_a_problem_of_their_row(content: str) -> None:
    problem = only_problem(read_text(content))
    assert (problem.row, problem.column) == (2, "message_content")
    assert re.search("letters|character", problem.problem)


@pytest.mark.parametrize("name", ["Jos?e", "Jos\ufffd", "JosÃ©", "??"])
def test_lost_letters_of_a_name_are_a_problem_too(name: str) -> None:
    problem = only_problem(read(HEADER + f"2135551234,{name},Hi\n"))
    assert (problem.row, problem.column) == (2, "customer_name")


@pytest.mark.parametrize(
    "content",
    ["How are you?", "Really? Yes!", "Really??", "Ready?? Go", "See you at 5??", "ça va ??",
     "Ready? 1? 2?", "a ? b", "¿Qué tal?", "see https://x.co/?a=b?c",
     "www.x.com/a?b=1", "SÃO PAULO", "Âge", "crème brûlée", "shop.example/q?id=7", "100 €", "â",
     "(why?) \"what?\"", "?", "ça va?", "Ready?\nYes", "foo.com?x=1", "see foo.com?x=1&y=2",
     "«\u00a0été\u00a0»", "“CAFÉ”", "„Gruß“", "Привет", "🎉🎉", "50 €…"],
)  # fmt: skip
def test_good_texts_have_lost_nothing(content: str) -> None:
    [message] = read_text(content).messages
    assert message.message_content == content


@pytest.mark.parametrize(
    "character", ["\0", "\x07", "\x1b", "\t", "\x0b", "\x0c", "\x7f", "\x80", "\x9b", "\ud800"]
)
def test_control_characters_and_lone_surrogates_are_a_problem(character: str) -> None:
    problem = only_problem(read_text(f"Hi{character}there"))
    assert problem.column == "message_content"
    assert f"U+{ord(character):04X}" in problem.problem
    if not character.isspace():  # the white space of a name is made one space
        problem = only_problem(read(HEADER + f"2135551234,A{character}B,Hi\n"))
        assert problem.column == "customer_name"


def test_line_breaks_become_line_feeds() -> None:
    assert smsbox.unify_line_breaks("a\r\nb\rc\nd\r\n\re") == "a\nb\nc\nd\n\ne"


@pytest.mark.parametrize(
    "near",
    ["[bubble]", "[Bubble]", "[ BUBBLE ]", "[BUBBLES]", "(BUBBLE)", "{BUBBLE}", "<BUBBLE>",
     "[/BUBBLE]", "[BUBBLE", "BUBBLE]", "[[BUBBLE]]", "[BUBLE]", "[BUBBLE}", "[BUBBLE1]",
     "[BUBBLE 2]", "[BUBBEL]", "【BUBBLE】", "［BUBBLE］"],
)  # fmt: skip
def test_near_miss_of_the_bubble_mark_is_a_problem(near: str) -> None:
    reading = read_text(f"Hi Ana {near} see you [BUBBLE] there")
    problem = only_problem(reading)
    assert problem.column == "message_content"
    assert "[BUBBLE]" in problem.problem


@pytest.mark.parametrize(
    "content", ["bubble tea at 5", "Bubbles, the cat", "[BUBBLE] tea (cold)", "a (bubbly) one [x]"]
)
def test_bubbles_of_other_kinds_are_words(content: str) -> None:
    assert read_text(content).messages[0].message_content == content


@pytest.mark.parametrize("content", ["", "   ", "[BUBBLE]", " [BUBBLE] [BUBBLE]\n[BUBBLE]", "\n"])
def test_text_without_words_is_a_problem(content: str) -> None:
    problem = only_problem(read_text(content))
    assert (problem.column, problem.row) == ("message_content", 2)
    assert "no text" in problem.problem


@pytest.mark.parametrize(
    ("content", "bubbles"),
    [
        ("one", ("one",)),
        ("one[BUBBLE]two", ("one", "two")),
        (" one \n[BUBBLE]\n two ", ("one", "two")),
        ("[BUBBLE]one[BUBBLE][BUBBLE]two[BUBBLE]", ("one", "two")),
        ("a\n\nb[BUBBLE]c", ("a\n\nb", "c")),
        ("", ()),
        ("[BUBBLE]", ()),
    ],
)
def test_text_is_split_at_its_marks(content: str, bubbles: tuple[str, ...]) -> None:
    assert smsbox.split_bubbles(content) == bubbles


@given(st.lists(st.text(st.characters(blacklist_characters="[]")).map(str.strip)))
def test_bubbles_come_back_in_order_without_the_empty_ones(bubbles: list[str]) -> None:
    content = " [BUBBLE]\n".join(bubbles)
    assert smsbox.split_bubbles(content) == tuple(bubble for bubble in bubbles if bubble)


def test_message_is_measured_bubble_by_bubble() -> None:
    [message] = read_text("a" * 161 + "[BUBBLE]ж[BUBBLE][BUBBLE]" + "a" * 160).messages
    assert (message.bubbles, message.segments, message.encoding) == (3, 4, smsbox.Encoding.UCS2)
    [plain] = read_text("a[BUBBLE]b").messages
    assert (plain.bubbles, plain.segments, plain.encoding) == (2, 2, smsbox.Encoding.GSM7)


def test_bubble_of_more_than_255_segments_is_a_problem_that_names_it() -> None:
    problem = only_problem(read_text("short[BUBBLE]" + "a" * (255 * 153 + 1)))
    assert re.search(r"\bbubble 2\b.*\b256\b.*\b255\b", problem.problem)
    assert read_text("a" * (255 * 153)).messages[0].segments == 255


def test_name_is_one_line_with_single_spaces() -> None:
    [message] = read(HEADER + '2135551234,"  Ana \n  María ",Hi\n').messages
    assert message.customer_name == "Ana María"


# --- templates ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("template", "filled"),
    [
        ("Hi {name}", "Hi Ana"),
        ("{Name}, {NAME} and {customer_name}", "Ana, Ana and Ana"),
        ("You owe {Amount Due} or {amount_due}", "You owe $5 or $5"),
        ("{{:-) {name} }}", "{:-) Ana }"),
        ("Hi {name|there}, {Amount Due|nothing}", "Hi Ana, $5"),
        ("no field", "no field"),
        ("a\r\n{name}[BUBBLE] b\rc", "a\nAna[BUBBLE] b\nc"),
        ("{phone}", "(213) 555-1234"),
    ],
)
def test_template_is_filled_from_the_row(template: str, filled: str) -> None:
    text = "Phone,Name,Amount Due\n(213) 555-1234,Ana,$5\n"
    assert read(text, template=template).messages[0].message_content == filled


def test_template_takes_the_place_of_the_message_column() -> None:
    text = "Phone,Name,Message,Extra\n2135551234,Ana,from the file,x\n"
    reading = read(text, template="Hi {name}")
    assert reading.messages[0].message_content == "Hi Ana"
    assert reading.unused == ["Message", "Extra"]
    assert read(text, template="{message}!").unused == ["Extra"]


def test_unknown_field_of_a_template_is_named_with_the_columns_there_are() -> None:
    text = "Phone,Name\n2135551234,Ana\n"
    try:
        reading = read(text, template="Hi {surname}")
    except smsbox.CampaignError as error:
        told = str(error)
    else:
        told = only_problem(reading).problem
    assert "{surname}" in told
    assert "Name" in told


def test_empty_cell_of_a_template_is_a_problem_of_its_row() -> None:
    text = "Phone,Name,Shop\n2135551234,Ana,\n2135551235,Ben,Bon\n2135551236,Cleo\n"
    reading = read(text, template="Hi {name} of {shop}")
    assert rows_of(reading) == [3]
    assert [problem.row for problem in reading.problems] == [2, 4]
    assert all("Shop" in problem.problem for problem in reading.problems)


@pytest.mark.parametrize("template", ["Hi {name", "Hi name}", "{", "}", "a {} b", "{name}}"])
def test_template_with_a_lone_brace_or_an_empty_field_is_refused(template: str) -> None:
    text = "Phone,Name\n2135551234,Ana\n"
    try:
        reading = read(text, template=template)
    except smsbox.CampaignError as error:
        assert "template" in str(error)
    else:
        assert reading.messages == []
        assert reading.problems


def test_values_put_into_a_template_are_checked_like_texts() -> None:
    text = "Phone,Name,Shop\n2135551234,Ana,CafÃ©\n2135551235,Ben,a\x07b\n2135551236,Cy,Bon\n"
    reading = read(text, template="At {shop}")
    assert rows_of(reading) == [4]
    assert [problem.row for problem in reading.problems] == [2, 3]


def test_name_in_another_spelling_does_not_make_a_number_another() -> None:
    text = "Phone,Name\n2135551234,Sofia\n(213) 555-1234,Sofía\n+1 213 555 1234,S Lopez\n"
    reading = read(text, template="Hi {name}")
    assert rows_of(reading) == [2]
    assert [(each.row, each.reason) for each in reading.skipped] == [
        (3, "same number as row 2"), (4, "same number as row 2"),
    ]  # fmt: skip


# --- which rows are taken -----------------------------------------------------------------------


def test_only_rows_with_status_sug_are_taken_and_the_others_are_counted() -> None:
    reading = read(
        "phone,name,message,Status\n2135551234,Ana,Hi,SUG\n2135551235,Ben,Hi,SENT\n"
        "2135551236,Cleo,Hi, SUG \n12,Dan,Hi,SENT\n2135551238,Eva,Hi,\n"
    )
    assert rows_of(reading) == [2, 4]
    assert reading.problems == []
    counted = dict(reading.not_taken)
    assert sum(counted.values()) == 3
    assert next(count for reason, count in counted.items() if '"SENT"' in reason) == 2
    assert next(count for reason, count in counted.items() if '""' in reason) == 1


def test_status_without_sug_is_asked_with_values_counts_and_both_ways_on() -> None:
    text = "phone,name,message,status\n2135551234,Ana,Hi,SENT\n2135551235,Ben,Hi,ERR\n"
    text += "2135551236,Cy,Hi,SENT\n12,Di,Hi,ERR\n"
    sentence = refusal(lambda: read(text))
    for words in ('"SENT" 2', '"ERR" 2', "SUG", "--only status=SENT", "--map status=",
                  "1 row can't be taken", "--skip-invalid"):  # fmt: skip
        assert words in sentence
    assert rows_of(read(text, only=[("status", "SENT")])) == [2, 4]
    assert rows_of(read(text, columns={"status": ""})) == [2, 3, 4]
    assert rows_of(read(text, only=[("status", "sent"), ("status", "ERR")])) == [2, 3, 4]


def test_campaign_picks_its_rows_where_the_column_exists() -> None:
    text = (
        "phone,name,message,campaign\n2135551234,Ana,Hi,May\n2135551235,Ben,Hi,June\n12,C,Hi,June\n"
    )
    reading = read(text, campaign="May")
    assert rows_of(reading) == [2]
    assert reading.problems == []
    assert sum(reading.not_taken.values()) == 2
    sentence = refusal(lambda: read(text, campaign="July"))
    assert "May" in sentence
    assert "June" in sentence


def test_without_a_campaign_named_each_row_keeps_its_own() -> None:
    text = "phone,name,message,campaign\n2135551234,A,Hi,May\n2135551235,B,Hi,\n"
    assert [message.campaign_name for message in read(text).messages] == ["May", "stem"]


def test_campaign_is_the_name_where_no_column_is_and_the_file_s_stem_else() -> None:
    assert read(HEADER + ANA).messages[0].campaign_name == "stem"
    assert read(HEADER + ANA, campaign="Fall").messages[0].campaign_name == "Fall"


def test_number_is_taken_once_however_it_is_spelled() -> None:
    text = HEADER + (
        "2135551234,Ana,Hi\n(213) 555-1234,Ana Torres, Hi \n+12135551234,Ana,Hi there\n"
        "2135551235,Ben,Hi\n"
    )
    reading = read(text)
    assert rows_of(reading) == [2, 5]
    assert [(each.row, each.phone_number) for each in reading.skipped] == [
        (3, "+12135551234"), (4, "+12135551234"),
    ]  # fmt: skip
    assert all("row 2" in each.reason for each in reading.skipped)


def test_number_in_two_campaigns_is_no_repeat() -> None:
    text = "phone,name,message,campaign\n2135551234,A,Hi,May\n2135551234,A,Hi,June\n"
    assert rows_of(read(text)) == [2, 3]


def test_row_after_a_bad_one_with_the_same_number_is_no_duplicate() -> None:
    reading = read(HEADER + "2135551234,Ana,Hi\ufffd\n2135551234,Ana,Hi\n")
    assert rows_of(reading) == [3]


def test_numbers_written_to_in_the_campaign_and_texts_known_in_others_are_left_out() -> None:
    messages = read(HEADER + "2135551234,Ana,Hi\n2135551235,Ben,Hi\n2135551236,Cy,Hi\n").messages
    known = [("stem", "+12135551234", "Ho"), ("other", "+12135551235", "Hi"),
             ("other", "+12135551236", "Ho"), ("", "+12135551236", "Hi")]  # fmt: skip
    kept, skipped = smsbox.choose_new(messages, known, frozenset())
    assert [message.row for message in kept] == [4]
    assert [each.row for each in skipped] == [2, 3]
    assert [each.reason.split()[-1] for each in skipped] == ["stem", "other"]
    assert [m.row for m in smsbox.choose_new(messages, known, frozenset(), again=True)[0]] == [3, 4]


@pytest.mark.parametrize("again", [False, True])
def test_who_said_stop_is_left_out_whatever_else_is_known(again: bool) -> None:
    messages = read(HEADER + "2135551234,Ana,Hi\n2135551237,Dee,Hi\n").messages
    stopped = frozenset(each.phone_number for each in messages)
    kept, skipped = smsbox.choose_new(messages, [], stopped, again)
    assert kept == []
    assert {each.reason for each in skipped} == {"the recipient said stop"}


@pytest.mark.parametrize(("running", "shared", "found"), [(True, 5, "old"), (True, 4, ""),
                                                          (False, 8, "")])  # fmt: skip
def test_only_more_than_half_of_the_recipients_of_a_running_campaign_are_an_overlap(
    running: bool, shared: int, found: str
) -> None:
    messages = read(HEADER + "".join(f"213555123{n},Ana,Hi\n" for n in range(8))).messages
    known = [("old", each.phone_number, "Hey") for each in messages[:shared]]
    names = frozenset(["old"] if running else [])
    assert smsbox.find_overlap(messages, known, names)[0] == found
    assert smsbox.find_overlap(messages, [("stem", *each[1:]) for each in known], names)[0] == ""
    few = messages[:4]  # a handful may be in two campaigns at a time
    assert smsbox.find_overlap(few, known, names)[0] == ""


def test_all_problems_of_a_row_are_told_at_once() -> None:
    reading = read(HEADER + "12,JosÃ©,\n")
    assert [problem.column for problem in reading.problems] == [
        "customer_name", "phone_number", "message_content",
    ]  # fmt: skip
    assert {problem.row for problem in reading.problems} == {2}
    assert [row for row, _ in reading.rejected] == [2]


def test_problem_names_the_column_as_the_file_does_and_the_value() -> None:
    problem = only_problem(read("Mobile Phone,Name,Text\n555-1234,Ana,Hi\n"))
    assert (problem.row, problem.column, problem.value) == (2, "Mobile Phone", "555-1234")


# --- cells for spreadsheets ---------------------------------------------------------------------


@pytest.mark.parametrize(
    "cell",
    [
        "=1+1",
        "+1",
        "-1",
        "@SUM(A1)",
        "\t1",
        "\r1",
        "=",
        "+12135551234",
        "\uff1d1",
        "\uff0b1",
        "'=1",
    ],
)
def test_cell_that_a_spreadsheet_would_compute_is_made_text(cell: str) -> None:
    assert smsbox.spreadsheet_cell(cell) == "'" + cell


@pytest.mark.parametrize(
    "before", [" ", "\t", "\r", "\n", "Hi;", "Hi; ", "Hi,", "Hi\t", ";;", "Hi\r\n "]
)
@pytest.mark.parametrize("sign", "=+-@\uff1d\uff0b\uff0d\uff20")
def test_part_of_a_cell_that_a_spreadsheet_would_compute_is_made_text(
    before: str, sign: str
) -> None:
    assert smsbox.spreadsheet_cell(f"{before}{sign}1") == f"{before}'{sign}1"


@pytest.mark.parametrize("cell", ["", "Ana", "1+1", "a=b", "'x", "Hi - you", "2135551234"])
def test_other_cells_stay_as_they_are(cell: str) -> None:
    assert smsbox.spreadsheet_cell(cell) == cell


@pytest.mark.parametrize("content", ["=1+1", "+1 free", "-10 %", "@ana", "'Hi'", "'t is"])
def test_text_made_safe_for_a_spreadsheet_is_read_back(content: str) -> None:
    [message] = read_text(smsbox.spreadsheet_cell(content)).messages
    assert message.message_content == content


@given(st.text("=+-@;, '\t\na\uff1d", max_size=8).map(str.strip).filter(bool))
def test_any_text_made_safe_for_a_spreadsheet_is_read_back(content: str) -> None:
    assert smsbox._read_cell([smsbox.spreadsheet_cell(content)], 0) == content


def test_number_made_text_for_a_spreadsheet_is_read_back() -> None:
    assert smsbox.parse_phone_number(smsbox.spreadsheet_cell("+12135551234")) == "+12135551234"


# --- any text at all ----------------------------------------------------------------------------

CELLS = st.one_of(
    st.sampled_from(
        ["2135551234", "(213) 555-1234", "+447911123456", "12", "", " ", "SUG", "SENT", "Hi",
         "Ana", "Hi[BUBBLE]you", "[bubble]", "a\nb", "Caf?e", "x\x07", '"', "=1", "\ufeff", "May",
         "{name}", "a\n2135551234,Ben,Hi"]
    ),
    st.text(max_size=8),
)  # fmt: skip
HEADERS = st.lists(
    st.sampled_from(
        ["phone_number", "Phone", "mobile", "customer_name", "name", "message_content", "Text",
         "status", "campaign_name", "id", "", "x", "phone number"]
    ),
    max_size=6,
)  # fmt: skip


def write_csv(rows: list[list[str]], delimiter: str, line_end: str) -> str:
    text = io.StringIO(newline="")
    writer = csv.writer(text, delimiter=delimiter, lineterminator=line_end, quoting=csv.QUOTE_ALL)
    writer.writerows(rows)
    return text.getvalue()


@given(
    st.text() | st.lists(CELLS | st.sampled_from([",", ";", "\n", "\r", '"', HEADER])).map("".join),
    st.none() | st.sampled_from(["May", ""]),
    st.none() | st.sampled_from(["Hi {name}", "{", "x"]),
)
@example('sep="\n', None, None)
@example("sep=\r\n", None, None)
@example("sep=;", None, None)
@example("\ufeff", None, None)
@example("phone,name,text\n2135551234,A,\0\n", None, None)
def test_any_text_is_read_or_a_campaign_error_and_nothing_else(
    text: str, campaign: str | None, template: str | None
) -> None:
    try:
        read(text, campaign=campaign, template=template)
    except smsbox.CampaignError as error:
        assert str(error)


@given(
    header=HEADERS,
    rows=st.lists(st.lists(CELLS, max_size=7), max_size=8),
    delimiter=st.sampled_from(",;\t"),
    line_end=st.sampled_from(["\n", "\r\n", "\r"]),
    campaign=st.none() | st.just("May"),
)
def test_any_table_is_read_or_a_campaign_error_and_nothing_else(
    header: list[str], rows: list[list[str]], delimiter: str, line_end: str, campaign: str | None
) -> None:
    try:
        read(write_csv([header, *rows], delimiter, line_end), campaign=campaign)
    except smsbox.CampaignError as error:
        assert str(error)


@given(
    rows=st.lists(st.lists(CELLS, min_size=5, max_size=5), min_size=1, max_size=10),
    campaign=st.none() | st.just("May"),
    delimiter=st.sampled_from(",;\t"),
)
def test_every_row_ends_in_exactly_one_place(
    rows: list[list[str]], campaign: str | None, delimiter: str
) -> None:
    header = ["phone_number", "customer_name", "message_content", "status", "campaign_name"]
    filled = [place for place, cells in enumerate(rows, 2) if any(cell.strip() for cell in cells)]
    text = write_csv([header, *rows], delimiter, "\r\n")
    try:
        reading = read(text, campaign=campaign)
    except smsbox.CampaignError as error:
        assert re.search("no row was taken|only rows marked SUG", str(error))
        return
    rejected = [row for row, _ in reading.rejected]
    skipped = [each.row for each in reading.skipped]
    placed = rows_of(reading) + rejected + skipped
    assert len(placed) == len(set(placed))
    assert set(placed) <= set(filled)
    assert len(placed) + sum(reading.not_taken.values()) == len(filled)
    assert {problem.row for problem in reading.problems} == set(rejected)
    assert rows_of(reading) == sorted(rows_of(reading))
    for row, cells in reading.rejected:
        assert [cell.replace("\r", "\n") for cell in cells] == [
            cell.replace("\r", "\n") for cell in rows[row - 2]
        ]
    keys = [(m.campaign_name, m.phone_number) for m in reading.messages]
    assert len(keys) == len(set(keys))


LISTS = (
    "phone_number,customer_name,message_content,Shop,status\n"
    "2135551234,Ana,Hi,East,SUG\n2135551235,Ben,Hi, east ,SUG\n2135551236,Cy,Hi,West,SUG\n"
    "2135551237,Dee,Hi,East,\n"
)


@pytest.mark.parametrize(
    ("only", "columns", "rows"),
    [((), {}, [2, 3, 4]),
     ((("Shop", "East"),), {}, [2, 3]),
     ((("D", "East"),), {"status": ""}, [2, 3, 5]),  # a letter; no column is the status
     ((("Shop", "East"), ("status", "")), {}, [5])],  # who names a status himself means that one
)  # fmt: skip
def test_only_takes_the_rows_with_a_value_and_counts_the_others(
    only: Sequence[tuple[str, str]], columns: Mapping[str, str], rows: list[int]
) -> None:
    order = smsbox.ReadingOrder("stem", only=only, columns=columns)
    reading = smsbox.read_campaign(io.StringIO(LISTS, newline=""), order)
    assert [each.row for each in reading.messages] == rows
    assert sum(reading.not_taken.values()) == 4 - len(rows)


def test_only_of_a_column_that_is_none_names_the_columns() -> None:
    order = smsbox.ReadingOrder("stem", only=[("Store", "East")])
    with pytest.raises(smsbox.CampaignError, match=r'--only=Store: no columns .* D "Shop"'):
        smsbox.read_campaign(io.StringIO(LISTS, newline=""), order)
