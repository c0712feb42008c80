"""The report."""
from pathlib import Path
from thalweg.lab.analysis import Analysis
def write_report(analysis: Analysis, command: str = "") -> Path:
    """Stub."""
    return analysis.store.folder / "report.html"
