"""A reply that may mean stop, or that nobody can read, shuts every row of its number.

Whenever and however a row was planned, nothing is sent to that number until a person, or the
number itself, has settled it; reading the inbox and starting anew settle nothing.
"""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

import smsbox
from rig.desk import Keyboard, Operator, texts
from rig.people import ANA, BEN, CHLOE
from rig.played import PlayedBox, close
from rig.tpdus import deliver, encode_deliver
from smsbox import write_answer

DOUBTFUL = "is this spam?"
DAY_S = 86_400
ATTENTION = "something awaits a person"
PHONE = "+12135550100"
GONE = write_answer(smsbox.Request.STOP, "en", "", "")
SETTLING = {  # what ends it, and whether the rows go then
    "release number": True, "release id": True, "start": True, "send anyway": True,
    "send on a terminal": True, "optout add": False, "stop": False,
}  # fmt: skip


@pytest.fixture
def box(box: PlayedBox) -> PlayedBox:
    """Looks once a minute: days pass here."""
    box.tables["service"] = {"poll_seconds": 60}
    return box


@pytest.fixture
def shop(box: PlayedBox, operator: Operator, monkeypatch: pytest.MonkeyPatch) -> Operator:
    """The operator of the played box, whose commands are told its time."""
    operator.database = Path(box.path)
    monkeypatch.setattr(smsbox.Waiting, "now", lambda _: box.play.now())
    return operator


def reply(box: PlayedBox, text: str, number: str = ANA, in_s: float = 0) -> None:
    def arrive() -> None:
        box.far.said += box.far.modem.receive(encode_deliver(text, number, box.play.now()))

    box.after(in_s, arrive)


def sent_to(box: PlayedBox, number: str) -> list[str]:
    return [text for _, to, text in box.far.arrived if to == number]


def lamp(box: PlayedBox) -> str:
    return box.wall.shown[-1].fault.value


def plan(shop: Operator, name: str, *pairs: tuple[str, str]) -> None:
    (shop.config.parent / f"{name}.csv").write_text(texts(*pairs))
    done = shop.run("schedule", str(shop.config.parent / f"{name}.csv"), "--yes", "--again")
    assert done.status == 0, done


def assert_settled(box: PlayedBox) -> None:
    open_ = "settled_at IS NULL AND (request = 'perhaps stop' OR body IS NULL)"
    assert box.sql(f"SELECT id FROM inbound WHERE {open_}") == []


def settle(box: PlayedBox, shop: Operator, way: str) -> None:
    row = box.sql("SELECT max(id) FROM scheduled_messages WHERE phone_number = ?", ANA)[0][0]
    if way == "release number":
        done = shop.run("release", ANA, "--yes")
    elif way == "release id":
        done = shop.run("release", str(row))
    elif way == "send anyway":
        done = shop.run("send", ANA, "by hand", "--anyway")
    elif way == "send on a terminal":
        done = shop.run("send", ANA, "by hand", terminal=Keyboard("YES\n"))
    elif way == "optout add":
        done = shop.run("optout", "add", ANA)
    else:
        return reply(box, way.upper())
    assert done.status == (75 if way.startswith("send") else 0), done  # no daemon runs meanwhile
    if way.startswith("release"):
        assert DOUBTFUL in done.out
    return None


# --- however the rows came in, and whatever settles it


@pytest.mark.parametrize("way", SETTLING)
def test_nothing_goes_to_who_wrote_in_doubt_until_it_is_settled(
    box: PlayedBox, shop: Operator, way: str
) -> None:
    box.insert(ANA, "before")
    waiting = box.insert(ANA, "waiting", in_s=3600)
    reply(box, DOUBTFUL, in_s=300)
    box.serve(600)
    assert sent_to(box, ANA) == ["before"]
    plan(shop, "later", (ANA, "from a file"), (BEN, "to Ben"))
    box.insert(ANA, "by SQL", campaign_name="another")
    failed = box.insert(ANA, "tried again", status="failed", error_message="refused")
    assert shop.run("retry", str(failed)).status == 0
    refused = shop.run("send", ANA, "by hand")
    assert (refused.status, DOUBTFUL in refused.err) == (75, True)
    box.serve(3 * 3600)
    for words in (["inbox"], ["inbox", "--json"], ["list", ANA], ["status"], ["why", ANA]):
        shop.run(*words)
    assert "settled" not in shop.run("release", "--campaign", "another", "--yes").out
    shop.run("pause")
    shop.run("resume")
    box.serve(DAY_S)  # another life, and the next day
    assert sent_to(box, ANA) == ["before"]
    assert sent_to(box, BEN) == ["to Ben"]
    assert box.row(waiting, "status, held_because") == ("scheduled", None)

    settle(box, shop, way)
    box.serve(DAY_S)
    rows = {"waiting", "from a file", "by SQL", "tried again"}
    rows |= {"by hand"} if way.startswith("send") else set()
    if SETTLING[way]:
        assert sorted(sent_to(box, ANA)) == sorted({"before"} | rows)
    else:
        assert sent_to(box, ANA) in (["before"], ["before", GONE])
        assert box.sql("SELECT DISTINCT status FROM scheduled_messages WHERE phone_number = ?"
                       " AND message_content <> 'before'", ANA) == [("cancelled",)]  # fmt: skip
    assert_settled(box)


def test_row_of_send_that_waits_is_shut_by_a_reply_that_came_before_it_went(
    box: PlayedBox, shop: Operator
) -> None:
    assert shop.run("send", ANA, "by hand").status == 75
    box.far.modem.stored[0] = deliver(DOUBTFUL, ANA, box.play.now() - timedelta(minutes=1))
    box.serve(1800)
    assert sent_to(box, ANA) == []
    assert shop.run("release", ANA).status == 0
    box.serve(600)
    assert sent_to(box, ANA) == ["by hand"]


def test_what_can_not_be_read_shuts_the_gate_as_well(box: PlayedBox, shop: Operator) -> None:
    row = box.insert(ANA, "Hi", in_s=60)
    box.far.modem.stored[0] = deliver("\u0102", ANA, box.play.now(), coding="F5")  # octets
    box.serve(DAY_S)
    assert box.sql("SELECT sender, body FROM inbound") == [(ANA, None)]
    assert sent_to(box, ANA) == []
    assert shop.run("release", str(row)).status == 0
    box.serve(3600)
    assert sent_to(box, ANA) == ["Hi"]


def test_last_of_several_replies_is_not_the_only_one_that_counts(
    box: PlayedBox, shop: Operator
) -> None:
    """Thanks after a doubt is no word of a person about the doubt; one release settles all."""
    box.insert(ANA, "Hi", in_s=3600)
    for place, text in enumerate((DOUBTFUL, "who is this??? how did you get my number", "thanks")):
        reply(box, text, in_s=60 * place)
    box.serve(DAY_S)
    assert sent_to(box, ANA) == []
    told = shop.run("release", ANA)
    assert told.out.count("[perhaps stop]") == 2
    assert "2 replies settled" in told.out
    box.serve(3600)
    assert sent_to(box, ANA) == ["Hi"]
    reply(box, DOUBTFUL)
    box.insert(ANA, "and again", in_s=600)
    box.serve(DAY_S)
    assert sent_to(box, ANA) == ["Hi"]  # it was no word for the next one


def test_start_of_one_settles_nothing_of_another(box: PlayedBox) -> None:
    for number in (ANA, BEN):
        box.insert(number, "Hi", in_s=3600)
        reply(box, DOUBTFUL, number)
    reply(box, "START", BEN, in_s=60)
    box.serve(DAY_S)
    assert (sent_to(box, ANA), sent_to(box, BEN)) == ([], ["Hi"])


UK, TWIN = "+447700900123", "+17700900123"  # both may be 7700900123


@pytest.mark.parametrize("words", ["STOP", "please stop texting me", "START"])
def test_word_of_one_leaves_a_stop_that_may_be_anothers_to_the_other(
    box: PlayedBox, shop: Operator, words: str
) -> None:
    for number in (UK, TWIN):
        box.insert(number, "Hi", in_s=3600)
    reply(box, "STOP", "7700900123")
    reply(box, DOUBTFUL, UK)
    reply(box, words, UK, in_s=60)
    box.serve(DAY_S)
    assert sent_to(box, TWIN) == []
    waits = "SELECT sender, body FROM inbound WHERE request = 'perhaps stop' AND settled_at IS NULL"
    assert box.sql(waits) == [(TWIN, "STOP")]
    shop.run("optout", "add", TWIN)
    assert_settled(box)


def test_doubt_that_moves_to_who_has_said_the_same_at_that_time_is_settled_by_release(
    box: PlayedBox,
) -> None:
    for number in (UK, TWIN):
        box.insert(number, "Hi", in_s=3600)

    def come(number: str, times: int = 1) -> None:  # of a service centre that stands still
        for minute in range(times):
            at = datetime(2024, 11, 9, 1, minute, tzinfo=timezone.utc)
            box.far.said += box.far.modem.receive(deliver("No thanks", number, at))
        box.serve(60)

    def release(number: str) -> int:
        with box.database.transaction():
            return smsbox.settle_replies(box.database, number, box.play.now(), "ana")

    for number in (UK, TWIN):
        come(number)
        assert release(number) == 1
    for times in (1, 2):
        come("7700900123", times)
        for number in (UK, TWIN):
            assert release(number)
    box.serve(7200)
    assert len(sent_to(box, UK)) == len(sent_to(box, TWIN)) == 1


@pytest.mark.parametrize("place", [0, 1])
@pytest.mark.parametrize("words", ["STOP", "START"])
def test_word_of_another_country_settles_nothing_of_whom_nobody_knows_yet(
    box: PlayedBox, words: str, place: int
) -> None:
    def come(text: str, number: str) -> None:
        box.far.said += box.far.modem.receive(deliver(text, number, box.play.now()))
        box.serve(60)

    national = ANA.removeprefix("+1")
    said = [(words, f"+44{national}")]
    said.insert(place, (DOUBTFUL, national))
    for text, number in said:
        come(text, number)
    box.insert(ANA, "Hi")
    box.serve(DAY_S)
    assert sent_to(box, ANA) == []
    come("START", national)
    box.serve(DAY_S)
    assert sent_to(box, ANA) == ["Hi"]


def test_person_who_adds_a_number_says_whose_a_doubtful_stop_was(
    box: PlayedBox, shop: Operator
) -> None:
    for number in (UK, TWIN):
        box.insert(number, "Hi", in_s=3600)
    reply(box, "STOP", "7700900123")
    box.serve(60)
    shop.run("optout", "add", UK)
    assert_settled(box)
    box.serve(DAY_S)
    assert (sent_to(box, UK), sent_to(box, TWIN)) == ([], ["Hi"])


def test_hold_on_reply_makes_each_reply_doubtful_that_is_not_plainly_harmless(
    box: PlayedBox,
) -> None:
    box.tables |= {"replies": {"hold_on_reply": True}}
    said = {ANA: "Do you have it in blue", BEN: "Ok, thanks!", CHLOE: "\U0001f44d"}
    for number, words in said.items():
        box.insert(number, "Hi", in_s=3600)
        reply(box, words, number)
    box.serve(DAY_S)
    assert [sent_to(box, number) for number in said] == [[], ["Hi"], ["Hi"]]


# --- amid a message, and after a long wait


def test_doubt_between_two_bubbles_keeps_the_second_until_it_is_settled(
    box: PlayedBox, shop: Operator
) -> None:
    box.tables |= {"pacing": {"bubble_gap_seconds": [60, 60]}}
    row = box.insert(ANA, "one [BUBBLE] two")
    box.insert(BEN, "others go on", in_s=600)
    reply(box, DOUBTFUL, in_s=20)
    box.serve(2 * DAY_S)
    assert box.texts() == ["one", "others go on"]
    assert box.row(row, "status, held_because") == ("scheduled", None)
    assert box.bubbles(row) == ["sent", "queued"]
    shop.run("release", ANA)  # its hour counts from now
    box.serve(1200)
    assert sent_to(box, ANA) == ["one", "two"]
    assert box.row(row)[0] == "sent"


def test_lateness_counts_from_the_settling(box: PlayedBox, shop: Operator) -> None:
    box.tables = {"service": {"expire_after_days": 1, "poll_seconds": 60}}
    rows = [box.insert(ANA, "Hi", in_s=60), box.insert(BEN, "Hello", in_s=60)]
    reply(box, DOUBTFUL)
    box.serve(2 * DAY_S)
    assert box.row(rows[0], "status, held_because") == ("scheduled", None)
    before = box.play.now()
    shop.run("release", ANA)
    assert box.row(rows[0], "scheduled_for")[0] >= f"{before:%Y-%m-%d %H:%M:%S}"
    box.serve(DAY_S)
    assert [box.row(each)[0] for each in rows] == ["sent", "sent"]


def test_settling_moves_no_row_that_is_still_to_come_and_no_row_that_is_held(
    box: PlayedBox, shop: Operator
) -> None:
    later = box.insert(ANA, "tomorrow", in_s=DAY_S)
    held = box.insert(ANA, "held", in_s=60, held_because="by hand")
    reply(box, DOUBTFUL)
    box.serve(7200)
    due = [box.row(each, "scheduled_for") for each in (later, held)]
    shop.run("release", str(later))
    assert [box.row(each, "scheduled_for") for each in (later, held)] == due
    assert box.row(held, "held_because") == ("by hand",)
    box.serve(2 * DAY_S)
    assert sent_to(box, ANA) == ["tomorrow"]


def test_row_that_ends_while_the_gate_is_shut_is_too_late_and_not_sent(
    box: PlayedBox, shop: Operator
) -> None:
    until = f"{box.play.now() + timedelta(hours=2):%Y-%m-%d %H:%M:%S}"
    row = box.insert(ANA, "Hi", in_s=60, until=until)
    reply(box, DOUBTFUL)
    box.serve(DAY_S)
    shop.run("release", ANA)
    box.serve(3600)
    assert (sent_to(box, ANA), box.row(row)) == ([], ("cancelled", "too late"))
    assert_settled(box)


def test_reply_to_a_campaign_that_is_over_is_settled_by_the_number(
    box: PlayedBox, shop: Operator
) -> None:
    row = box.insert(ANA, "Hi")
    reply(box, DOUBTFUL, in_s=60)
    box.serve(600)
    assert box.row(row)[0] == "sent"
    assert shop.run("status", "--json").value["counts"]["doubtful"] == 1
    done = shop.run("release", ANA)
    assert (done.status, DOUBTFUL in done.out) == (0, True), done
    assert_settled(box)


def test_draining_ends_with_what_only_a_person_can_free(box: PlayedBox) -> None:
    row = box.insert(ANA, "Hi", in_s=600)
    box.insert(BEN, "Hello", in_s=60)
    reply(box, DOUBTFUL)
    began = box.play.now()
    box.serve(drain=True)
    assert box.texts() == ["Hello"]
    assert box.row(row)[0] == "scheduled"
    assert box.play.now() - began < timedelta(minutes=20)


# --- what it says


def test_lamp_alert_status_list_why_and_inbox_tell_of_it_until_it_is_settled(
    box: PlayedBox, shop: Operator
) -> None:
    box.tables |= {"alerts": {"operator": PHONE}}
    row = box.insert(ANA, "Hi", in_s=3600)
    reply(box, DOUBTFUL)
    box.serve(600)
    assert lamp(box) == ATTENTION
    (alert,) = sent_to(box, PHONE)
    assert "a reply may mean stop" in alert
    told = shop.run("status", "--json").value
    assert (told["counts"]["doubtful"], told["counts"]["scheduled"]) == (1, 1)
    assert [each["level"] for each in told["facts"] if each["name"] == "doubtful"] == ["warning"]
    assert "held" in shop.run("list", "--held").out
    gates = {each["name"]: each for each in shop.run("why", str(row), "--json").value}
    assert gates["reply"]["level"] == "warning"
    assert gates["held"]["level"] == "ok"
    listed = shop.run("list", "--json").value
    assert [each["expected_at"] for each in listed] == [None]
    assert f"smsbox release {ANA}" in shop.run("inbox").out
    box.serve(600)
    assert lamp(box) == ATTENTION  # it was read, not settled
    assert "doubtful" in shop.run("status").out
    shop.run("release", ANA)
    box.serve(600)
    assert lamp(box) == "none"
    told = shop.run("status", "--json").value
    assert told["counts"]["doubtful"] == 0
    assert f"smsbox release {ANA}" not in shop.run("inbox").out
    assert len(sent_to(box, PHONE)) == 1


def test_read_doubt_takes_no_harmless_reply_from_the_count_of_the_unread(
    box: PlayedBox, shop: Operator
) -> None:
    for number in (ANA, BEN):
        box.insert(number, "Hi", in_s=DAY_S)
    reply(box, DOUBTFUL)
    box.serve(60)
    shop.run("inbox")
    assert "unread" not in shop.run("status").out
    reply(box, "Thanks!", BEN)
    box.serve(60)
    assert "1 unread" in shop.run("status").out


def test_doubt_of_a_stranger_lights_no_lamp_and_shuts_the_gate_of_a_later_row(
    box: PlayedBox, shop: Operator
) -> None:
    box.tables |= {"alerts": {"operator": PHONE}}
    reply(box, DOUBTFUL)
    box.serve(600)
    assert lamp(box) == "none"
    shop.run("inbox")
    assert sent_to(box, PHONE) == []
    assert shop.run("status", "--json").value["counts"]["doubtful"] == 0
    (shop.config.parent / "new.csv").write_text(texts((ANA, "Hi"), (BEN, "Hello")))
    shown = shop.run("schedule", str(shop.config.parent / "new.csv"), "--yes").out
    assert "may mean stop" in shown
    box.serve(DAY_S)
    assert (sent_to(box, ANA), sent_to(box, BEN)) == ([], ["Hello"])
    assert lamp(box) == ATTENTION
    assert len(sent_to(box, PHONE)) >= 1
    assert shop.run("status", "--json").value["counts"]["doubtful"] == 1


def test_doubt_of_who_has_stopped_asks_nobody_and_their_later_row_is_cancelled(
    box: PlayedBox, shop: Operator
) -> None:
    box.insert(ANA, "Hi", in_s=60)
    reply(box, "STOP")
    box.serve(20)
    reply(box, DOUBTFUL)
    box.serve(20)
    assert shop.run("status", "--json").value["counts"]["doubtful"] == 0
    late = box.insert(ANA, "Hello again")
    box.serve(600)
    assert box.row(late) == ("cancelled", "the recipient said stop")


# --- any order of it all


class ReplyGate(RuleBasedStateMachine):
    """A model beside the store: who may be written to is who has no doubtful reply open."""

    people = st.sampled_from([ANA, BEN])

    def __init__(self) -> None:
        super().__init__()
        import tempfile

        self.folder = tempfile.TemporaryDirectory()
        start = smsbox.from_database_time("2025-11-09 18:00:00")
        self.box = PlayedBox(Path(self.folder.name), start)
        self.box.tables = {
            "service": {"poll_seconds": 60},
            "business_hours": {"opens": "00:00", "closes": "24:00"},
            "recipient_hours": {"enabled": False},
            "pacing": {"interval_minutes": [1, 2], "skip_chance": [0, 0]},
        }
        self.open: set[str] = set()  # of whom a reply waits
        self.stopped: set[str] = set()
        self.places = 0

    def teardown(self) -> None:
        close(self.box)
        self.folder.cleanup()

    def name(self) -> str:
        self.places += 1
        return f"text {self.places}"

    @rule(number=people, in_s=st.sampled_from([0, 400, 90_000]))
    def add_row(self, number: str, in_s: int) -> None:
        self.box.insert(number, self.name(), in_s=in_s, campaign_name=self.name())

    @rule(number=people, words=st.sampled_from([DOUBTFUL, "thanks", "START", "STOP"]))
    def reply_comes(self, number: str, words: str) -> None:
        reply(self.box, words, number)
        self.box.serve(20)
        if words == DOUBTFUL and number not in self.stopped:
            self.open.add(number)
        elif words == "STOP":
            self.stopped.add(number)
            self.open.discard(number)
        elif words == "START":
            self.stopped.discard(number)
            self.open.discard(number)

    @rule(number=people)
    def settle_it(self, number: str) -> None:
        with self.box.database.transaction():
            self.box.database.inbox.settle(number, self.box.play.now(), "ana")
        self.open.discard(number)

    @rule()
    def read_inbox(self) -> None:
        ids = [each[0] for each in self.box.sql("SELECT id FROM inbound")]
        self.box.database.inbox.mark_read(ids, self.box.play.now())

    @rule(for_s=st.sampled_from([600, 4000, 30_000]))
    def live(self, for_s: int) -> None:
        self.box.serve(for_s)

    @precondition(lambda self: self.open | self.stopped)
    @rule()
    def nothing_goes_to_them(self) -> None:
        shut = self.open | self.stopped
        for number in shut:
            self.box.insert(number, self.name())
        before = len(self.box.far.arrived)
        self.box.serve(2000)
        fresh = self.box.far.arrived[before:]
        assert [each for each in fresh if each[1] in shut and each[2].startswith("text")] == []

    @invariant()
    def rows_tell_who_waits(self) -> None:
        rows = self.box.database.queue.rows(smsbox.RowFilter(status="scheduled"))
        assert {row.phone_number for row in rows if row.doubtful_at} <= self.open
        free = {row.phone_number for row in rows if not row.doubtful_at}
        assert not free & (self.open - self.stopped)


TestReplyGate = ReplyGate.TestCase
TestReplyGate.settings = settings(max_examples=10, stateful_step_count=10, deadline=None)
