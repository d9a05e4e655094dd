"""Whatever befalls the disk, whenever: nothing twice, nothing lost, nothing said that is not so.

A campaign of three messages meets one trouble for some minutes.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

import smsbox
from rig.disk import Disk, force_read_only
from rig.played import PlayedBox, find_problems, number_of, write_text

CHANGES = "UPDATE|INSERT|DELETE"


class Trouble(NamedTuple):
    """What can begin and end."""

    begin: Callable[[], object]
    end: Callable[[], object]
    is_told: bool = True  # by lamp and status


def make_trouble(kind: str, box: PlayedBox, monkeypatch: pytest.MonkeyPatch) -> Trouble:
    if kind == "read-only, forced":
        patch = pytest.MonkeyPatch()
        return Trouble(lambda: force_read_only(patch), patch.undo)
    if kind == "vanished":
        path, away = Path(box.path), Path(box.path + ".away")
        return Trouble(lambda: path.rename(away), lambda: away.exists() and away.rename(path))
    words, statements = {
        "full": ("database or disk is full", f"{CHANGES}|COMMIT"),
        "read-only by an error": ("attempt to write a readonly database", f"BEGIN|{CHANGES}"),
        "I/O error on read": ("disk I/O error", "SELECT|WITH"),
        "I/O error on write": ("disk I/O error", CHANGES),
        "I/O error on fsync": ("disk I/O error", "COMMIT"),
        "slow": ("", "COMMIT"),
    }[kind]
    disk = Disk(monkeypatch, words, statements)
    disk.box, disk.delay_s = box, 5.0 if kind == "slow" else 0.0
    return Trouble(
        lambda: setattr(disk, "fails", True), lambda: setattr(disk, "fails", False), kind != "slow"
    )


KINDS = (
    "full", "read-only, forced", "read-only by an error", "I/O error on read",
    "I/O error on write", "I/O error on fsync", "vanished", "slow",
)  # fmt: skip
MOMENTS = ("at the start", "idle", "before the claim", "before Ctrl-Z", "after the answer",
           "at the copy")  # fmt: skip


def begin_at(
    moment: str, box: PlayedBox, monkeypatch: pytest.MonkeyPatch, begin: Callable[[], object]
) -> None:
    """Let it begin once, at this moment."""
    if moment == "idle":
        box.after(40, begin)
    elif moment == "after the answer":
        box.far.script.append(begin)
    elif moment == "at the start":
        begin()
    else:
        owner, name = {
            "before the claim": (smsbox.Sending, "claim"),
            "before Ctrl-Z": (smsbox.Sending, "begin_segment"),
            "at the copy": (smsbox.CopyFolders, "make"),
        }[moment]
        real, left = getattr(owner, name), [1]

        def wrapped(*given: object, **named: object) -> object:
            if left:
                left.pop()
                begin()
            return real(*given, **named)

        monkeypatch.setattr(owner, name, wrapped)


@pytest.mark.parametrize("moment", MOMENTS)
@pytest.mark.parametrize("kind", KINDS)
def test_trouble_of_the_disk_costs_no_message_and_repeats_none(
    box: PlayedBox, monkeypatch: pytest.MonkeyPatch, kind: str, moment: str
) -> None:
    ids = [box.insert(number_of(place), write_text(place), 60 + 300 * place) for place in range(3)]
    trouble = make_trouble(kind, box, monkeypatch)
    begun_s: list[float] = []
    seen: list[tuple[int, object, object]] = []

    def begin() -> None:
        trouble.begin()
        begun_s.append(box.play.monotonic())
        box.after(200, look)
        box.after(240, trouble.end)

    def look() -> None:
        told = box.published[-1] if box.published else {}
        seen.append((len(box.texts()), box.wall.shown[-1].fault.value, told.get("fault_words")))

    begin_at(moment, box, monkeypatch, begin)
    box.serve(7200)
    box.serve(600)
    assert begun_s
    assert not find_problems(box, box.texts())
    assert [box.row(each)[0] for each in ids] == ["sent"] * 3
    if trouble.is_told:
        ((texts, lamp, words),) = seen
        assert lamp == "database or disk"
        assert words
        assert texts <= 1 + 4 * (moment == "at the copy")
    assert box.published[-1]["fault"] == "none"
