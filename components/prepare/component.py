"""Raw problems to training and evaluation data."""

from kfp import dsl

from fipo_kfp.components.base import component


@component
def prepare(
    recipe: str,
    overrides: list,
    dataset: dsl.Output[dsl.Dataset],
    data_summary: dsl.Output[dsl.Markdown],
):
    """Turn raw problems into training and evaluation data.

    Validates row by row and quarantines what is broken, removes duplicates and whatever overlaps the benchmarks, drops
    long prompts, splits by content hash, and writes parquet and a manifest.

    Args:
        recipe: Name of a shipped recipe (`demo`, `paper-32b`) or path of a recipe file in the image.
        overrides: The run's settings over the recipe, from `configure`.
        dataset: Where the prepared data and its manifest are.
        data_summary: Rows read, kept, quarantined and removed, and links.
    """
    from fipo_kfp.components import door

    result = door.run("prepare", recipe, overrides)
    door.write_outputs(dataset, result)
    door.write_summary(data_summary, result)
