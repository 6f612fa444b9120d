"""Rendering of depth: colours, legend, encoding. Warm = near, cold = far."""

from collections.abc import Mapping
from typing import Any, Literal

import cv2
import numpy as np
import numpy.typing as npt

from edge.config import HeatmapSection
from edge.records import Bytes, DepthMap, Floats, Frame, Polygon, Scene

_COLORMAPS = {
    "inferno": cv2.COLORMAP_INFERNO,
    "magma": cv2.COLORMAP_MAGMA,
    "viridis": cv2.COLORMAP_VIRIDIS,
    "turbo": cv2.COLORMAP_TURBO,
    "grey": None,
}
_HEADROOM = 1.5  # the reference spans 0..1; what comes nearer than all of it still has colours of its own
_OPACITY = 0.55  # of the colours over the camera's picture
_LEGEND_SHARE = 0.06  # of the picture's shorter side: its words must find room beside each other
_LEGEND_LEAST_PX = 16
_ZONE_INK = (255, 255, 255)
_BOX_INK = (80, 255, 80)  # a colour that no colour map has
_LEAST_WIDTH_PX = 64
_JPEG_MOST_PX = 65500  # libjpeg's limit for a side


def frame_range(values: npt.NDArray[Any]) -> tuple[float, float]:
    """Return the 2nd and the 98th percentile of a map, or twice the same value where it is flat."""
    low, high = np.percentile(values, (2, 98)).tolist()
    return (low, high) if high - low > 1e-5 * float(np.abs(values).max()) else (low, low)


def normalise(values: Floats, low: float, high: float) -> Floats:
    """Return the map, float32 (h, w), with `low` as 0 and `high` as 1, clipped; all 0 where they are the same."""
    if not high > low:
        return np.zeros(values.shape, np.float32)
    return np.asarray(np.clip((values - low) / (high - low), 0, 1), np.float32)


def render(scene: Scene, section: HeatmapSection) -> Bytes:
    """Return the heatmap of a scene, uint8 (H, W, 3) RGB, `section.width` wide and in the aspect of the camera's frame.

    The colours are those of the reference, 0..1.5, as long as there is one that the frame fits: the same distance keeps
    its colour from frame to frame. Else, and with `scale: frame`, they span the frame itself; the legend says which.
    """
    return _render(scene, section, with_picture=section.overlay)


def _render(scene: Scene, section: HeatmapSection, *, with_picture: bool) -> Bytes:
    if scene.aligned is not None and section.scale == "reference":
        return _picture(scene.aligned, (0.0, _HEADROOM), scene.depth, section, "reference", with_picture)
    values = scene.depth.inverse_depth
    return _picture(values, frame_range(values), scene.depth, section, "frame", with_picture)


def _picture(
    values: Floats,
    ends: tuple[float, float],
    depth: DepthMap,
    section: HeatmapSection,
    scale: str,
    with_picture: bool,
) -> Bytes:
    size = _size(depth.frame, section)
    smooth = cv2.resize(normalise(values, *ends), size, interpolation=cv2.INTER_LINEAR)
    picture = colour(np.asarray(smooth, np.float32), section.colormap)
    if with_picture:
        under = cv2.resize(depth.frame.pixels, size, interpolation=cv2.INTER_AREA)
        picture = np.asarray(cv2.addWeighted(under, 1 - _OPACITY, picture, _OPACITY, 0), np.uint8)
    if not section.legend:
        return picture
    return np.vstack([picture, _legend(section, max(_LEGEND_LEAST_PX, round(min(size) * _LEGEND_SHARE)), depth, scale)])


def render_picture(frame: Frame, section: HeatmapSection) -> Bytes:
    """Return the camera's picture in the size of the heatmap, uint8 (H, W, 3) RGB."""
    return np.asarray(cv2.resize(frame.pixels, _size(frame, section), interpolation=cv2.INTER_AREA), np.uint8)


def _size(frame: Frame, section: HeatmapSection) -> tuple[int, int]:
    """Return width and height of what is rendered, in the aspect of the frame."""
    height, width = frame.pixels.shape[:2]
    return section.width, max(1, round(section.width * height / width))


def fitted(section: HeatmapSection, frame: Frame) -> HeatmapSection:
    """Return the section with a width at which a tall frame makes no huge picture: four times the width high at most.

    Narrower than the least width that can be configured it does not become: its legend must find room.
    """
    height, width = frame.pixels.shape[:2]
    return section.model_copy(
        update={"width": max(_LEAST_WIDTH_PX, min(section.width, 4 * section.width * width // height))}
    )


def render_snapshot(
    scene: Scene, section: HeatmapSection, zones: Mapping[str, Polygon], *, with_picture: bool = False
) -> Bytes:
    """Return the heatmap of a scene, as `render` does, with the zones' outlines and names and the regions in boxes.

    `zones` are polygons in fractions of the frame. Each box has its metres, or its nearness without a calibration. The
    camera's picture lies under it only `with_picture`.
    """
    picture = _render(scene, section, with_picture=with_picture)
    size = np.array(_size(scene.depth.frame, section))
    for name, polygon in zones.items():
        corners = np.round(np.array(polygon) * size).astype(np.int32)
        cv2.polylines(picture, [corners], True, _ZONE_INK, 1, cv2.LINE_AA)
        left, top = (int(side) for side in corners[corners.sum(axis=1).argmin()])
        cv2.putText(picture, name, (left + 4, top + 14), cv2.FONT_HERSHEY_SIMPLEX, 0.45, _ZONE_INK, 1, cv2.LINE_AA)
    for region in scene.regions:
        left, top, right, bottom = (round(side) for side in np.array(region.box) * (*size, *size))
        cv2.rectangle(picture, (left, top), (right - 1, bottom - 1), _BOX_INK, 2)
        text = f"{region.nearness:.2f}" if region.distance_m is None else f"{region.distance_m:.2f} m"
        cv2.putText(picture, text, (left + 4, top + 18), cv2.FONT_HERSHEY_SIMPLEX, 0.6, _BOX_INK, 2, cv2.LINE_AA)
    return picture


def colour(values: Floats, colormap: str) -> Bytes:
    """Return values 0..1, float32 (h, w), as uint8 (h, w, 3) RGB; 1 is warm."""
    grey = np.round(values * 255).astype(np.uint8)
    code = _COLORMAPS[colormap]
    bgr = cv2.cvtColor(grey, cv2.COLOR_GRAY2BGR) if code is None else cv2.applyColorMap(grey, code)
    return np.asarray(cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB), np.uint8)


def _legend(section: HeatmapSection, height: int, depth: DepthMap, scale: str) -> Bytes:
    """Return the strip under the picture: far, the colours, near; whose scale it is; which weights spoke."""
    strip = np.zeros((height, section.width, 3), np.uint8)
    x = _write(strip, "far", 4) + 4
    ramp = np.linspace(0, 1, max(2, section.width // 4), dtype=np.float32)[None].repeat(height // 2, 0)
    strip[height // 4 : height // 4 + len(ramp), x : x + ramp.shape[1]] = colour(ramp, section.colormap)
    x = _write(strip, "near", x + ramp.shape[1] + 4)
    _write(strip, f"{depth.weights}, scale: {scale}", x + height)
    return strip


def _write(strip: Bytes, text: str, x: int) -> int:
    """Write on a strip, uint8 (h, w, 3), from `x` px on; return where the text ends."""
    font, size = cv2.FONT_HERSHEY_SIMPLEX, len(strip) / 40
    cv2.putText(strip, text, (x, round(len(strip) * 0.7)), font, size, (235, 235, 235), 1, cv2.LINE_AA)
    return x + int(cv2.getTextSize(text, font, size, 1)[0][0])


def encode_jpeg(picture: Bytes, quality: int) -> bytes:
    """Return a picture, uint8 (H, W, 3) RGB, as JPEG.

    Raises:
        ValueError: it is too long for one.
    """
    height, width = picture.shape[:2]
    if max(height, width) > _JPEG_MOST_PX:
        raise ValueError(f"a JPEG has {_JPEG_MOST_PX} pixels a side at most, not {width} x {height}")
    return _encode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, quality])


def encode_png(picture: npt.NDArray[Any]) -> bytes:
    """Return a picture as PNG: uint8 (H, W, 3) RGB, or uint8 or uint16 (h, w)."""
    return _encode(".png", picture, [])


def grey(values: Floats, bits: Literal[8, 16]) -> npt.NDArray[Any]:
    """Return a map, float32 (h, w), over its own full range as uint8 or uint16 (h, w), near = white."""
    top = 2**bits - 1
    share = normalise(values, float(values.min()), float(values.max()))
    return np.round(share * np.float32(top)).astype(np.uint8 if bits == 8 else np.uint16)


def _encode(ending: str, picture: npt.NDArray[Any], options: list[int]) -> bytes:
    """Return the file's bytes.

    Raises:
        ValueError: OpenCV can't encode the picture.
    """
    bgr = cv2.cvtColor(picture, cv2.COLOR_RGB2BGR) if picture.ndim == 3 else picture
    done, data = cv2.imencode(ending, bgr, options)
    if not done:
        raise ValueError(f"a picture of shape {picture.shape} can't be encoded as {ending}")
    return data.tobytes()
