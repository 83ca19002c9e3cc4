"""Class colors: told apart by everybody, of their own for 46 classes, never the color of the warning."""

import numpy as np
import pytest

from surgvista_hf.util.class_colors import UNFAMILIAR_COLOR, class_color, class_hatch, ink_on

# Machado, Oliveira and Fernandes, "A Physiologically-based Model for Simulation of Color Vision Deficiency", 2009.
VISION = {
    "normal": np.eye(3),
    "deuteranopia": np.array(
        [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]]
    ),
    "protanopia": np.array(
        [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]]
    ),
}
SRGB_TO_XYZ = np.array(
    [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]]
)


def cielab(colors: list[str], vision: str) -> np.ndarray:
    """Return (colors, 3) CIELAB coordinates under D65 of `#RRGGBB` colors as they are seen."""
    values = np.array([[int(color[start : start + 2], 16) for start in (1, 3, 5)] for color in colors]) / 255
    linear = np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)
    seen = np.clip(linear @ VISION[vision].T, 0, 1)
    xyz = seen @ SRGB_TO_XYZ.T / np.array([0.95047, 1.0, 1.08883])
    f = np.where(xyz > 216 / 24389, np.cbrt(xyz), (24389 / 27 * xyz + 16) / 116)
    return np.stack([116 * f[:, 1] - 16, 500 * (f[:, 0] - f[:, 1]), 200 * (f[:, 1] - f[:, 2])], axis=1)


@pytest.mark.parametrize("vision", VISION)
@pytest.mark.parametrize(("classes", "distance"), [(7, 15.0), (21, 12.0), (46, 9.0)])  # 2.3 can just be noticed
def test_classes_are_told_apart_by_people_of_every_color_vision(vision, classes, distance):
    colors = cielab([*map(class_color, range(classes)), UNFAMILIAR_COLOR, "#FFFFFF"], vision)
    apart = np.linalg.norm(colors[:, None] - colors[None], axis=-1)
    assert apart[~np.eye(len(apart), dtype=bool)].min() > distance


def test_neighbors_of_a_workflow_differ_in_a_gray_print():
    lightness = cielab([class_color(number) for number in range(7)], "normal")[:, 0]
    assert np.abs(np.diff(lightness)).min() > 15
    assert np.diff(np.sort(lightness)).min() > 2.5


def test_no_two_of_240_classes_have_color_and_hatch_in_common():
    assert len({(class_color(number), class_hatch(number)) for number in range(240)}) == 240


def test_numbers_on_a_color_can_be_read():
    for number in range(48):
        light, dark = sorted(
            cielab([color], "normal")[0, 0] for color in (class_color(number), ink_on(class_color(number)))
        )
        assert dark - light > 45
