"""Terms of texts."""

from collections import Counter

from medmcl.modalities.text.adapter import SIZES, text_terms


def slow(text):
    terms = []
    for word in text.lower().split():
        padded = f" {word} "
        for size in SIZES:
            terms += [padded[i : i + size] for i in range(len(padded)) if i + size <= len(padded)]
    return terms


def test_terms_are_the_runs_of_each_word():
    for text in ("Sinusrhythmus, ST-Hebung", "a", "", "  ü  ?! "):
        assert Counter(text_terms(text)) == Counter(slow(text))


def test_terms_equal_those_of_scikit_learn_but_for_short_words():
    from sklearn.feature_extraction.text import CountVectorizer

    text = "sinus rhythm with premature beats"
    theirs = CountVectorizer(analyzer="char_wb", ngram_range=(2, 5)).build_analyzer()(text)
    assert Counter(theirs) == Counter(text_terms(text))


def test_case_and_spelling_of_one_word_are_one_term():
    assert text_terms("U\u0308BERGANG") == text_terms("übergang")
    assert text_terms("ST", lowercase=False) != text_terms("st", lowercase=False)
