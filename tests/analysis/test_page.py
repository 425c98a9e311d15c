"""report.html in a real browser."""

import html
import json
import re
import shutil
import subprocess

import pytest

from analysis.report import make_report
from analysis.summary import Settings
from tests.analysis.synthetic import make_sweep

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="no chromium here (Debian: apt install chromium)")
QUIET = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
    "--enable-logging=stderr",
]
PROBE = """
<script>addEventListener("load", () => {
  const first = (table) => [...table.tBodies[0].rows].map((row) => row.cells[0].textContent);
  const results = document.getElementById("results");
  const column = [...results.tHead.rows[0].cells].findIndex((head) => head.textContent === "breakout");
  const button = results.tHead.rows[0].cells[column].querySelector("button");
  const seen = {written: first(results)};
  button.click(); seen.up = first(results);
  button.click(); seen.down = first(results);
  seen.sorted = results.tHead.rows[0].cells[column].getAttribute("aria-sort");
  seen.images = [...document.images].map((image) => image.complete && image.naturalWidth > 100);
  seen.fetched = performance.getEntriesByType("resource").filter((entry) => !entry.name.startsWith("data:")).length;
  seen.runs = document.getElementById("runs").tBodies[0].rows.length;
  seen.overflow = document.documentElement.scrollWidth - document.documentElement.clientWidth;
  const probe = document.createElement("pre");
  probe.id = "probe"; probe.textContent = JSON.stringify(seen);
  document.body.append(probe);
});</script>"""


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    folder = make_sweep(tmp_path_factory.mktemp("outputs"), {"tasks": ["minatar/breakout"]})
    path = make_report(folder, Settings(reps=500, curve_reps=50), formats=["png"]).page
    assert path is not None
    return path


def browse(arguments, page, profile):
    command = [CHROMIUM, *QUIET, f"--user-data-dir={profile}", *arguments, page.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert not [line for line in done.stderr.splitlines() if ":CONSOLE" in line]
    return done.stdout


def probed(page, profile, script=PROBE):
    probing = page.with_name("probing.html")
    probing.write_text(page.read_text().replace("</body>", script + "</body>"))
    found = re.search(r'<pre id="probe">(.*?)</pre>', browse(["--dump-dom"], probing, profile), re.DOTALL)
    assert found, "the page's scripts did not run"
    return json.loads(html.unescape(found[1]))


@needs_chromium
def test_the_page_loads_sorts_and_shows_its_images(page, tmp_path):
    seen = probed(page, tmp_path)
    assert seen["written"] == ["dqn", "scorer", "inverted"]
    assert seen["up"] == ["inverted", "dqn", "scorer"]
    assert seen["down"] == ["scorer", "dqn", "inverted"]
    assert seen["sorted"] == "descending"
    assert len(seen["images"]) == len(list(page.parent.glob("*.png"))) >= 5
    assert all(seen["images"])
    assert seen["fetched"] == 0
    assert seen["runs"] == 15
    assert seen["overflow"] <= 0


@needs_chromium
def test_an_error_in_the_page_would_be_seen(page, tmp_path):
    with pytest.raises(AssertionError):
        probed(page, tmp_path, "<script>undefinedFunction();</script>" + PROBE)


@needs_chromium
def test_nothing_runs_over_the_side_of_a_phone(page, tmp_path):
    wrapper = tmp_path / "phone.html"
    inside = html.escape(page.read_text().replace("</body>", PROBE + "</body>"), quote=True)
    tell = "document.body.append(Object.assign(document.createElement('i'), {id: 'seen', textContent: text}))"
    read = "const text = this.contentDocument.getElementById('probe').textContent; " + tell
    frame = f'<iframe style="width:390px;height:800px" onload="{read}" srcdoc="{inside}"></iframe>'
    wrapper.write_text(f"<body>{frame}</body>")
    found = re.search(r'<i id="seen">(.*?)</i>', browse(["--dump-dom"], wrapper, tmp_path / "profile"), re.DOTALL)
    assert found
    assert json.loads(html.unescape(found[1]))["overflow"] <= 0


@needs_chromium
def test_it_prints(page, tmp_path):
    paper = tmp_path / "page.pdf"
    browse([f"--print-to-pdf={paper}"], page, tmp_path / "profile")
    assert paper.read_bytes().count(b"/Type /Page\n") + paper.read_bytes().count(b"/Type /Page ") >= 2


def test_the_page_needs_no_network(page):
    content = page.read_text()
    assert not re.search(r'(?:src|href)="?(?:https?:)?//', content)
    assert "@import" not in content
    for name in ("../packs/", "table.csv", "intervals.png"):
        assert name in content


def test_the_page_escapes_what_a_sweep_calls_itself(tmp_path):
    folder = make_sweep(tmp_path, {"question": "Is a<script>alert(1)</script> & b?", "tasks": ["minatar/breakout"]})
    page = make_report(folder, Settings(reps=100, curve_reps=20), formats=["png"]).page
    assert page is not None
    assert "<script>alert" not in page.read_text()
    assert "Is a&lt;script&gt;alert(1)&lt;/script&gt; &amp; b?" in page.read_text()
