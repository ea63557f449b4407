"""Camera and recording time from an input's path or key, by a pattern: `{camera}/{recorded_at:%Y%m%d}`."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

DEFAULT_TIME_FORMAT = "%Y%m%dT%H%M%S"

_DIRECTIVES = {
    "Y": r"\d{4}", "y": r"\d{2}", "m": r"\d{2}", "d": r"\d{2}", "H": r"\d{2}", "I": r"\d{2}", "M": r"\d{2}",
    "S": r"\d{2}", "f": r"\d{1,6}", "j": r"\d{3}", "p": r"[AaPp][Mm]", "b": r"[A-Za-z]{3}", "B": r"[A-Za-z]+",
    "z": r"(?:[+-]\d{2}:?\d{2}|Z)", "%": "%",
}  # fmt: skip
_FIELD = re.compile(r"\{(camera|recorded_at)(?::([^{}]*))?\}")
_DATES = (({"Y"}, {"y"}), ({"m", "d"}, {"b", "d"}, {"B", "d"}, {"j"}))
"""What makes a date: one set of each group must be there."""


@dataclass(frozen=True)
class KeyPattern:
    """A compiled pattern; `match` takes the path or key without its suffix, with `/` between parts."""

    regex: re.Pattern[str]
    time_format: str | None
    zone: ZoneInfo

    def match(self, key: str) -> tuple[str | None, datetime | None] | None:
        """Camera and recording time (UTC), or None where the end of `key` does not fit the pattern.

        A time that the clock showed twice, when summer time ended, is taken for the first of the two; one
        that it left out counts from before the change.
        """
        found = self.regex.search(key)
        if found is None:
            return None
        groups = found.groupdict()
        if self.time_format is None:
            return groups.get("camera"), None
        try:
            at = datetime.strptime(groups["recorded_at"], self.time_format)
            if at.tzinfo is None:
                at = at.replace(tzinfo=self.zone)
            return groups.get("camera"), at.astimezone(UTC)
        except (ValueError, OverflowError):
            return None  # digits that are no date, or one before the year 1


@lru_cache(maxsize=256)
def compile_pattern(pattern: str, timezone: str) -> KeyPattern:
    """Compile a pattern.

    Raises:
        ValueError: a field or directive is unknown or comes twice, a time has no date or does not say which
            half of the day, the time zone is unknown, or a `*` is meant to stand for anything.
    """
    try:
        zone = ZoneInfo(timezone)
    except (ZoneInfoNotFoundError, ValueError, OSError) as exc:
        raise ValueError(f"unknown time zone {timezone!r}; IANA names look like Europe/Berlin") from exc
    parts, end = [], 0
    formats: dict[str, str] = {}
    for field in _FIELD.finditer(pattern):
        parts.append(re.escape(pattern[end : field.start()]))
        end = field.end()
        name, form = field.groups()
        if name in formats:
            raise ValueError(f"pattern {pattern!r} holds {{{name}}} twice")
        if name == "camera" and form is not None:
            raise ValueError(f"{{camera}} takes no format, got {form!r}")
        formats[name] = form or DEFAULT_TIME_FORMAT
        parts.append("(?P<camera>[^/]+)" if name == "camera" else _time_group(formats[name]))
    literals = _FIELD.sub("", pattern)
    if "{" in literals or "}" in literals or not formats:
        raise ValueError(f"pattern {pattern!r} may hold {{camera}} and {{recorded_at:%Y...}} only")
    if "*" in literals:
        raise ValueError(f"pattern {pattern!r} holds a *: it takes no wildcards, and any folders in front")
    body = "".join(parts) + re.escape(pattern[end:])
    return KeyPattern(re.compile(rf"(?:^|/){body}\Z", re.ASCII), formats.get("recorded_at"), zone)


def _time_group(form: str) -> str:
    """A named group that matches what strptime reads by `form`."""
    out: list[str] = []
    used: list[str] = []
    chars = iter(form)
    for char in chars:
        if char != "%":
            out.append(re.escape(char))
            continue
        directive = next(chars, "")
        if directive not in _DIRECTIVES:
            raise ValueError(f"%{directive} is not supported in recorded_at; use of {', '.join(_DIRECTIVES)}")
        if directive in used and directive != "%":
            raise ValueError(f"%{directive} comes twice in recorded_at")
        used.append(directive)
        out.append(_DIRECTIVES[directive])
    if not all(any(need <= set(used) for need in needs) for needs in _DATES):
        raise ValueError(f"recorded_at needs a year, a month and a day, got {form!r}")
    # strptime takes %I alone for the morning, and passes over %p after %H: half of the times were wrong.
    if ("I" in used) != ("p" in used):
        raise ValueError(f"%I and %p stand together in recorded_at, or write %H for 24 hours; got {form!r}")
    if {"H", "I"} <= set(used):
        raise ValueError(f"%H and %I are the same hour in recorded_at, got {form!r}")
    return f"(?P<recorded_at>{''.join(out)})"
