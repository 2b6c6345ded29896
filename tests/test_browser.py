"""A slider dragged in a real browser, in JupyterLab.

Needs `pip install playwright` and a Chromium (`playwright install chromium`, or one in the path); skipped without.
"""

import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.request

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook

sync_api = pytest.importorskip("playwright.sync_api")
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)

CELL = """
from pudm_lite.course.widgets.w02 import widget02_push
widget02_push((0.01, 0.2), 0.5)
"""


@pytest.fixture
def lab(tmp_path):
    """The address of a JupyterLab server over a notebook with one widget."""
    notebook = new_notebook(cells=[new_code_cell(CELL)])
    notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
    nbformat.write(notebook, tmp_path / "slider.ipynb")  # without a kernel named JupyterLab would ask for one
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "jupyter", "lab", "--no-browser", "--allow-root", f"--port={port}"]
    command += ["--IdentityProvider.token=", "--ServerApp.disable_check_xsrf=True", f"--ServerApp.root_dir={tmp_path}"]
    server = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    address = f"http://127.0.0.1:{port}/lab/tree/slider.ipynb?reset"
    try:
        for _ in range(240):
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/api").close()
                break
            except OSError:
                time.sleep(0.5)
        yield address
    finally:
        server.terminate()
        server.wait()


@pytest.mark.slow
def test_a_slider_moved_in_the_browser_redraws_the_picture(lab):
    with sync_api.sync_playwright() as playwright:
        try:
            browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        except sync_api.Error as error:
            pytest.skip(f"no Chromium that starts here: {str(error).splitlines()[0]}")
        page = browser.new_page(viewport={"width": 1200, "height": 900})
        page.set_default_timeout(150_000)
        page.goto(lab)
        idle = page.locator(".jp-Notebook-ExecutionIndicator[data-status='idle']")
        idle.first.wait_for(state="attached")
        prompt = page.locator(".jp-CodeCell .jp-InputPrompt").first
        for _ in range(20):  # JupyterLab may say idle and still lose what it is told to run
            page.locator(".jp-CodeCell .cm-content").first.click()
            page.keyboard.press("Shift+Enter")
            page.wait_for_timeout(3_000)
            if re.search(r"[*\d]", prompt.inner_text()):
                break
        page.locator(".widget-image").first.wait_for()
        page.wait_for_function("document.querySelector('.widget-image').naturalWidth > 0")

        def picture() -> list[int]:
            """The bytes of the picture shown: its address may change without it."""
            return page.evaluate(
                "async () => [...new Uint8Array(await (await fetch("
                "document.querySelector('.widget-image').src)).arrayBuffer())]"
            )

        before = None
        while before != picture():  # a slider may first snap to its own steps
            before = picture()
            page.wait_for_timeout(3_000)
        box = page.locator(".noUi-handle").first.bounding_box()
        page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
        page.mouse.down()
        page.mouse.move(box["x"] - 80, box["y"] + box["height"] / 2, steps=8)
        page.mouse.up()
        for _ in range(60):
            page.wait_for_timeout(500)
            if picture() != before:
                break
        assert picture() != before, "the slider was dragged and the picture stayed"
        browser.close()
