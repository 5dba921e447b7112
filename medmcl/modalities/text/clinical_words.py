"""Words that an augmentation of reports must not take: English, German, some French and Swedish.

Kinds, by what a report says with them: negation, side and position, comparison and change,
uncertainty, time and dosing, numbers and their units. Words are compared without case, umlauts as
two letters and other accents dropped (`folded`). German adjectives are known in all endings, other
words by their stem or their end where little that is harmless has it. The lists are ours; NegEx
(Chapman et al. 2001, J Biomed Inform 34:301) is where the idea of cues with a direction comes from.
A word they do not know is not protected; a misspelled one neither, nor AS, the left ear, which is
"as" to them.
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
    "no without w/o denies deny denied denying denial nor neither non free devoid",
    "lack lacks lacked lacking fail fails failed failing unable inability incapable impossible",
    "avoid avoids avoided avoiding refuse refuses refused refusing hardly barely scarcely rarely",
    "kein keine keiner keines keinen keinem keinerlei ohne weder frei kaum unfähig mangels",
    "sans aucun aucune aucuns aucunes ni",
    "utan ingen inget inga ingenting knappt",
)
"""Negations of what follows, up to the end of the clause."""

DENIES_CLAUSE = word_set(
    "not never none nothing nil cannot cant wont isnt neg nobody nowhere",
    "nicht nichts nie niemals niemand niemanden niemandem nirgends nirgendwo",
    "pas jamais rien nulle ej inte icke aldrig",
)
"""Negations that may also stand behind what they deny: the whole clause."""

DENIES_CLAUSE_STEMS = _stems(
    "negativ négati absen exclu ruled rule unlikely disappear improbable ausgeschl ausschl",
    "auszuschl verneint fehl unwahrscheinlich entfällt uteslut sakna",
)

_WITHHELD = word_set(
    "failure failures held withheld hold refusal avoidance stop stops stopped stopping cease",
    "ceased quit decline declines declined afebrile asymptomatic anicteric atraumatic acyanotic",
    "abgesetzt pausiert verweigert abgelehnt asymptomatisch afebril fieberfrei arrêté refusé",
)
_WITHHELD_STEMS = _stems("discontinu nicht unauff")
_WITHOUT = re.compile(
    r"non(?!etheless)[a-z]{4,}|[a-z]{2,}frei(?:e[rsnm]?)?|[a-z]{3,}los|[a-z]{4,}lose[rsnm]?"
)
"""Of "nontender", "fieberfrei" and "komplikationslos", but not "none", "kilos" and "closes"."""

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
    "midline ipsi contra cephalad dexter dextra dextrum supine prone decubitus recumbent upright",
    "erect sitting sits seated standing stands lying sidelying",
    "li re bds bd beide beider beiden beides ant post lat inf sup",
    "avl avr avf lll rll lul rul rml lbbb rbbb lad rca lcx",
    "lca lm lima rima lvh rvh lae rae lah lph lao rao lpo rpo",
    "od os ou ad au lv rv la ra lue rue lle rle luq ruq llq rlq lij rij lsc rsc bil bilat b/l",
    "gauche gauches droit droite droits droites bilatéral bilatérale bilatéraux supérieur",
    "supérieure inférieur inférieure antérieur antérieure postérieur postérieure proximale distale",
    "médian médiane couché couchée assis assise debout dorsale ventrale",
    "rücklage bauchlage seitenlage mittig mittellinie",
    "övre nedre främre bakre mellersta båda ryggläge bukläge sittande stående liggande",
) | _declined(
    "ober unter mittler vorder hinter oberer unterer mittlerer vorderer hinterer "
    "seitlich medial lateral kranial kaudal dorsal ventral apikal basal zentral peripher proximal "
    "distal anterior posterior inferior superior liegend sitzend stehend"
)
_SIDE_STEMS = _stems(
    "left right link recht beidseit beiderseit einseit höger vänster antero postero infero supero",
    "anterior inferior posterior superior septal lateral hochlateral apiko",
    "proximal distal medial dorsal ventral cranial caudal kranial kaudal central zentral peripher",
    "basal apical apikal sinist dextroc dextrok dextropos dextror dextrosc dextrosk dextrov",
    "levoca levoco levocu levoka levoko levopos levoro levosc levosk levov",
    "oberlapp mittellapp unterlapp oberfeld mittelfeld unterfeld hinterwand vorderwand seitenwand",
)
_SIDE_ENDS = (
    *(f"{end}{more}" for end in ("seitig", "lateral") for more in (*_ENDINGS, "ly", "s")),
    *_stems("ward wards wärts sidig sidigt sidiga latéraux superior inferior anterior posterior"),
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
    "lätt uttalad inkomplett komplett hög högt höga låg lågt låga",
    "minus plus moins augmenté augmentée diminué diminuée stable nouveau nouvelle ancien ancienne",
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
    "eller kan bör troligen eventuellt möjligen övervägas",
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
    "mon tue tues wed thu thur thurs fri midnight afternoon overnight bedtime",
    "qd qod bid tid qid qhs qam qpm prn po iv im sc sq sl hs ac pc stat daily nightly",
    "weekly biweekly fortnightly monthly yearly annually hourly",
    "tgl tägl täglich wöchentlich morgens mittags abends nachts matin midi soir dagligen",
    "heute gestern morgen seit vor nach vorher bisher erneut aktuell früher uhr zustand z.n st.n",
    "januar februar märz mai juni juli oktober dezember okt dez",
    "montag dienstag mittwoch donnerstag freitag samstag sonntag",
    "idag igår tidigare nu varje",
    "hier demain depuis avant après janvier février mars avril juin juillet août septembre octobre",
    "novembre décembre",
)

_NUMBERS = word_set(
    "zero one two three four five six seven eight nine ten eleven twelve once twice thrice",
    "first second third fourth fifth sixth seventh eighth ninth tenth eleventh twelfth",
    "half halves quarter quarters thirds fourths fifths dozen dozens couple pair",
    "double triple quadruple single multiple several few grade every each alternate alternating",
    "null zwei zwo drei vier fünf sechs sieben acht neun zehn elf zwölf eins einmal halb",
    "anderthalb viertel hälfte doppelt mehrere grad grades jeder jede jedes jeden jedem alle",
    "deux trois quatre cinq six sept huit neuf dix onze douze treize quatorze quinze seize vingt",
    "vingts trente quarante cinquante soixante cent cents mille demi demie moitié quart douzaine",
    "dizaine premier première chaque",
    "två tre fyra fem sex sju åtta nio tio elva tolv tretton fjorton femton sexton sjutton arton",
    "nitton halv halva dussin",
) | _declined("erst zweit dritt viert fünft mehrer einzeln halb dutzend")
_ONES = "ein|zwei|zwo|drei|vier|fuenf|sechs|sech|sieben|sieb|acht|neun|zehn|elf|zwoelf"
_NUMBER_WORD = re.compile(
    r"(?:thir|four|fif|six|seven|eigh|nine)teen(?:th)?s?"
    r"|(?:twen|thir|for|fif|six|seven|eigh|nine)t(?:y|ies|ieth|ieths)"
    r"|(?:hundred|thousand|million|billion)(?:th)?s?|[a-z]+fold|[a-z]+iemes?"
    rf"|(?!ein(?:e[rsnm]?|ig(?:e[rsnm]?)?)?$)(?:{_ONES}|zwanzig|hundert|tausend)"
    rf"(?:{_ONES}|und|zig|ssig|zwanzig|hundert|tausend)*(?:mal|fach|s?t)?(?:ige?)?(?:e[rsnm]?)?"
    r"|(?:zwanzig|hundert|tausend|million|milliard)(?:st)?(?:e[rsnm]?)?"
    r"|(?:tjugo|trettio|fyrtio|femtio|sextio|sjuttio|attio|nittio|hundra|tusen)[a-z]*"
)

UNITS = word_set(
    "% ‰ ° mg g kg µg ug mcg ng pg l dl ml µl ul mm cm dm m µm um nm cm2 mm2 m2 cm3 mm3 cc",
    "gm gms gr grs oz km square cubic sq cu x per of a an pro par",
    "mmhg cmh2o kpa pa bar mmol mol µmol umol nmol pmol mval meq iu ie u i.u i.e hu gy msv bq mbq",
    "mv µv uv v kv ma hz khz mhz bpm percent prozent procent degree degrees beats schläge slag",
    "mg/dl mg/l g/dl g/l mmol/l µmol/l ml/min l/min m/s cm/s mm/s mm/mv mm/h mg/kg /min",
    "min mins minute minutes minuten minuter sec secs second seconds s ms msec sek sekunde",
    "sekunden h hr hrs hour hours std stunde stunden heure heures timme timmar o'clock oclock uhr",
    "d day days tag tage tagen jour jours dag dagar w wk wks week weeks woche wochen semaine",
    "semaines vecka veckor mo mos month months monat monate monaten mois månad månader",
    "y yr yrs year years jahr jahre jahren ans år yo old other",
    "morning mornings evening evenings night nights meal meals visit visits",
    "tablet tablets tab tabs tablette tabletten tabl tbl tablett tabletter comprimé comprimés",
    "capsule capsules cap caps kapsel kapseln kapslar gélule gélules pill pills dose doses dosis",
    "dosen doser puff puffs hub hübe drop drops gtt gtts tropfen gouttes droppar spray sprays",
    "patch patches vial vials ampule ampules amp amps ampulle ampullen beutel bag bags bottle",
    "bottles can cans teaspoon teaspoons tsp tablespoon tablespoons tbsp teaspoonful tablespoonful",
    "cup cups glass glasses löffel ounce ounces pound pounds lb lbs stone drink drinks beer beers",
    "cigarette cigarettes pack packs ppd unit units unité unités einheit einheiten enhet enheter",
    "drams grains grain inch inches in ft foot feet yard yards mile miles block blocks step steps",
    "flight flights zoll fingerbreadth fingerbreadths finger fingers querfinger fb fbs pillow",
    "pillows stair stairs fold times time mal fois gånger cells j points point punkte french fr",
    "charr ch gauge ga diopter diopters dpt stitch stitches suture sutures strand strands",
)
"""What after a number is its unit, or leads to it ("of a", "per", "every other")."""

_MEASURE = re.compile(
    r"(?:nano|micro|mikro|milli|centi|zenti|deci|dezi|kilo|mega)?"
    r"(?:gram|gramm|gramme|litre|liter|metre|meter|mol|mole|volt|curie|sievert|gray|joule|watt|"
    r"equivalent|unit|second|sekunde)(?:s|n)?"
)

UNITS_WITH_STOP = word_set(
    "min mins sec secs hr hrs h d wk wks mo mos yr yrs tab tabs tabl tbl cap caps gtt gtts amp",
    "oz lb lbs in ft gr gm gms sq cu fr ga tsp tbsp dpt std sek",
)
"""Units that are short words, so that a full stop may be theirs."""

BOUNDS = word_set(
    "about approximately approx around roughly nearly almost circa ca over under above below up to",
    "within beyond between until till exceeding exceeds exceeded by from just only almost least",
    "most etwa rund knapp gut über unter bis zwischen ungefähr um auf von",
    "environ presque jusqu'à moins plus entre",
    "cirka ungefär nästan över till mellan från",
)
"""What a number that follows means with them and not without."""

LINKS = BOUNDS | word_set("and or out of a an the at through thru und aus et ou à de sur och av")
"""What between two numbers makes one of them: "3 to 5", "two out of ten", "one and a half"."""

_PROTECTED = (
    DENIES_AFTER
    | DENIES_CLAUSE
    | CLAUSE_ENDS
    | _WITHHELD
    | _SIDES
    | _COMPARISON
    | _UNCERTAIN
    | _TIME
    | _NUMBERS
)
_STEMS = DENIES_CLAUSE_STEMS + _WITHHELD_STEMS + _SIDE_STEMS + _UNCERTAIN_STEMS


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


@lru_cache(_KEPT)
def is_number(word: str) -> bool:
    """Whether a word is a number, written or in digits, or has one in it ("twenty-five")."""
    return bool(_HAS_DIGIT.search(word)) or any(map(_is_number_word, parts(word)))


@lru_cache(_KEPT)
def is_unit(word: str) -> bool:
    """Whether a word that follows a number, or its unit, is a unit (or the "per" of one)."""
    return folded(word) in UNITS or _MEASURE.fullmatch(folded(word)) is not None


def _is_number_word(part: str) -> bool:
    return part in _NUMBERS or _NUMBER_WORD.fullmatch(part) is not None


def _is_listed(part: str) -> bool:
    return (
        part in _PROTECTED
        or part.startswith(_STEMS)
        or part.endswith(("n't", *_SIDE_ENDS))
        or (len(part) == 1 and part != "a")
        or _ROMAN.fullmatch(part) is not None
        or _is_number_word(part)
        or _WITHOUT.fullmatch(part) is not None
    )
