"""What each run is given, and what is said where that is more than there is."""

import builtins

import pytest

from genreward_jax.errors import UserError
from genreward_jax.sweep import cluster


class Ray:
    """As much of Ray as tells what its nodes have."""

    def __init__(self, *nodes):
        self.all = [{"Alive": True, "Resources": node} for node in nodes]
        self.all.append({"Alive": False, "Resources": {"CPU": 512, "GPU": 64}})

    def nodes(self):
        return self.all


def share(ray, **resources):
    said = []
    return cluster.share(ray, resources, said.append), said


def test_what_is_not_asked_for_follows_the_machine():
    assert share(Ray({"CPU": 16, "memory": 1e10})) == ({"num_cpus": 2, "num_gpus": 0}, [])
    assert share(Ray({"CPU": 1}))[0]["num_cpus"] == 1
    assert share(Ray({"CPU": 4}, {"CPU": 16, "GPU": 2}))[0]["num_gpus"] == 1
    asked = {"num_cpus": 3, "num_gpus": 0.25, "memory": 2e9, "custom": {"disk": 1}}
    options, said = share(Ray({"CPU": 16, "GPU": 1, "memory": 1e10, "disk": 1}), **asked)
    assert options == {"num_cpus": 3, "num_gpus": 0.25, "memory": 2_000_000_000, "resources": {"disk": 1}} and not said


def test_more_than_a_machine_has_is_a_sentence(monkeypatch):
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    with pytest.raises(
        UserError, match="asks for CPU 4, memory 20.0 GB, and no node has as much .there: CPU 2, memory 10"
    ):
        share(Ray({"CPU": 2, "memory": 1e10}), num_cpus=4, memory=2e10)


def test_two_nodes_that_have_it_only_together_do_not_have_it():
    with pytest.raises(UserError, match="CPU 8, GPU 0; CPU 1, GPU 1"):
        share(Ray({"CPU": 8}, {"CPU": 1, "GPU": 1}), num_cpus=4, num_gpus=1)


def test_a_cluster_may_grow(monkeypatch):
    monkeypatch.setenv("RAY_ADDRESS", "head:6379")
    options, said = share(Ray({"CPU": 2}), num_gpus=1)
    assert options["num_gpus"] == 1 and "waiting for the cluster to grow" in said[0]


def test_without_ray_it_is_said_how_to_get_it(monkeypatch):
    real = builtins.__import__

    def none(name, *arguments):
        if name == "ray":
            raise ImportError(name)
        return real(name, *arguments)

    monkeypatch.setattr(builtins, "__import__", none)
    with pytest.raises(UserError, match=r"make sweep installs it, or pip install -c constraints.txt -e '.\[sweep\]'"):
        with cluster.ray_for_a_sweep():
            pass


@pytest.mark.parametrize(
    ("address", "sentence"),
    [
        ("ray://head:10001", "RAY_ADDRESS is ray://head:10001; start the sweep on a machine of the cluster"),
        ("head", "RAY_ADDRESS is head; start"),
        ("127.0.0.1:1", r"Nothing answers at RAY_ADDRESS=127.0.0.1:1 \(.*\): start Ray there"),
        ("127.0.0.1:99999", "Nothing answers at"),
    ],
)
def test_an_address_that_is_none_is_a_sentence(monkeypatch, address, sentence):
    monkeypatch.setenv("RAY_ADDRESS", address)
    with pytest.raises(UserError, match=sentence):
        with cluster.ray_for_a_sweep():
            pass
