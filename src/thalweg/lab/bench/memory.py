"""Peak temporary memory of one step: what the allocator handed out beyond what was held before the step."""

import json
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile


def peak_temporaries(step: Callable[[], object], device: torch.device | str = "cpu") -> int:
    """The peak in bytes over one step of an optimizer whose state exists already."""
    if torch.device(device).type == "cuda":
        return _peak_cuda(step, device)
    return _peak_cpu(step)


def _peak_cuda(step: Callable[[], object], device: torch.device | str) -> int:
    torch.cuda.synchronize(device)
    torch.cuda.reset_peak_memory_stats(device)
    before = torch.cuda.memory_allocated(device)
    step()
    torch.cuda.synchronize(device)
    return torch.cuda.max_memory_allocated(device) - before


def _peak_cpu(step: Callable[[], object]) -> int:
    """The highest running sum of the profiler's allocation records, which see compiled kernels' buffers too."""
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # the profiler announces itself on stderr otherwise
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        step()
    with tempfile.TemporaryDirectory() as directory:
        trace = Path(directory, "trace.json")
        profiler.export_chrome_trace(str(trace))
        events: list[dict[str, Any]] = json.loads(trace.read_bytes())["traceEvents"]
    records = sorted((e for e in events if e.get("name") == "[memory]"), key=lambda e: e["ts"])
    held = peak = 0
    for record in records:
        held += record["args"]["Bytes"]
        peak = max(peak, held)
    return peak
