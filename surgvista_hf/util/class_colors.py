"""The one table of class colors: a class has the same color and hatch in every image, report and video.

The first nine colors are Paul Tol's "muted" scheme, ordered so that neighboring numbers differ in lightness. The others were
added one after the other, each as far as possible from all before it in CIELAB, as people with normal color vision, with
protanopia and with deuteranopia see them (Machado et al., 2009). Up to 48 classes have colors of their own. Colors alone do
not survive a gray print with many classes, so every twelve classes have another hatch, and legends number the classes.
"""

# fmt: off
_COLORS = (
    "#332288", "#88CCEE", "#117733", "#DDCC77", "#CC6677", "#882255", "#44AA99", "#999933", "#AA4499", "#0077FF", "#FFCC22",
    "#223300", "#7799EE", "#00EEBB", "#550055", "#8844BB", "#DD9977", "#774400", "#CCAA22", "#AA88BB", "#CC2233", "#333333",
    "#11DDCC", "#CCEE66", "#995577", "#00FFAA", "#885555", "#88BBFF", "#00AA55", "#443377", "#7777BB", "#99EEFF", "#3377DD",
    "#55CC55", "#0055DD", "#EE88AA", "#774477", "#772222", "#6622AA", "#BBBB99", "#992299", "#887755", "#995500", "#8888FF",
    "#FFCC99", "#551144", "#AAAACC", "#44AADD",
)
# fmt: on
_HATCHES = ("", "///", "...", "xxx", "\\\\\\")
_PER_HATCH = 12
UNFAMILIAR_COLOR = "#d55e00"  # what is unlike the training videos; no class has this color


def class_color(number: int) -> str:
    """Return the color of a class as `#RRGGBB`; it repeats after 48 classes, with another hatch.

    Args:
        number: index of the class, from 0.

    Example:
        >>> class_color(0), class_color(48)
        ('#332288', '#332288')
    """
    return _COLORS[number % len(_COLORS)]


def class_hatch(number: int) -> str:
    r"""Return the matplotlib hatch of a class; the first twelve have none.

    Args:
        number: index of the class, from 0.

    Example:
        >>> class_hatch(0), class_hatch(12), class_hatch(48)
        ('', '///', '\\\\\\')
    """
    return _HATCHES[number // _PER_HATCH % len(_HATCHES)]


def ink_on(color: str) -> str:
    """Return black or white, whichever can be read better on a color (WCAG 2 contrast).

    Args:
        color: `#RRGGBB`.

    Example:
        >>> ink_on("#332288"), ink_on("#DDCC77")
        ('#FFFFFF', '#000000')
    """
    channels = (int(color[start : start + 2], 16) / 255 for start in (1, 3, 5))
    red, green, blue = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels)
    luminance = 0.2126 * red + 0.7152 * green + 0.0722 * blue
    return "#000000" if luminance > 0.179 else "#FFFFFF"  # the luminance at which both have the same contrast
