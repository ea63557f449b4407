"""Video in, upright pictures of one size with exact times out.

`probe` looks at a file, `Feed` decodes jobs in child processes that a file may hang, crash or bloat without
harm, `decode_inline` gives the same items in the calling process.
"""

from pipeline.media.decode import decode_inline
from pipeline.media.feed import Feed
from pipeline.media.info import VideoInfo
from pipeline.media.items import DecodeJob, Fault, Gap, Item, JobEnd, JobStart, SampledFrame
from pipeline.media.letterbox import Letterbox
from pipeline.media.motion import MOTION_GRID_SIZE, CameraMotion
from pipeline.media.probe import probe
from pipeline.media.still import PERCEIVED, block_ticks
from pipeline.media.tally import joined_gaps

__all__ = [
    "MOTION_GRID_SIZE",
    "PERCEIVED",
    "CameraMotion",
    "DecodeJob",
    "Fault",
    "Feed",
    "Gap",
    "Item",
    "JobEnd",
    "JobStart",
    "Letterbox",
    "SampledFrame",
    "VideoInfo",
    "block_ticks",
    "decode_inline",
    "joined_gaps",
    "probe",
]
