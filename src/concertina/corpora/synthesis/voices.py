"""Who speaks: eSpeak NG's voice variants and accents, each in one role only (train, dev or test).

Variants are formant synthesis with changed settings, some far from any human voice. Those of dev and test keep their
first two formants within 60 to 140 % of the engine's own and their third above half of it, by their voice files.
None has `breath` in its file: such a voice (f2, f3, f5, sandro, victor ...) sounds different in every process.
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

ACCENTS = {  # eSpeak's language files
    "en": ["gmw/en-US", "gmw/en", "gmw/en-GB-x-rp", "gmw/en-029"],
    "de": ["gmw/de"],
    "fr": ["roa/fr", "roa/fr-BE"],
}
UNSEEN_ACCENTS = {"en": ["gmw/en-GB-scotland", "gmw/en-GB-x-gbclan", "gmw/en-GB-x-gbcwmd"], "fr": ["roa/fr-CH"]}
PICO_VOICES = {"en": ["en-US", "en-GB"], "de": ["de-DE"], "fr": ["fr-FR"]}
