"""The page at `/`, as a reader's browser has it: what it shows is what the API and the command say."""

import asyncio
import json
import os
import subprocess
import sys
import zipfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from ledger.page import FOLDER, files
from tests.ledger import scene
from tests.ledger.browser import Page, browsing, program
from tests.ledger.process import Ledger, event

ROOT = Path(__file__).parents[2]
needs_chromium = pytest.mark.skipif(
    program() is None, reason="Chromium is not installed (apt install chromium)"
)


@pytest.fixture(scope="module")
def busy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ledger]:
    """A ledger with a week of 10,000 users, which no test writes to."""
    folder = tmp_path_factory.mktemp("busy")
    with Ledger(f"sqlite:///{folder}/l.db", folder) as running:
        scene.fill(running, scene.week(12_000, 10_000))
        yield running


@pytest.fixture
def quiet(tmp_path: Path) -> Iterator[Ledger]:
    """A ledger with nothing in it."""
    with Ledger(f"sqlite:///{tmp_path}/l.db", tmp_path) as running:
        yield running


@pytest.fixture
async def page() -> AsyncIterator[Page]:
    """A browser's tab. What it has asked for is all of one origin, and nothing has failed in it."""
    async with browsing() as page:
        yield page
        assert page.problems == []
        assert {url.partition("/")[0] for url in page.requests} <= {"http:", "about:blank"}
        assert len({url.split("/")[2] for url in page.requests if url.startswith("http")}) <= 1


def home(ledger: Ledger, query: str = "") -> str:
    return f"http://127.0.0.1:{ledger.port}/{query}"


async def test_its_files_are_sent_as_what_they_are_under_a_strict_policy(quiet: Ledger) -> None:
    sent = {"": "text/html", "page/main.js": "text/javascript", "page/style.css": "text/css"}
    sent |= {"page/icon.svg": "image/svg+xml", "page/vendor/uPlot.iife.min.js": "text/javascript"}
    for path, content_type in sent.items():
        status, headers, body = quiet.request("GET", f"/{path}")
        assert (status, headers["content-type"]) == (200, f"{content_type}; charset=utf-8"), path
        assert headers["content-security-policy"].startswith("default-src 'self';")
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["cache-control"] == "no-cache"
        again = quiet.request("GET", f"/{path}", headers={"If-None-Match": headers["etag"]})
        assert (again[0], again[2]) == (304, b"")
        assert body
    for wrong in ("page/nothing.js", "page/../settings.py", "page/%2e%2e/settings.py", "page/__init__.py"):
        assert quiet.request("GET", f"/{wrong}")[0] == 404
    assert quiet.request("POST", "/")[0] == 405


def test_wheel_and_image_carry_every_file_of_it(tmp_path: Path) -> None:
    wheel = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    subprocess.run(wheel, cwd=ROOT, check=True, capture_output=True, env={"PATH": os.environ["PATH"]})
    (built,) = tmp_path.glob("*.whl")
    names = set(zipfile.ZipFile(built).namelist())
    on_disk = [path for path in FOLDER.rglob("*") if path.is_file() and path.suffix != ".pyc"]
    assert {f"ledger/page/{name}" for name in files()} <= names
    assert {path.relative_to(ROOT).as_posix() for path in on_disk} <= names
    assert "ledger/page/vendor/uPlot.LICENSE" in names
    assert "COPY ledger /opt/token-meter/app/ledger" in (ROOT / "Dockerfile").read_text()
    ignored = (ROOT / ".dockerignore").read_text().split()
    assert ignored[0] == "*"
    assert [line for line in ignored[1:] if not line.startswith("!")] == ["**/__pycache__"]


@needs_chromium
async def test_page_api_and_command_show_the_same_numbers(busy: Ledger, page: Page) -> None:
    await page.go(home(busy, "?from=7d&at_least=3000"))
    asked = busy_usage(busy, "group_by=outcome&group_by=exact")
    total = asked["total"]
    assert await page.run("document.querySelector('#tile-total_tokens .value data').value") == str(
        total["total_tokens"]
    )
    assert await page.run("document.querySelector('#tile-requests .value data').value") == str(
        total["requests"]
    )
    below = await page.run(
        "[...document.querySelectorAll('#tile-total_tokens .hint data')].map(d => +d.value)"
    )
    assert below == [total["input_tokens"], total["cached_input_tokens"], total["output_tokens"]]
    for tile, name, value in (("inexact", "exact", False), ("aborted", "outcome", "client_disconnect")):
        requests = sum(row["requests"] for row in asked["rows"] if row[name] == value)
        shown = f"document.querySelector('#tile-{tile} .value data')"
        assert await page.run(f"{shown}.value") == str(requests)
        assert await page.run(f"{shown}.innerText") == f"{100 * requests / total['requests']:.1f}%"
    for table, name in (("users", "user"), ("models", "model"), ("namespaces", "namespace")):
        rows = busy_usage(busy, f"group_by={name}&limit=10")["rows"]
        expected = [[row[name] or f"no {name}", row["total_tokens"], row["requests"]] for row in rows]
        found = [[row[0], int(row[1]), int(row[3])] for row in await page.rows(f"#{table}")]
        assert found == expected[: len(found)]
        assert len(found) == min(len(expected), 10)
    reached = "group_by=hour,user,model,namespace,service&channel=gateway&at_least=3000&sort=-total_tokens"
    most = busy_usage(busy, reached)
    assert (await page.text("#limits-count")).startswith(f"{most['groups']:,} times")
    assert [int(row[-1]) for row in await page.rows("#limits")] == [
        row["total_tokens"] for row in most["rows"][:10]
    ]
    said = json.loads(await asyncio.to_thread(command, busy, "--from=7d", "--by=user", "--limit=10"))
    assert said["total"] == total
    assert [[row["user"] or "no user", str(row["total_tokens"])] for row in said["rows"]] == [
        row[:2] for row in await page.rows("#users")
    ]


@needs_chromium
async def test_the_charts_table_adds_up_to_the_total(busy: Ledger, page: Page) -> None:
    for query in ("?from=7d&group_by=user", "?from=30d&group_by=namespace", "?from=24h&group_by="):
        await page.go(home(busy, query))
        await page.run("document.getElementById('numbers').open = true")
        await page.until("document.querySelectorAll('#numbers tbody tr').length")
        rows = [[int(text) for text in row[1:]] for row in await page.rows("#numbers")]
        total = int(await page.run("document.querySelector('#tile-total_tokens .value data').value"))
        assert sum(row[0] for row in rows) == total > 0
        assert all(row[0] == sum(row[1:]) for row in rows)
        assert len(
            await page.run("[...document.querySelectorAll('#legend li')].map(li => li.innerText)")
        ) == (len(rows[0]) - 1)


@needs_chromium
async def test_one_of_ten_thousand_users_is_found_and_shown_alone(busy: Ledger, page: Page) -> None:
    everybody = busy_usage(busy, "group_by=user&limit=1")["groups"]
    nameless = busy_usage(busy, "user=")["total"]["requests"]
    await page.go(home(busy, "?from=7d"))
    named = [row for row in await page.rows("#users") if row[0] != "no user"]
    assert await page.text("#users-count") == f"{len(named)} of {everybody - bool(nameless):,} users"
    await page.run("document.getElementById('more').click()")
    await page.until("document.querySelectorAll('#users tbody tr').length == 100")
    name = scene.users(10_000)[7_321]
    await page.run("document.getElementById('search').focus()")
    await page.type(name.upper())
    await page.until("document.querySelectorAll('#users tbody tr').length == 1")
    assert await page.text("#users-count") == "1 user"
    await page.run("document.querySelector('#users .pick').click()")
    only = busy_usage(busy, f"user={name}")["total"]["total_tokens"]
    await page.until(f"document.querySelector('#tile-total_tokens .value data').value == {only}")
    assert "Only" in await page.text("#only")


@needs_chromium
async def test_a_name_is_text_whatever_it_says(quiet: Ledger, page: Page) -> None:
    evil = "<img src=x onerror=\"window.pwned='yes'\">"
    closing = "</td></table><script>window.pwned='yes'</script>"
    quiet.send(
        [
            event(user=evil, model=closing, input_tokens=5000),
            event(
                user=closing,
                model=evil,
                place="<svg onload=pwned=1>/<b>m/<b>m-predictor-0",
                input_tokens=9000,
            ),
            event(user="\u202egro.live", input_tokens=10),
        ]
    )
    for group in ("user", "model", "namespace", "service"):
        await page.go(home(quiet, f"?group_by={group}"))
        await page.run("document.getElementById('numbers').open = true")
        await page.run("document.getElementById('chart').focus()")
        await page.press("End")
        await page.until("!document.querySelector('.tip').hidden")
        assert evil in await page.text("#users")
        assert closing in await page.text("#models")
        assert await page.run("window.pwned ?? 'no'") == "no"
        assert (
            await page.run("document.querySelectorAll('main img, main script, main svg, main b b').length")
            == 0
        )
    await page.run(
        f"[...document.querySelectorAll('#users .pick')].find(b => b.innerText == {json.dumps(evil)}).click()"
    )
    await page.until("!document.getElementById('only').hidden")
    assert evil in await page.text("#only")
    await page.go(await page.run("location.href"))
    assert (await page.rows("#users"))[0][0] == evil


@needs_chromium
async def test_the_address_holds_what_is_shown(busy: Ledger, page: Page) -> None:
    await page.go(home(busy))
    await page.run("document.querySelector('[name=range][value=\"7d\"]').click()")
    await page.run("document.getElementById('namespace').value = '=research'")
    await page.run("document.getElementById('namespace').dispatchEvent(new Event('change'))")
    await page.until("location.search == '?from=7d&namespace=research'")
    wanted = busy_usage(busy, "namespace=research")["total"]["total_tokens"]
    tokens = "document.querySelector('#tile-total_tokens .value data').value"
    await page.until(f"{tokens} == {wanted}")
    await page.go(await page.run("location.href"))
    assert await page.run(tokens) == str(wanted)
    assert await page.run("document.getElementById('namespace').value") == "=research"
    await page.run("document.querySelector('[name=range][value=\"30d\"]').click()")
    await page.until("location.search == '?from=30d&namespace=research'")
    await page.run("history.back()")
    await page.until("location.search == '?from=7d&namespace=research'")
    assert await page.run("document.querySelector('[name=range]:checked').value") == "7d"


@needs_chromium
async def test_keys_read_the_chart_hour_by_hour(busy: Ledger, page: Page) -> None:
    await page.go(home(busy, "?from=24h"))
    await page.run("document.getElementById('chart').focus()")
    await page.press("End")
    last = await page.text("#reading")
    assert "so far: " in last
    await page.press("ArrowLeft")
    before = await page.text("#reading")
    assert before != last
    hours = busy_usage(busy, "group_by=hour")["rows"]
    assert f"{hours[-2]['total_tokens']:,} tokens; " in before
    await page.press("Escape")
    assert await page.run("document.querySelector('.tip').hidden")


@needs_chromium
async def test_every_control_has_a_name_and_is_reached_by_the_tab_key(busy: Ledger, page: Page) -> None:
    await page.go(home(busy, "?user=alice.adams"))
    tree = await page.send("Accessibility.getFullAXTree")
    roles = {"button", "checkbox", "combobox", "radio", "searchbox", "spinbutton", "textbox"}
    controls = [node for node in tree["nodes"] if node.get("role", {}).get("value") in roles]
    assert len(controls) > 20
    assert [node for node in controls if not node.get("ignored") and not node["name"].get("value")] == []
    await page.run("document.activeElement.blur()")
    reached = set()
    for _ in range(60):
        await page.press("Tab")
        reached.add(await page.run("document.activeElement.id || document.activeElement.name"))
    assert {
        "auto",
        "refresh",
        "range",
        "group_by",
        "namespace",
        "model",
        "only",
        "chart",
        "search",
        "at_least",
    } <= (reached)


@needs_chromium
@pytest.mark.parametrize("width", [320, 390, 820])
async def test_a_narrow_screen_is_never_scrolled_sideways(busy: Ledger, page: Page, width: int) -> None:
    await page.resize(width, 800)
    await page.go(home(busy, "?from=7d&group_by=user"))
    assert await page.run("document.documentElement.scrollWidth") == width
    assert await page.run("document.querySelector('#chart canvas').getBoundingClientRect().width") <= width


CONTRAST = """
(() => {
  const rgb = text => text.match(/[\\d.]+/g).map(Number);
  const linear = value => value <= .04045 ? value / 12.92 : ((value + .055) / 1.055) ** 2.4;
  const light = ([r, g, b]) => .2126 * linear(r / 255) + .7152 * linear(g / 255) + .0722 * linear(b / 255);
  const under = one => {
    const colour = rgb(getComputedStyle(one).backgroundColor);
    return colour[3] === 0 ? under(one.parentElement) : colour;
  };
  const texts = document.querySelectorAll('h1, h2, .hint, .value, th, td, label, .pick, #legend data, button');
  return Math.min(...[...texts].filter(one => one.checkVisibility()).map(one => {
    const [less, more] = [light(rgb(getComputedStyle(one).color)), light(under(one))].sort((x, y) => x - y);
    return (more + .05) / (less + .05);
  }));
})()
"""


@needs_chromium
async def test_light_and_dark_are_both_easy_to_read(busy: Ledger, page: Page) -> None:
    grounds, pictures = [], []
    for scheme in ("light", "dark"):
        await page.scheme(scheme)
        await page.go(home(busy, "?from=7d&refresh=off"))
        grounds.append(await page.run("getComputedStyle(document.body).backgroundColor"))
        assert await page.run(CONTRAST) >= 4.5  # WCAG 2.2, 1.4.3
        pictures.append(await page.run("document.querySelector('#chart canvas').toDataURL()"))
    assert len(set(grounds)) == 2
    assert len(set(pictures)) == 2
    await page.scheme("light")  # a page that is open follows
    await page.until(f"getComputedStyle(document.body).backgroundColor == {json.dumps(grounds[0])}")
    await page.until(f"document.querySelector('#chart canvas').toDataURL() == {json.dumps(pictures[0])}")


SOON = """
const waiting = new Set(), later = setTimeout, never = clearTimeout;
globalThis.setTimeout = (run, wait) => {
  const id = later(() => { waiting.delete(id); run(); }, Math.min(wait, 100));
  waiting.add(id);
  return id;
};
globalThis.clearTimeout = id => { waiting.delete(id); never(id); };
"""


@needs_chromium
async def test_it_says_where_there_is_nothing_and_shows_what_comes_by_itself(
    quiet: Ledger, page: Page
) -> None:
    await page.send("Page.addScriptToEvaluateOnNewDocument", source=SOON)
    await page.go(home(quiet))
    assert (await page.text("#message")).startswith("No usage in this time.")
    quiet.send([event(user="alice")])
    await page.until("document.body.dataset.state == 'ready'")
    assert (await page.rows("#users"))[0][0] == "alice"
    await page.run("document.getElementById('auto').click()")
    await page.until(
        "location.search == '?refresh=off' && document.getElementById('main').ariaBusy == 'false'"
    )
    asked = len(page.requests)
    quiet.send([event(user="bob")])
    await asyncio.sleep(1)
    assert len(page.requests) == asked


@needs_chromium
async def test_a_ledger_that_is_away_is_said_and_comes_back(quiet: Ledger) -> None:
    async with browsing() as page:  # its console tells of the failed requests
        quiet.send([event()])
        await page.go(home(quiet, "?refresh=off"))
        port = quiet.port
        quiet.stop()
        await page.run("document.getElementById('refresh').click()")
        await page.until("document.body.dataset.state == 'error'")
        assert "The ledger does not answer." in await page.text("#message")
        with Ledger(quiet.database_url, quiet.folder, PORT=str(port)):
            await page.run("document.querySelector('#message button').click()")
            await page.until("document.body.dataset.state == 'ready'")


@needs_chromium
async def test_a_wrong_address_is_answered_with_the_reason(quiet: Ledger) -> None:
    async with browsing() as page:  # its console tells of the refused requests
        await page.go(home(quiet, "?from=yesterday"))
        assert await page.run("document.body.dataset.state") == "error"
        assert "from: 'yesterday' is neither a time" in await page.text("#message")


def command(ledger: Ledger, *arguments: str) -> str:
    """What `token-meter usage` prints, as JSON."""
    line = [sys.executable, "-m", "cli.main", "usage", f"--url={home(ledger)}", "-o=json", *arguments]
    return subprocess.run(line, capture_output=True, text=True, check=True).stdout


def busy_usage(ledger: Ledger, query: str) -> Any:
    """The answer for the last seven days."""
    status, _, body = ledger.request("GET", f"/api/v1/usage?from=7d&{query}")
    assert status == 200, body
    return json.loads(body)
