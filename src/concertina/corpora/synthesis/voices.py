"""The voices of synthetic speech: variants and accents of eSpeak NG, and the voices of SVOX Pico.

Each variant is used in one role only: train, dev or test. A variant is formant synthesis with changed settings; some
are far from any human voice. By their voice files, those of dev and test have their first two formants within 60 to
140 % of the engine's own, and their third above half of it. Variants with `breath` in their file (f2, f3, f5, sandro,
victor ...) are not used, because they sound different in every process.
"""

from concertina.corpora.synthesis.grammar import BUCKETS

VARIANTS = {
    "train": """f1 m1 m2 m3 m4 m6 m7 Alex Andrea Andy Diogo Gene Gene2 Mario Michael antonio benjamin boris
        ed edward edward2 gustave iven iven2 iven3 iven4 john kaukovalta max michel miguel pablo shelby
        steph steph2 steph3""".split(),
    "dev": "m8 pedro anika robert Mike".split(),
    "test": """f4 m5 linda paul Annie Hugo Nguyen Denis Henrique Marco belinda david ian marcelo norbert rob quincy
        grandma grandpa aunty adam""".split(),
}
VARIANTS["base"] = VARIANTS["train"]
assert VARIANTS.keys() == BUCKETS.keys()

ACCENTS = {  # names of eSpeak's language files
    "en": ["gmw/en-US", "gmw/en", "gmw/en-GB-x-rp", "gmw/en-029"],
    "de": ["gmw/de"],
    "fr": ["roa/fr", "roa/fr-BE"],
}
UNSEEN_ACCENTS = {"en": ["gmw/en-GB-scotland", "gmw/en-GB-x-gbclan", "gmw/en-GB-x-gbcwmd"], "fr": ["roa/fr-CH"]}
PICO_VOICES = {"en": ["en-US", "en-GB"], "de": ["de-DE"], "fr": ["fr-FR"]}
