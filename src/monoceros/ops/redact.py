"""Secrets that clients put where logs show them: values in queries, and header fields that authenticate."""

import re
from collections.abc import Iterable
from functools import lru_cache
from typing import Final
from urllib.parse import unquote

REDACTED: Final = "[redacted]"

# Fields that are secrets whatever patterns there are.
FIELDS: Final = frozenset(("authorization", "cookie", "proxy-authorization", "set-cookie"))

# A query in a value of a query (`next=%2F%3Ftoken%3D1`) may have one of its own; further down nobody looks.
DEPTH: Final = 2

START: Final = r"\A"
END: Final = r"\Z"

# Where in a text a name may begin, but for its start; and what a query within a value cannot be without: a "=" as it
# is, or encoded once or twice.
BEFORE_NAME: Final = re.compile("[;?]")
UNUSUAL: Final = re.compile("[;?=]|%3[dD]|%253[dD]")

# Clients choose names and queries, so it is a bounded number of bounded ones that is remembered: some 500 KB. Of
# queries, only those without a secret.
CACHED: Final = 1024
CACHED_LENGTH: Final = 256


class Redaction:
    """What `log_redact` says. Without patterns, nothing is hidden, nor are `FIELDS`.

    `query` takes a query without its "?", `target` anything in which one may stand behind a "?". All take time in
    proportion to the length of the text, whatever is in it.
    """

    def __init__(self, patterns: Iterable[str]) -> None:
        found = "|".join(map(_expression, patterns))
        self.on = bool(found)
        self._search = re.compile(found, re.IGNORECASE | re.DOTALL).search
        self._harmless: set[str] = set()
        self._known = lru_cache(CACHED)(self._matches)

    def names(self, name: str) -> bool:
        """Whether the field, or the key of an environ, with this name is not to be shown."""
        field = name.lower().removeprefix("http_").replace("_", "-")
        return self.on and (field in FIELDS or self._is_secret(field) or self._is_secret(field.replace("-", "_")))

    def named(self, name: str, value: object) -> object:
        """The value as it is to be shown, of a field or of a key of an environ with this name."""
        if not self.on or not isinstance(value, str):
            return value
        if self.names(name):
            return REDACTED
        return self.query(value) if name == "QUERY_STRING" else self.target(value)

    def target(self, text: str) -> str:
        """The text with the secrets of its query hidden."""
        if "?" not in text:
            return text
        path, mark, query = text.partition("?")
        return path + mark + self.query(query)

    def query(self, text: str) -> str:
        """The query with its secrets hidden."""
        if not self.on or text in self._harmless:
            return text
        shown = self._hidden(text, DEPTH)
        if shown == text and len(text) <= CACHED_LENGTH:
            if len(self._harmless) >= CACHED:
                self._harmless.clear()
            self._harmless.add(text)
        return shown

    def _hidden(self, text: str, depth: int) -> str:
        pairs = text.split("&")
        for i, pair in enumerate(pairs):
            name, equals, value = pair.partition("=")
            if equals and self._is_secret(name):
                pairs[i] = f"{name}={REDACTED}"
            elif UNUSUAL.search(value if equals else name) or "?" in name or ";" in name:
                pairs[i] = self._looked_into(pair, depth)
        return "&".join(pairs)

    def _looked_into(self, pair: str, depth: int) -> str:
        """More than one name may stand in it. Behind that of a secret all is secret, whatever it looks like."""
        start, end = 0, pair.find("=")
        while end >= 0:
            if self._is_secret(BEFORE_NAME.split(pair[start:end])[-1]):
                return f"{pair[: end + 1]}{REDACTED}"
            start, end = end + 1, pair.find("=", end + 1)
        name, equals, value = pair.partition("=")
        inner = unquote(value if equals else name)
        if depth and inner != pair and self._hidden(inner, depth - 1) != inner:
            return f"{name}={REDACTED}" if equals else REDACTED
        return pair

    def _is_secret(self, name: str) -> bool:
        return self._known(name) if len(name) <= CACHED_LENGTH else self._matches(name)

    def _matches(self, name: str) -> bool:
        return bool(self._search(unquote(name)))


def _expression(pattern: str) -> str:
    """As a regular expression for `search`: a star at an end is no anchor there."""
    inner = ".*".join(map(re.escape, filter(None, pattern.split("*"))))
    begin = "" if pattern.startswith("*") else START
    return begin + inner + ("" if pattern.endswith("*") else END)
