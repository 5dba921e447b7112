"""What reports say survives augmentation by marks, over many seeds; and does not survive EDA."""

import itertools
import random
import re
from functools import lru_cache

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from row_draws import row_generator as generator

from medmcl.modalities.text.adapter import Text, TextAugment, TextSettings, TextSource
from medmcl.modalities.text.tokens import split_words

PAD, CLS, END = 0, 2, 3
# what a report says, then what must stand in it as it is: in one sentence (a line), in this order
WRITTEN = """
The trachea appears midline today. No pleural effusion or pneumothorax. Sternal wires remain.
No pleural effusion or pneumothorax .
today .

There is a nodule of 5.2 cm in the left upper lobe. Cannot exclude malignancy. Heart looks fine.
5.2 cm ... left upper
Cannot exclude malignancy .

Pressure of 120 mmHg, LVEF 62 % and QRS of < 0,12 s was noted here. Good quality image was made.
120 mmHg , ... 62 % ... < 0,12 s

Effusion has increased since 12.03.2020 by 3 mm. Pneumonia is not seen, but nodules are.
increased since 12.03.2020 ... 3 mm .
Pneumonia is not seen , but

Dr. Smith denies focal edema. See No. 3 of the list of films. Bilateral opacities look possible.
Dr . ... denies focal edema .
No . 3
Bilateral ... possible .

Normales Bild mit Schrittmacher. Kein Hinweis auf Ischämie. Linkstyp, QRS 98 ms.
Kein Hinweis auf Ischämie .
Linkstyp , ... 98 ms .

Infarkt ist nicht nachweisbar; dafür Block und Narbe. AV-Block 1. Grades, wahrscheinlich alt.
Infarkt ist nicht nachweisbar ;
1 . Grades , wahrscheinlich alt .
"""
CASES = {
    lines[0]: [line.split(" ... ") for line in lines[1:]]
    for lines in (block.split("\n") for block in WRITTEN.strip().split("\n\n"))
}
STRONG = TextAugment(delete=0.7, swap=0.7, sentence_shuffle=0.5)
SEEDS = 60


def fitted(texts=tuple(CASES), **chosen):
    usual = {"tokeniser": "words", "min_count": 1, "lowercase": False, "max_tokens": 64}
    text = Text(TextSource(column="x"), TextSettings(**{**usual, "marks": True, **chosen}))
    text.fit(texts)
    return text


def disturb(text, reports, options, seed=0):
    return text.augment(torch.from_numpy(text.encode(reports)), options, generator(seed))


def spoken(text, row):
    return [text.spell(one) for one in row.tolist() if one not in (PAD, CLS, END)]


def is_sound(told, groups):
    """Whether what must survive stands in ``told`` unbroken, in order, in one sentence."""
    said = f" {' '.join(told)} "
    for phrases in groups:
        place = -1
        for phrase in phrases:
            after = said.find(f" {phrase} ", place + 1)
            if after < 0:
                return False
            place = after
    return True


def test_what_is_said_survives_many_seeds():
    text, seen = fitted(), set()
    for seed in range(SEEDS):
        for row, (report, groups) in zip(
            disturb(text, list(CASES), STRONG, seed), CASES.items(), strict=True
        ):
            told = spoken(text, row)
            assert is_sound(told, groups), (report, told)
            seen.add(tuple(told))
    assert len(seen) > SEEDS * len(CASES) / 2


@pytest.mark.parametrize("tokeniser", ["bpe", "trigrams"])
def test_what_is_said_survives_in_pieces_of_words(tokeniser):
    text = fitted(tokeniser=tokeniser, max_tokens=200, vocabulary=330)
    whole = [
        [[" ".join(map(text.spell, text.tokens.encode(glued(p)))) for p in one] for one in groups]
        for groups in CASES.values()
    ]
    for seed in range(12):
        for row, groups in zip(disturb(text, list(CASES), STRONG, seed), whole, strict=True):
            assert is_sound([text.spell(one) for one in row.tolist()], groups)


def glued(phrase):
    """Signs at the words before them, as in the report."""
    return re.sub(r" (?=[.,;])", "", phrase)


def eda(words, alpha, draw):
    """Random deletion and random swaps of words without digits and hyphens, as EDA's authors do."""
    kept = [w for w in words if not any(c.isdigit() for c in w) and w != "-"]
    kept = [w for w in kept if draw.random() > alpha] or [draw.choice(words)]
    for _ in range(max(1, int(alpha * len(words)))):
        a, b = draw.randrange(len(kept)), draw.randrange(len(kept))
        kept[a], kept[b] = kept[b], kept[a]
    return kept


def test_eda_breaks_what_is_said():
    draw = random.Random(0)
    for report, groups in CASES.items():
        words = split_words(report)
        assert is_sound(words, groups)
        broken = sum(not is_sound(eda(words, 0.1, draw), groups) for _ in range(SEEDS))
        assert broken > SEEDS / 4


def test_a_denial_never_loses_what_it_denies_nor_its_no():
    text = fitted(["No pleural effusion was seen", "Clear lungs. no pleural effusion"])
    for report, denied in (
        ("No pleural effusion was seen", "No pleural effusion was seen"),
        ("Clear lungs. no pleural effusion", "no pleural effusion"),
    ):
        for seed in range(SEEDS):
            options = TextAugment(delete=1.0, swap=1.0, sentence_shuffle=1.0)
            told = " ".join(spoken(text, disturb(text, [report], options, seed)[0]))
            assert told.endswith(denied)  # no stop: nothing comes to stand behind it


def test_plain_words_go_and_change_places_at_their_rates():
    report = "clear lungs left. right normal heart; intact wires 3. good image V5"
    text, rows = fitted([report]), 3000
    before = split_words(report)
    x = torch.from_numpy(text.encode([report] * rows))
    y = text.augment(x, TextAugment(delete=0.3), generator())
    told = [spoken(text, row) for row in y]
    share = sum(len(before) - len(one) for one in told) / (8 * rows)
    assert share == pytest.approx(0.3, abs=4 * (0.21 / (8 * rows)) ** 0.5)
    staying = {"left", ".", "right", ";", "3", "V", "5"}
    for one in told:
        left = iter(before)
        assert all(w in left for w in one)  # in order, nothing new
        assert [w for w in one if w in staying] == [w for w in before if w in staying]
    y = text.augment(x, TextAugment(swap=0.4), generator())
    swaps = 0
    for row in y:
        one = spoken(text, row)
        for first, second in (("clear", "lungs"), ("normal", "heart"), ("good", "image")):
            assert abs(one.index(first) - one.index(second)) == 1
            swaps += one.index(first) > one.index(second)
    assert swaps / (3 * rows) == pytest.approx(0.4, abs=4 * (0.24 / (3 * rows)) ** 0.5)


def test_in_a_run_each_word_changes_places_once():
    report = "these many plain clear lungs words here"
    text = fitted([report])
    before = split_words(report)
    every = spoken(text, disturb(text, [report], TextAugment(swap=1.0))[0])
    expected = list(before)
    for place in range(0, len(before) - 1, 2):
        expected[place : place + 2] = expected[place : place + 2][::-1]
    assert every == expected
    for seed in range(SEEDS):
        told = spoken(text, disturb(text, [report], TextAugment(swap=0.5), seed)[0])
        assert sorted(told) == sorted(before)
        assert all(abs(told.index(w) - before.index(w)) <= 1 for w in before)


SENTENCES = ["Alpha is clear.", "Beta has no edema.", "Gamma measures 3 mm.", "Delta ok."]


def sentences(told):
    return [one.strip() + " ." for one in " ".join(told).split(" .") if one.strip()]


def test_sentences_go_whole_at_their_rate_and_one_stays():
    report, rows = " ".join(SENTENCES), 3000
    text = fitted([report])
    whole = {" ".join(split_words(one)) for one in SENTENCES}
    kept = 0
    for row in disturb(text, [report] * rows, TextAugment(sentence_drop=0.5)):
        found = sentences(spoken(text, row))
        assert found
        assert set(found) <= whole
        kept += len(found)
    expected = 1 - (0.5 - 0.5**4 / 4)
    assert kept / (4 * rows) == pytest.approx(expected, abs=4 * (0.25 / (4 * rows)) ** 0.5)
    left = disturb(text, [report] * 200, TextAugment(sentence_drop=1.0))
    assert {" ".join(spoken(text, row)) for row in left} == whole
    for row in disturb(text, [report] * 200, TextAugment(sentence_drop=1.0, delete=1.0)):
        assert any(word.isalnum() for word in spoken(text, row))


def test_words_go_whichever_sentences_do():
    report, rows = "Alpha is left. Beta is right.", 4000
    text = fitted([report])
    options = TextAugment(delete=0.5, sentence_drop=0.5)
    told = [spoken(text, row) for row in disturb(text, [report] * rows, options)]
    for is_there in (True, False):
        some = [one for one in told if "left" in one and ("Alpha" in one) is is_there]
        share = sum("right" in one for one in some) / len(some)
        assert share == pytest.approx(0.4, abs=0.06)  # 1/4 of 1/4 + 1/4 + 1/8: one always stays


def test_sentences_are_shuffled_whole_and_an_open_one_stays_last():
    report, rows = " ".join([*SENTENCES, "No mass"]), 2000
    text = fitted([report])
    whole = sorted(" ".join(split_words(one)) for one in SENTENCES)
    same, orders = 0, set()
    for row in disturb(text, [report] * rows, TextAugment(sentence_shuffle=0.6)):
        told = spoken(text, row)
        assert told[-2:] == ["No", "mass"]
        found = sentences(told[:-2])
        assert sorted(found) == whole
        orders.add(tuple(found))
        same += tuple(found) == tuple(" ".join(split_words(one)) for one in SENTENCES)
    assert len(orders) == 24
    expected = 0.4 + 0.6 / 24
    assert same / rows == pytest.approx(expected, abs=4 * (0.25 / rows) ** 0.5)


def test_the_same_seed_is_the_same_text_and_nothing_asked_changes_nothing():
    text = fitted()
    x = torch.from_numpy(text.encode(list(CASES) * 4))
    options = TextAugment(delete=0.3, swap=0.3, sentence_drop=0.2, sentence_shuffle=0.5)
    assert torch.equal(text.augment(x, options, generator()), text.augment(x, options, generator()))
    other = text.augment(x, options, generator(1))
    assert not torch.equal(text.augment(x, options, generator()), other)
    none = TextAugment(dropout=0.0, delete=0, swap=0, sentence_drop=0, sentence_shuffle=0)
    assert torch.equal(text.augment(x, none, generator()), text.plain(x))
    assert torch.equal(x, torch.from_numpy(text.encode(list(CASES) * 4)))  # not in place


@pytest.mark.parametrize(
    "report", ["", "Cardiomegaly", "Cardiomegaly.", "12 3,5 % --", "...", "no"]
)
def test_short_texts_and_texts_without_letters_stay(report):
    text = fitted([report, "Clear lungs"])
    options = TextAugment(delete=1.0, swap=1.0, sentence_drop=1.0, sentence_shuffle=1.0)
    for seed in range(20):
        whole = text.plain(torch.from_numpy(text.encode([report])))
        assert torch.equal(disturb(text, [report], options, seed), whole)


def test_one_word_of_each_sentence_stays_and_each_may():
    report = "Clear lungs seen. Good image"
    text = fitted([report])
    rows = disturb(text, [report] * 200, TextAugment(delete=1.0))
    left = {" ".join(spoken(text, row)) for row in rows}
    assert left == {f"{a} . {b}" for a in ("Clear", "lungs", "seen") for b in ("Good", "image")}


def test_a_text_cut_at_the_row_stays_in_it():
    report = " ".join(["The lungs look clear. There is no focal edema of any kind."] * 40)
    for tokeniser in ("words", "bpe"):
        text = fitted([report], max_tokens=21, tokeniser=tokeniser)
        whole = text.plain(torch.from_numpy(text.encode([report])))[0]
        changed = 0
        for seed in range(10):
            row = disturb(text, [report], STRONG, seed)[0]
            length = int((row == END).nonzero())
            assert row[0] == CLS
            assert (row[length + 1 :] == PAD).all()
            assert (row[1:length] > END).all()
            changed += not torch.equal(row, whole)
        assert changed > 5


def test_tokens_are_not_dropped_beside_marks_unless_asked_for():
    assert TextAugment().dropout == 0.1
    assert TextAugment(shuffle=0.5).dropout == 0.1
    assert TextAugment(delete=0.0).dropout == 0.1
    assert TextAugment(delete=0.1).dropout == 0
    assert TextAugment(delete=0.1, dropout=0.2).dropout == 0.2
    assert TextAugment(sentence_drop=0.1).by_marks == ("sentence_drop",)
    for wrong in ({"delete": 1.2}, {"swap": -0.1}, {"shuffle": 0.1, "sentence_shuffle": 0.1}):
        with pytest.raises(ValidationError):
            TextAugment(**wrong)


# what a view must leave, from no list of the code: words, and words beside a number
UNITS = (
    "o'clock fingerbreadth fingerbreadths liter liters litre litres gm gms gram grams ounce ounces "
    "oz tablet tablets tab tabs capsule capsules cap caps centimeter centimeters centimetres "
    "millimeter millimeters millimetre milligram milligrams microgram micrograms milliliter "
    "milliliters pill pills dose doses puff puffs drop drops teaspoon teaspoons cup cups mile "
    "miles block blocks Tabletten Kapseln Tropfen Milligramm Zentimeter comprimés gouttes timmar"
)
COUNTS = (
    "thirteen fourteen fifteen sixteen seventeen eighteen nineteen twenty thirty forty fifty sixty "
    "seventy eighty ninety hundred hundreds thousand million dozen half quarter sixth tenth "
    "twenty-five dreizehn fünfzehn neunzehn dreißig neunzig hundert dreihundert tausend dutzend "
    "fünfundzwanzig dreimal viermal onze seize vingt trente cent mille tretton tjugo hundra tusen"
)
ALONE = (
    "unable inability lack lacks lacked lacking fail fails failed failure held avoid avoids "
    "avoided refuse refuses refused stop stopped discontinue discontinued without nontender "
    "nondisplaced nonobstructive Nichtraucher beschwerdefrei schmerzfreie komplikationslos "
    "unauffällig kaum nirgends weder niemand saknar ingen impossible incapable once twice every "
    "each supine prone proximally distally medially decubitus upright sitting standing inward "
    "outward leftward backwards dextroscoliosis levoscoliosis Oberlappen Mittellappen "
    "Unterlappen Oberfeld Unterfeld kontralateral ipsilateral kontralaterale rechtsseitig "
    "linksseitige vänstersidig sitzender"
)
NEAR = "approximately about over under around nearly almost within until"
PHRASES = [
    *(f"{number} {unit}" for unit in UNITS.split() for number in ("5", "two hundred")),
    *(f"{count} mg" for count in COUNTS.split()),
    *ALONE.split(),
    *(f"{word} 7" for word in NEAR.split()),
    *(
        "3 to 5",
        "up to 5",
        "at least 5",
        "two out of ten",
        "one and a half tablets",
        "one hundred and five mg",
    ),
    *("every other day", "each alternate week", "twice a day", "from 5 mg to 10 mg"),
]
FILL = ("pictures were shown", "walls looked well", "this image came", "films had wires")


@lru_cache
def of_all_phrases():
    words = [" ".join([*FILL, *PHRASES, *(f"{100 + n} ." for n in range(4))])]
    return fitted(words, max_tokens=160)


def joined(phrase):
    return " ".join(split_words(phrase))


@pytest.mark.parametrize("start", range(0, len(PHRASES), 64))
def test_every_word_of_the_kinds_survives(start):
    phrases, text = PHRASES[start : start + 64], of_all_phrases()
    reports = [f"{FILL[0]} {one} {FILL[1]}. {FILL[2]} here." for one in phrases]
    lost = set()
    for seed in range(12):
        for phrase, row in zip(phrases, disturb(text, reports, STRONG, seed), strict=True):
            if not is_sound(spoken(text, row), [[joined(phrase)]]):
                lost.add(phrase)
    assert not lost


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.lists(st.sampled_from(PHRASES), min_size=1, max_size=3), min_size=1, max_size=4),
    st.integers(0, 2**31),
)
def test_words_of_the_kinds_stay_in_order_in_their_sentence(written, seed):
    text, between = of_all_phrases(), itertools.cycle(FILL)
    report = " ".join(
        " ".join([f"{100 + n} {next(between)}", *(f"{one} {next(between)}" for one in phrases)])
        + "."
        for n, phrases in enumerate(written)
    )
    found = sentences(spoken(text, disturb(text, [report], STRONG, seed)[0]))
    assert sorted(one[:3] for one in found) == [f"{100 + n}" for n in range(len(written))]
    for one in found:
        assert is_sound(one.split(), [[joined(phrase) for phrase in written[int(one[:3]) - 100]]])
