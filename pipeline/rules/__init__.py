"""Rules on tracks: line crossing, zone entry and exit, dwell, stopped.

Every rule looks at one object at a time, at its *anchor* (bottom centre or centre of the box).

kind            t_start              t_peak (condition met)        t_end
line_crossing   anchor on the line   the same                      the same
zone_entry      anchor on the edge   t_start + min_duration_s      t_peak
zone_exit       anchor on the edge   t_start + min_duration_s      t_peak
dwell           entry or first seen  t_start + min_duration_s      exit or last seen
stopped         came to rest         t_start + min_duration_s      moved on or last seen

Times at which a border is passed are interpolated between the samples on either side of it. A border counts
as passed when the anchor is `hysteresis` box heights beyond it; jitter that stays nearer changes nothing,
and the time given is that of the last passage before. The side on which an object is first seen is taken as
it is, however near. Lines and zones that end at the edge of the picture go on outside it, since anchors may
lie there. An object that vanishes inside a zone has not left it: no zone_exit, and its dwell ends when it
was last seen.
"""

from pipeline.rules.engine import RuleEngine

__all__ = ["RuleEngine"]
