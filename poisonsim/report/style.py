"""How each policy looks in every figure: colour, dashes and marker by name, the same in all runs and reports."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from zlib import crc32


@dataclass(frozen=True)
class Style:
    """Looks of one policy; any one of colour, dashes and marker tells it apart.

    Attributes:
        colour: Name of the colour.
        light: Its tone on white, as `#rrggbb`.
        dark: Its tone on a dark page.
        dashes: Lengths drawn and skipped, in line widths; empty for a solid line.
        marker: Matplotlib's letter for the marker, a key of `MARKER_PATHS`.
    """

    colour: str
    light: str
    dark: str
    dashes: tuple[float, ...]
    marker: str


MARKER_PATHS = {
    "o": "M -4 0 A 4 4 0 1 0 4 0 A 4 4 0 1 0 -4 0 Z",
    "s": "M -3.6 -3.6 H 3.6 V 3.6 H -3.6 Z",
    "^": "M 0 -4.4 L 4.4 3.6 H -4.4 Z",
    "v": "M 0 4.4 L 4.4 -3.6 H -4.4 Z",
    "D": "M 0 -5 L 5 0 L 0 5 L -5 0 Z",
    "P": "M -1.5 -4.4 H 1.5 V -1.5 H 4.4 V 1.5 H 1.5 V 4.4 H -1.5 V 1.5 H -4.4 V -1.5 H -1.5 Z",
    "X": "M -4 -2 L -2 -4 L 0 -2 L 2 -4 L 4 -2 L 2 0 L 4 2 L 2 4 L 0 2 L -2 4 L -4 2 L -2 0 Z",
    "p": "M 0 -4.6 L 4.4 -1.4 L 2.7 3.7 H -2.7 L -4.4 -1.4 Z",
    "h": "M 0 -4.6 L 4 -2.3 V 2.3 L 0 4.6 L -4 2.3 V -2.3 Z",
    "<": "M -4.4 0 L 3.6 -4.4 V 4.4 Z",
    ">": "M 4.4 0 L -3.6 -4.4 V 4.4 Z",
}
"""SVG outline of each marker, centred on the origin, for the legend."""

_DASHES: tuple[tuple[float, ...], ...] = (
    (), (5, 1.6), (1.4, 1.4), (6, 1.6, 1.4, 1.6), (10, 3), (3, 1.5, 1.4, 1.5, 1.4, 1.5),
)  # fmt: skip

# Tones that differ for the colour-blind as well: every two of a row are at least 15 units of CIE Lab apart under
# protanopia, deuteranopia and tritanopia, and every tone has a contrast of at least 4.5 with its page.
SHIPPED = {
    "unmap1g": Style("slate", "#3a4650", "#d5dae0", _DASHES[0], "o"),
    "unmap1g-private": Style("brown", "#5d3303", "#f5c542", _DASHES[3], "p"),
    "hgm4k": Style("vermilion", "#c24602", "#f4512c", _DASHES[1], "^"),
    "hgm4k-vma": Style("rose", "#b13193", "#f0709f", _DASHES[2], "v"),
    "hgm2m": Style("blue", "#346dee", "#86b9f2", _DASHES[0], "s"),
    "hgm-contig": Style("plum", "#370543", "#b267b0", _DASHES[2], "h"),
    "migrate1g": Style("green", "#086f4a", "#45e3a3", _DASHES[4], "D"),
    "migrate-then-hgm2m": Style("violet", "#3f2bc0", "#a27aec", _DASHES[5], "P"),
}
"""Looks of the policies that ship with poisonsim."""

TONES = {
    "whole": ("#e3e8ed", "#2b333c"),
    "moved": ("#8fd0b5", "#2c7a5c"),
    "leaf1": ("#b7cdf7", "#31538f"),
    "leaf2": ("#86abf3", "#4675c9"),
    "leaf3": ("#3f6cdc", "#86b9f2"),
    "leaf4": ("#1b2f75", "#d3e5ff"),
    "kept": ("#e8b33a", "#d9a32f"),
    "lost": ("#c62f20", "#f0503a"),
    "unknown": ("#8a8f98", "#767d87"),
}
"""What became of a huge page, as its colour on white and on a dark page; the smaller the leaves, the stronger."""

_OTHERS = (
    Style("teal", "#0b7285", "#4cc9dc", _DASHES[1], "X"),
    Style("crimson", "#a1182f", "#ff8f9c", _DASHES[2], "h"),
    Style("olive", "#6b7500", "#c3cf55", _DASHES[3], "<"),
    Style("steel", "#5b6b9a", "#a9b8e8", _DASHES[4], ">"),
)


def styles(labels: Sequence[str]) -> tuple[Style, ...]:
    """One style per policy label, every two of them different.

    Shipped names always look the same. Other names choose by their letters, and give way where a name before them
    in the run has taken that choice. Further labels of the same name (`migrate1g:spares=8`) keep its colour.

    Examples:
        >>> [style.colour for style in styles(["hgm2m", "migrate1g:spares=2", "migrate1g:spares=8"])]
        ['blue', 'green', 'green']
        >>> len(set(styles([f"mine{i}" for i in range(12)])))
        12
    """
    chosen: dict[str, Style] = {}
    found: list[Style] = []
    for label in labels:
        name = label.partition(":")[0]
        if name not in chosen:
            chosen[name] = SHIPPED.get(name) or _free(crc32(name.encode()), found)
        found.append(next((style for style in _variants(chosen[name]) if style not in found), chosen[name]))
    return tuple(found)


def _free(start: int, taken: Sequence[Style]) -> Style:
    """One of the styles kept for other names: the first from `start` on whose colour is free, else that one."""
    order = [_OTHERS[(start + i) % len(_OTHERS)] for i in range(len(_OTHERS))]
    used = {style.colour for style in taken}
    return next((style for style in order if style.colour not in used), order[0])


def _variants(style: Style) -> Iterator[Style]:
    """The style, then the same colour with every other pair of marker and dashes."""
    markers = list(MARKER_PATHS)
    first_marker, first_dashes = markers.index(style.marker), _DASHES.index(style.dashes)
    for i in range(len(markers) * len(_DASHES)):  # 11 and 6 have no common divisor, so no pair comes twice
        dashes = _DASHES[(first_dashes + i) % len(_DASHES)]
        yield replace(style, marker=markers[(first_marker + i) % len(markers)], dashes=dashes)
