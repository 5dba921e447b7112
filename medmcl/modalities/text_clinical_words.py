"""Words that an augmentation of reports must not take: English, German, some French and Swedish.

Kinds, by what a report says with them: negation, side and position, comparison and change,
uncertainty, time and dosing, numbers and their units. Words are compared without case, umlauts as
two letters and other accents dropped (`folded`). German adjectives are known in all endings, other
words by their stem where nothing harmless begins with it. The lists are ours; NegEx (Chapman et al.
2001, J Biomed Inform 34:301) is where the idea of cues with a direction comes from. A word they do
not know is not protected; a misspelled one neither, nor AS, the left ear, which is "as" to them.
"""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache

_KEPT = 65536  # words whose kinds are remembered
_UMLAUTS = str.maketrans({"ä": "ae", "ö": "oe", "ü": "ue", "\u2019": "'", "\u2018": "'", "`": "'"})
_ENDINGS = ("", "e", "er", "es", "en", "em")
_ROMAN = re.compile(r"(?:x{0,2}(?:ix|iv|v?i{1,3}|v)|x{1,2})[ab]?")
_HAS_DIGIT = re.compile(r"[\d½¼¾²³⅓⅔]")
_PARTS = re.compile(r"[^\W_]+(?:'[^\W_]+)?")


@lru_cache(_KEPT)
def folded(word: str) -> str:
    """Bring a word to the spelling that the lists have.

    Example:
        >>> folded("Überdreht"), folded("LÉSION"), folded("außer")
        ('ueberdreht', 'lesion', 'ausser')
    """
    plain = unicodedata.normalize("NFC", word).casefold().translate(_UMLAUTS)
    letters = unicodedata.normalize("NFD", plain)
    return "".join(one for one in letters if not unicodedata.combining(one))


def word_set(*lists: str) -> frozenset[str]:
    """Give the words of lists with blanks between, folded."""
    return frozenset(folded(word) for one in lists for word in one.split())


def _stems(*lists: str) -> tuple[str, ...]:
    return tuple(sorted(word_set(*lists)))


def _declined(stems: str) -> frozenset[str]:
    return frozenset(folded(stem) + ending for stem in stems.split() for ending in _ENDINGS)


DENIES_AFTER = word_set(
    "no without w/o denies deny denied denying denial nor neither non free lacks lacking",
    "kein keine keiner keines keinen keinem keinerlei ohne weder frei",
    "sans aucun aucune aucuns aucunes ni",
    "utan ingen inget inga",
)
"""Negations of what follows, up to the end of the clause."""

DENIES_CLAUSE = word_set(
    "not never none nothing nil cannot cant wont isnt neg",
    "nicht nichts nie niemals pas jamais rien ej inte icke aldrig",
)
"""Negations that may also stand behind what they deny: the whole clause."""

DENIES_CLAUSE_STEMS = _stems(
    "negativ négati absen exclu ruled rule unlikely disappear improbable ausgeschl ausschl",
    "auszuschl verneint fehl unwahrscheinlich entfällt uteslut saknas",
)

CLAUSE_ENDS = word_set(
    "but however except although though nevertheless",
    "aber jedoch allerdings sondern hingegen dennoch außer",
    "mais cependant toutefois sauf hormis",
    "men dock förutom",
)
"""Words at which a denial ends. They are protected: without them it would reach further."""

_SIDES = word_set(
    "left right bilateral bilaterally unilateral unilaterally ipsilateral contralateral both",
    "sided lt rt upper lower middle mid superior inferior anterior posterior medial lateral",
    "proximal distal apical basal central peripheral cranial caudal dorsal ventral above below",
    "li re bds bd beide beider beiden beides ant post lat inf sup",
    "avl avr avf lll rll lul rul rml lbbb rbbb lad rca lcx",
    "lca lm lima rima lvh rvh lae rae lah lph",
    "od os ou ad au lv rv la ra lue rue lle rle luq ruq llq rlq lij rij lsc rsc bil bilat b/l",
    "gauche gauches droit droite droits droites bilatéral bilatérale bilatéraux supérieur",
    "supérieure inférieur inférieure antérieur antérieure postérieur postérieure",
) | _declined(
    "ober unter mittler vorder hinter oberer unterer mittlerer vorderer hinterer "
    "seitlich medial lateral kranial kaudal dorsal ventral apikal basal zentral peripher proximal "
    "distal anterior posterior inferior superior"
)
_SIDE_STEMS = _stems(
    "left right link recht beidseit beiderseit einseit höger vänster antero postero infero supero",
    "anterior inferior posterior superior septal lateral hochlateral apiko",
)

_COMPARISON = word_set(
    "more less most least than increase increases increased increasing decrease decreases",
    "decreased decreasing larger smaller greater fewer higher lower worse worsened worsening",
    "better improved improving improvement unchanged stable new newly progressed",
    "progression regression resolved resolution elevated depressed reduced raised enlarged",
    "minimal mild mildly moderate moderately severe severely acute chronic old recent high low",
    "mehr weniger meist zunahme abnahme neu alt stabil progredient regredient frisch höher",
    "niedriger größer kleiner",
    "complete incomplete partial partially slight slightly minor marked markedly trace",
    "ökad ökat minskad minskat oförändrad oförändrat förlängd förlängt äldre färsk färskt måttlig",
    "lätt uttalad inkomplett komplett",
    "plus moins augmenté augmentée diminué diminuée stable nouveau nouvelle ancien ancienne",
) | _declined(
    "erhöht erniedrigt vermehrt vermindert verbreitert verkürzt verlängert vergrößert verkleinert "
    "zunehmend abnehmend unverändert gebessert verschlechtert akut chronisch leicht mittelgradig "
    "unvollständig vollständig komplett inkomplett mäßig hochgradig geringgradig "
    "schwer neu alt frisch hoch niedrig reduziert"
)

_UNCERTAIN = word_set(
    "may might could would should if either or versus vs query questionable questionably",
    "uncertain unclear indeterminate equivocal borderline likely consider considered suggest",
    "suggests suggesting suggestive consistent compatible apparent apparently",
    "verdacht vd v.a fraglich fragl evtl ggf mögl moeglicherweise wahrsch möglich vermutlich",
    "eventuell oder könnte dd unsicher unklar",
    "kan bör troligen eventuellt möjligen övervägas",
    "possible peut-être peut doute suspicion suspecté suspectée ou",
)
_UNCERTAIN_STEMS = _stems(
    "possib probab presum suspect suspic wahrscheinlich möglich verdächt vermut fraglich grenzwert",
    "vereinbar möjlig sannolik misstänk positiv",
)

_TIME = word_set(
    "today yesterday tomorrow ago since prior previous previously now again still current",
    "currently before after following during morning evening night noon am pm history status",
    "january february march april june july august september october november december",
    "jan feb mar apr jun jul aug sep sept oct nov dec",
    "monday tuesday wednesday thursday friday saturday sunday",
    "qd qod bid tid qid qhs qam qpm prn po iv im sc sq sl hs ac pc stat daily nightly",
    "weekly hourly",
    "tgl tägl täglich wöchentlich morgens mittags abends nachts matin midi soir dagligen",
    "heute gestern morgen seit vor nach vorher bisher erneut aktuell früher uhr zustand z.n st.n",
    "januar februar märz mai juni juli oktober dezember okt dez",
    "montag dienstag mittwoch donnerstag freitag samstag sonntag",
    "idag igår tidigare nu",
    "hier demain depuis avant après janvier février mars avril juin juillet août septembre octobre",
    "novembre décembre",
)

_NUMBERS = word_set(
    "zero one two three four five six seven eight nine ten eleven twelve twenty thirty half twice",
    "first second third fourth fifth once double triple single multiple several few grade",
    "null zwei drei vier fünf sechs sieben acht neun zehn elf zwölf zwanzig halb zweimal",
    "einmal doppelt mehrere grad grades",
    "deux trois quatre cinq six sept huit neuf dix",
) | _declined("erst zweit dritt viert fünft mehrer einzeln")

UNITS = word_set(
    "% ‰ ° mg g kg µg ug mcg ng pg l dl ml µl ul mm cm dm m µm um nm cm2 mm2 m2 cm3 mm3 cc",
    "mmhg cmh2o kpa pa bar mmol mol µmol umol nmol pmol mval meq iu ie u i.u i.e hu gy msv bq mbq",
    "mv µv uv v kv ma a hz khz mhz bpm min mins minute minutes minuten sec secs s ms sek sekunde",
    "sekunden second seconds msec h hr hrs hour hours std stunde stunden d day days tag tage tagen",
    "w wk week weeks woche wochen mo month months monat monate monaten yr yrs y year years jahr",
    "jahre jahren jours semaines mois ans an percent prozent degree degrees beats schläge x mal",
    "mg/dl mg/l g/dl g/l mmol/l µmol/l ml/min l/min m/s cm/s mm/s mm/mv mm/h mg/kg /min fold times",
    "cells yo j points punkte pack packs unit units einheiten pound pounds lb lbs inch inches ft",
    "per pro par french fr charr ch gauge ga",
)
"""What after a number is its unit."""

_PROTECTED = (
    DENIES_AFTER
    | DENIES_CLAUSE
    | CLAUSE_ENDS
    | _SIDES
    | _COMPARISON
    | _UNCERTAIN
    | _TIME
    | _NUMBERS
)
_STEMS = DENIES_CLAUSE_STEMS + _SIDE_STEMS + _UNCERTAIN_STEMS


def parts(word: str) -> list[str]:
    """Give a word in its folded spelling, and what its hyphens and other signs join.

    Example:
        >>> parts("Non-displaced")
        ['non-displaced', 'non', 'displaced']
    """
    whole = folded(word)
    found = _PARTS.findall(whole)
    return [whole] if found == [whole] else [whole, *found]


@lru_cache(_KEPT)
def is_protected(word: str) -> bool:
    """Whether a word, or a part of it, must stay whatever stands around it.

    True of what the lists have, of all with a digit, of Roman numerals (lead III, NYHA II) and of
    single letters but the article.
    """
    return bool(_HAS_DIGIT.search(word)) or any(map(_is_listed, parts(word)))


@lru_cache(_KEPT)
def denies_after(word: str) -> bool:
    """Whether a word denies what follows it."""
    return any(part in DENIES_AFTER for part in parts(word))


@lru_cache(_KEPT)
def denies_clause(word: str) -> bool:
    """Whether a word denies its clause, before and behind it."""
    return any(
        part in DENIES_CLAUSE or part.endswith("n't") or part.startswith(DENIES_CLAUSE_STEMS)
        for part in parts(word)
    )


def ends_clause(word: str) -> bool:
    """Whether a denial goes no further than here."""
    return folded(word) in CLAUSE_ENDS


def is_number(word: str) -> bool:
    """Whether a word is a number, written or in digits, or has a digit."""
    return bool(_HAS_DIGIT.search(word)) or folded(word) in _NUMBERS


def is_unit(word: str) -> bool:
    """Whether a word that follows a number, or its unit, is a unit (or the "per" of one)."""
    return folded(word) in UNITS


def _is_listed(part: str) -> bool:
    return (
        part in _PROTECTED
        or part.startswith(_STEMS)
        or part.endswith("n't")
        or (len(part) == 1 and part != "a")
        or _ROMAN.fullmatch(part) is not None
    )
