"""The networks of marey, and their training in torch. Imports nothing of `pipeline`."""

import sys

# Wherever it finds this package, OpenVINO reports each of its imports to Google Analytics, from a fork of the
# process that is waited for at its end. No variable keeps it from that (2026.4); without the package it is
# silent.
sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
