"""Names that people choose, ids that machines make, and the one escape between them and the broker."""

from __future__ import annotations

import os
import re
import reprlib
from functools import lru_cache
from typing import Final

from session_fabric.words.errors import InvalidName

# A session's or tenant's name appears in URLs, log lines and on the command line: plain characters only.
_SESSION = re.compile(r"[A-Za-z0-9][A-Za-z0-9_:@~-]{0,127}")
_TENANT = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
_ID = re.compile(r"[A-Za-z0-9_:.~@=-]{1,128}")
# Nor what cannot be seen, or turns the text around it (Unicode's categories Cc, Cf, Cs, Zl, Zp, Zs), but for the two
# joiners, without which some languages cannot be written.
_UNSEEN = (
    r"\x00-\x20\x7f-\xa0\xad\u0600-\u0605\u061c\u06dd\u070f\u0890\u0891\u08e2\u1680\u180e\u2000-\u200b\u200e\u200f"
    r"\u2028-\u202f\u205f-\u206f\u3000\ud800-\udfff\ufeff\ufff9-\ufffb"
    r"\U000110bd\U000110cd\U00013430-\U0001343f\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e007f"
)
_PARTICIPANT = re.compile(rf"(user|agent|operator|supervisor|service):[^{_UNSEEN}*>]{{1,128}}")
_DURABLE = re.compile(r"[A-Za-z0-9_-]{1,64}")
_PLAIN = re.compile(r"[A-Za-z0-9_-]*")
_ESCAPED = re.compile(rb"=([0-9A-F]{2})")
# The durable consumers that are the fabric's own.
DEADLINES_DURABLE: Final = "sf-deadlines"
POOL_DURABLE: Final = "pool-"
_ALPHABET = b"0123456789ABCDEFGHJKMNPQRSTVWXYZabcdefghjkmnpqrstvwxyz"
_ID_LENGTH = 20
# Random bytes become letters; those beyond the last whole round of the alphabet are left out, so that none is likelier.
_ROUNDS = 256 // len(_ALPHABET)
_LETTERS = (_ALPHABET * (_ROUNDS + 1))[:256]
_LEFT_OUT = bytes(range(_ROUNDS * len(_ALPHABET), 256))
# A draw is a call of the kernel, five microseconds of it: for some fifty ids at once.
_DRAWN = 1024
_letters = ""


def _check(pattern: re.Pattern[str], what: str, value: object, rule: str) -> str:
    if not isinstance(value, str) or pattern.fullmatch(value) is None:
        # `reprlib` goes neither deep nor far into what should have been text.
        text = value if isinstance(value, str) else reprlib.repr(value)
        shown = text if len(text) <= 80 else text[:77] + "..."
        quoted = repr(shown) if isinstance(value, str) else shown
        article = "an" if what[0] in "aeio" else "a"
        noun = what if what.endswith("id") else f"{what} name"
        hint = f"{article.capitalize()} {noun} is {rule}."
        raise InvalidName(f"{quoted} is not {article} {noun}.", hint=hint, value=shown)
    return value


def check_session(value: object) -> str:
    """Return a session's name, or raise `InvalidName`: 1-128 letters, digits or `_ : @ ~ -`, no sign first."""
    return _check(_SESSION, "session", value, "1-128 letters, digits or _ : @ ~ -, starting with a letter or digit")


def check_tenant(value: object) -> str:
    return _check(_TENANT, "tenant", value, "1-64 letters, digits, _ or -, starting with a letter or digit")


def check_id(value: object, what: str = "id") -> str:
    """Return an id (event, run, message, tool call, device), or raise `InvalidName`."""
    return _check(_ID, what, value, "1-128 letters, digits or _ : . ~ @ = -")


def is_id(value: str) -> bool:
    """Say whether text has the form of an id."""
    return _ID.fullmatch(value) is not None


def check_participant(value: object) -> str:
    """Return `role:id`, or raise `InvalidName`."""
    rule = "user:, agent:, operator:, supervisor: or service: and 1-128 visible characters without spaces, * or >"
    return _check(_PARTICIPANT, "participant", value, rule)


def check_durable(value: object) -> str:
    return _check(_DURABLE, "subscription", value, "1-64 letters, digits, _ or -")


def new_id(prefix: str = "") -> str:
    """Make an id nobody else has: 20 characters of a 54-letter alphabet, 115 random bits."""
    global _letters
    while len(_letters) < _ID_LENGTH:
        _letters += os.urandom(_DRAWN).translate(_LETTERS, _LEFT_OUT).decode("ascii")
    id, _letters = _letters[:_ID_LENGTH], _letters[_ID_LENGTH:]
    return prefix + id


def _forked() -> None:
    """What is left of a parent's draw would make the same ids in its child."""
    global _letters
    _letters = ""


os.register_at_fork(after_in_child=_forked)


@lru_cache(maxsize=16_384)
def escape(name: str) -> str:
    """Turn any non-empty text into a legal subject token and KV key part; `unescape` gives it back.

    Letters, digits, `_` and `-` stay; every other UTF-8 byte becomes `=XX`.
    KV keys may hold only `[-/_=.a-zA-Z0-9]` (nats-server, ADR-8) and `.` separates tokens.
    """
    if _PLAIN.fullmatch(name):
        return name
    return "".join(
        chr(b) if chr(b).isascii() and (chr(b).isalnum() or chr(b) in "_-") else f"={b:02X}"
        for b in name.encode("utf-8")
    )


def unescape(token: str) -> str:
    if "=" not in token:
        return token
    raw = _ESCAPED.sub(lambda m: bytes([int(m.group(1), 16)]), token.encode("utf-8", "replace"))
    return raw.decode("utf-8", "replace")
