"""JSON Schemas of forms, which agents write and people's answers are held against: what may be in one, and how long it
may take to look. Pure.

Whoever holds an answer against a schema serves others meanwhile, and the schema is not his own. So patterns are matched
in time that grows with the text alone (which costs look-around and back references), a schema does not refer to itself,
and how much of a schema meets how much of an answer has a bound.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

import orjson
from jsonschema_rs import Draft202012Validator, RegexOptions, ValidationError

from session_fabric.words.errors import InvalidRequest

MAX_SCHEMA_BYTES: Final = 32 * 1024
MAX_DEPTH: Final = 32
# Parts of a schema, each counted wherever it is referred to.
MAX_PARTS: Final = 1000
MAX_PATTERNS: Final = 20
# Parts times values of an answer: 30 ms (at 30 ns each).
MAX_LOOKS: Final = 1_000_000
# Patterns times bytes of an answer: 40 ns each at worst.
MAX_MATCHED: Final = 2 * 1024 * 1024
# What a pattern may take to be stored, made ready to be matched: `{1,1000}` of a letter fits.
_PATTERN_BYTES: Final = 64 * 1024

# Where schemas are in schemas; `$defs` counts where it is referred to.
_ONE: Final = ("items", "contains", "additionalProperties", "propertyNames", "not", "if", "then", "else")
_LISTS: Final = ("allOf", "anyOf", "oneOf", "prefixItems")
_MAPS: Final = ("properties", "patternProperties", "dependentSchemas")
# What names another document or a place by another way than a path, and what looks again at all that was looked at.
_REFUSED: Final = frozenset(
    {
        *("$id", "$anchor", "$dynamicAnchor", "$dynamicRef", "$recursiveAnchor", "$recursiveRef"),
        *("unevaluatedItems", "unevaluatedProperties"),
    }
)
_HINT: Final = "Use JSON Schema 2020-12."


class Form:
    """A schema that answers are held against. Raises `InvalidRequest` for one that cannot be used."""

    def __init__(self, schema: object) -> None:
        if not isinstance(schema, dict):
            raise InvalidRequest(f"The schema is {schema!r:.60}.", hint=_HINT)
        told = orjson.dumps(schema)
        if len(told) > MAX_SCHEMA_BYTES:
            raise InvalidRequest(
                f"The schema has {len(told)} bytes; {MAX_SCHEMA_BYTES} is the most.",
                hint="Ask for less at once.",
                limit=MAX_SCHEMA_BYTES,
            )
        # Whichever draft it names, it is read as this one.
        plain = {name: value for name, value in orjson.loads(told).items() if name != "$schema"}
        self._parts, self._patterns = _Size(plain).of("#", 0)
        for what, count, most in (("parts", self._parts, MAX_PARTS), ("patterns", self._patterns, MAX_PATTERNS)):
            if count > most:
                raise InvalidRequest(
                    f"The schema has {count if count < 10**9 else 'very many'} {what}, each counted wherever it is "
                    f"referred to; {most} is the most.",
                    hint="Ask for less at once.",
                    limit=most,
                )
        try:
            self._validator = Draft202012Validator(
                plain,
                pattern_options=RegexOptions(size_limit=_PATTERN_BYTES),
                validate_formats=False,
                retriever=_nowhere,
            )
        except ValidationError as error:
            raise _unusable(error) from error
        except ValueError as error:
            raise InvalidRequest(f"The schema is none: {error!s:.200}.", hint=_HINT) from error

    def check(self, body: object) -> None:
        """Raise `InvalidRequest` for an answer that does not fit, or that would take too long to be looked at."""
        values, size = _values(body), len(orjson.dumps(body))
        if self._parts * values > MAX_LOOKS or self._patterns * size > MAX_MATCHED:
            raise InvalidRequest(
                f"An answer of {values} values and {size} bytes is too large for a schema of {self._parts} parts and "
                f"{self._patterns} patterns.",
                hint="Answer with less, or let the agent ask for it in parts.",
                limit=MAX_LOOKS // self._parts,
            )
        try:
            self._validator.validate(body)
        except ValidationError as error:
            path = _path(error.instance_path)
            raise InvalidRequest(
                f"The answer does not fit the schema, at {path:.200}: {error.message:.200}.",
                hint=f"The schema's {'.'.join(str(part) for part in error.schema_path):.100} says so.",
                field=path[:80],
            ) from error
        except ValueError as error:
            raise InvalidRequest(f"The answer cannot be read: {error!s:.200}.", hint="Answer with less.") from error


class _Size:
    """Counts a schema's parts and patterns, each as often as it is referred to."""

    def __init__(self, root: Mapping[str, Any]) -> None:
        self._root = root
        self._known: dict[str, tuple[int, int]] = {}
        self._open: set[str] = set()

    def of(self, ref: str, depth: int) -> tuple[int, int]:
        if ref in self._open:
            raise InvalidRequest(
                f"The schema refers to itself, at {ref:.100}.", hint="Spell out as many levels as you ask for."
            )
        if ref not in self._known:
            self._open.add(ref)
            self._known[ref] = self._count(self._at(ref), depth)
            self._open.remove(ref)
        return self._known[ref]

    def _at(self, ref: str) -> Any:
        """Return what a path within the schema names."""
        found: Any = self._root
        if (ref != "#" and not ref.startswith("#/")) or "%" in ref:
            raise InvalidRequest(
                f"The schema refers to {ref!r:.100}.", hint='Refer to a part of itself, as "#/$defs/size".'
            )
        for name in ref.split("/")[1:]:
            name = name.replace("~1", "/").replace("~0", "~")
            if isinstance(found, list) and name.isascii() and name.isdigit() and int(name) < len(found):
                found = found[int(name)]
            elif isinstance(found, dict) and name in found:
                found = found[name]
            else:
                raise InvalidRequest(f"The schema has nothing at {ref!r:.100}, to which it refers.", hint=_HINT)
        return found

    def _count(self, schema: Any, depth: int) -> tuple[int, int]:
        if not isinstance(schema, dict):
            return 1, 0
        if depth > MAX_DEPTH:
            raise InvalidRequest(f"The schema is more than {MAX_DEPTH} levels deep.", hint=_HINT, limit=MAX_DEPTH)
        refused = sorted(_REFUSED & schema.keys())
        if refused:
            raise InvalidRequest(f"A form's schema has no {refused[0]}.", hint="Say it with other keywords.")
        patterns = schema.get("patternProperties")
        parts = len(schema) + sum(len(value) for value in schema.values() if isinstance(value, list))
        matched = ("pattern" in schema) + (len(patterns) if isinstance(patterns, dict) else 0)
        for part in _within(schema):
            more, also = self._count(part, depth + 1)
            parts, matched = parts + more, matched + also
        if isinstance(schema.get("$ref"), str):
            more, also = self.of(schema["$ref"], depth + 1)
            parts, matched = parts + more, matched + also
        return max(parts, 1), matched


def _within(schema: Mapping[str, Any]) -> Iterator[Any]:
    for name in _ONE:
        if name in schema:
            yield schema[name]
    for name in _LISTS:
        if isinstance(schema.get(name), list):
            yield from schema[name]
    for name in _MAPS:
        if isinstance(schema.get(name), dict):
            yield from schema[name].values()


def _values(body: object) -> int:
    """Count what is in a value, itself too."""
    count, left = 0, [body]
    while left:
        one = left.pop()
        count += 1
        if isinstance(one, dict):
            left.extend(one.values())
        elif isinstance(one, list | tuple):
            left.extend(one)
    return count


def _unusable(error: ValidationError) -> InvalidRequest:
    path = [str(part) for part in error.instance_path]
    if "pattern" in path[-1:] or "patternProperties" in path[-2:]:
        return InvalidRequest(
            f"The schema's pattern {error.instance!r:.100} cannot be used, at {_path(path):.200}.",
            hint="Patterns have no look-around and no back references, and few repetitions of many.",
            field=_path(path)[:80],
        )
    return InvalidRequest(f"The schema is none, at {_path(path):.200}: {error.message:.200}.", hint=_HINT)


def _nowhere(uri: str, /) -> Any:
    raise ValueError(f"{uri!r:.100} is not fetched")


def _path(parts: Iterable[str | int]) -> str:
    return "$" + "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in parts)
