"""Names the packages; all the rest is in setup.cfg, which cannot add the folder `configs` to the packages it finds."""

from setuptools import find_packages, setup

setup(
    packages=[
        *find_packages(include=["genreward_jax*", "dreamerv3_patches*", "torch_bridge*"]),
        "genreward_jax.configs",
    ]
)
