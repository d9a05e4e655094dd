"""A disk that fails on command: its statements, what it says of itself, its folder, its speed."""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path

import pytest

import smsbox
from rig.played import PlayedBox


class Disk:
    """Lets statements that begin with one of some words fail for a while."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, words: str, statements: str) -> None:
        self.fails = False
        self.failures = 0
        self.delay_s = 0.0  # of each such statement, in the place of its failure
        self.box: PlayedBox | None = None
        beginnings = tuple(statements.split("|"))

        def wrap(name: str) -> None:
            real = getattr(smsbox.Database, name)

            def wrapped(
                database: smsbox.Database, sql: str, *given: object, **named: object
            ) -> object:
                if self.fails and sql.lstrip().startswith(beginnings):
                    self.failures += 1
                    if self.delay_s and self.box:
                        self.box.play.pass_by(self.delay_s)
                    else:
                        with smsbox._sqlite_words(database.path):
                            raise sqlite3.OperationalError(words)
                return real(database, sql, *given, **named)

            monkeypatch.setattr(smsbox.Database, name, wrapped)

        for name in ("change", "change_many", "insert", "all", "one"):
            wrap(name)


def force_read_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """From now on the file system says so; its writes go on succeeding and keep nothing."""
    real = os.statvfs

    def forced(path: str | Path) -> os.statvfs_result:
        found = list(real(path))
        found[8] |= os.ST_RDONLY
        return os.statvfs_result(found)

    monkeypatch.setattr(os, "statvfs", forced)
