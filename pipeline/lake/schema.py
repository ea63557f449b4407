"""The tables of a lake, and what the stages hand each other: Arrow schemas with a comment for every column.

Boxes are xyxy in displayed pixels (after rotation and sample aspect). `t` is in seconds of presentation time
from the first displayed frame; `*_utc` is null where the recording time is unknown, or the time beyond 2261.
"""

from __future__ import annotations

import pyarrow as pa

SCHEMA_VERSION = 3

UTC = pa.timestamp("us", tz="UTC")
VECTOR = pa.list_(pa.float32())


def _schema(*columns: tuple[str, pa.DataType, str]) -> pa.Schema:
    return pa.schema([pa.field(name, kind, metadata={"comment": doc}) for name, kind, doc in columns])


_PLACE = (
    ("video_id", pa.string(), "digest of content, camera and recording time"),
    ("camera", pa.string(), "name of the camera, null if unknown"),
    ("date", pa.date32(), "UTC date of the recording, else of the file's last change; partition"),
    ("run_id", pa.string(), "run that wrote the row, a UUIDv7; the views show the current runs only"),
)

_BOX = (
    ("x1", pa.float32(), "left edge, displayed pixels"),
    ("y1", pa.float32(), "top edge, displayed pixels"),
    ("x2", pa.float32(), "right edge, displayed pixels"),
    ("y2", pa.float32(), "bottom edge, displayed pixels"),
)

_SAMPLE = (
    ("sample", pa.int64(), "number of the tick on the grid of sample_fps (every frame: number of the frame)"),
    ("t", pa.float64(), "seconds from the first displayed frame"),
)

# -- what the stages hand each other: rows of one video, without the place columns ------------------------

CAMERA_MOTION = pa.struct(
    [
        ("dx", pa.float32()),  # shift of the picture since the last sampled frame, displayed pixels
        ("dy", pa.float32()),
        ("scale", pa.float32()),  # 1 = none
        ("rotation", pa.float32()),  # radians
    ]
)

FRAMES = _schema(
    _SAMPLE[0],
    ("pts", pa.int64(), "presentation time in the stream's time base, null if the file has none"),
    _SAMPLE[1],
    ("embedding", VECTOR, "frame embedding: CNN part, then motion grid; rounded to half precision"),
    (
        "camera_motion",
        CAMERA_MOTION,
        "shift, scale and rotation since the sampled frame before; null if none",
    ),
    ("reused", pa.bool_(), "detections taken over from a frame shortly before, since the scene was still"),
)

DETECTIONS = _schema(
    *_SAMPLE,
    *_BOX,
    ("class", pa.string(), "person, cycle, car, bus, truck, or a class of the user's weights"),
    ("score", pa.float32(), "confidence, 0 to 1"),
    ("appearance", VECTOR, "appearance embedding, unit length, rounded to half precision"),
)

TRACKS = _schema(
    ("track_id", pa.int64(), "number of the track, unique within the video"),
    *_SAMPLE,
    *_BOX,
    (
        "class",
        pa.string(),
        "class with the highest summed score as far as known by then; `objects.class` is the final one",
    ),
    ("score", pa.float32(), "score of the detection; of a filled box the track's mean"),
    ("observed", pa.bool_(), "false where the box was filled in between observations"),
)

OBJECTS = _schema(
    ("track_id", pa.int64(), "number of the track, unique within the video"),
    ("class", pa.string(), "class with the highest summed score"),
    ("score", pa.float32(), "mean score of the observed boxes"),
    ("t_start", pa.float64(), "seconds, first box"),
    ("t_end", pa.float64(), "seconds, last box"),
    ("num_frames", pa.int64(), "sampled frames with a box, filled ones included"),
    (
        "trajectory",
        pa.list_(pa.struct([("t", pa.float64()), ("x", pa.float32()), ("y", pa.float32())])),
        "bottom centre of the box, simplified",
    ),
    ("mean_speed", pa.float32(), "box heights per second"),
    ("top_speed", pa.float32(), "box heights per second"),
    ("cut_at_start", pa.bool_(), "seen in the first sampled frame"),
    ("cut_at_end", pa.bool_(), "seen in the last sampled frame"),
)

EVENTS = _schema(
    ("event_id", pa.string(), "digest of the video, source, label, time and tracks"),
    ("source", pa.string(), "rule or model"),
    ("label", pa.string(), "name of the rule, or class of the event model"),
    ("t_start", pa.float64(), "seconds"),
    ("t_end", pa.float64(), "seconds"),
    ("t_peak", pa.float64(), "seconds; of a rule: when its condition was met"),
    ("score", pa.float32(), "confidence, 0 to 1; of a rule: the object's"),
    ("track_ids", pa.list_(pa.int64()), "tracks involved; of a model those of its classes, at the peak"),
    ("zone", pa.string(), "name of the rule's zone or line, null for models"),
    ("direction", pa.string(), "left_to_right or right_to_left, null if none"),
    ("details", pa.string(), "JSON: kind and version of the rule or model, and what it measured"),
)


STAGES = {
    "frames": FRAMES,
    "detections": DETECTIONS,
    "tracks": TRACKS,
    "objects": OBJECTS,
    "events": EVENTS,
}
"""Table to the rows that its stage hands over."""

PARTITIONED = tuple(STAGES)

# -- the tables of the lake --------------------------------------------------------------------------------


def _table(stage: pa.Schema, after: dict[str, list[str]] | None = None) -> pa.Schema:
    """Place columns, then the stage's, with the named UTC columns after the given ones."""
    fields = list(_schema(*_PLACE))
    for field in stage:
        fields.append(field)
        for name in (after or {}).get(field.name, []):
            fields.append(pa.field(name, UTC, metadata={"comment": "UTC, null where recorded_at is unknown"}))
    return pa.schema(fields)


GAP = pa.struct(
    [("t_start", pa.float64()), ("t_end", pa.float64()), ("frames", pa.int64()), ("cause", pa.string())]
)

VIDEOS = _schema(
    *_PLACE,
    ("uri", pa.string(), "name under which the content was seen, without query string"),
    ("etag", pa.string(), "version of the object: ETag, or size and time of change of a local file"),
    ("size_bytes", pa.int64(), "bytes"),
    ("content_id", pa.string(), "SHA-256 of the bytes, first 32 hex digits"),
    (
        "duration_s",
        pa.float64(),
        "seconds from the first to the end of the last displayed frame, as far as known",
    ),
    ("width_px", pa.int32(), "displayed pixels"),
    ("height_px", pa.int32(), "displayed pixels"),
    ("codec", pa.string(), "codec of the video stream"),
    ("fps_mean", pa.float64(), "mean frames per second, as the container says"),
    ("rotation", pa.int32(), "degrees counter-clockwise that were applied to show the picture upright"),
    ("recorded_at", UTC, "time of the first frame, null if unknown"),
    ("recorded_at_source", pa.string(), "key, container or null"),
    ("seen_at", UTC, "when this version of the name was met"),
    (
        "thumbnail",
        pa.binary(),
        "JPEG of the first frame, at most 320 pixels wide and high; null if it has none",
    ),
)

ANALYSES = _schema(
    *_PLACE,
    ("attempt_id", pa.string(), "one attempt, from its running row to its end"),
    (
        "revision",
        pa.int64(),
        "number of the video's row in this table; the highest ok or partial one is current",
    ),
    ("uri", pa.string(), "name under which the content was read"),
    (
        "status",
        pa.string(),
        "running, ok, partial, failed, crashed, abandoned or dropped (the rows, by compaction)",
    ),
    ("perception_id", pa.string(), "digest of all that can change frames and detections"),
    ("tracking_id", pa.string(), "digest of all that can change tracks and objects"),
    ("analysis_id", pa.string(), "digest of all that can change events"),
    ("perception_run_id", pa.string(), "run whose frames and detections are current with this row"),
    ("tracking_run_id", pa.string(), "run whose tracks and objects are current with this row"),
    ("events_run_id", pa.string(), "run whose events are current with this row"),
    ("config_id", pa.string(), "key into configs"),
    ("weights", pa.string(), "JSON: digests of the weights used, by role"),
    ("marey_version", pa.string(), "version of the program"),
    ("reader", pa.string(), "what read the file: pyav, decord, or decord, pyav for both"),
    ("time_source", pa.string(), "pts, dts or duration: where frame times come from"),
    ("runtime", pa.string(), "what ran the CNN"),
    ("device", pa.string(), "where it ran"),
    ("rows_frames", pa.int64(), "rows"),
    ("rows_detections", pa.int64(), "rows"),
    ("rows_tracks", pa.int64(), "rows"),
    ("rows_objects", pa.int64(), "rows"),
    ("rows_events", pa.int64(), "rows"),
    ("frames_sampled", pa.int64(), "sampled frames perceived"),
    ("frames_failed", pa.int64(), "frames that did not decode"),
    ("gaps", pa.list_(GAP), "what is lost, where and why"),
    ("started_at", UTC, "start of the attempt"),
    ("committed_at", UTC, "when this row was written"),
    ("seconds", pa.map_(pa.string(), pa.float64()), "seconds by stage"),
    ("peak_memory_bytes", pa.int64(), "bytes"),
    ("error_code", pa.string(), "short constant, null if none"),
    ("error", pa.string(), "one line, null if none"),
)

CONFIGS = _schema(
    ("config_id", pa.string(), "digest of the resolved config"),
    ("config", pa.string(), "JSON"),
    ("seen_at", UTC, "when this row was written"),
)

TABLES: dict[str, pa.Schema] = {
    "videos": VIDEOS,
    "analyses": ANALYSES,
    "configs": CONFIGS,
    "frames": _table(FRAMES, {"t": ["time_utc"]}),
    "detections": _table(DETECTIONS),
    "tracks": _table(TRACKS, {"t": ["time_utc"]}),
    "objects": _table(OBJECTS, {"t_end": ["start_utc", "end_utc"]}),
    "events": _table(EVENTS, {"t_peak": ["start_utc", "end_utc"]}),
}


def written(name: str) -> pa.Schema:
    """How rows of a table are written: without comments, which stand in the table.

    Delta refuses rows whose comments differ from those of a lake that an older program made.
    """
    return pa.schema([field.remove_metadata() for field in TABLES[name]])


# -- the staging file: a perceived segment ------------------------------------------------------------------

STAGED = pa.schema(
    [
        *FRAMES,
        pa.field("detections", pa.list_(pa.struct([f for f in DETECTIONS if f.name not in ("sample", "t")]))),
    ]
)
