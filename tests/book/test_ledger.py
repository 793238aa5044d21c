"""The box, the role, the table and the graph, in a Sphinx project of one or two pages."""

import io
import json
import re
from itertools import combinations
from typing import get_args

import pytest
from kss_book import graph
from kss_book.samples import samples
from sphinx.application import Sphinx
from sphinx.util.docutils import docutils_namespace, patch_docutils

from kss.claims import LEDGER, evidence
from kss.claims.registry import Verdict

pytestmark = [pytest.mark.filterwarnings("ignore"), pytest.mark.slow]
ID = "heat.tweedie"
BOX = f"```{{claim}} {ID}\n```\n"


@pytest.fixture
def build(tmp_path):
    """Build pages; returns the HTML of the first and the warnings."""

    def run(index: str, *, source: bool = False, **others: str) -> tuple[str, str]:
        pages = {"index": "# Title\n\n" + index, **others}
        if others:
            pages["index"] += "\n```{toctree}\n" + "\n".join(others) + "\n```\n"
        for name, text in pages.items():
            (tmp_path / f"{name}.md").write_text(text, encoding="utf-8")
        warnings = io.StringIO()
        overrides = {
            "extensions": ["myst_parser", "sphinx_proof", "kss_book"],
            "kss_source_pages": source,
            "myst_enable_extensions": ["dollarmath"],
            "numfig": True,
            "html_theme": "basic",
            "exclude_patterns": ["_build"],
        }
        with patch_docutils(), docutils_namespace():
            places = (tmp_path, None, tmp_path / "_build/html", tmp_path / "_build/.doctrees")
            app = Sphinx(*places, "html", overrides, status=None, warning=warnings, freshenv=True)
            app.build(force_all=True)
        return (tmp_path / "_build/html/index.html").read_text(encoding="utf-8"), warnings.getvalue()

    return run


def text_of(html: str) -> str:
    return " ".join(re.sub(r"<[^>]*>", "", html).split())


def write_evidence(tmp_path, **changes):
    """Evidence in which every check of the claim has passed on today's code, up to `changes`."""
    records = [
        {
            "name": check.name,
            "outcome": "passed",
            "mutants": dict.fromkeys(check.mutants, "killed"),
            "numbers": {"error": 1.25e-16},
            "seconds": 0.5,
            "message": "",
            "key": evidence.key_of(check),
            **changes,
        }
        for check in LEDGER.checks_of(ID)
    ]
    path = tmp_path / "_build/evidence.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps({"claims": [{"id": ID, "checks": records}]}))


def test_every_status_and_verdict_has_a_sample_with_word_shape_and_color(build):
    html, warnings = build("```{claim-states}\n```\n")
    assert warnings == ""
    boxes = re.findall(r'<div[^>]*class="kss-claim .*?</svg>.*?</p>', html, re.DOTALL)
    registry, records = samples()
    assert len(boxes) == len(registry.claims)
    shapes = {}
    for box, entry in zip(boxes, registry.claims.values(), strict=True):
        status = evidence.status(entry, registry, records)
        word, color = re.search(r"</svg>([a-z ]+)<", box).group(1), re.search(r'"kss-status (\S+)"', box).group(1)
        assert (word, color) == (status, "kss-status-" + status.replace(" ", "-"))
        assert f'<strong class="kss-verdict">{entry.verdict}</strong>' in box
        shapes[status] = re.search(r"<svg.*?</svg>", box, re.DOTALL).group()
    assert set(shapes) == set(get_args(evidence.Status))
    assert len(set(shapes.values())) == len(shapes)
    assert {entry.verdict for entry in registry.claims.values()} == set(get_args(Verdict))


def test_a_box_that_has_not_run_says_which_command_runs_it(build):
    html, warnings = build(BOX)
    assert warnings == ""
    entry, checks = LEDGER.claims[ID], LEDGER.checks_of(ID)
    assert 'id="claim-heat-tweedie"' in html
    assert 'href="#claim-heat-tweedie"' in html
    assert entry.title in html
    assert "Claim 1" in html
    assert 'class="math notranslate nohighlight"' in html
    for word in ("not run here", "Regime", "Source", "Rests on", f"python -m kss verify {ID}", f"{len(checks)} checks, 0 run"):
        assert word in text_of(html)


def test_a_box_links_to_the_source_of_its_checks(build, tmp_path):
    html, _ = build(BOX, source=True)
    links = re.findall(r'href="(source/kss/[^"#]+\.html)#(L-\d+)"', html)
    assert links
    for page, line in links:
        assert f'id="{line}"' in (tmp_path / "_build/html" / page).read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("changes", "status", "shown"),
    [
        ({}, "checked", "error: 1.25e-16"),
        ({"key": "other"}, "stale", f"python -m kss verify {ID}"),
        ({"outcome": "failed", "message": "2 is not 1"}, "failing", "2 is not 1"),
        ({"mutants": {}}, "failing", "a mutant survived"),
    ],
)
def test_a_box_shows_the_evidence(build, tmp_path, changes, status, shown):
    write_evidence(tmp_path, **changes)
    html, warnings = build(BOX)
    assert warnings == ""
    assert f"</svg>{status}</span>" in html
    assert shown in text_of(html)


def test_a_status_follows_the_evidence_at_the_next_build(build, tmp_path):
    assert "</svg>not run here</span>" in build(BOX)[0]
    write_evidence(tmp_path)
    assert "</svg>checked</span>" in build(BOX)[0]


@pytest.mark.parametrize("text", ["```{claim} no.such\n```\n", "See {claim}`no.such`.\n", "```{eval-rst}\nSee :claim:`no.such`.\n```\n"])
def test_an_unknown_id_warns_each_time(build, text):
    for _ in range(2):
        assert "unknown claim id: no.such" in build(text)[1]


def test_a_role_links_to_the_box_on_another_page(build):
    for mention in (f"See {{claim}}`{ID}`.\n", f"```{{eval-rst}}\nSee :claim:`{ID}`.\n```\n"):
        html, warnings = build(mention, other="# Other\n\n" + BOX)
        assert warnings == ""
        assert re.search(rf'href="other.html#claim-heat-tweedie"[^>]*><span>{LEDGER.claims[ID].title}<', html)
        assert "</svg>not run here</span>" in html


def test_a_mention_of_a_claim_without_box_warns(build):
    assert f"the claim {ID} has no box" in build(f"See {{claim}}`{ID}`.\n")[1]


def test_two_boxes_of_a_claim_warn(build):
    assert "already" in build(BOX, other="# Other\n\n" + BOX)[1]


def test_the_ledger_has_every_claim_in_the_order_of_the_book(build):
    boxes = "".join(f"```{{claim}} {name}\n```\n" for name in reversed(LEDGER.claims))
    html, warnings = build("```{ledger}\n```\n\n```{claim-graph}\n```\n\n" + boxes)
    assert warnings == ""
    table = re.search(r'<table class="kss-ledger">.*?</table>', html, re.DOTALL).group()
    assert re.findall(r'<code class="kss-id">([^<]+)</code>', table) == list(reversed(LEDGER.claims))
    assert re.findall(r'<tr data-chapter="(\w+)"', table) == [entry.chapter for entry in reversed(LEDGER.claims.values())]
    assert "kss-ledger.js" in html
    drawing = re.search(r"<svg width.*?</svg></div>", html, re.DOTALL).group()
    edges = sum(len(entry.uses) for entry in LEDGER.claims.values())
    assert drawing.count('class="kss-edge"') == edges
    assert f"{edges} uses" in drawing


def test_the_graph_draws_each_claim_once_after_what_it_uses():
    columns, ways = graph.layers(LEDGER)
    slots = [slot for column in columns for slot in column]
    assert len(slots) == len(set(slots))
    depth = {slot: i for i, column in enumerate(columns) for slot in column}
    assert sorted((way[0], way[-1]) for way in ways) == sorted((a, c.id) for c in LEDGER.claims.values() for a in c.uses)
    for way in ways:
        assert [depth[slot] for slot in way] == list(range(depth[way[0]], depth[way[-1]] + 1))


def test_the_boxes_of_the_graph_do_not_overlap():
    drawing = graph.svg(LEDGER, dict.fromkeys(LEDGER.claims, "checked"), {name: f"#{name}" for name in LEDGER.claims})
    wide = float(re.search(r'<rect [^>]*width="([\d.]+)"', drawing).group(1))
    corners = [(float(x), float(y)) for x, y in re.findall(r'<rect x="([\d.]+)" y="([\d.]+)" width', drawing)]
    assert drawing.count("<a href=") == len(corners) > 2
    for (x0, y0), (x1, y1) in combinations(corners, 2):
        assert abs(x0 - x1) >= wide or abs(y0 - y1) >= graph.HEIGHT


def test_findings_say_what_the_ledger_says(build, tmp_path):
    write_evidence(tmp_path)
    html, warnings = build(f"{BOX}\n```{{findings}}\n{ID}\nheat.equation\n```\n\n```{{claim}} heat.equation\n```\n")
    assert warnings == ""
    table = re.search(r'<table class="kss-findings">.*?</table>', html, re.DOTALL)
    first, second = re.findall(r"<tr>.*?</tr>", table.group(0).partition("<tbody>")[2], re.DOTALL)
    assert LEDGER.claims[ID].verdict in text_of(first)
    assert "checked" in text_of(first)
    assert f'href="#{ID.replace(".", "-").join(("claim-", ""))}"' in first
    assert "not run here" in text_of(second)


@pytest.mark.parametrize(("content", "said"), [("no.claim", "unknown claim id: no.claim"), ("", "expected ids of claims")])
def test_findings_of_nothing_fail_the_build(build, content, said):
    assert said in build(f"```{{findings}}\n{content}\n```\n")[1]
