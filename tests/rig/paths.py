"""Where the program stands, and what the tests read and write."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = ROOT / "smsbox.py"
GOLDEN = ROOT / "tests" / "golden"
