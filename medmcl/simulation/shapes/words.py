"""Words of the captioned shapes: what each value of an attribute is called.

No word stands for two values, and none of the fillers names a value, so a caption can be read back.
"""

from __future__ import annotations

SHAPES = {
    "circle": (("circle", "circles"), ("disc", "discs")),
    "square": (("square", "squares"), ("box", "boxes")),
    "triangle": (("triangle", "triangles"), ("wedge", "wedges")),
    "star": (("star", "stars"), ("pentagram", "pentagrams")),
    "cross": (("cross", "crosses"), ("plus", "pluses")),
    "ring": (("ring", "rings"), ("hoop", "hoops")),
    "crescent": (("crescent", "crescents"), ("moon", "moons")),
    "heart": (("heart", "hearts"),),
    "diamond": (("diamond", "diamonds"), ("rhombus", "rhombuses")),
    "arrow": (("arrow", "arrows"), ("pointer", "pointers")),
}
"""Shape to its names, singular and plural."""
COLOURS = {
    "red": ("red", "crimson"),
    "green": ("green", "emerald"),
    "blue": ("blue", "azure"),
    "yellow": ("yellow", "golden"),
    "purple": ("purple", "violet"),
    "orange": ("orange", "tangerine"),
    "cyan": ("cyan", "turquoise"),
    "pink": ("pink", "rose"),
    "white": ("white", "snowy"),
    "lime": ("lime", "chartreuse"),
}
TEXTURES = {
    "solid": ("solid", "plain"),
    "striped": ("striped", "banded"),
    "dotted": ("dotted", "spotted"),
    "checked": ("checked", "chequered"),
    "faded": ("faded", "shaded"),
}
COUNTS = {
    "one": ("a", "one", "a single"),
    "two": ("two", "a pair of"),
    "three": ("three", "a trio of"),
    "four": ("four", "a quartet of"),
}
POSITIONS = {
    "centre": ("in the centre", "in the middle"),
    "top left": ("at the top left", "in the upper left corner"),
    "top right": ("at the top right", "in the upper right corner"),
    "bottom left": ("at the bottom left", "in the lower left corner"),
    "bottom right": ("at the bottom right", "in the lower right corner"),
    "top": ("at the top", "near the upper edge"),
    "bottom": ("at the bottom", "near the lower edge"),
    "left": ("on the left", "near the left edge"),
    "right": ("on the right", "near the right edge"),
}
FILLERS = (
    "on an even grey ground",
    "with nothing else around",
    "drawn by a computer",
    "without any frame",
    "in soft light",
    "seen from the front",
    "with some grain over it",
    "as in books for children",
    "kept for practice",
    "with clean edges",
    "without any writing",
    "made for no special purpose",
)
