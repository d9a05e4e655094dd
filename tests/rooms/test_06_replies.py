"""Replies: what an incoming text asks for, in a person's own words."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

import smsbox
from rig.paths import ROOT

STOP, HELP, START = smsbox.Request.STOP, smsbox.Request.HELP, smsbox.Request.START
PERHAPS_STOP, NOTHING = smsbox.Request.PERHAPS_STOP, smsbox.Request.NOTHING

STOP_KEYWORDS = [
    *("STOP", "STOPALL", "STOP ALL", "UNSUBSCRIBE", "CANCEL", "END", "QUIT", "REVOKE", "REMOVE"),
    *("OPTOUT", "OPT OUT", "OPT-OUT"),
    *("ALTO", "BAJA", "PARAR"),
    *("ARRET", "ARRÊT"),
]
HELP_KEYWORDS = ["HELP", "INFO", "AYUDA", "AIDE"]
START_KEYWORDS = ["START", "UNSTOP"]


# --- keywords -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "form", ["{}", " {} ", "{}.", "{}!!!", '"{}"', "¡{}!", "{}\n", "{} 🙏", "*{}*"]
)
@pytest.mark.parametrize("word", STOP_KEYWORDS)
def test_keyword_alone_means_stop_however_it_is_written(word: str, form: str) -> None:
    for written in (word, word.lower(), word.capitalize()):
        assert smsbox.read_reply(form.format(written)) is STOP


@pytest.mark.parametrize("form", ["{}", " {} ", "{}?", "{}!!", "¿{}?", "{} 🙏"])
def test_help_and_start_are_known_in_three_languages(form: str) -> None:
    for word in HELP_KEYWORDS:
        assert smsbox.read_reply(form.format(word)) is HELP
        assert smsbox.read_reply(form.format(word.lower())) is HELP
    for word in START_KEYWORDS:
        assert smsbox.read_reply(form.format(word)) is START
        assert smsbox.read_reply(form.format(word.lower())) is START


@pytest.mark.parametrize(
    "text",
    ["S T O P", "s.t.o.p", "S-T-O-P!", "s t o p .", "A L T O", "q u i t", "u n s u b s c r i b e",
     "S\u200bT\u200bO\u200bP", "ST\u00adOP", "\ufeffSTOP", "\u202aSTOP\u202c",
     "S\u00a0T\u00a0O\u00a0P"],
)  # fmt: skip
def test_spaced_letters_and_invisible_characters_do_not_hide_a_keyword(text: str) -> None:
    assert smsbox.read_reply(text) is STOP


@pytest.mark.parametrize(
    "text",
    ["arrêt", "Arre\u0302t", "ÁLTO", "bája", "ＳＴＯＰ", "𝐒𝐓𝐎𝐏", "ｓｔｏｐ", "Ⓢⓣⓞⓟ"],
)
def test_accents_and_letters_of_other_shapes_do_not_matter(text: str) -> None:
    assert smsbox.read_reply(text) is STOP


# --- phrases ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    ["Please stop", "stop please", "Stop now", "STOP texting me", "please stop texting me",
     "Please STOP sending me these messages", "stop messaging me!!", "Stop contacting me.",
     "quit texting me", "Can you stop texting me", "unsubscribe me", "Please unsubscribe me.",
     "unsubscribe please", "take me off your list", "Take me off this list please",
     "remove me from your list", "Please remove my number from your list", "remove me",
     "Please remove me", "don't text me", "Don\u2019t text me again", "do not text me anymore",
     "dont message me", "Do not contact me", "wrong number", "Sorry, wrong number",
     "You have the wrong person", "please st\u00adop texting me",
     "STOP\nSTOP\nSTOP", "stop stop stop"],
)  # fmt: skip
def test_english_phrases_mean_stop(text: str) -> None:
    assert smsbox.read_reply(text) is STOP


@pytest.mark.parametrize(
    "text",
    ["No me escriba más", "no me escriban mas por favor", "Por favor no me manden más mensajes",
     "No me envíe más mensajes", "por favor stop", "número equivocado", "Numero equivocado!!"],
)  # fmt: skip
def test_spanish_phrases_mean_stop(text: str) -> None:
    assert smsbox.read_reply(text) is STOP


@pytest.mark.parametrize(
    "text",
    ["Ne m'écrivez plus", "ne me contactez plus svp", "Ne m\u2019écrivez plus !", "SVP stop",
     "Je veux me désabonner", "désabonnez-moi", "Me désabonner"],
)  # fmt: skip
def test_french_phrases_mean_stop(text: str) -> None:
    assert smsbox.read_reply(text) is STOP


# --- doubt --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    ["I will report this", "is this spam?", "I'm calling my lawyer", "This is harassment",
     "you are blocked", "I'll block you", "Leave me alone", "Who is this?",
     "who is this and how did you get my number", "How did you get my number?", "scam",
     "I said stop it already",
     "Why won't this stop?", "¡Basta!", "Ya basta", "Dejen de escribirme", "deje de escribirme",
     "Voy a denunciar esto", "Arrêtez de m'écrire", "arretez svp", "stop merci", "Stop, gracias"],
)  # fmt: skip
def test_doubtful_words_hold_the_messages_for_the_operator(text: str) -> None:
    assert smsbox.read_reply(text) in (PERHAPS_STOP, STOP)


@pytest.mark.parametrize(
    "text",
    ["No more texts please", "no more messages", "I want to opt out", "opt me out please",
     "I'd like to unsubscribe", "alto por favor", "No más mensajes", "Arrêt s'il vous plaît",
     "Delete my number", "lose my number"],
)  # fmt: skip
def test_other_words_for_stop_are_at_least_in_doubt(text: str) -> None:
    assert smsbox.read_reply(text) in (PERHAPS_STOP, STOP)


@pytest.mark.parametrize(
    "text",
    ["stop by at 5", "I'll stop by the shop tomorrow", "Can you stop by the bus stop?",
     "don't stop texting me, I love it", "Please don't stop sending these", "non-stop fun!",
     "The bus stop is closed"],
)  # fmt: skip
def test_stop_inside_other_words_never_stops_by_itself(text: str) -> None:
    assert smsbox.read_reply(text) is not STOP


# --- harmless -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    ["", "   ", "🙏", "👍👍", "?", "...", "1", "Yes", "YES", "yes please", "ok", "Thanks!",
     "thank you", "Hi", "Who?", "See you at 5", "What time do you open?",
     "Cancel my appointment on Friday please", "can I cancel the order", "at the end of the week",
     "The end of the month works",
     "I never quit!", "I removed the old one", "info about the price?", "start at nine?",
     "Can you help me find it", "When does it start?", "the weekend", "a friend", "I'll be there",
     "unstoppable", "Stopover in Denver", "Topstop", "Call me", "Call 213-555-1234", "https://x.co/stopx",
     "Sí", "sí, gracias", "Bien, gracias", "¿A qué hora abren?", "La planta baja está bien",
     "en la parte alta", "Mañana a las cinco", "necesito ayuda con mi pedido", "¿Cuánto cuesta?",
     "Oui", "Oui merci", "d'accord", "À demain !", "Merci beaucoup",
     "j'ai besoin d'aide pour choisir",
     "l'arrêt de bus est loin", "C'est combien ?", "Жду", "好的", "はい"],
)  # fmt: skip
def test_harmless_replies_ask_for_nothing(text: str) -> None:
    assert smsbox.read_reply(text) is NOTHING


def test_yes_never_means_start() -> None:
    for text in ("yes", "YES", "sí", "oui", "ok start", "Yes, start"):
        assert smsbox.read_reply(text) is not START


# --- extra words --------------------------------------------------------------------------------


def test_extra_words_add_to_the_built_in_ones() -> None:
    extra = ("Fertig", "Kein Bedarf")
    for text in ("fertig", "FERTIG!", "kein bedarf", "Kein  Bedarf.", "stop", "f e r t i g"):
        assert smsbox.read_reply(text, stop_words=extra) is STOP
    assert smsbox.read_reply("fertig") is NOTHING
    assert smsbox.read_reply("Ich bin fertig", stop_words=extra) is NOTHING


def test_extra_words_for_help_and_start_work_with_several_words_too() -> None:
    for text in ("hilfe", "HILFE!", "Was ist das?", "help"):
        assert smsbox.read_reply(text, help_words=("Hilfe", "Was ist das")) is HELP
    for text in ("weiter", "Bin dabei!", "sí quiero", "start"):
        assert smsbox.read_reply(text, start_words=("weiter", "bin dabei", "Sí quiero")) is START


def test_extra_words_are_folded_like_the_reply() -> None:
    assert smsbox.read_reply("ca suffit", stop_words=("Ça suffit !",)) is STOP
    assert smsbox.read_reply("ÇA SUFFIT", stop_words=("ça suffit",)) is STOP


def test_empty_extra_word_means_nothing() -> None:
    for text in ("", "🙏", "!"):
        assert smsbox.read_reply(text, ("", " "), ("!",), ("🙏",)) is NOTHING


def test_stop_beats_help_and_start() -> None:
    assert smsbox.read_reply("stop", help_words=("stop",), start_words=("stop",)) is STOP
    assert smsbox.read_reply("weg", ("weg",), ("weg",), ("weg",)) is STOP


# --- any text at all ----------------------------------------------------------------------------


@given(st.text(), st.lists(st.text(), max_size=3))
def test_any_text_asks_for_something_or_nothing(text: str, words: list[str]) -> None:
    assert smsbox.read_reply(text, words, words, words) in smsbox.Request


@given(st.text())
def test_simplifying_twice_is_simplifying_once(text: str) -> None:
    once = smsbox.simplify_reply(text)
    assert smsbox.simplify_reply(once) == once
    assert once == once.strip()
    assert "  " not in once


@given(
    st.sampled_from(STOP_KEYWORDS),
    st.text(alphabet=" .,!?-*\"'\n🙏🛑\u200b\ufe0f", max_size=5),
    st.text(alphabet=" .,!?-*\"'\n🙏🛑\u200b\ufe0f", max_size=5),
    st.lists(st.booleans(), min_size=12, max_size=12),
)
def test_no_case_mark_or_emoji_around_it_hides_a_keyword(
    word: str, before: str, after: str, upper: list[bool]
) -> None:
    mixed = "".join(
        char.upper() if flag else char.lower() for char, flag in zip(word, upper, strict=False)
    )
    assert smsbox.read_reply(before + mixed + after) is STOP


# --- how people really write --------------------------------------------------------------------


def wordings(name: str) -> list[str]:
    """The lines of a file of wordings, a request each; the comments left out."""
    lines = (ROOT / "tests" / "replies" / f"{name}.txt").read_text().splitlines()
    return [line.replace("\\n", "\n") for line in lines if line and not line.startswith("# ")]


def fresh(part: str) -> list[str]:
    text = (ROOT / "tests" / "replies" / "fresh.txt").read_text()
    optouts, harmless = text.split("# --- harmless")
    chosen = optouts if part == "optout" else harmless
    return [line for line in chosen.splitlines() if line and not line.startswith("#")]


def rate(texts: list[str], request: smsbox.Request) -> float:
    """Return how many of the texts ask for it; a bare no among them answers a question."""
    return sum(smsbox.read_reply(each, asked=True) is request for each in texts) / len(texts)


@pytest.mark.parametrize("text", wordings("optout") + fresh("optout"))
def test_no_opt_out_passes_unnoticed(text: str) -> None:
    assert smsbox.read_reply(text) in (STOP, PERHAPS_STOP)


@pytest.mark.parametrize("text", wordings("doubtful"))
def test_no_doubtful_reply_lets_the_next_message_go(text: str) -> None:
    assert smsbox.read_reply(text) in (STOP, PERHAPS_STOP)


@pytest.mark.parametrize("text", wordings("harmless") + fresh("harmless"))
def test_no_harmless_reply_opts_a_person_out(text: str) -> None:
    assert smsbox.read_reply(text) in (NOTHING, PERHAPS_STOP)


def test_most_opt_outs_need_no_operator_and_few_harmless_replies_trouble_one() -> None:
    assert len(wordings("optout")) >= 150
    assert len(wordings("harmless")) >= 150
    assert rate(wordings("optout"), STOP) >= 0.9
    assert rate(wordings("harmless"), PERHAPS_STOP) <= 0.03


@pytest.mark.parametrize(
    "text",
    ["STOP\n\nSent from my iPhone", "stop - Ana", "Cancel - Ana", "CANCEL\n\nSent from my iPhone",
     "alto por favor", "Arrêt s'il vous plaît", "STOP STOP STOP", "unsubcribe", "stpo", "s.t.o.p",
     "STOP ALL", "S\ufe0fTOP", "S\u2060TOP", "stop, thanks"],
)  # fmt: skip
def test_signature_courtesy_and_slip_leave_a_keyword_a_keyword(text: str) -> None:
    assert smsbox.read_reply(text) is STOP


@pytest.mark.parametrize(
    "text",
    ["This is an automated message. Reply STOP to opt out or HELP for help.",
     "Thanks for contacting Dr. Lee's office! STOP to opt out, HELP for help",
     "Text STOP to end. Msg&data rates may apply", "Responda BAJA para salir"],
)  # fmt: skip
def test_machine_that_tells_how_to_stop_it_does_not_stop_us(text: str) -> None:
    assert smsbox.read_reply(text) in (NOTHING, PERHAPS_STOP)


def test_person_who_only_repeats_how_to_stop_means_it() -> None:
    for text in ("Reply STOP", "text stop", "STOP to all of this", "stop to text me"):
        assert smsbox.read_reply(text) in (STOP, PERHAPS_STOP), text


@pytest.mark.parametrize("text", ["cancel please", "Remove please", "quit, thanks"])
def test_words_about_anything_stop_only_as_the_whole_message(text: str) -> None:
    assert smsbox.read_reply(text) is PERHAPS_STOP


@pytest.mark.parametrize(
    "text",
    ["don't stop", "do not remove me from your list", "Don't unsubscribe me",
     "no dejen de escribirme", "ne m'envoyez pas la facture",
     "ne me désabonnez pas", "n'arrêtez pas de m'écrire", "no me desuscriban",
     "I gave you the wrong number, it's 213-555-1234", "Don't stop. It is fun"],
)  # fmt: skip
def test_a_denied_stop_is_none(text: str) -> None:
    assert smsbox.read_reply(text) is NOTHING


@pytest.mark.parametrize(
    "text",
    ["Liked “Hi Ana. Reply STOP to opt out”", 'Loved "Text STOP to end"',
     "👍 to “Hi. Reply STOP to end”"],
)  # fmt: skip
def test_a_reaction_quotes_our_own_stop_and_asks_for_nothing(text: str) -> None:
    assert smsbox.read_reply(text) is NOTHING


def test_a_sentence_of_its_own_is_read_on_its_own() -> None:
    assert smsbox.read_reply("Please don't. Stop texting me") is STOP
    assert smsbox.read_reply("Nice try\nplease stop") is STOP


# --- three tiers


def written_unseen(name: str, part: str) -> list[tuple[str, bool]]:
    """The texts of a part of a set, and whether our last text to the number asked a question."""
    text = (ROOT / "tests" / "replies" / f"{name}.txt").read_text()
    optouts, harmless = text.split("# --- harmless\n")
    plain, traps = harmless.split("# --- traps\n")
    chosen = {"opt-outs": optouts, "harmless": plain + traps, "traps": traps}[part]
    lines = [line for line in chosen.splitlines() if line and not line.startswith("#")]
    return [(line.removeprefix("(asked) "), line.startswith("(asked) ")) for line in lines]


@pytest.mark.parametrize("name", ["set_a", "set_b", "set_c", "set_d", "set_e", "set_f"])
def test_wordings_written_unseen_are_hardly_missed_and_seldom_held(name: str) -> None:
    optouts, harmless = written_unseen(name, "opt-outs"), written_unseen(name, "harmless")
    assert len(optouts) >= 60
    assert len(harmless) >= 60
    read = [(text, smsbox.read_reply(text, asked=asked)) for text, asked in optouts]
    missed = [text for text, request in read if request not in (STOP, PERHAPS_STOP)]
    assert len(missed) <= 0.03 * len(optouts), missed
    read = [(text, smsbox.read_reply(text, asked=asked)) for text, asked in harmless]
    assert [text for text, request in read if request is STOP] == []
    traps = written_unseen(name, "traps")
    held = [text for text, asked in traps if smsbox.read_reply(text, asked=asked) is PERHAPS_STOP]
    assert len(held) <= 0.12 * len(traps), held


@pytest.mark.parametrize(
    "text",
    ["No", "no.", "NO!!", "Nope", "nah", "no thanks", "No, gracias", "non merci", "nein", "👎"],
)
def test_bare_no_answers_a_question_and_is_doubtful_where_none_was_asked(text: str) -> None:
    assert smsbox.read_reply(text) is PERHAPS_STOP
    assert smsbox.read_reply(text, asked=True) is NOTHING


@pytest.mark.parametrize("text", ["Yes", "ok", "Thanks!", "3pm", "👍", "sí", "oui", "see you at 5"])
def test_plain_answer_is_let_through_whether_we_asked_or_not(text: str) -> None:
    assert smsbox.read_reply(text) is smsbox.read_reply(text, asked=True) is NOTHING


def test_question_asked_makes_no_stop_harmless() -> None:
    for text in ("STOP", "no, stop", "please stop texting me", "quit texting me"):
        assert smsbox.read_reply(text, asked=True) is STOP
    assert smsbox.read_reply("not interested", asked=True) is PERHAPS_STOP


@pytest.mark.parametrize(
    "text",
    ["Can you come at 9?", "¿Viene mañana?", "Vous venez ? Merci",
     "Reply YES to confirm, STOP to end", "Responda SI para confirmar", "Répondez OUI",
     "Coming? Reply STOP to end."],
)  # fmt: skip
def test_text_that_wants_an_answer_asks_a_question(text: str) -> None:
    assert smsbox.asks_question(text)


@pytest.mark.parametrize(
    "text",
    ["Sale on Saturday. Reply STOP to end", "See https://shop.example/?a=1 for more", "",
     "New hours", "Questions? Call us", "Responda BAJA para salir", "Text HELP for help"],
)  # fmt: skip
def test_text_that_only_tells_asks_no_question(text: str) -> None:
    assert not smsbox.asks_question(text)


@pytest.mark.parametrize("text", ["🛑", "✋", "⛔️", "🚫🚫", "🛑🛑", "🙅‍♀️"])
def test_sign_alone_or_amid_courtesies_is_doubtful(text: str) -> None:
    for said in (text, f"Please {text}", f"Hi {text}", f"{text} thanks", f"Reacted {text} to “Hi”"):
        assert smsbox.read_reply(said) is PERHAPS_STOP
    assert smsbox.read_reply(f"See you at 5 {text}") is NOTHING
    assert smsbox.read_reply(f"Liked “Parking {text}”") is NOTHING


@pytest.mark.parametrize("text", ["START 🚫", "Start ❌", "Help 🛑", "🖕", "🖕you", "ok 👎"])
def test_sign_takes_a_word_back_or_speaks_for_itself(text: str) -> None:
    assert smsbox.read_reply(text) is PERHAPS_STOP


@pytest.mark.parametrize("text", ["ꜱᴛᴏᴘ", "🅢🅣🅞🅟", "🆂🆃🅾🅿", "🇸🇹🇴🇵", "STØP", "5TOP", "Ⓢⓣⓞⓟ"])
def test_letters_that_are_drawn_are_read(text: str) -> None:
    assert smsbox.read_reply(text) is STOP


@pytest.mark.parametrize(
    "text",
    ["停止", "退订", "不要再发短信了", "Hi 停止", "그만", "やめて", "Не пишите мне", "توقف",
     "הסר", "रुको", "đừng nhắn tin"],
)  # fmt: skip
def test_stop_in_other_letters_is_doubtful(text: str) -> None:
    assert smsbox.read_reply(text) is PERHAPS_STOP


FRAMES = (
    "Hi, {}", "{} now", "Hello. {} asap", "{} for good", "{} at once please", "ok {} sir",
    "{} right away", "Sorry, {} from now on", "Hola {} ahora", "Bonjour, {} maintenant",
)  # fmt: skip


def test_words_around_an_opt_out_hide_none() -> None:
    texts = (ROOT / "tests" / "replies" / "optout.txt").read_text().splitlines()
    said = [
        FRAMES[place % len(FRAMES)].format(text.rstrip(".!"))
        for place, text in enumerate(texts)
        if text and not text.startswith("#")
    ]
    assert len(said) > 400
    assert [each for each in said if smsbox.read_reply(each) not in (STOP, PERHAPS_STOP)] == []


@pytest.mark.parametrize(
    "text",
    ["Il n'y a pas de parking ici ?", "Hello is this not the place?", "Sorry is that not yours?",
     "Not today", "not now", "sorry wrong button", "Hi, it won't stop raining",
     "Hi, I did not unsubscribe. Please put me back", "I did not opt out, keep them coming",
     "My husband did not unsubscribe me", "the rain did not stop", "See you at Chuy's",
     "ok, Thuy will pick it up", "my 2nd time at your shop, loved it", "5th time customer!",
     "one more and then I'm done", "1 star is enough for the kids", "te bloqueo la mesa",
     "los bloques ya llegaron", "voy a reportar la fuga", "new dentist is great",
     "new school year!", "los perros no me dejan dormir", "I'm out today", "不要辣"],
)  # fmt: skip
def test_words_around_a_harmless_text_make_no_doubt_of_it(text: str) -> None:
    assert smsbox.read_reply(text) is NOTHING


def test_text_too_long_to_be_read_is_doubtful_at_once() -> None:
    """One letter may be a sentence: read before it is stored, it must not outlast the watchdog."""
    for text in ("\ufdfa" * 16_900, "thanks " * 5_000, "\ufdfa" * 200):
        began = time.process_time()
        assert smsbox.read_reply(text) is PERHAPS_STOP
        assert time.process_time() - began < 0.5


def test_times_of_day_are_harmless_in_no_time() -> None:
    began = time.process_time()
    assert not smsbox.is_harmless("11 " * 52 + "ok x")
    assert time.process_time() - began < 0.5
    for text in ("10:30 am", "at 4 pm", "1030am ok", "See you at 10 30"):
        assert smsbox.is_harmless(text)


@pytest.mark.parametrize(
    "text", ["ЅТОР", "СТОП", "ΣΤΟΠ", "SТОP", "stopstop", "stopplease", "StopNow"]
)
def test_look_alike_letters_and_words_run_together_are_a_keyword(text: str) -> None:
    assert smsbox.read_reply(text) is STOP
    assert smsbox.is_keyword_stop(text)


@pytest.mark.parametrize("text", ["Reply STOP to end", "STOP to opt out", "stop2quit", "Exit"])
def test_instruction_typed_back_is_doubtful(text: str) -> None:
    assert smsbox.read_reply(text) is PERHAPS_STOP


def test_long_text_that_speaks_of_stopping_is_doubtful_a_keyword_at_any_length_a_stop() -> None:
    story = "I was at the shop on Friday with my two kids and we liked it very much and then " * 2
    assert smsbox.read_reply("please stop texting me") is STOP
    assert smsbox.read_reply(f"{story}please stop texting me") is PERHAPS_STOP
    assert smsbox.read_reply("stop " * 40) is STOP


@pytest.mark.parametrize(
    "text",
    ["Stop it, you're making me hungry!", "Unsubscribe me from the emails only, texts are fine",
     "Stop calling me, text is better", "please stop texting me 😂",
     "stop texting me about my order",
     "Take me off the list for the class, my appointment is on Monday"],
)  # fmt: skip
def test_stop_that_is_taken_back_or_about_another_matter_opts_nobody_out(text: str) -> None:
    assert smsbox.read_reply(text) in (PERHAPS_STOP, NOTHING)


# --- what the confirmation needs ----------------------------------------------------------------


@pytest.mark.parametrize("word", STOP_KEYWORDS)
def test_a_keyword_is_told_from_a_phrase(word: str) -> None:
    assert smsbox.is_keyword_stop(word)
    assert smsbox.is_keyword_stop(f"{word}\n\nSent from my iPhone")
    assert not smsbox.is_keyword_stop(f"{word} texting me now")


def test_extra_words_are_keywords_and_phrases_are_none() -> None:
    assert smsbox.is_keyword_stop("kein bedarf!", ("Kein Bedarf",))
    for text in ("", "wrong number", "remove me from your list", "no me escriban más"):
        assert not smsbox.is_keyword_stop(text, ("", "!"))


@given(st.text(), st.lists(st.text(), max_size=3))
def test_what_is_a_keyword_stop_is_a_stop(text: str, words: list[str]) -> None:
    if smsbox.is_keyword_stop(text, words):
        assert smsbox.read_reply(text, words) is STOP


@pytest.mark.parametrize(
    ("language", "texts"),
    [("en", ["STOP", "stop please", "HELP", "info", "take me off your list", "", "🙏"]),
     ("es", ["ALTO", "baja por favor", "stop gracias", "AYUDA", "no me escriban más",
             "ya no quiero recibir mensajes", "quítenme de la lista", "por favor stop"]),
     ("fr", ["ARRÊT", "stop svp", "Stop merci", "AIDE", "ne m'écrivez plus", "désabonnez-moi",
             "retirez-moi de votre liste", "je ne veux plus recevoir de messages"])],
)  # fmt: skip
def test_language_of_a_request_is_known_by_its_words(language: str, texts: list[str]) -> None:
    for text in texts:
        assert smsbox.language_of(text) == language


def test_word_of_no_language_is_answered_in_that_of_our_last_text() -> None:
    for ours, language in (
        ("Hi Ana, your glasses are ready. Reply STOP to end", "en"),
        ("Hola Ana, sus lentes están listos. Responda STOP para salir", "es"),
        ("Bonjour Anne, vos lunettes sont prêtes. Répondez STOP pour ne plus rien recevoir", "fr"),
    ):
        assert smsbox.language_of(ours) == language
        assert smsbox.language_of("STOP", smsbox.language_of(ours)) == language
        assert smsbox.language_of("ALTO", smsbox.language_of(ours)) == "es"
        assert smsbox.language_of("please stop texting me", smsbox.language_of(ours)) == "en"


@given(st.text())
def test_every_text_has_one_of_three_languages(text: str) -> None:
    assert smsbox.language_of(text) in ("en", "es", "fr")


@pytest.mark.parametrize(
    "unit",
    ["a", "s", "stop ", "dont ", "stop all ", "\n", " ", "a\u0301\u0316", "no me ", "the ", ". ",
     "- A", "thank you ", "s t o p ", "uns", "desu", "\n sent from ", "...", "moved no need ",
     "remove my ", "please just ", "not want ", "ya no ", "plus ", "i not to be ", "? ",
     "she wont ", "wrong ", "reply with ", "died ", "too many ", "my ", "the number ",
     "213-555-2301 "],
)  # fmt: skip
def test_a_hostile_text_takes_no_longer_than_its_length(unit: str) -> None:
    text = (unit * 20_000)[:20_000] + "x"  # longer than the longest concatenated message
    before = time.process_time()
    smsbox.read_reply(text)
    smsbox.language_of(text)
    smsbox.asks_question(text)
    assert time.process_time() - before < 5  # a square would take minutes


@pytest.mark.parametrize(
    "text",
    ["HELP - STOP", "Help - Unsubscribe", "Info - Stop Texting", "START - STOP", "Unstop - Stop",
     "Help - Basta", "Remove 2135552301", "cancel 213-555-2301", "Stop12135552301",
     "baja +1 (213) 555-2301", "take off 213-555-2301", "Remove number 213-555-2301",
     "no more to 213-555-2301", "Don't text my phone 2135552301",
     'To "Flora\'s Shoes": stop texting me', "Disliked “Hi Ana! Reply STOP.” Stop texting me"],
)  # fmt: skip
def test_stop_is_heard_beside_a_name_a_number_or_what_is_quoted(text: str) -> None:
    assert smsbox.read_reply(text) is smsbox.Request.STOP


@pytest.mark.parametrize(
    "text",
    ["Liked “Hi Ana! Reply STOP to opt out”", 'Loved "Hi Ana! Reply STOP to opt', "2135552301"],
)
def test_reaction_and_a_bare_number_are_no_stop(text: str) -> None:
    assert smsbox.read_reply(text) is smsbox.Request.NOTHING


def test_start_of_whose_name_looks_like_another_word_is_one() -> None:
    assert smsbox.read_reply("START - Huynh") is smsbox.Request.START


@pytest.mark.parametrize("text", ["Help - Not Interested", "START - No", "Info - Wrong Number"])
def test_words_behind_a_dash_are_no_name(text: str) -> None:
    assert smsbox.read_reply(text) in (smsbox.Request.STOP, smsbox.Request.PERHAPS_STOP)


@pytest.mark.parametrize(
    "text", ["Arret - Non Merci", "Stop ~Off", "Baja - Nope", "Cancel - Fin", "STOP - Chuy",
             "Quit - Thuy", "Remove - Huynh", "STOP\nSent from my work phone"],
)  # fmt: skip
def test_whatever_stands_behind_a_stop_it_is_one_that_start_lifts(text: str) -> None:
    assert smsbox.read_reply(text) is smsbox.Request.STOP
    assert smsbox.is_keyword_stop(text)


@pytest.mark.parametrize(
    "text", ["START - Bob - Stop", "START - No - Stop", "HELP - Bob - STOP", "No - Please - Stop",
             "Info - Please - Stop", "Help - Who - Remove", "No Gracias - Ya - Basta"],
)  # fmt: skip
def test_stop_behind_two_dashes_is_no_name_either(text: str) -> None:
    assert smsbox.read_reply(text) in (smsbox.Request.STOP, smsbox.Request.PERHAPS_STOP)


@pytest.mark.parametrize("text", ["My new number is 213-555-2301", "Call me at 213-555-2301"])
def test_number_of_their_own_is_no_stop(text: str) -> None:
    assert smsbox.read_reply(text) is smsbox.Request.NOTHING


def test_name_behind_a_dash_is_still_none_of_the_words() -> None:
    assert smsbox.read_reply("HELP - Bob") is smsbox.Request.HELP
    assert smsbox.read_reply("Stop - Maria Lopez") is smsbox.Request.STOP


@pytest.mark.parametrize(
    "text",
    ["Start 2135552302", "Unstop 213-555-2302", "start 10.11.2025 14 00", "Cancel 2025-11-09 10 30",
     "Please cancel 1234567890", "Loved “Boots 20\" off. Reply STOP to opt out”"],
)  # fmt: skip
def test_number_or_a_date_makes_no_start_and_no_stop(text: str) -> None:
    assert smsbox.read_reply(text) not in (smsbox.Request.START, smsbox.Request.STOP)


def test_who_names_another_number_is_held_still() -> None:
    text = "Please text me at 2135552302 instead"
    assert smsbox.read_reply(text) is smsbox.Request.PERHAPS_STOP
    said = 'Disliked “Hi” Stop texting me, I said "no"'
    assert smsbox.read_reply(said) is smsbox.Request.STOP
