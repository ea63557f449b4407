"""The networks of marey, and their training in torch. Imports nothing of `pipeline`."""

import os
import sys

# Wherever it finds this package, OpenVINO reports each of its imports to Google Analytics, from a fork of the
# process that is waited for at its end. No variable keeps it from that (2026.4); without the package it is
# silent.
sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
# ONNX Runtime (1.32) reports to Microsoft that it is loaded and what it runs, and leaves a name for this
# machine in ~/.cache/Microsoft. Who wants that sets the variable to 0.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
