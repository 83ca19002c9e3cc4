"""A collection that went through the whole pipeline once."""

from pathlib import Path

import pytest

from surgvista_hf.curation.collection.collect import CollectOptions, collect, from_urls
from surgvista_hf.curation.stages.pipeline import CurationOptions, run_pipeline

from .color_web import Models, address_list, save_models, serve, write_site

QUICK = CollectOptions(pause_seconds=0, retries=0, timeout_seconds=10)


@pytest.fixture(scope="session")
def color_models(tmp_path_factory) -> Models:
    return save_models(tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="session")
def color_site(tmp_path_factory) -> Path:
    return write_site(tmp_path_factory.mktemp("site"))


@pytest.fixture(scope="session")
def color_options(color_models) -> CurationOptions:
    return CurationOptions(
        video_models=(str(color_models.video),),
        frame_models=(str(color_models.frame),),
        region_models=(str(color_models.region),),
        device="cpu",
        dtype="float32",  # the same numbers on every processor
    )


@pytest.fixture(scope="session")
def collected(color_site, tmp_path_factory) -> Path:
    """Only collected. Copy it before changing it."""
    folder = tmp_path_factory.mktemp("collected") / "corpus"
    with serve(color_site) as server:
        wanted = from_urls(address_list(tmp_path_factory.mktemp("list"), server))
        collect(folder, wanted, QUICK)
    return folder


@pytest.fixture(scope="session")
def curated(collected, color_options, tmp_path_factory) -> Path:
    """After all stages. Copy it before changing it."""
    import shutil

    folder = tmp_path_factory.mktemp("curated") / "corpus"
    shutil.copytree(collected, folder)
    run_pipeline(folder, color_options)
    return folder
