"""What may have been meant by a name that is not there."""

import difflib
from collections.abc import Sequence


def nearest(name: str, valid: Sequence[str]) -> str:
    """The end of an error message: ' (did you mean ...?)', or what is valid; nothing where nothing is."""
    near = difflib.get_close_matches(name, valid, n=1, cutoff=0.5)
    return f" (did you mean {near[0]!r}?)" if near else f" (valid: {', '.join(valid)})" if valid else ""
