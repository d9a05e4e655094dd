"""Seeds faults into smsbox.py, one at a time, and shows for each which test catches it.

    .venv/bin/python tests/rig/seed_faults.py               every fault, some minutes
    .venv/bin/python tests/rig/seed_faults.py --only gate   those whose name holds a word
    .venv/bin/python tests/rig/seed_faults.py --check       only whether each one still applies

A fault is a snippet that stands in smsbox.py exactly once, and what takes its place. The tests run
in a copy of the tree: first the files whose name holds one of the fault's hints, then the others,
which takes as long as all tests do. A test that fails on the sound tree too, or only now and then,
catches nothing. The exit status is 1 if no test caught a fault, or if one no longer applies: then
mend its snippet or its hints.
"""

from __future__ import annotations

import argparse
import py_compile
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent.parent
LEFT_OUT = (
    *(".git", ".venv", ".hypothesis", ".mypy_cache", ".ruff_cache", ".pytest_cache"),
    *("__pycache__", ".benchmarks"),
)
LIMIT_S = 3600  # of one run of pytest
# It asks whether all snippets stand in smsbox.py: with a fault in it that fails, whatever it is.
PASSED_OVER = "tests/rooms/test_contents.py::test_every_seeded_fault_still_applies"


class Fault(NamedTuple):
    """What is put in whose place; hints are parts of the names of test files, the best first."""

    name: str
    old: str
    new: str
    hints: str


# fmt: off
FAULTS = (
    # --- settings, campaign
    Fault("a PIN that is none is shown in the sentence about it",
          'shown = "not one" if setting.name == "sim_pin" else _show_toml(value)',
          "shown = _show_toml(value)", "settings"),
    Fault("a cell that begins like a formula is written as it is",
          r"""r"\1'", text)""", r"""r"\1", text)""", "04_campaign report"),
    # --- pacing
    Fault("the recipient's hours are taken in the sender's zone",
          "        BusinessHours(zone, opens,", "        BusinessHours(hours.timezone, opens,",
          "recipient_hours"),
    # --- coding
    Fault("a long text is cut after 154 septets",
          "_GSM7_SINGLE, _GSM7_CONCATENATED = 160, 153",
          "_GSM7_SINGLE, _GSM7_CONCATENATED = 160, 154", "coding"),
    Fault("septets behind a header are packed without fill bits",
          "packed = _pack_septets(part, shift=filled * 7 - len(header) * 8)",
          "packed = _pack_septets(part, shift=0)", "coding"),
    Fault("a validity period that is a step is rounded up to the next",
          "return bisect_left(_VALIDITY_STEPS, minutes)",
          "return bisect_right(_VALIDITY_STEPS, minutes)", "coding"),
    # --- replies
    Fault("a stop in a sentence of its own is passed over",
          "for part in (each, *re.split(_SENTENCE_END, each))", "for part in (each,)",
          "06_replies"),
    # --- store
    Fault("a row that changed since it was read is claimed",
          "        if self._db.queue.row(row.id) != row or row.said_stop_at:\n",
          "        if row.said_stop_at:\n", "stopping store"),
    Fault("a message that may have been sent is claimed anew",
          "        if BubbleStatus.UNCONFIRMED.value in states:\n",
          "        if states == ['unconfirmed'] * 9:\n", "store settling"),
    Fault("retry repeats what may have been sent, unasked",
          "                if even_if_it_may_repeat:\n", "                if row_id:\n",
          "store command_line"),
    Fault("cancel does not look at the status",
          "return self._db.change_rows(\"status = 'cancelled'\", which, now, actor, id=row_id)\n",
          "sql = f\"\"\"UPDATE scheduled_messages AS s SET status = 'cancelled',\n"
          "                updated_at = :now, actor = :actor WHERE {which}\"\"\"\n"
          "            return self._db.change(sql, now=now, actor=actor, id=row_id)\n",
          "store command_line"),
    Fault("a row that is deleted by hand leaves no event",
          "CREATE TRIGGER audited_delete AFTER DELETE ON scheduled_messages\nBEGIN",
          "CREATE TRIGGER audited_delete AFTER DELETE ON scheduled_messages\nWHEN 0 BEGIN",
          "store"),
    Fault("a time that is none is taken into a row",
          "NOT BETWEEN '2020' AND '2100', 1)", "NOT BETWEEN '2020' AND '2100', 0)",
          "store"),
    Fault("a report counts for the latest segment with its reference",
          "ORDER BY apart >= 0.01, g.status, round(apart * 144), g.delivered_at IS NOT NULL,\n"
          "                apart, g.id DESC",
          "ORDER BY g.delivered_at IS NOT NULL, g.id DESC", "delivery"),
    Fault("a file system that is read-only is sent from",
          "        if found.f_flag & os.ST_RDONLY:\n            raise",
          "        if not found.f_flag:\n            raise", "failing_disk"),
    Fault("a stop is kept out by a full disk",
          "self._insist(store) if asked is Request.STOP else store()", "store()", "failing_disk"),
    # --- copies
    Fault("a restored copy holds nothing",
          "self.held = hold_restored(self._copy, copied_at, last_id, now, now, now, actor)",
          "self.held = 0", "copies"),
    Fault("a copy gets its name before it is on the disk",
          "            os.fsync(file.fileno())\n            if over:",
          "            if over:", "copies"),
    Fault("a copy elsewhere has its name while it is half written",
          "whole = whole_file(folder / newest.name, 0o660, over=True)",
          'whole = open(folder / newest.name, "wb")', "copies"),
    Fault("a START that is older than the stop lifts it",
          "elif asked is Request.START and sent_at < ", "elif asked is Request.HELP and sent_at < ",
          "receiving"),
    Fault("the rest of a long text is waited for, and its writer is written to",
          '(SELECT min(received_at) FROM {_PARTS_OF.format("s.phone_number")}))',
          "NULL)", "receiving"),
    Fault("a page takes over whatever rights its file had",
          "            if like is not None and like.st_uid == os.fstat(file.fileno()).st_uid:\n"
          "                mode = like.st_mode & 0o666",
          "            if like is not None:\n                mode = like.st_mode", "side_doors"),
    # --- AT, modem
    Fault("a time-out of the network is taken for a refusal",
          " 332 network\n    time-out, 513",
          " 513 no\n    acknowledgement\nTRANSIENT:\n    332 network time-out, 999",
          "09_at modem"),
    Fault("a port that is lost after Ctrl-Z is taken for nothing sent",
          'raise OutcomeUnknown(f"the port was lost after the hand-over ({lost})") from lost',
          "raise lost", "10_modem"),
    Fault("a PIN that was refused is tried again",
          "modem.unlock(may_try)", "modem.unlock(lambda: may_try() or True)", "link modem"),
    # --- edges
    Fault("the watchdog is petted past the deadline",
          "if now < deadline and now - self._petted", "if now - self._petted", "edges"),
    Fault("the lamp of the SIM flashes as often as that of the network",
          'Fault.SIM: "##..##..##..', 'Fault.SIM: "##..##..##.#', "edges readme"),
    Fault("controls of eight bits reach the terminal",
          r'_UNPRINTABLE = "[\x00-\x1f\x7f-\x9f', r'_UNPRINTABLE = "[\x00-\x1f\x7f',
          "edges command_line"),
    Fault("two daemons may have one database",
          "        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)\n", "        pass\n",
          "edges two_processes"),
    # --- service
    Fault("the gate of held rows is open",
          'yield Gate("held", row.held_because)', 'yield Gate("held")', "stopping service"),
    Fault("the gate of the pause is open",
          'yield Gate("pause", pause.because, pause.until)', 'yield Gate("pause")',
          "service pausing"),
    Fault("the gate of the clock's trust is open",
          'yield Gate("clock", turn.doubt)', 'yield Gate("clock")', "clock service"),
    Fault("the gate of the hours is open",
          "    yield find_hours(row", "    yield Gate('hours') if now else find_hours(row",
          "service"),
    Fault("the gate of the pace is open",
          "    if turn.waited is None or is_free:\n",
          "    if turn.now:\n", "service"),
    Fault("a late message forgets its own gap",
          "        wait = max(wait, gap_of(row, config.pacing).span)\n",
          "        wait = max(wait, timedelta())\n", "service"),
    Fault("an attempt that was refused does not count for the pace",
          "            self._last_begun = row.id, begun_s\n", "            begun_s += 0\n",
          "service"),
    Fault("a message that is begun is held back by a quota",
          "budgets = None if is_done or row.is_begun else", "budgets = None if is_done else",
          "service budgets"),
    Fault("the gate of the recipient's hours is open",
          "if theirs is None or not theirs.enabled:", "if theirs is None or said != '-':",
          "recipient_hours"),
    Fault("the gate of what is stored unread is open",
          'yield Gate("incoming", "" if row and _is_sent_anyway(row) else turn.not_read)',
          'yield Gate("incoming")', "receiving"),
    Fault("nobody looks for what came unnoticed before a message",
          "if not (self._hear() or _is_sent_anyway(row)) or not self._claim(row, turn):",
          "if not self._claim(row, turn):", "receiving"),
    Fault("a text that is not whole is taken for harmless",
          "is_whole = text.text is not None and not text.damage",
          "is_whole = text.text is not None", "receiving"),
    Fault("two long texts of one reference are mixed up",
          "min(reversed(group), key=partial(_apart_s, parts, anchor)) for group in",
          "group[-1] for group in", "receiving"),
    Fault("what a listing garbles is believed",
          "            whole, fragments = {}, entries  # of a list that",
          "            fragments = entries  # of a list that", "10_modem"),
    Fault("a segment is handed over before it is written down",
          "if modem is None or not sending.begin_segment(segment, self._clock.now(), begins,"
          " at_once):\n            return False\n",
          "if modem is None:\n"
          "            return False\n"
          "        hand_over, begun = modem.submit, self._clock.now()\n"
          "        def hand_over_first(pdu, octets):\n"
          "            modem.submit = hand_over\n"
          "            try:\n"
          "                return hand_over(pdu, octets)\n"
          "            finally:\n"
          "                sending.begin_segment(segment, begun, begins, at_once)\n"
          "        modem.submit = hand_over_first\n", "torn_writes kills failing_disk"),
    Fault("all texts have one concatenation reference",
          "            reference=bubble.id & 0xFF,\n", "            reference=0,\n", "service"),
    Fault("a row over which smsbox stumbles is not held",
          "            if (row_id := self._sender.in_hand) is not None:\n",
          "            if (row_id := self._sender.in_hand) == 0:\n", "service"),
    Fault("a refusal of the account does not pause the box",
          "RefusalClass.ACCOUNT: Meaning(is_pause=True),", "RefusalClass.ACCOUNT: Meaning(),",
          "service link"),
    Fault("three recipients refused in a row do not pause the box",
          "meaning.is_pause or (meaning.is_counted and self._is_third(number, kind))",
          "meaning.is_pause", "service link"),
    Fault("START lifts the opt-out of a person's own words",
          '"START", only_keyword=True', '"START", only_keyword=False', "service stopping"),
    Fault("the gate of a reply is open",
          "_DOUBTFUL_AT,\n    \"last_segment_at\"", "\"NULL\",\n    \"last_segment_at\"",
          "reply_gate"),
    Fault("to read the inbox settles it",
          '_DOUBTFUL = f"settled_at IS NULL',
          '_DOUBTFUL = f"settled_at IS NULL AND read_at IS NULL',
          "reply_gate"),
    Fault("a stop of several people is the first one's",
          "(people[0] if len(people) == 1 else sender), len(people) < 2",
          "(people[0] if people else sender), True", "service_numbers"),
    Fault("a stop that fitted nobody is compared with nobody in the preview",
          "return any(is_same_number(each, str(number)) for each in alike)",
          "return number in self._exact",
          "service_numbers campaign_who"),
    Fault("strangers are answered",
          "is_fresh and number in self._database.inbox.find_people(number)", "is_fresh",
          "service_answers"),
    Fault("a refused answer pauses the box",
          "elif row and (meaning.is_pause", "elif (meaning.is_pause", "service_answers"),
    Fault("each STOP is confirmed anew",
          "            if not stopped and may_answer:\n"
          "                self._answer(asked, number, body, now)\n            for *_,",
          "            if may_answer:\n"
          "                self._answer(asked, number, body, now)\n            for *_,",
          "stopping"),
    # --- command line
    Fault("a dry run stores its plan",
          "            return 0\n        if not ask_yes(f\"{plural(len(plan.messages)",
          "            _store_plan(context, plan, start)\n"
          "            return 0\n        if not ask_yes(f\"{plural(len(plan.messages)", "schedule"),
    Fault("YES is not asked for where there is no terminal",
          "    if yes:\n        return True\n    source: TextIO",
          "    if yes or not sys.stdin.isatty():\n        return True\n    source: TextIO",
          "schedule copies"),
    Fault("a database that is busy ends the service for good",
          "    exit_status = 75\n", "    exit_status = 78\n", "command_line"),
)
# fmt: on


class Verdict(NamedTuple):
    """What became of a fault: the node that caught it, else why none did."""

    fault: Fault
    node: str
    words: str
    seconds: float


def find_misfits(source: str) -> list[str]:
    """Name the faults whose snippet does not stand in the source once, or with an idle hint."""
    files, misfits = list_test_files(ROOT), []
    for fault in FAULTS:
        idle = [hint for hint in fault.hints.split() if not split_by_hints(files, [hint])[0]]
        if (count := source.count(fault.old)) != 1:
            misfits.append(f"{fault.name}: its snippet stands in smsbox.py {count} times, not once")
        elif idle:
            misfits.append(f"{fault.name}: no test file's name holds {' or '.join(idle)}")
    return misfits


def copy_tree(to: Path, fault: Fault | None = None) -> Path:
    """Copy the tree for one run, with a fault in it or sound."""
    shutil.copytree(ROOT, to, symlinks=True, ignore=shutil.ignore_patterns(*LEFT_OUT))
    if fault is not None:
        program = to / "smsbox.py"
        program.write_text(program.read_text().replace(fault.old, fault.new))
        py_compile.compile(str(program), doraise=True)
    return to


def list_test_files(tree: Path) -> list[str]:
    """Give the test files, wherever they lie; tests/box/boot has a command of its own."""
    found = sorted(each.relative_to(tree) for each in (tree / "tests").rglob("test_*.py"))
    return [str(each) for each in found if "boot" not in each.parts]


def split_by_hints(files: Sequence[str], hints: Sequence[str]) -> tuple[list[str], list[str]]:
    """Part the files that a hint names, in the hints' order, from the rest."""
    hinted = [each for hint in hints for each in files if hint in Path(each).stem]
    return list(dict.fromkeys(hinted)), [each for each in files if each not in hinted]


def run_pytest(tree: Path, wanted: Sequence[str], passed_over: Sequence[str]) -> tuple[str, str]:
    """Run tests to the first that fails: its node, "" if none does; and what else went wrong."""
    options = [f"--deselect={node}" for node in passed_over]
    command = (
        *(sys.executable, "-m", "pytest", "-c", "tests/pytest.ini", "--rootdir=.", "-x", "-q"),
        *("-p", "no:cacheprovider", "--tb=no", "-rfE", f"--basetemp={tree.parent / 't'}"),
    )
    with subprocess.Popen(
        [*command, *options, *wanted],
        cwd=tree,
        text=True,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    ) as process:
        try:
            told = process.communicate(timeout=LIMIT_S)[0]
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGINT)  # so that the tests take their daemons away
            return "", f"no end within {LIMIT_S} s"
    failed = re.search(r"^(?:FAILED|ERROR) (\S+::[^\s\[]+(?:\[.*?\])?)(?: - .*)?$", told, re.M)
    if failed:
        return failed[1], ""
    if process.returncode in (0, 5):  # all passed; none was found
        return "", ""
    last = told.strip().splitlines()[-1:] or [""]
    return "", f"pytest ended with status {process.returncode}: {last[0]}"


def find_catch(broken: Path, sound: Path, files: Sequence[str]) -> tuple[str, str]:
    """Give the first node that fails twice, and passes on the sound tree; and what went wrong."""
    passed_over = [PASSED_OVER]
    while files:
        failed, words = run_pytest(broken, files, passed_over)
        if not failed:
            return "", words
        in_broken, in_sound = (run_pytest(each, [failed], [])[0] for each in (broken, sound))
        if in_broken and not in_sound:
            return failed, ""
        if failed in passed_over:
            return "", f"{failed} fails anyway and can't be passed over"
        passed_over.append(failed)  # it fails anyway, or by chance: on with its file
        files = files[files.index(failed.partition("::")[0]) :]
    return "", ""


def hunt(fault: Fault) -> Verdict:
    """Run the hinted tests, then all others, until one catches the fault."""
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="fault-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        folder.chmod(0o755)  # some tests become another user
        broken = copy_tree(folder / "broken", fault)
        sound = copy_tree(folder / "sound")
        for files in split_by_hints(list_test_files(broken), fault.hints.split()):
            node, words = find_catch(broken, sound, files)
            if node or words:
                break
    return Verdict(fault, node, words, time.monotonic() - began)


def main() -> int:
    parser = argparse.ArgumentParser(description="Seed faults into smsbox.py, one at a time.")
    parser.add_argument("--only", metavar="SUBSTRING", default="", help="only faults named so")
    parser.add_argument("--jobs", metavar="N", type=int, default=2, help="runs at a time")
    parser.add_argument("--check", action="store_true", help="only whether each fault applies")
    args = parser.parse_args()
    misfits = find_misfits((ROOT / "smsbox.py").read_text())
    for misfit in misfits:
        print(misfit, file=sys.stderr)
    if misfits or args.check:
        print(f"{len(FAULTS) - len(misfits)} of {len(FAULTS)} faults apply")
        return 1 if misfits else 0
    chosen = [fault for fault in FAULTS if args.only.casefold() in fault.name.casefold()]
    caught = 0
    with ThreadPoolExecutor(args.jobs) as pool:
        try:
            for done in as_completed([pool.submit(hunt, fault) for fault in chosen]):
                fault, node, words, seconds = done.result()
                caught += bool(node)
                what = f"caught by {node}" if node else f"NOT CAUGHT {words}".rstrip()
                print(f"{fault.name} | {what} | {seconds:.0f} s", flush=True)
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    print(f"{caught} of {len(chosen)} faults were caught, {len(chosen) - caught} were not")
    return 0 if caught == len(chosen) else 1


if __name__ == "__main__":
    sys.exit(main())
