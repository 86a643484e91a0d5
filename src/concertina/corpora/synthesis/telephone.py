"""Draw announcements and menus of telephone systems from a small English grammar."""

from collections.abc import Iterator

from numpy.random import Generator

SEPARATOR = "|"


def _list(text: str) -> list[str]:
    """Split a text at the separators, and join lines that were broken."""
    return [" ".join(phrase.split()) for phrase in text.split(SEPARATOR)]


KEYS = [*map(str, range(10)), *"star pound hash one two three four five six seven eight nine zero".split()]
NUMBERS = """one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen
    eighteen nineteen twenty thirty forty fifty sixty seventy eighty ninety""".split()
THINGS = _list("""call|caller|number|telephone number|extension|extension number|access code|pin|account number|
    mailbox|mailbox number|password|message|voice message|new message|old message|greeting|busy greeting|
    unavailable greeting|temporary greeting|recording|name|line|telephone|conference|conference number|
    conference room|channel|agent|agent number|operator|representative|directory|menu|main menu|option|entry|list|
    folder|first name|last name|volume|sound|tone|beep|system|service|channel number|feature|speed dial number|party|
    user|user name|phone number|position|participant|leader|video|invitation|reminder|alarm|wake up call|
    call forwarding|call waiting|black list|caller identification|time|date|address|location|department|company|
    store|office|customer|bill|technical support|envelope|destination|letter|digit|key|circuit|connection|queue|
    announcement|introduction|moment|minute|music|question|person|transfer|country code|area code|language|card""")
VERBS = """accept activate add answer call cancel change check choose clear confirm connect decline decrease delete dial
    disable edit enable end enter erase forward hear hold increase invite join keep leave listen-to lock lower mute
    move pause play prepend press raise receive reach record rerecord reject remove repeat replace reply-to request
    reset return-to review rewind save select send set skip spell start stop store switch talk-to transfer try turn-off
    turn-on undelete unlock unmute use verify visit wait-for finish monitor note open toggle say""".split()
DONE = """accepted activated added answered called cancelled changed checked chosen cleared confirmed connected declined
    deleted dialed disabled enabled ended entered erased forwarded heard invited joined locked muted moved paused
    played recorded rejected removed repeated replaced reset reviewed saved selected sent set skipped started stopped
    stored transferred undeleted unlocked unmuted used verified reached found completed received monitored""".split()
STATES = _list("""busy|available|unavailable|active|inactive|locked|unlocked|muted|full|empty|closed|open|disabled|
    enabled|invalid|incorrect|valid|ready|disconnected|connected|in use|out of service|not in service|not available|
    not valid|no longer active|on hold|already in use|currently busy|temporarily unavailable|not allowed|logged on|
    logged off|restricted|reserved|missing|unknown|private|on the phone|ringing|too short|too long|the only one here|
    on another call|not recognized|the last one|the same""")
PLACES = _list("""to the main menu|in this folder|from the list|at the tone|after the beep|on the line|in the queue|
    at this time|at the moment|now|in this conference|of this mailbox|for this extension|for other participants|
    on your telephone|to this number|on hold|by name|for more options|without a message|to the previous menu|
    in the directory|again|to another extension|in a few minutes|until later|today|with your voice|to all callers|
    in the order received|for the next available person|before the tone|as soon as possible|
    to hang up|while you wait""")
GREETINGS = _list("""please|thank you|thank you for calling|I'm sorry|sorry|welcome|goodbye|hello|good morning|
    attention|one moment please|please hold|please try again|just a moment|congratulations|thanks for waiting|
    stay on the line""")
TIMES = _list(
    """noon|midnight|seven a.m.|half past ten|eight thirty p.m.|nine o'clock|a quarter to six|ten p.m.|five fifteen"""
)
DAYS = """Monday Tuesday Wednesday Thursday Friday Saturday Sunday January February March April May June July August
    September October November December tomorrow yesterday tonight""".split()
PLANS = _list("""press {key} to {verb} {the} {thing}|press {key} to {verb} {the} {thing} {place}|
    to {verb} {the} {thing}, press {key}|to {verb} {the} {thing}, press {key}. to {verb} {the} {thing}, press {key}|
    press {key} to {verb} {the} {thing}, or press {key} to {verb} {the} {thing}|
    press {key} to {verb}, press {key} to {verb} {the} {thing}, press {key} to return {place}|
    please {verb} {the} {thing} {place}|please {verb} {the} {thing} followed by the {key} key|
    please {verb} {the} {thing}, then press {key}|{the} {thing} is {state}|{the} {thing} is now {state}|
    {the} {thing} you have {done} is {state}|{the} {thing} has been {done}|{the} {thing} was not {done}|
    {the} {thing} cannot be {done} {place}|{the} {thing} will be {done} {place}|all {thing}s are {state}|
    you are {state}|you are now {state}|you are no longer {state}|you have {number} {thing}s|
    you have {number} new {thing}s and {number} old {thing}s|there are no {thing}s {place}|
    there are {number} {thing}s {place}|you must {verb} {the} {thing} {place}|you may {verb} {the} {thing} at any time|
    {greeting}, {the} {thing} is {state}|{greeting}, {the} {thing} could not be {done}|{greeting}. {place}|{greeting}|
    if you would like to {verb} {the} {thing}, press {key}|if {the} {thing} is {state}, press {key}|
    {thing} number {number} is {state}|the time is {time}|{day} at {time}|on {day} the {thing} is {state}|
    after {the} {thing}, {verb} {the} {thing}, and then press the {key} key|{the} {thing} {place}|{thing} {number}|
    {greeting}, but {the} {thing} you {verb} is {state}|{the} {thing} may be {state} {place}|that {thing} is {state}|
    {verb} {the} {thing} or {verb} {the} {thing}|when you have {done} {the} {thing}, {verb} {place}|
    we are unable to {verb} {the} {thing}. {greeting}|your {thing} is {number} in line and will be {done} {place}|
    the {thing} has {number} {thing}s|do you want to {verb} {the} {thing}?|
    who is the {thing} that you want to {verb}?""")
ARTICLES = "the the the your your a this that another".split()


def sentences(draw: Generator) -> Iterator[str]:
    """Yield sentences without end, each with a capital, and most with a full stop."""
    while True:
        text = _fill(str(draw.choice(PLANS)), draw)
        if draw.random() < 0.15:
            text += ". " + _fill(str(draw.choice(PLANS)), draw)
        text = ". ".join(sentence[:1].upper() + sentence[1:] for sentence in text.split(". "))
        yield text if text.endswith("?") or draw.random() < 0.3 else f"{text}."


def _fill(plan: str, draw: Generator) -> str:
    """Replace each slot of a plan by a newly drawn word or phrase."""
    slots = {
        "{key}": KEYS,
        "{verb}": VERBS,
        "{the}": ARTICLES,
        "{thing}": THINGS,
        "{done}": DONE,
        "{state}": STATES,
        "{number}": NUMBERS,
        "{place}": PLACES,
        "{greeting}": GREETINGS,
        "{time}": TIMES,
        "{day}": DAYS,
    }
    for slot, words in slots.items():
        while slot in plan:
            plan = plan.replace(slot, str(draw.choice(words)).replace("-", " "), 1)
    return plan
