"""Camera and recording time from an input's path or key, by a pattern such as `{camera}/{recorded_at:%Y%m%d}`."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

_DIRECTIVES = {
    "Y": r"\d{4}", "y": r"\d{2}", "m": r"\d{2}", "d": r"\d{2}", "H": r"\d{2}", "I": r"\d{2}", "M": r"\d{2}",
    "S": r"\d{2}", "f": r"\d{1,6}", "j": r"\d{3}", "p": r"[AaPp][Mm]", "b": r"[A-Za-z]{3}", "B": r"[A-Za-z]+",
    "z": r"[+-]\d{2}:?\d{2}|Z", "%": "%",
}  # fmt: skip
_FIELD = re.compile(r"\{(camera|recorded_at)(?::([^{}]*))?\}")


@dataclass(frozen=True)
class KeyPattern:
    """A compiled pattern; `match` takes the path or key without its suffix, with `/` between parts."""

    regex: re.Pattern[str]
    time_format: str | None
    zone: ZoneInfo

    def match(self, key: str) -> tuple[str | None, datetime | None] | None:
        """Camera and recording time (UTC), or None where the end of `key` does not fit the pattern."""
        found = self.regex.search(key)
        if found is None:
            return None
        groups = found.groupdict()
        if self.time_format is None:
            return groups.get("camera"), None
        try:
            at = datetime.strptime(groups["recorded_at"], self.time_format)
        except ValueError:
            return None  # digits that are no date
        if at.tzinfo is None:
            at = at.replace(tzinfo=self.zone)
        return groups.get("camera"), at.astimezone(UTC)


@lru_cache(maxsize=256)
def compile_pattern(pattern: str, timezone: str) -> KeyPattern:
    """Compile a pattern.

    Raises:
        ValueError: a field or directive is unknown, or the time zone is.
    """
    try:
        zone = ZoneInfo(timezone)
    except (ZoneInfoNotFoundError, ValueError, OSError) as exc:
        raise ValueError(f"unknown time zone {timezone!r}; IANA names look like Europe/Berlin") from exc
    parts, time_format, end = [], None, 0
    for field in _FIELD.finditer(pattern):
        parts.append(re.escape(pattern[end : field.start()]))
        end = field.end()
        name, form = field.groups()
        if name == "camera":
            parts.append("(?P<camera>[^/]+)")
        else:
            time_format = form or "%Y%m%dT%H%M%S"
            parts.append(f"(?P<recorded_at>{_time_regex(time_format)})")
    rest = pattern[end:]
    if "{" in rest or "}" in rest or not parts:
        raise ValueError(f"pattern {pattern!r} may hold {{camera}} and {{recorded_at:%Y...}} only")
    body = "".join(parts) + re.escape(rest)
    return KeyPattern(re.compile(rf"(?:^|/){body}$"), time_format, zone)


def _time_regex(form: str) -> str:
    out, chars = [], iter(form)
    for char in chars:
        if char != "%":
            out.append(re.escape(char))
            continue
        directive = next(chars, "")
        if directive not in _DIRECTIVES:
            raise ValueError(f"%{directive} is not supported in recorded_at; use of {', '.join(_DIRECTIVES)}")
        out.append(_DIRECTIVES[directive])
    return "".join(out)
