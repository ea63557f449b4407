"""Rules on tracks: what objects do at lines and in zones, how they move, how many they are.

Rules look at an object's *anchor* (bottom centre or centre of the box).

kind            t_start              t_peak                        t_end
line_crossing   anchor on the line   the same                      the same
zone_entry      anchor on the edge   t_start + min_duration_s      t_peak
zone_exit       anchor on the edge   t_start + min_duration_s      t_peak
dwell           entry or first seen  t_start + min_duration_s      exit or last seen
stopped         came to rest         t_start + min_duration_s      moved on or last seen
wrong_way       turned that way      t_start + min_duration_s      turned again or last seen
appear          first seen           t_start + min_duration_s      t_peak
disappear       last seen            the same                      the same
occupancy       min_count are in     most are in                   fewer are in
crowding        the same             the same                      the same
approach        begin to close in    first within `distance`       no longer close in

Times at which a border is passed are interpolated between the samples on either side of it. A border counts
as passed when the anchor is `hysteresis` box heights beyond it; jitter that stays nearer changes nothing,
and the time given is that of the last passage before. The side on which an object is first seen is taken as
it is, however near. Lines and zones that end at the edge of the picture, or at its last pixel, go on outside
it, since anchors may lie there. An object that vanishes inside a zone has not left it: no zone_exit, and its
dwell ends when it was last seen. Dwelling is what others call loitering.

Rules look at an object while it is called one of their `classes`. Those of appearing and disappearing look
at it throughout, since to be called otherwise is neither: it counts if it is so called at some time after
min_duration_s, or when it was last seen. `class` in the details is what it was called when the event was
certain.

An object disappears when it is last seen inside the zone more than 10 s before the video's last sampled
frame: nearer to the end nobody can tell. It does not appear in the video's first second. Where frames are
missing for more than 2 s (and one and a half times the way to the next), the video ends and begins anew in
this respect.
Occupancy and crowding, which is occupancy by two or more, and that of the whole picture without a zone, take
an object as present for up to 1 s unseen, and pass over times of up to 1 s with too few (with fewer than 1.5
samples a second, one and a half times the way to the next). `track_ids` are those inside when they were most.
"""

from pipeline.rules.engine import RuleEngine

__all__ = ["RuleEngine"]
