"""Videos as they arrive: what a queue announces or a listing shows, judged by the lake, and handed on.

notices   a message of a bucket to uploads      sweep   listing again and again
judge     what the lake says is still to do     watch   the loops over both
"""

from pipeline.uploads.judge import Todo, todo
from pipeline.uploads.watch import Submit, sweep_once, watch_queue, watch_sweep

__all__ = ["Submit", "Todo", "sweep_once", "todo", "watch_queue", "watch_sweep"]
