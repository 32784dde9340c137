"""Why a broker cannot be had: what each try to connect came to, and the one sentence made of it."""

from __future__ import annotations

import os
import re
import socket
import ssl

from nats.errors import Error as NatsError

from session_fabric.words.errors import BrokerRefused, BrokerUnavailable, FabricError

# What a broker says to who shows no certificate, or one that it does not trust (RFC 8446, section 6).
_NOT_TRUSTED = re.compile(r"ALERT_.*(CERT|UNKNOWN_CA|ACCESS_DENIED)")
_ERRNO = re.compile(r"\[Errno (\d+)\]")
# What it has against a certificate it says, and cuts; who is writing at that moment does not get to read it: of a cut
# alone nobody knows whether it was for that.
_CUT_ASKING = "it asks for certificates, and cuts the connection"
# A cluster has a few nodes; of more reasons than these nobody reads the rest.
_MOST = 3


class Unencrypted(NatsError):
    """TLS is wanted, and the broker has none to offer: nats-py would go on without."""

    def __str__(self) -> str:
        return "it has no TLS to offer"


class Reasons:
    """What kept us from a broker since it was there last."""

    def __init__(self) -> None:
        self._refused = False
        self._distrusted = ""
        self._not_trusted = ""
        self._whys: list[str] = []

    def add(self, error: Exception, *, certificates: bool = False) -> None:
        """Take in what a try to connect ended with, or what the broker has said; `certificates`: it asks for them."""
        if is_refusal(error):
            self._refused = True
        elif isinstance(error, ssl.SSLCertVerificationError):
            self._distrusted = error.verify_message
        elif isinstance(error, ssl.SSLError) and _NOT_TRUSTED.search(error.reason or ""):
            self._not_trusted = error.reason
        elif (why := _why(error, certificates)) and why not in self._whys:
            self._whys.append(why)

    def error(self, url: str, timeout_s: float, last: Exception, *, reached: bool) -> FabricError:
        """Return what is raised when the time is over; `last` is what it ended with."""
        if self._distrusted:
            return BrokerUnavailable(
                f"The broker at {url} cannot be trusted: {self._distrusted}.",
                hint="Name who signs for it (PEM): SESSION_FABRIC_NATS_CA, or `fabricctl context set … --ca FILE`.",
            )
        if self._not_trusted:
            return BrokerRefused(
                f"The broker at {url} does not accept the certificate that it is shown, or none: {self._not_trusted}.",
                hint="Show one that it trusts: SESSION_FABRIC_NATS_CERT and SESSION_FABRIC_NATS_KEY, or `fabricctl "
                "context set … --cert FILE --cert-key FILE`.",
            )
        if self._refused:
            return BrokerRefused(
                f"The broker at {url} does not accept the credentials.",
                hint="Check token, user or file: SESSION_FABRIC_NATS_CREDENTIALS names one, and `fabricctl dev` "
                "says where its key is. Tokens are looked at by a gateway with --native-agents.",
            )
        text = str(last) or f"no answer within {timeout_s:g} s"
        if reached:
            return BrokerUnavailable(
                f"The broker at {url} is there, and has not done what connecting takes: {text}.",
                hint="Has its cluster elected leaders? `nats server report jetstream` says so.",
            )
        if self._whys == [str(Unencrypted())]:
            return BrokerUnavailable(
                f"The broker at {url} has no TLS to offer, and is not spoken to without it.",
                hint="Turn TLS on there (`tls` in its configuration; wss:// for ws://), or use nats:// and name no "
                "certificates.",
            )
        if self._whys == [_CUT_ASKING]:
            return BrokerUnavailable(
                f"No broker can be reached at {url}: {_CUT_ASKING} (tried for {timeout_s:g} s).",
                hint="It does not accept the one that it is shown, or none (SESSION_FABRIC_NATS_CERT and "
                "SESSION_FABRIC_NATS_KEY), or something on the way cuts it: the broker's log says which.",
            )
        if self._whys:
            text = f"{'; '.join(self._whys[:_MOST])} (tried for {timeout_s:g} s)"
        return BrokerUnavailable(
            f"No broker can be reached at {url}: {text}.",
            hint="Is the address right, and does it run? `nats-server -js` starts one with JetStream.",
        )


def is_refusal(error: Exception) -> bool:
    """Say whether the broker does not accept the credentials."""
    return re.search("authorization|authentication", str(error), re.IGNORECASE) is not None


def _why(error: Exception, certificates: bool) -> str:
    """Say what a try came to, in a few words. Nothing that somebody answered is quoted: it may be of any length."""
    match error:
        case TimeoutError():
            return "nobody answers"
        case ConnectionResetError() | BrokenPipeError():
            return _CUT_ASKING if certificates else "it cuts the connection"
        case socket.gaierror():
            return "its name is not known"
        case ssl.SSLError():
            return f"TLS failed ({error.reason or 'no reason given'})"
        case OSError():
            numbers = {error.errno} if error.errno else {int(number) for number in _ERRNO.findall(str(error))}
            return " or ".join(sorted(os.strerror(number).lower() for number in numbers)) or type(error).__name__
        case NatsError():
            if "INFO" in str(error) or "info message" in str(error):
                return "what answers is no nats-server"
            return str(error).removeprefix("nats: ")[:80]
    return f"what answers speaks otherwise ({type(error).__name__})"


def of_file(error: OSError | ValueError) -> str:
    """Say why a file of certificates cannot be used."""
    if isinstance(error, ssl.SSLError):
        return (error.reason or "no PEM").replace("_", " ").lower()
    if isinstance(error, OSError) and error.errno:
        return os.strerror(error.errno)
    return str(error)
