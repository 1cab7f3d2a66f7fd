"""The report: one self-contained page and its figures as PNG files.

    from poisonsim.report import write_report
    write_report(result, Path("reports/q3"), command="poisonsim run --policy hgm2m")

Importing this package imports matplotlib and jinja2; nothing else in poisonsim does.
"""

from poisonsim.report.fleet import FLEET_PAGE, render_fleet, write_fleet
from poisonsim.report.page import render, write_report
from poisonsim.report.replayed import render_replay, write_replay
from poisonsim.report.several import render_comparison, write_comparison
from poisonsim.report.swept import remove_sweep_page, render_sweep, write_sweep

__all__ = [
    "FLEET_PAGE",
    "remove_sweep_page",
    "render",
    "render_comparison",
    "render_fleet",
    "render_replay",
    "render_sweep",
    "write_comparison",
    "write_fleet",
    "write_replay",
    "write_report",
    "write_sweep",
]
