"""The detector in OpenVINO, compiled once and kept in marey's cache for the processes that follow.

Tracing and compiling takes seconds, and torch; what is kept is read in a tenth of a second, without torch.
Its name is a digest of all that goes into it: weights, the network's source, versions, shape, number format,
threads and the CPU's instruction sets. A file that is damaged, or that OpenVINO refuses, is made anew.
"""

from __future__ import annotations

import hashlib
import json
import platform
import tempfile
import warnings
from contextlib import suppress
from importlib.metadata import version
from io import BytesIO
from pathlib import Path
from typing import Any

from models.boxes import CellOutputs, Pictures, Run, Take
from models.files import CheckpointError, cache_folder, file_digest
from models.precision import Precision, cpu_flags, without_int8
from models.streams import open_streams, stream_settings

_KEPT = 8
"""Files in the cache, those used last; one is about as large as the weights in float32."""

_SOURCES = ("compiled.py", "detector.py", "encoder.py", "quantize.py", "checkpoint.py", "streams.py")


def open_compiled(
    weights: Path, size: tuple[int, int], batch: int, precision: Precision, threads: int, *, keep: bool = True
) -> tuple[Run, tuple[str, ...]]:
    """What runs the detector on pictures of `size` (width, height), and the names of its classes.

    With `keep` the compiled network is looked for in the cache, and put there.

    Raises:
        CheckpointError: the weights cannot be used.
    """
    import openvino as ov

    shape = (1, size[1], size[0], 3)
    bfloat16 = without_int8(precision) == "bfloat16"
    settings = stream_settings(min(batch, threads), threads, bfloat16=bfloat16)
    core = ov.Core()
    int8 = precision != without_int8(precision)
    path = _place(weights, shape, int8, settings) if keep else None
    if path and (kept := _read(path)):
        classes, blob = kept
        with suppress(RuntimeError):
            return _runner(core.import_model(BytesIO(blob), "CPU", settings)), classes
    model, classes = _converted(weights, shape, int8)
    compiled = core.compile_model(model, "CPU", settings)
    if path:
        _write(path, classes, compiled.export_model().getvalue())
    return _runner(compiled), classes


def _converted(weights: Path, shape: tuple[int, ...], int8: bool) -> tuple[Any, tuple[str, ...]]:
    """OpenVINO's model of the network, and its classes."""
    import openvino as ov
    import torch

    from models.checkpoint import load_detector, load_ranges
    from models.detector import Exported
    from models.quantize import rounded

    detector = load_detector(weights)
    if int8:
        ranges = load_ranges(weights)
        if ranges is None:
            raise CheckpointError(f"{weights} has no ranges for int8: train it on with this version of marey")
        detector = rounded(detector, ranges)
    example = torch.zeros(shape, dtype=torch.uint8)
    with warnings.catch_warnings():
        # The tracer warns of constants that are meant to be constant. Its check, which traces and runs all
        # once more, takes longer than the trace.
        warnings.simplefilter("ignore")
        traced = torch.jit.trace(Exported(detector).eval(), example, check_trace=False)  # type: ignore[no-untyped-call]
        model = ov.convert_model(traced, example_input=example, input=[(ov.PartialShape(shape), ov.Type.u8)])
    return model, detector.config.classes


def _runner(compiled: Any) -> Run:
    run_all = open_streams(compiled)

    def run(pictures: Pictures, take: Take) -> None:
        parts = [pictures[i : i + 1] for i in range(len(pictures))]
        run_all(parts, lambda place, outputs: take(place, CellOutputs(*(x[0] for x in outputs))))

    return run


# -- the cache ---------------------------------------------------------------------------------------------


def _place(weights: Path, shape: tuple[int, ...], int8: bool, settings: dict[str, Any]) -> Path | None:
    """Where the network is kept; None where there is no home for a cache."""
    here = Path(__file__).parent
    parts = [
        file_digest(weights),
        *(hashlib.sha256((here / name).read_bytes()).hexdigest() for name in _SOURCES),
        version("openvino"),
        version("torch"),
        repr((shape, int8, sorted(settings.items()))),
        platform.machine(),
        cpu_flags() or platform.processor(),
    ]
    name = hashlib.sha256("\n".join(parts).encode()).hexdigest()[:32]
    try:
        return cache_folder("openvino") / f"{name}.blob"
    except CheckpointError:
        return None


def _read(path: Path) -> tuple[tuple[str, ...], bytes] | None:
    """Classes and network; None where the file is missing or not what was written."""
    try:
        head, _, blob = path.read_bytes().partition(b"\n")
        said = json.loads(head)
        if said["sha256"] != hashlib.sha256(blob).hexdigest():
            return None
        classes = tuple(str(name) for name in said["classes"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
    with suppress(OSError):
        path.touch()  # the last to go
    return classes, blob


def _write(path: Path, classes: tuple[str, ...], blob: bytes) -> None:
    """Keep a network, whole or not at all, and drop the oldest; where nothing can be written, do without."""
    head = json.dumps({"classes": classes, "sha256": hashlib.sha256(blob).hexdigest()}).encode()
    with suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=path.parent) as folder:
            part = Path(folder) / path.name
            part.write_bytes(head + b"\n" + blob)
            part.replace(path)
        kept = sorted(path.parent.glob("*.blob"), key=lambda file: file.stat().st_mtime)
        for old in kept[:-_KEPT]:
            old.unlink(missing_ok=True)
