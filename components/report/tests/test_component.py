from pathlib import Path

from kfp import dsl

from fipo_kfp.components.report.component import report


def test_shows_the_page(common, artifact, tiny_pipeline):
    inputs = {"results": artifact("results", dsl.Dataset), "registered_model": artifact("registered", dsl.Model)}
    page = artifact("page", dsl.HTML)
    report.python_func(**common, **inputs, report_page=page)
    written = (tiny_pipeline.config.run_directory / "report.html").read_bytes()
    assert Path(page.path).read_bytes() == written
    assert written.startswith(b"<!doctype html>") or written.startswith(b"<!DOCTYPE html>")
