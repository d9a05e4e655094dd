"""What boxes played in one process share: texts without two equal segments, and a judgement."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import pytest

import smsbox
from test_service import Box, Far

CRSM = b"AT+CRSM=176,28483,0,0,2\r"
REFUSAL = b"\r\n+CME ERROR: 4\r\n"
KINDS = pytest.mark.parametrize("readable", [True, False], ids=["readable", "unreadable"])


def replace_modem(box: Box, far: Far) -> None:
    for end in box.far._ends:
        end.close()
    box.far = far


def close(box: Box) -> None:
    replace_modem(box, box.far)
    box.hand.close()
    box.database.close()


def write_text(place: int) -> str:
    """Three segments and a short bubble; no two segments are alike."""
    words = " ".join(f"{place}.{word:03}" for word in range(55))
    return f"{words} [BUBBLE] The end of {place}"


def number_of(place: int) -> str:
    return f"+1310{2340000 + place}"


def segments_of(number: str, text: str) -> list[str]:
    pdus = [
        pdu
        for bubble in smsbox.split_bubbles(text)
        for pdu, _ in smsbox.encode_submit(bubble, number)
    ]
    return [smsbox.decode_tpdu(pdu, "out").text or "" for pdu in pdus]


def find_problems(box: Box, taken: Sequence[str], may_be_held: bool = False) -> list[str]:
    """Judge by what the modem took: nothing twice, nothing lost without a word."""
    counts = Counter(taken)
    problems = [f"taken {count} times: {text[:20]}" for text, count in counts.items() if count > 1]
    rows = box.sql(
        "SELECT id, phone_number, message_content, status, coalesce(error_message, ''),"
        " coalesce(held_because, '') FROM scheduled_messages"
    )
    for row, number, text, status, words, held in rows:
        segments = segments_of(number, text)
        missing = sum(not counts[segment] for segment in segments)
        found = box.sql(
            "SELECT g.status FROM segments g JOIN messages m ON m.id = g.message_id"
            " WHERE m.scheduled_message_id = ? ORDER BY m.bubble, g.sequence", row,
        )  # fmt: skip
        told = [each[0] for each in found]
        named = status == "failed" and "unconfirmed" in told and "may have been sent" in words
        explained = named or (may_be_held and held.startswith("cut in half"))
        if (status != "sent" and not explained) or (status == "sent" and missing):
            problems.append(f"row {row}: {status}, {missing} missing: {words}{held}")
        for segment, word in zip(segments, told, strict=False):
            if word == "sent" and not counts[segment]:
                problems.append(f"row {row}: called sent, never taken")
        for segment in segments[len(told) :]:
            if counts[segment]:
                problems.append(f"row {row}: taken, not written down")
    return problems
