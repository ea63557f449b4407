"""Prefect flows: thin bodies, each one call into `pipeline`.

Nothing is reported to anyone: importing this package switches off what Prefect's client and server would
send, as importing `models` does for OpenVINO and ONNX Runtime. Who wants to send Prefect's sets the
variables.
"""

import os

TELEMETRY_OFF = {
    "DO_NOT_TRACK": "1",  # Prefect's client, asked when `prefect` is imported and at each milestone
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",  # Prefect's server, if one is started from here
}

for _name, _value in (TELEMETRY_OFF | {"OPENBLAS_NUM_THREADS": "1"}).items():  # see `pipeline.cli.run`
    os.environ.setdefault(_name, _value)
