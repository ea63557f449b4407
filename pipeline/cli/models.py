"""`marey train`, `marey evaluate` and `marey track`."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from pipeline.cli.app import (
    ConfigFile,
    Json,
    Settings,
    app,
    command,
    evaluate_app,
    put,
    read_config,
    say,
    train_app,
)

Seed = Annotated[int, typer.Option(help="Decides start, order and augmentation.")]
Out = Annotated[Path, typer.Option("--out", help="Where the result goes.")]
EventData = Annotated[
    Path,
    typer.Option(
        "--data",
        help="A folder of clips per label, or a CSV or Parquet file of video,label,start_s,end_s.",
        show_default=False,
    ),
]
Truth = Annotated[Path, typer.Option("--gt", help="Truth in MOTChallenge text.", show_default=False)]
Images = Annotated[
    Path, typer.Option("--images", help="Folder that file_name is relative to.", show_default=False)
]
Cache = Annotated[
    Path | None, typer.Option("--cache", help="Keep features here (.npz); else in marey's cache.")
]
Weights = Annotated[str, typer.Option("--weights", help="`default`, or a .safetensors file.")]


def _show(result: Mapping[str, Any], as_json: bool) -> None:
    from pipeline.cli.output import to_json

    if as_json:
        put(to_json(result))
        return
    for key, value in result.items():
        if isinstance(value, Mapping):
            put(f"{key}:")
            for name, inner in value.items():
                put(f"  {name:16} {_plain(inner)}")
        else:
            put(f"{key:22} {_plain(value)}")


def _plain(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_plain(inner)}" for key, inner in value.items())
    return f"{value:.4f}" if isinstance(value, float) else str(value)


@command(
    app,
    "track",
    "marey track det.txt --out tracks.txt --fps 25",
)
def track_command(
    detections: Annotated[Path, typer.Argument(help="Detections in MOTChallenge text.", show_default=False)],
    out: Annotated[Path, typer.Option("--out", help="Tracks in MOTChallenge text.", show_default=False)],
    fps: Annotated[
        float | None, typer.Option(help="Frames per second; else from seqinfo.ini, else 30.")
    ] = None,
    config: ConfigFile = None,
    settings: Settings = None,
    as_json: Json = False,
) -> None:
    """Track detections of one sequence: no video, no lake."""
    from dataclasses import asdict

    from pipeline.track import beyond_lookahead, track_mot

    track = read_config(config, settings).track
    if line := beyond_lookahead(track):
        say(line)
    result = track_mot(detections, out, fps, track)
    say(
        f"{result.num_frames} frames at {result.fps:g}/s ({result.fps_source}), "
        f"{result.num_detections} detections: {result.num_tracks} tracks, {result.num_rows} boxes in {out}"
    )
    if as_json:
        _show(asdict(result), True)


@command(
    evaluate_app,
    "detector",
    "marey evaluate detector --data val.json --images val/",
    "marey evaluate detector --data val.json --images val/ --weights mine.safetensors --json",
    "marey evaluate detector --data val.json --images val/ --report what-goes-wrong",
)
def evaluate_detector(
    data: Annotated[Path, typer.Option("--data", help="Truth in COCO format.", show_default=False)],
    images: Images,
    weights: Weights = "default",
    detector: Annotated[
        str | None, typer.Option("--detector", help="An ONNX detector with its TOML, in place of ours.")
    ] = None,
    size: Annotated[str, typer.Option("--input", help="Width x height of the CNN's input.")] = "544x320",
    detections: Annotated[
        Path | None, typer.Option("--detections", help="Write them here, as COCO results.")
    ] = None,
    report: Annotated[
        Path | None,
        typer.Option(
            "--report", help="Folder for precision-recall curves and the worst mistakes, as pictures."
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Average precision on images, as pycocotools counts it.

    Categories that are no classes of the detector are named, and count in no mean. What is `iscrowd` or
    `ignore` is neither missed nor, if found, false. Pictures must be of the width and height that the truth
    says, if it does, turned by their EXIF orientation.
    """
    from pipeline.config import load
    from pipeline.errors import UsageError
    from pipeline.evaluate.detector import (
        detect_images,
        of_classes,
        read_truth,
        score,
        settings_for,
        write_detections,
    )
    from pipeline.outputs import check_place
    from pipeline.perceive import Perceiver

    try:
        width, height = (int(side) for side in size.split("x"))
    except ValueError as exc:
        raise UsageError("--input is width x height", got=size, remedy="as in 544x320") from exc
    truth = read_truth(data)
    for place in (detections, report / "curves.png" if report is not None else None):
        if place is not None:
            check_place(place)
    perceiver = Perceiver(load(None, settings_for(weights, width, height, detector)).perceive)
    s = perceiver.settings
    say(f"{perceiver.network.runtime} on {perceiver.network.device}, input {s.input_width}x{s.input_height}")
    found = detect_images(perceiver, truth, images, _ticker("images"))
    known, left_out = of_classes(truth, perceiver.network.classes)
    if left_out:
        say(f"no classes of the detector, so left out: {', '.join(left_out)}")
    if detections is not None:
        write_detections(detections, found)
    if report is not None:
        from pipeline.evaluate.mistakes import write_report

        write_report(report, known, found, images)
    _show({**score(known, found), "left_out": left_out}, as_json)


@command(evaluate_app, "appearance", "marey evaluate appearance --data val.json --images val/")
def evaluate_appearance(
    data: Annotated[Path, typer.Option("--data", help="Boxes in COCO format.", show_default=False)],
    images: Images,
    weights: Weights = "default",
    seed: Seed = 0,
    as_json: Json = False,
) -> None:
    """How often an object, and a picture, is found again in another view by its vector."""
    from pipeline.evaluate.appearance import retrieval

    _show(retrieval(weights, data, images, seed, _ticker("images")), as_json)


@command(
    evaluate_app,
    "tracks",
    "marey evaluate tracks --gt gt.txt --result tracks.txt",
)
def evaluate_tracks_command(
    gt: Truth,
    result: Annotated[
        Path, typer.Option("--result", help="Tracks in MOTChallenge text.", show_default=False)
    ],
    as_json: Json = False,
) -> None:
    """HOTA, MOTA, IDF1 and identity switches, as TrackEval counts them.

    Truth of nine columns is judged by the rules of MOT17, by which pedestrians alone count. Where labels.txt
    lies beside it, as `marey export` and CVAT write it, all classes count.
    """
    from pipeline.evaluate.tracks import evaluate_tracks

    _show(evaluate_tracks(gt, result), as_json)


@command(evaluate_app, "motion", "marey evaluate motion --gt MOT17-04/gt.txt.gz --fps 30")
def evaluate_motion_command(
    gt: Truth,
    weights: Weights = "default",
    fps: Annotated[float | None, typer.Option(help="Frames per second; else from seqinfo.ini.")] = None,
    as_json: Json = False,
) -> None:
    """Likelihood and forecasts of the motion model on true tracks, beside a constant velocity.

    Of truth in nine columns pedestrians alone count; where labels.txt lies beside it, all classes.
    """
    from pipeline.evaluate.tracks import evaluate_motion
    from pipeline.track.text import load_motion_weights

    _show(evaluate_motion(gt, load_motion_weights(weights), fps), as_json)


@command(
    evaluate_app,
    "events",
    "marey evaluate events --data clips/ --json",
    "marey evaluate events --data goals.csv --model goal.safetensors --json",
)
def evaluate_events(
    data: EventData,
    model: Annotated[str, typer.Option("--model", help="A shipped name or a .safetensors file.")] = "fight",
    min_score: Annotated[
        float, typer.Option(min=0, max=1, help="Score that makes a clip, or opens an interval.")
    ] = 0.5,
    weights: Weights = "default",
    cache: Cache = None,
    as_json: Json = False,
) -> None:
    """Accuracy of an event model on clips; on untrimmed videos, mean average precision at tIoU and spotting.

    Folders of clips named background or no... hold none of its events. In a table an event may be a moment.
    """
    from pipeline.events import behind_another_detector, load_event_model
    from pipeline.training_events import embed_for, evaluate_clips, evaluate_videos, features_cache

    event_model, _ = load_event_model(model)
    embed, digest = embed_for(event_model.config.parts, weights)
    if line := behind_another_detector(model, event_model, digest):
        say(line)
    evaluate = evaluate_videos if data.is_file() else evaluate_clips
    report = evaluate(
        data,
        event_model,
        embed,
        digest=digest,
        min_score=min_score,
        cache=cache or features_cache(digest),
        progress=_ticker("videos"),
    )
    _show(report.to_json(), as_json)


@command(
    train_app,
    "detector",
    "marey train detector --data train.json --images . --out runs/mine --steps 2000",
    "marey train detector --data train.json --images . --teacher teacher.json.gz --from imagenet --out a",
)
def train_detector_command(
    data: Annotated[
        list[Path], typer.Option("--data", help="COCO file; may be repeated.", show_default=False)
    ],
    images: Annotated[
        list[Path], typer.Option("--images", help="Folder of each --data.", show_default=False)
    ],
    out: Out = Path("runs/detector"),
    start: Annotated[
        str, typer.Option("--from", help="default, imagenet, or a .safetensors file.")
    ] = "default",
    steps: Annotated[int, typer.Option(min=1, help="Steps of this stretch.")] = 2000,
    batch: Annotated[int, typer.Option(min=2, help="Views per step.")] = 16,
    size: Annotated[int, typer.Option(help="Pixels of a view's side, a multiple of 32.")] = 256,
    learning_rate: Annotated[float, typer.Option(help="Peak learning rate.")] = 2e-3,
    teacher: Annotated[Path | None, typer.Option(help="Predictions that fill incomplete classes.")] = None,
    skip: Annotated[
        list[str] | None, typer.Option("--skip-kind", help="Leave out images of this kind.")
    ] = None,
    repeat: Annotated[
        list[str] | None,
        typer.Option("--repeat-kind", help="kind=2: see images of this kind twice as often as others."),
    ] = None,
    repeat_class: Annotated[
        list[str] | None,
        typer.Option("--repeat-class", help="class=2: see images with one twice as often as others."),
    ] = None,
    device: Annotated[str, typer.Option(help="cpu, cuda, or one of several GPUs as cuda:1.")] = "cpu",
    threads: Annotated[int, typer.Option(help="CPU threads; 0: all usable cores.")] = 0,
    seed: Seed = 0,
) -> None:
    """Train the encoder and detector; the same command again goes on from its last checkpoint.

    A changed command, or changed data, needs another --out. The categories of the data are learned; if the
    weights of --from know one of them, the classes that these know stay, and the others are learned beside.
    Where boxes are `iscrowd` or `ignore` nothing is learned of their class. Pictures must be of the width and
    height that the data says, turned by their EXIF orientation; boxes are not scaled to others.
    """
    from pipeline.errors import UsageError
    from pipeline.training_detector import DetectorJob, train

    if len(data) != len(images):
        raise UsageError(
            f"{len(data)} --data, {len(images)} --images", remedy="give one folder for each file"
        )
    job = DetectorJob(
        tuple(zip(data, images, strict=True)),
        out,
        start,
        steps=steps,
        batch=batch,
        size=size,
        learning_rate=learning_rate,
        teacher=teacher,
        skip_kinds=tuple(skip or ()),
        repeat_kinds=tuple(_name_and_count("--repeat-kind", item) for item in repeat or ()),
        repeat_classes=tuple(_name_and_count("--repeat-class", item) for item in repeat_class or ()),
        device=device,
        threads=threads,
        seed=seed,
    )
    say(f"weights: {train(job, say)}")


def _name_and_count(option: str, text: str) -> tuple[str, int]:
    from pipeline.errors import UsageError

    name, _, count = text.rpartition("=")
    if not name or not count.isdecimal() or int(count) < 1:
        raise UsageError(f"{option} is a name and a number", got=text, remedy="as in bus=2")
    return name, int(count)


@command(
    train_app,
    "motion",
    "marey train motion --out motion.safetensors",
    "marey train motion --gt cam1/gt/gt.txt --gt cam2/gt/gt.txt --out mine.safetensors",
)
def train_motion_command(
    out: Out = Path("motion.safetensors"),
    cell: Annotated[str, typer.Option(help="gru, lstm or rnn.")] = "gru",
    gt: Annotated[
        list[Path] | None,
        typer.Option(help="True tracks in MOT format, for half of the training; may be repeated."),
    ] = None,
    minutes: Annotated[float, typer.Option(help="Stop after so many minutes of CPU time.")] = 10.0,
    seed: Seed = 20,
    as_json: Json = False,
) -> None:
    """Train the motion model on simulated trajectories, and on your own true tracks if given.

    Of truth in nine columns pedestrians alone are taken; where labels.txt lies beside it, all classes.
    """
    from models.motion import MotionConfig
    from models.training.motion import MotionTraining, train_motion
    from pipeline.errors import UsageError
    from pipeline.outputs import check_place
    from pipeline.training_motion import recorded_tracks

    def tell(numbers: dict[str, float]) -> None:
        say(", ".join(f"{k} {v:.4g}" for k, v in numbers.items()))

    check_place(out)
    try:
        model = MotionConfig(cell=cell)
        settings = MotionTraining(model=model, seed=seed, max_cpu_seconds=60 * minutes)
        recorded = [recorded_tracks(path) for path in gt or ()]
        _, metrics = train_motion(settings, recorded, out=out, progress=tell)
    except ValueError as exc:
        raise UsageError(str(exc)) from exc
    _show(metrics, as_json)


@command(
    train_app,
    "events",
    "marey train events --data clips/ --out goal.safetensors",
    "marey train events --data goals.csv --out goal.safetensors",
    "marey train events --data falls/ --out fall.safetensors --class person",
)
def train_events_command(
    data: EventData,
    out: Out = Path("events.safetensors"),
    cache: Cache = None,
    folds: Annotated[int, typer.Option(min=0, help="Of the cross-validation; 0 leaves it out.")] = 5,
    epochs: Annotated[int, typer.Option(min=1, help="Rounds over the data, at most.")] = 60,
    held_out: Annotated[
        float, typer.Option(min=0, max=0.5, help="Share of the sources that decides when to stop; 0: none.")
    ] = 0.2,
    weights: Weights = "default",
    classes: Annotated[
        list[str] | None,
        typer.Option("--class", help="Of objects that take part: without one, no event. May be repeated."),
    ] = None,
    seed: Seed = 0,
    as_json: Json = False,
) -> None:
    """Train an event model on clips, or on untrimmed videos and a table of their events.

    Folders of clips named background or no... hold none of the events; what they hold may be long, and is cut
    into pieces. Clips of a label are to show it throughout. What comes from one source is held out together:
    a table has a column group for it, and a groups.csv with columns clip and group lies in the folder of the
    clips or above it. Two sampled frames or more have to show an event, and none of another label at the same
    time: what shows events of two labels is left out. Killed and called again it goes on.

    The training looks at no objects. With --class an analysis keeps only events during which an object of
    such a class is followed, and names those that are there at the peak.
    """
    from models.event_config import EventModelConfig
    from models.training.event_settings import TrainSettings
    from pipeline.event_card import command_line
    from pipeline.training_events import LOOKS, embed_for, features_cache, train_from

    embed, digest = embed_for(LOOKS, weights)
    result = train_from(
        data,
        out,
        embed,
        digest=digest,
        config=EventModelConfig(("",), parts=LOOKS, classes=tuple(classes or ())),
        settings=TrainSettings(seed=seed, held_out=held_out, max_epochs=epochs),
        cache=cache or features_cache(digest),
        num_folds=folds,
        command=command_line(sys.argv[1:]),
        progress=_ticker("videos"),
    )
    plot = result.plot or "none, pip install 'marey[train]'"
    say(f"weights: {result.weights}, model card: {result.card}, picture: {plot}")
    _show(result.report, as_json)


def _ticker(what: str) -> Callable[[int, int], None]:
    """A progress line at every tenth."""

    def tick(done: int, total: int) -> None:
        if done == total or done * 10 // total != (done - 1) * 10 // total:
            say(f"{done}/{total} {what}")

    return tick
