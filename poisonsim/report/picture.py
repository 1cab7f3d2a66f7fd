"""One figure of the page in every form it is needed in."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from poisonsim.report.canvas import Canvas, with_page_colours
from poisonsim.report.labels import HEADING_HEIGHT, Frame
from poisonsim.report.style import Style


@dataclass(frozen=True)
class Picture:
    """One figure of the page.

    Attributes:
        finding: What it shows, in a sentence.
        caption: How to read it.
        wide, narrow: The drawing as SVG, for a page and for a telephone.
        png: The drawing as a PNG file.
        flat: Whether nothing but zeros is drawn, so that the finding says it all and the page leaves the drawing out.
    """

    name: str
    heading: str
    finding: str
    caption: str
    wide: Markup
    narrow: Markup
    png: bytes
    flat: bool = False


class Pen:
    """Draws a figure in all its forms.

    Args:
        looks: Of each policy.
        subtitle: What the PNG files say below their title.
        provenance: Texts that every PNG file carries.
    """

    def __init__(self, looks: Sequence[Style], subtitle: str, provenance: Mapping[str, str]) -> None:
        self.looks, self._subtitle, self._provenance = looks, subtitle, provenance

    def picture(
        self,
        name: str,
        heading: str,
        finding: str,
        caption: str,
        alternative: str,
        draw: Callable[[Frame], Canvas],
        *,
        height: float = 400.0,
        narrow_height: float = 320.0,
        flat: bool = False,
    ) -> Picture:
        """The figure that `draw` draws in a frame.

        Args:
            alternative: What a screen reader says instead.
            height, narrow_height: Least height in points on a page, and height on a telephone.
            flat: Whether it draws nothing but zeros.
        """
        tall = max(height, 90 + 17.0 * len(self.looks))
        wide = draw(Frame(860, tall + HEADING_HEIGHT, heading=(heading, self._subtitle)))
        narrow = draw(Frame(360, narrow_height, narrow=True))
        return Picture(
            name, heading, finding, caption,
            Markup(with_page_colours(wide.svg(f"{name}-wide", alternative, "wide"), self.looks)),
            Markup(with_page_colours(narrow.svg(f"{name}-narrow", alternative, "narrow"), self.looks)),
            wide.png({"Title": heading, **self._provenance}), flat,
        )  # fmt: skip
