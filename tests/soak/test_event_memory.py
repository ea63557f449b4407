"""The memory of the process over a day of frame embeddings, for every kind of event model."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import psutil
import pyarrow as pa
import pytest
import torch

from models.event_config import EventModelConfig
from models.event_network import look
from models.temporal import EventModel, network_of
from pipeline.config import EventsConfig
from pipeline.events import EventDetector
from pipeline.training_events import LOOKS

FPS, DAY_S, PIECE_S = 10, 24 * 3600, 60
DIM = 64 + 96
SHIPPED = EventModelConfig(("fight",), parts=LOOKS)
MAX_GROWTH = 8_000_000
"""Bytes from the end of the first hour on; a day of embeddings as float32 is 550 MB, its scores alone 3.5."""


@pytest.mark.parametrize("config", [SHIPPED, replace(SHIPPED, causal=True)], ids=["windows", "causal"])
def test_a_day_takes_the_memory_of_an_hour(
    config: EventModelConfig, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.manual_seed(0)
    num_inputs = look(config.parts, np.zeros((1, 1, DIM), np.float32)).shape[-1]
    detector = EventDetector(network_of(EventModel(config, num_inputs)), EventsConfig(min_score=0.5))
    count = FPS * PIECE_S
    vectors = np.random.default_rng(0).random((count, DIM), np.float32) / 10
    vectors[: count // 2] /= 20  # so that half of each minute is calm
    embedding = pa.FixedSizeListArray.from_arrays(vectors.reshape(-1), DIM).cast(pa.list_(pa.float32()))
    process, after, num_events = psutil.Process(), {}, 0
    for minute in range(DAY_S // PIECE_S):
        sample = np.arange(minute * count, (minute + 1) * count)
        frames = pa.table({"sample": sample, "t": sample / FPS, "embedding": embedding})
        num_events += detector.update(frames).num_rows
        if (minute + 1) % 60 == 0:
            after[(minute + 1) // 60] = process.memory_info().rss
    num_events += detector.finish().num_rows
    with capsys.disabled():
        print(
            f"\n24 h of frames: {num_events} events, {after[1] / 1e6:.1f} MB after 1 h, "
            f"{max(after.values()) / 1e6:.1f} MB at most, {after[24] / 1e6:.1f} MB after 24 h"
        )
    assert max(after.values()) - after[1] <= MAX_GROWTH
