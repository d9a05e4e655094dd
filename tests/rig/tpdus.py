"""TPDUs as a modem hands them over, built here, most of them without the code under test."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

import smsbox


def address(number: str) -> str:
    """A sender's or recipient's address; a name is given as its octets, like "name:0DD0F3..."."""
    if number.startswith("name:"):
        return number[5:]
    digits = number.lstrip("+")
    padded = digits + "F" * (len(digits) % 2)
    swapped = "".join(padded[place + 1] + padded[place] for place in range(0, len(padded), 2))
    return f"{len(digits):02X}{'91' if number.startswith('+') else '81'}{swapped}"


def stamp(at: datetime) -> str:
    return "".join(
        each[::-1] for each in f"{at.astimezone(timezone.utc):%y %m %d %H %M %S 00}".split()
    )


def deliver(
    text: str, sender: str, at: datetime, place: tuple[int, int, int] | None = None,
    coding: str = "08", smsc: str = "00",
) -> str:  # fmt: skip
    """An SMS-DELIVER in UCS-2; place: reference, total, sequence."""
    header = bytes([5, 0, 3, *place]) if place else b""
    data = header + text.encode("utf-16-be", "surrogatepass")
    head = f"{smsc}{'44' if place else '04'}{address(sender)}00{coding}{stamp(at)}"
    return f"{head}{len(data):02X}{data.hex().upper()}"


def report(number: str, reference: int, status: int, at: datetime) -> str:
    """An SMS-STATUS-REPORT of a segment that the service centre got at that time."""
    return f"0006{reference:02X}{address(number)}{stamp(at)}{stamp(at)}{status:02X}"


def encode_deliver(text: str, sender: str, sent_at: datetime) -> str:
    """Return an SMS-DELIVER of one segment in the alphabet it needs: hex with an empty centre."""
    quarters = int((sent_at.utcoffset() or timedelta()).total_seconds()) // 900
    values = [sent_at.year % 100, sent_at.month, sent_at.day]
    values += [sent_at.hour, sent_at.minute, sent_at.second, abs(quarters)]
    stamp = bytearray((value % 10) << 4 | value // 10 for value in values)
    stamp[6] |= 0x08 if quarters < 0 else 0
    ucs2 = smsbox.segment_text(text).encoding is smsbox.Encoding.UCS2
    part = (smsbox._cut_ucs2 if ucs2 else smsbox._cut_septets)(text)[0]
    data, length = smsbox._encode_user_data(part, b"", ucs2)
    head = bytes([0x00, 0x04]) + smsbox._encode_address(sender)
    head += bytes([0x00, smsbox._DCS_UCS2 if ucs2 else 0x00]) + bytes(stamp)
    return (head + bytes([length]) + data).hex().upper()
