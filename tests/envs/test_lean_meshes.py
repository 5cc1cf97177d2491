"""Fewer triangles draw nearly the same small picture, and the physics keeps its model."""

import numpy as np
import pytest

from genreward_jax.envs import lean_meshes, rendering
from genreward_jax.envs.metaworld import Scene, make_simulator


def sheet(side):
    """A flat square of 1 m with side x side corners: vertices and two triangles a field."""
    places = np.linspace(0, 1, side)
    vertices = np.stack([*np.meshgrid(places, places, indexing="ij"), np.zeros((side, side))], -1).reshape(-1, 3)
    number = np.arange(side * side).reshape(side, side)
    a, b, c, d = (x.reshape(-1) for x in (number[:-1, :-1], number[1:, :-1], number[:-1, 1:], number[1:, 1:]))
    return vertices, np.concatenate([np.stack([a, b, c], 1), np.stack([b, d, c], 1)])


def test_cells_finer_than_the_mesh_change_nothing():
    vertices, faces = sheet(5)
    merged, kept = lean_meshes.merge(vertices, faces, 0.01)
    assert kept.all()
    np.testing.assert_array_equal(merged, faces)


def test_one_corner_a_cell_and_no_triangle_twice_or_without_area():
    vertices, faces = sheet(41)  # corners every 25 mm
    merged, kept = lean_meshes.merge(vertices, faces, 0.1)
    assert len(merged) == kept.sum() < len(faces) / 8
    cells = {tuple(cell) for cell in np.floor(vertices[np.unique(merged)] / 0.1).astype(int)}
    assert len(cells) == len(np.unique(merged))  # each cell's corner is one and the same
    assert len({tuple(sorted(face)) for face in merged}) == len(merged)
    assert (merged[:, 0] != merged[:, 1]).all() and (merged[:, 1] != merged[:, 2]).all()
    moved = np.linalg.norm(vertices[faces[kept]] - vertices[merged], axis=-1)
    assert moved.max() <= 0.1 * np.sqrt(2) + 1e-9  # no corner leaves its cell


def test_the_corner_nearest_to_the_middle_stands_for_its_cell():
    vertices = np.array([[0.01, 0, 0], [0.05, 0, 0], [0.09, 0, 0], [0.5, 0, 0], [0.5, 0.5, 0]])
    merged, kept = lean_meshes.merge(vertices, np.array([[0, 3, 4], [2, 3, 4], [0, 1, 2]]), 0.1)
    np.testing.assert_array_equal(merged, [[1, 3, 4]])
    np.testing.assert_array_equal(kept, [True, False, False])


@pytest.fixture(scope="module")
def sim():
    sim = make_simulator("shelf_place", 100)
    sim.reset()
    return sim


def test_the_physics_keeps_its_model(sim):
    before = sim.model.mesh_face.copy(), sim.model.mesh_facenum.copy(), sim.model.vis.quality.numslices
    lean = lean_meshes.lean(sim.model)
    assert lean.mesh_facenum.sum() < 0.5 * sim.model.mesh_facenum.sum() and (lean.mesh_facenum > 0).all()
    np.testing.assert_array_equal(sim.model.mesh_face, before[0])
    np.testing.assert_array_equal(sim.model.mesh_facenum, before[1])
    assert sim.model.vis.quality.numslices == before[2] != lean.vis.quality.numslices


def test_small_pictures_stay_nearly_the_same_and_large_ones_the_same(sim, monkeypatch):
    def pictures():
        scene = Scene(sim, "corner2", "fast", (256, 256))
        scene.update()
        drawn = [scene.draw(side, side).astype(int) for side in (64, 128, 256)]
        scene.close()
        return drawn

    lean = pictures()
    monkeypatch.setattr(rendering, "LEAN", 0)
    for side, few, all_of_them in zip((64, 128, 256), lean, pictures(), strict=True):
        difference = np.abs(few - all_of_them)
        if side > 128:
            assert difference.max() == 0
        else:
            assert 0 < difference.mean() < 0.6, side  # of 255
            assert np.percentile(difference, 99) < 16, side
