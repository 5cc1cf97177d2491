"""The goal video and an episode side by side, as frames for an mp4."""

import numpy as np

from genreward_jax import video, windows

SIDE = 320  # pixels of each picture in the result, so that a 64x64 one is visible
HEADER, FOOTER, GAP = 36, 10, 8  # pixels: labels above, time bar below, space between
PAPER, INK, FAINT, MARK = (250, 250, 250), (30, 30, 30), (215, 215, 215), (45, 105, 175)


def beside(goal: np.ndarray, episode: np.ndarray, labels: tuple[str, str] = ("goal video", "episode")) -> np.ndarray:
    """Frames that show both from start to end; the shorter one is stretched to the longer one's time.

    Args:
        goal: uint8 (N, H, W, 3); what lies outside its middle square, which no model sees, is cut off.
        episode: uint8 (M, H', W', 3).
        labels: Words above the two; each frame's number is added.

    Returns:
        uint8 (max(N, M), height, width, 3), both sides even.
    """
    count = max(len(goal), len(episode))
    columns = []
    for frames in (goal, episode):
        chosen = windows.sample_indices(len(frames), count)
        columns.append((chosen, enlarge(frames, SIDE)))
    return np.stack([_page(columns, labels, i, count) for i in range(count)])


def enlarge(frames: np.ndarray, side: int) -> np.ndarray:
    """Middle square of each frame at ``side`` pixels; small frames keep their pixels as blocks.

    Args:
        frames: uint8 (N, H, W, 3).

    Returns:
        uint8 (N, side, side, 3).
    """
    square = video.fit(frames, min(frames.shape[1:3]))
    factor = side // square.shape[1]
    if factor >= 2:
        square = square.repeat(factor, 1).repeat(factor, 2)
    return video.fit(square, side)


def _page(columns: list, labels: tuple[str, str], number: int, count: int) -> np.ndarray:
    from PIL import Image, ImageDraw, ImageFont

    width = 2 * SIDE + 3 * GAP
    page = Image.new("RGB", (width, HEADER + SIDE + FOOTER + GAP), PAPER)
    draw = ImageDraw.Draw(page)
    large, small = ImageFont.load_default(17), ImageFont.load_default(13)
    for column, ((chosen, frames), label) in enumerate(zip(columns, labels, strict=True)):
        left, index = GAP + column * (SIDE + GAP), int(chosen[number])
        page.paste(Image.fromarray(frames[index]), (left, HEADER))
        draw.text((left, HEADER - 8), label, INK, large, anchor="ls")
        draw.text((left + SIDE, HEADER - 8), f"{index + 1} / {len(frames)}", INK, small, anchor="rs")
    top = HEADER + SIDE + GAP
    done = (number + 1) / count
    draw.rectangle((GAP, top, width - GAP - 1, top + 3), FAINT)
    draw.rectangle((GAP, top, GAP + round((width - 2 * GAP - 1) * done), top + 3), MARK)
    return np.asarray(page)
