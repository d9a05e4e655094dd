"""A disk that is full or fails: nothing is claimed or sent; what was sent is written down later."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from shutil import which

import pytest

import smsbox
from rig.disk import Disk, force_read_only
from rig.played import PlayedBox, close, find_problems, number_of, write_text
from rig.tpdus import encode_deliver

WORDS = {"full": "database or disk is full", "failing": "disk I/O error"}
STATEMENTS = {"begin": "BEGIN", "change": "UPDATE|INSERT", "commit": "COMMIT"}


@pytest.fixture(params=[(word, step) for word in WORDS for step in STATEMENTS], ids="-".join)
def disk(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Disk:
    word, step = request.param
    return Disk(monkeypatch, WORDS[word], STATEMENTS[step])


def fails(box: PlayedBox, disk: Disk, from_s: float, to_s: float) -> None:
    box.after(from_s, lambda: setattr(disk, "fails", True))
    box.after(to_s, lambda: setattr(disk, "fails", False))


def shown(box: PlayedBox) -> str:
    """What the red lamp shows last."""
    return box.wall.shown[-1].fault.value


def assert_sent_once(box: PlayedBox, rows: Sequence[int]) -> None:
    assert not find_problems(box, box.texts())
    assert [box.row(row)[0] for row in rows] == ["sent"] * len(rows)


def test_nothing_is_claimed_or_sent_while_the_disk_fails_and_it_recovers_by_itself(
    box: PlayedBox, disk: Disk, caplog: pytest.LogCaptureFixture
) -> None:
    row = box.insert(number_of(0), write_text(0), in_s=60)
    fails(box, disk, 30, 400)
    seen: list[object] = []

    def look() -> None:
        claimed = box.sql("SELECT count(*) FROM messages")[0][0]
        seen.append((claimed, len(box.texts()), box.row(row)[0], shown(box)))

    box.after(390, look)
    box.serve(600)
    assert disk.failures
    assert seen == [(0, 0, "scheduled", "database or disk")]
    assert sum("smsbox.db: " in each.message for each in caplog.records) == 1  # told once
    assert_sent_once(box, [row])
    assert shown(box) == "none"


def test_status_says_that_the_disk_fails(box: PlayedBox, disk: Disk) -> None:
    box.insert(number_of(0), write_text(0), in_s=60)
    fails(box, disk, 30, 400)
    box.serve(390)
    assert box.published[-1]["fault"] == "database or disk"


def test_start_with_a_disk_that_fails_waits_for_it(
    box: PlayedBox, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = Disk(monkeypatch, WORDS["full"], STATEMENTS["change"])
    row = box.insert(number_of(0), write_text(0))
    fails(box, disk, 0, 60)
    disk.fails = True
    box.serve(drain=True)
    assert_sent_once(box, [row])


def test_sim_that_was_changed_while_the_disk_failed_still_pauses_the_box(
    box: PlayedBox, disk: Disk
) -> None:
    box.insert(number_of(0), "before")
    box.serve(60)
    box.far.answers[b"AT+CCID\r"] = b"\r\n+CCID: 8901260000000004242\r\n\r\nOK\r\n"
    box.insert(number_of(1), "not from another number", in_s=300)
    box.far.gone = True
    box.after(10, lambda: setattr(box.far, "gone", False))
    fails(box, disk, 5, 100)
    box.serve(600)
    assert box.texts() == ["before"]
    assert "another SIM" in (box.database.state.get("paused_because") or "")


@pytest.mark.parametrize("statements", ["BEGIN", "SELECT"])
def test_daemon_does_not_spin_while_the_disk_fails_and_the_modem_speaks(
    box: PlayedBox, statements: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = Disk(monkeypatch, WORDS["failing"], statements)
    row = box.insert(number_of(0), write_text(0))
    box.far.script.append(lambda: setattr(disk, "fails", True))
    box.after(100, lambda: setattr(box.far, "said", b"\r\nRING\r\n"))
    box.after(200, lambda: setattr(disk, "fails", False))
    box.serve(drain=True)  # the clock of this play counts the turns
    assert_sent_once(box, [row])


@pytest.mark.parametrize("segment", [1, 2, 4])
def test_segment_that_was_sent_but_not_written_down_is_written_later_and_never_sent_again(
    box: PlayedBox, disk: Disk, segment: int
) -> None:
    rows = [box.insert(number_of(place), write_text(place), 300 * place) for place in range(2)]
    box.far.script.extend([None] * (segment - 1))
    box.far.script.append(lambda: setattr(disk, "fails", True))
    seen: list[tuple[int, str]] = []
    box.after(190, lambda: seen.append((len(box.texts()), shown(box))))
    box.after(200, lambda: setattr(disk, "fails", False))
    box.serve(drain=True)
    assert disk.failures
    assert seen == [(segment, "database or disk")]
    assert_sent_once(box, rows)


def test_restart_while_a_sent_segment_is_owed_to_the_disk_sends_nothing_twice(
    box: PlayedBox, disk: Disk
) -> None:
    rows = [box.insert(number_of(place), write_text(place), 300 * place) for place in range(2)]
    box.far.script.extend([None, lambda: setattr(disk, "fails", True)])
    box.serve(100)
    disk.fails = False
    box.serve(drain=True)
    assert not find_problems(box, box.texts())
    assert [box.row(row)[0] for row in rows] == ["failed", "sent"]


@pytest.fixture(params=["tmpfs", "ext4"])
def small_disk(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Path]:
    """A disk of some megabytes."""
    folder, image = tmp_path / "disk", tmp_path / "disk.img"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=8m,mode=755", "tmpfs", str(folder)]
    ready = os.geteuid() == 0
    if request.param == "ext4":
        ready = ready and which("mkfs.ext4") is not None
        with image.open("wb") as file:
            file.truncate(16 * 2**20)
        ready = ready and not subprocess.run(["mkfs.ext4", "-q", str(image)]).returncode
        mount = ["mount", "-o", "loop", str(image), str(folder)]
    if not ready or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("a small disk can only be mounted by root")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.mark.parametrize("texts_before", [0, 1, 2, 3, 4])
def test_disk_that_is_really_full_sends_nothing_twice_and_loses_nothing(
    small_disk: Path, now: datetime, texts_before: int
) -> None:
    made = PlayedBox(small_disk, now)
    made.serve(20)
    ballast = small_disk / "ballast"
    rows = [made.insert(number_of(place), write_text(place), 300 * place) for place in range(3)]
    if texts_before:
        made.far.script.extend([None] * (texts_before - 1))
        made.far.script.append(lambda: fill(small_disk))
    else:
        fill(small_disk)
    seen: list[tuple[int, str]] = []
    made.after(190, lambda: seen.append((len(made.texts()), shown(made))))
    made.after(200, ballast.unlink)
    made.serve(drain=True)
    ((sent_meanwhile, lamp),) = seen
    assert sent_meanwhile <= texts_before + 1  # what the log still had room for
    assert lamp == "database or disk"
    assert_sent_once(made, rows)
    close(made)


# --- what stops holds on a full disk


def fill(folder: Path) -> Path:
    """Take all room that is left."""
    ballast = folder / "ballast"
    with ballast.open("wb", buffering=0) as file, suppress(OSError):
        while True:
            file.write(bytes(4096))
    return ballast


def command(box: PlayedBox, *words: str) -> int:
    return smsbox.main(["--database", box.path, *words])


@pytest.fixture
def full(small_disk: Path, now: datetime) -> Iterator[tuple[PlayedBox, Path]]:
    """A box that has lived for a while, whose disk is full now; and what fills it."""
    box = PlayedBox(small_disk, now)
    box.serve(20)
    for place in range(3):
        box.insert(number_of(place), write_text(place), 300 + 300 * place)
    box.sql("PRAGMA wal_checkpoint(TRUNCATE)")  # what is written now finds no room in the log
    yield box, fill(small_disk)
    close(box)


def test_stop_that_comes_in_holds_on_a_full_disk_and_over_a_restart(
    full: tuple[PlayedBox, Path],
) -> None:
    box, ballast = full
    box.far.modem.receive(encode_deliver("STOP", number_of(1), box.play.now()))
    box.serve(1200)
    assert box.row(2)[0] == "cancelled"
    assert box.texts() == []  # nothing is sent while the room for the next stop is missing
    assert shown(box) == "database or disk"
    assert "the disk is full" in str(box.published[-1]["fault_words"])
    box.serve(60)
    assert box.texts() == []
    ballast.unlink()
    box.serve(3600)
    assert Path(f"{box.path}.reserve").stat().st_size == 2 * 2**20
    assert [box.row(row)[0] for row in (1, 2, 3)] == ["sent", "cancelled", "sent"]
    assert not any("1.0" in text for text in box.texts())


@pytest.mark.parametrize(
    ("words", "holds"),
    [
        (("pause",), "SELECT count(*) FROM state WHERE key = 'paused_because'"),
        (("cancel", "2", "--yes"), "SELECT status = 'cancelled' FROM scheduled_messages"
         " WHERE id = 2"),
        (("optout", "add", number_of(1)), "SELECT count(*) FROM opt_outs"),
    ],
    ids=lambda each: each[0] if isinstance(each, tuple) else "",
)  # fmt: skip
def test_command_that_stops_holds_on_a_full_disk(
    full: tuple[PlayedBox, Path], words: Sequence[str], holds: str,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    box, _ = full
    assert command(box, *words) == 0, capsys.readouterr().err
    assert box.sql(holds) == [(1,)]
    assert not Path(f"{box.path}.reserve").exists()


def test_command_that_can_store_nothing_says_so(
    full: tuple[PlayedBox, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    box, ballast = full
    Path(f"{box.path}.reserve").unlink()
    more = ballast.with_name("more")
    ballast.rename(more)
    fill(more.parent)
    assert command(box, "pause") == 75
    told = capsys.readouterr()
    assert told.out == ""
    assert "nothing was stored" in told.err
    assert "systemctl stop smsbox" in told.err


def test_room_that_a_power_cut_left_empty_is_made_again(box: PlayedBox) -> None:
    reserve = Path(f"{box.path}.reserve")
    reserve.touch()
    box.serve(20)
    assert reserve.stat().st_blocks * 512 >= 2 * 2**20


def test_error_of_smsbox_gives_up_nothing_that_is_known_and_only_not_written_down(
    box: PlayedBox, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = Disk(monkeypatch, WORDS["failing"], STATEMENTS["commit"])
    row = box.insert(number_of(0), "one [BUBBLE] two")
    real, left = smsbox.Conversation.listen, [2]

    def stumble(modem: smsbox.Conversation) -> None:
        if disk.failures and left[0]:
            left[0] -= 1
            disk.fails = False
            raise KeyError("a slip")
        real(modem)

    monkeypatch.setattr(smsbox.Conversation, "listen", stumble)
    box.far.script.append(lambda: setattr(disk, "fails", True))
    box.serve(300)
    assert left == [0]
    assert_sent_once(box, [row])


# --- a disk that keeps nothing


def test_nothing_is_sent_from_a_file_system_that_is_forced_to_be_read_only(
    box: PlayedBox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its writes and fsyncs go on succeeding and keep nothing; only statvfs tells."""
    rows = [box.insert(number_of(place), write_text(place), 60) for place in range(2)]
    box.far.script.append(lambda: force_read_only(monkeypatch))
    box.serve(600)
    assert len(box.texts()) == 1  # the segment that was with the modem
    assert shown(box) == "database or disk"
    assert "read-only" in str(box.published[-1]["fault_words"])
    monkeypatch.undo()
    box.serve(1200)
    assert_sent_once(box, rows)


def test_nothing_is_sent_from_a_file_that_was_moved_away(box: PlayedBox) -> None:
    box.insert(number_of(0), write_text(0), 60)
    box.after(30, lambda: Path(box.path).rename(box.path + ".away"))
    box.serve(600)
    assert box.texts() == []
    assert not Path(box.path).exists()  # no empty one is made in its place
    assert "gone" in str(box.published[-1]["fault_words"])
    Path(box.path + ".away").rename(box.path)
    box.serve(600)
    assert box.texts()[-1] == "The end of 0"


@pytest.fixture
def ext4(tmp_path: Path) -> Iterator[tuple[Path, Path]]:
    """A small ext4 that turns read-only at an error; and the file by which one is triggered."""
    folder, image = tmp_path / "card", tmp_path / "image"
    folder.mkdir()
    with image.open("wb") as file:
        file.truncate(24 * 2**20)
    mount = ["mount", "-o", "loop,errors=remount-ro", str(image), str(folder)]
    ready = os.geteuid() == 0 and which("mkfs.ext4") is not None
    ready = ready and not subprocess.run(["mkfs.ext4", "-q", str(image)]).returncode
    if not ready or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("an ext4 can only be made and mounted by root, with loop devices")
    device = next(
        line.split()[0] for line in Path("/proc/mounts").read_text().splitlines()
        if line.split()[1] == str(folder)
    )  # fmt: skip
    trigger = Path("/sys/fs/ext4") / Path(device).name / "trigger_fs_error"
    try:
        if not os.access(trigger, os.W_OK):
            pytest.skip("this kernel triggers no error of ext4")
        yield folder, trigger
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def test_ext4_that_turns_read_only_at_an_error_sends_nothing_more(
    ext4: tuple[Path, Path], now: datetime
) -> None:
    folder, trigger = ext4
    box = PlayedBox(folder, now)
    for place in range(2):
        box.insert(number_of(place), write_text(place), 60 + 300 * place)
    box.far.script.append(lambda: trigger.write_text("1"))
    box.serve(1200)
    assert len(box.texts()) == 1
    assert shown(box) == "database or disk"
    close(box)
