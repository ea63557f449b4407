"""What a network says of several pictures, one array per output."""

from __future__ import annotations

import numpy as np

from models.boxes import CellOutputs, Pictures, Run, all_outputs


def outputs_of(run: Run, pictures: Pictures) -> CellOutputs:
    """Outputs of all pictures, (N, ...) each."""
    return CellOutputs(*(np.stack(values) for values in zip(*all_outputs(run, pictures), strict=True)))
