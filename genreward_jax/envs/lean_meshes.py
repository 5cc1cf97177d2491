"""Fewer triangles for small pictures: what a software renderer spends its time on are the corners of the meshes.

Meta-World's robot has 67,000 triangles, most of them smaller than a tenth of a pixel at 64x64. Corners that share a
cell of a grid are drawn as one of them, and triangles that lose their area are left out. Only what is uploaded for
drawing changes: the physics keeps the model it has.
"""

import copy
from typing import Any

import numpy as np

CELL = 0.005  # metres; a pixel of a 64x64 picture of Meta-World's table shows about 20 mm
ROUND = {"numslices": 16, "numstacks": 8, "numquads": 1}  # facets of spheres and cylinders, rows of a box's face


def lean(model: Any, cell: float = CELL) -> Any:
    """A copy of a ``mujoco.MjModel`` to make a drawing context from, its meshes and round bodies with fewer triangles.

    Args:
        model: Left as it is.
        cell: Side of the grid's cells in metres.
    """
    model = copy.copy(model)
    for name, count in ROUND.items():
        setattr(model.vis.quality, name, count)
    for mesh in range(model.nmesh):
        corners = slice(model.mesh_vertadr[mesh], model.mesh_vertadr[mesh] + model.mesh_vertnum[mesh])
        first, count = model.mesh_faceadr[mesh], model.mesh_facenum[mesh]
        faces = slice(first, first + count)
        merged, kept = merge(model.mesh_vert[corners], model.mesh_face[faces], cell)
        left = slice(first, first + len(merged))
        model.mesh_face[left] = merged
        for rows in (model.mesh_facenormal, model.mesh_facetexcoord):  # which normal and texture place a corner has
            if len(rows) >= faces.stop:
                rows[left] = rows[faces][kept]
        model.mesh_facenum[mesh] = len(merged)
    return model


def merge(vertices: np.ndarray, faces: np.ndarray, cell: float) -> tuple[np.ndarray, np.ndarray]:
    """Triangles between one corner of each cell, the one nearest to the middle of its cell's corners.

    Args:
        vertices: (V, 3) in metres.
        faces: (F, 3) numbers of vertices.
        cell: Side of the grid's cells in metres.

    Returns:
        (G, 3) numbers of vertices, G at most F, without triangles of no area and none twice; and bool (F,), which of
        ``faces`` they were.
    """
    _, cell_of = np.unique(np.floor(vertices / cell).astype(np.int64), axis=0, return_inverse=True)
    cell_of = cell_of.reshape(-1)
    counts = np.bincount(cell_of)
    middle = np.stack([np.bincount(cell_of, axis) / counts for axis in np.asarray(vertices, float).T], 1)
    distance = np.linalg.norm(vertices - middle[cell_of], axis=1)
    by_cell = np.lexsort((distance, cell_of))
    starts = np.concatenate([[0], np.cumsum(counts)[:-1]])
    merged = by_cell[starts][cell_of][faces]
    a, b, c = merged.T
    kept = np.zeros(len(faces), bool)
    kept[np.unique(np.sort(merged, 1), axis=0, return_index=True)[1]] = True
    kept &= (a != b) & (b != c) & (a != c)
    return merged[kept], kept
