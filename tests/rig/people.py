"""Who is written to, and what."""

from __future__ import annotations

ANA, BEN, CHLOE = "+12135552313", "+12135552314", "+12135552315"
LONG = "This is a sentence that goes on. " * 12  # three segments

CAMPAIGN = [
    (ANA, "Ana Ortiz", "Hi Ana! [BUBBLE] Your order is ready. [BUBBLE]  See you at 5? "),
    (BEN, "Ben Cole", LONG.strip()),
    (CHLOE, "Chloé Martin", "Bonjour Chloé ! Votre commande est prête 🎉"),
    ("+442079460000", "Dan Wu", "Prices: [10€] {a|b} ^~ \\ é [BUBBLE][BUBBLE]" + "x" * 160),
    ("+12135552316", "Eve Stone", "Line one\nline two[BUBBLE]" + "Ж🙂" * 40),
    ("+12135552317", "Fay", '"Quoted", he said; AT+CMGD=1,4 and > 5 are only words'),
]
