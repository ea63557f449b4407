"""Flows that train models: `train-detector` and `train-events`. Paths are those of the worker's machine."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from prefect import flow, get_run_logger
from prefect.artifacts import create_markdown_artifact
from pydantic import Field

from flows.gpu import device_held, one_per_gpu
from flows.settings import outside
from flows.tags import named_by, tag_run
from pipeline import allowed
from pipeline.config import Config

if TYPE_CHECKING:
    from pipeline.event_data import Embed, Embedded


@flow(name="train-detector", flow_run_name=named_by("out"), retries=1)
def train_detector(
    data: str,
    images: str,
    out: str,
    start: str = "default",
    steps: Annotated[int, Field(ge=1)] = 2000,
    device: str = "cpu",
) -> str:
    """Train a detector on annotations in COCO format; a second try goes on from the last check-point.

    Args:
        data: COCO file.
        images: folder that its names are relative to.
        out: folder of the training; one that holds a training is gone on with.
        start: `default`, `imagenet` or the path of weights.
        steps: steps in all.
        device: cpu, cuda, or one of several GPUs as cuda:1; a GPU is held to the end.

    Returns:
        Path of the weights.
    """
    from pipeline.training_detector import DetectorJob, train

    tag_run()
    for path in (data, images, out, *outside(start)):
        allowed.check(path)
    job = DetectorJob(((Path(data), Path(images)),), Path(out), start=start, steps=steps, device=device)
    say = get_run_logger().info
    with device_held(device, say):
        return str(train(job, say))


@flow(name="train-events", flow_run_name=named_by("out"))
def train_events(
    data: str,
    out: str,
    epochs: Annotated[int, Field(ge=1)] = 60,
    folds: Annotated[int, Field(ge=0)] = 5,
    classes: Sequence[str] = (),
) -> dict[str, Any]:
    """Train an event model, as `marey train events` does.

    Args:
        data: folder of clips per label, or a table of events.
        out: where the weights go, a .safetensors file; the model card comes beside it.
        epochs: rounds over the data, at most.
        folds: of the cross-validation; 0 leaves it out.
        classes: of objects that take part: where none is seen, there is no event.

    Returns:
        What the cross-validation says.
    """
    from models.event_config import EventModelConfig
    from models.training.event_settings import TrainSettings
    from pipeline.training_events import LOOKS, embed_for, train_from

    tag_run()
    for path in (data, out):
        allowed.check(path)
    embed, digest = embed_for(LOOKS)
    result = train_from(
        Path(data),
        Path(out),
        _one_at_a_time(embed, get_run_logger().info),
        digest=digest,
        config=EventModelConfig(("",), parts=LOOKS, classes=tuple(classes)),
        settings=TrainSettings(max_epochs=epochs),
        num_folds=folds,
        command=f"flow train-events of {data}",
    )
    create_markdown_artifact(result.card.read_text(encoding="utf-8"), "marey-model-card")
    return dict(result.report)


def _one_at_a_time(embed: Embed, say: Callable[[str], None]) -> Embed:
    """`embed` with the GPU held for each file, if there is one: the training itself runs on the CPU."""

    def embed_alone(path: Path) -> Embedded:
        with one_per_gpu(Config(), say):
            return embed(path)

    return embed_alone
