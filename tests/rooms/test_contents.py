"""The table of contents of smsbox.py is true, and no room knows what it must not."""

from __future__ import annotations

import ast
import re
import subprocess
import sys

import pytest

from rig.paths import ROOT
from rig.seed_faults import FAULTS, PASSED_OVER, find_misfits

SOURCE = (ROOT / "smsbox.py").read_text()
TREE = ast.parse(SOURCE)
BANNER = re.compile(r"^# === (\d+) ([\w ]+?) =+$", re.MULTILINE)
ROOMS = {int(match[1]): match[2] for match in BANNER.finditer(SOURCE)}

MAY_KNOW = {
    1: set[int](),
    2: {1},
    3: {1},
    4: {1, 3},
    5: {1, 2},
    6: {1},
    7: {1, 4, 11},  # who a number is, which SQL asks as a function; the one door to files
    8: {1, 7, 11},
    9: {1},
    10: {1, 2, 9},
    11: {1, 2},
    12: {*range(1, 12)},
    13: {1, 3},
    14: {*range(1, 14)},
}
PURE = (1, 2, 3, 4, 5, 6, 9)
WORLD = {"open", "print", "input", "exec", "eval", "os", "sys", "Path", "logging", "time_ns"}
WORLDLY_MODULES = {
    "os", "sys", "pathlib", "socket", "select", "sqlite3", "subprocess", "logging", "signal",
    "threading", "serial", "gpiozero", "fcntl", "termios",
}  # fmt: skip
SQL = re.compile(r"\b(SELECT .+ FROM|INSERT INTO|UPDATE \w+ SET|DELETE FROM|PRAGMA )")
AT_BYTES = re.compile(r"\bAT\+[A-Z]")


BANNER_LINES = {
    number: line
    for line, text in enumerate(SOURCE.splitlines(), 1)
    if (match := BANNER.match(text)) and (number := int(match[1]))
}


def room_of(line: int) -> int:
    return max((room for room, start in BANNER_LINES.items() if start <= line), default=0)


def top_level() -> list[ast.stmt]:
    return [node for node in TREE.body if room_of(node.lineno)]


def defined_in() -> dict[str, int]:
    """Each top-level name with its room."""
    homes: dict[str, int] = {}
    for node in top_level():
        room = room_of(node.lineno)
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            homes[node.name] = room
        elif isinstance(node, (ast.Assign, ast.AnnAssign)):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            for target in targets:
                for name in ast.walk(target):
                    if isinstance(name, ast.Name):
                        homes[name.id] = room
    return homes


def names_in(node: ast.AST) -> set[str]:
    """The names that are read in a definition and are not its own parameters."""
    own = {each.arg for each in ast.walk(node) if isinstance(each, ast.arg)}
    read = {
        each.id
        for each in ast.walk(node)
        if isinstance(each, ast.Name) and isinstance(each.ctx, ast.Load)
    }
    return read - own


def texts_in(node: ast.AST) -> list[str]:
    return [
        each.value
        for each in ast.walk(node)
        if isinstance(each, ast.Constant) and isinstance(each.value, str)
    ]


def test_module_docstring_lists_the_rooms_in_order() -> None:
    docstring = ast.get_docstring(TREE) or ""
    listed = {
        int(match[1]): match[2].strip()
        for match in re.finditer(r"^ +(\d+) ([A-Z][\w ]*?)  +\S", docstring, re.MULTILINE)
    }
    assert listed == ROOMS
    assert list(ROOMS) == list(range(1, 15))


@pytest.mark.parametrize("number", range(1, 15))
def test_every_room_has_a_preface_of_three_to_six_lines(number: int) -> None:
    lines = SOURCE.splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith(f"# === {number} "))
    preface = []
    for line in lines[start + 1 :]:
        if not line.startswith("# "):
            break
        preface.append(line)
    assert 3 <= len(preface) <= 6
    words = " ".join(line[2:] for line in preface)
    assert re.search(r"\bnot know|knows nothing|It may use every room|knows the wire", words)


@pytest.mark.parametrize("number", range(1, 15))
def test_a_room_uses_no_name_of_a_room_it_may_not_know(number: int) -> None:
    homes = defined_in()
    wrong = {
        f"line {node.lineno}: {name} of room {homes[name]}"
        for node in top_level()
        if room_of(node.lineno) == number
        for name in names_in(node)
        if name in homes and homes[name] != number and homes[name] not in MAY_KNOW[number]
    }
    assert not wrong


@pytest.mark.parametrize("number", PURE)
def test_a_pure_room_touches_nothing_of_the_world(number: int) -> None:
    for node in top_level():
        if room_of(node.lineno) != number:
            continue
        used = names_in(node) & WORLD
        assert not used, f"line {node.lineno} uses {used}"
        for each in ast.walk(node):
            if isinstance(each, ast.Import):
                names = {alias.name.split(".")[0] for alias in each.names}
                assert not names & WORLDLY_MODULES, f"line {each.lineno} imports {names}"
            if isinstance(each, ast.ImportFrom):
                assert each.module not in WORLDLY_MODULES, f"line {each.lineno}"
            if isinstance(each, ast.Attribute) and each.attr in ("now", "today", "utcnow"):
                raise AssertionError(f"line {each.lineno} asks a clock")


def test_sql_stands_in_the_store_alone_and_at_commands_in_the_modem() -> None:
    for node in top_level():
        room = room_of(node.lineno)
        docstrings = {ast.get_docstring(each, clean=False) for each in ast.walk(node)
                      if isinstance(each, (ast.FunctionDef, ast.ClassDef))}  # fmt: skip
        for text in texts_in(node):
            if text in docstrings:
                continue
            assert room in (7, 8) or not SQL.search(text), f"SQL in room {room}: {text[:50]}"
            assert room in (9, 10, 13) or not AT_BYTES.search(text), f"AT in room {room}: {text}"


def test_only_the_wait_point_blocks() -> None:
    """No sleep anywhere, and one select."""
    calls = [ast.unparse(node.func) for node in ast.walk(TREE) if isinstance(node, ast.Call)]
    assert not [call for call in calls if call.endswith(("sleep", ".wait", ".join_thread"))]
    assert calls.count("select.select") == 1


def test_every_public_name_has_a_docstring() -> None:
    public = [node for node in TREE.body if isinstance(node, (ast.FunctionDef, ast.ClassDef))]
    public += [
        method
        for node in public
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_")
        for method in node.body
        if isinstance(method, (ast.FunctionDef, ast.ClassDef))
    ]
    bare = [each.name for each in public
            if not each.name.startswith("_") and not ast.get_docstring(each)]  # fmt: skip
    assert not bare


def test_broad_excepts_stand_at_pin_libraries_the_tick_and_each_text_that_comes_in() -> None:
    broad = [
        node for node in ast.walk(TREE)
        if isinstance(node, ast.ExceptHandler)
        and isinstance(node.type, ast.Name) and node.type.id == "Exception"
    ]  # fmt: skip
    assert sorted(room_of(node.lineno) for node in broad) == [11, 12, 12]


def test_help_needs_no_package_at_all() -> None:
    run = subprocess.run(
        [sys.executable, "-I", "-S", str(ROOT / "smsbox.py"), "--help"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert "schedule" in run.stdout


def test_every_seeded_fault_still_applies(request: pytest.FixtureRequest) -> None:
    assert PASSED_OVER.endswith(request.node.nodeid)
    assert find_misfits(SOURCE) == []
    assert len({each.name for each in FAULTS}) == len(FAULTS) == 59
