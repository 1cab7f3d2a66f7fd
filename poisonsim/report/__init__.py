"""The report: one self-contained page and its figures as PNG files.

    from poisonsim.report import write_report
    write_report(result, Path("reports/q3"), command="poisonsim run --policy hgm2m")

Importing this package imports matplotlib and jinja2; nothing else in poisonsim does.
"""

from poisonsim.report.page import render, write_report
from poisonsim.report.several import render_comparison, write_comparison

__all__ = ["render", "render_comparison", "write_comparison", "write_report"]
