"""When a process is believed dead. Pure: times are seconds of the observer's own clock."""

from __future__ import annotations

from typing import Final, Literal

# A lease stands for so long after it was renewed, and is renewed so often. JetStream's TTLs are whole seconds, and
# at least one (docs.nats.io, per-message TTL); its markers come up to 0.25 s late.
LEASE_S: Final = 2
RENEW_S: Final = 0.5
# When the broker elects a leader every lease ends, for 4 to 9 s: whoever's own was not renewed all the while knows
# nothing of the others'.
SURE_S: Final = 3.0
# Longer than an election takes. A broker that has not stored a lease for so long has no leader, or no room.
STORES_WITHIN_S: Final = 15.0
# A live process answers within a millisecond or so; one that is frozen, or cut off, does not.
ASK_S: Final = 0.5
# Of one whose connection has just ended: the broker may have taken the question for it a moment before.
FIRST_ASK_S: Final = 0.05
# A connection that broke is back within this, where its process lives.
BACK_WITHIN_S: Final = 0.25

Answer = Literal["answered", "nobody", "silent"]
Verdict = Literal["lives", "dead", "unsure"]


def judge(answer: Answer, *, leased: bool, departed: bool, nobody_for_s: float, sure: bool) -> Verdict:
    """Say what to believe of a process that was asked whether it lives.

    `departed`: the broker has told of the end of its connection. `nobody_for_s`: for how long nobody has answered to
    its name. `sure`: our own lease was renewed without a break long enough for us to judge others' leases.
    """
    if answer == "answered":
        return "lives"
    if departed and answer == "nobody" and nobody_for_s >= BACK_WITHIN_S:
        return "dead"
    if not leased and sure:
        return "dead"
    return "unsure"


def look_again_s(answer: Answer, *, departed: bool, nobody_for_s: float) -> float:
    """Return when to ask one again of whom we are unsure: at the latest when it will have been away for too long."""
    if departed:
        return max(0.001, min(0.05, BACK_WITHIN_S - nobody_for_s))
    return 0.25
