"""All that a database may know of one person."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from rig.desk import Operator
from rig.people import ANA
from rig.tpdus import deliver


def lay_sent(operator: Operator, delivery: str | None, words: str | None = None) -> int:
    """Put a message into the database that is sent; return its row."""
    row = operator.insert(status="sent", sent_at="2025-11-09 18:00:00", delivery=delivery,
                          error_message=words)  # fmt: skip
    operator.insert_bubble(row, "sent", "sent")
    return row


def lay_person(operator: Operator) -> int:
    """Put all that may be known of Ana into the database; return the row of her message."""
    row = lay_sent(operator, "delivered")
    operator.sql("UPDATE scheduled_messages SET consent_at = '2025-01-02', consent_source = 'shop',"
                 " message_content = 'secret words'")  # fmt: skip
    operator.sql("UPDATE messages SET body = 'secret words'")
    operator.sql("INSERT INTO inbound (received_at, sent_at, sender, body, tpdu, request) VALUES"
                 " ('2025-11-09 18:00:00', '2025-11-09 17:59:58', ?, 'secret reply', '00', 'stop')",
                 ANA)  # fmt: skip
    operator.sql(
        "INSERT INTO messages (phone_number, kind, body, status, created_at)"
        " VALUES (?, 'confirmation', 'secret goodbye', 'sent', '2025-11-09 18:01:00')",
        ANA,
    )
    operator.sql(
        "INSERT INTO opt_outs (phone_number, at, words)"
        " VALUES (?, '2025-11-09 18:00:00', 'secret reply')",
        ANA,
    )
    operator.sql("INSERT INTO inbound_parts (received_at, sender, sent_at, reference, total,"
                 " sequence, tpdu)"
                 " VALUES ('2025-11-09 18:00:00', ?, '2025-11-09 18:00:00', 1, 2, 1, ?)",
                 ANA, deliver("secret part", ANA, datetime(2025, 11, 9), (1, 2, 1)))  # fmt: skip
    return row


def everything(operator: Operator) -> list[Any]:
    """Return the rows of all tables."""
    tables = [
        name for (name,) in operator.sql("SELECT name FROM sqlite_master WHERE type = 'table'")
    ]
    return [row for name in tables for row in operator.sql(f"SELECT * FROM {name}")]
