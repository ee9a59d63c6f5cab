"""The page of `hubel dock`: true to the figures, closed to markup, and drawn without a network."""

import base64
import hashlib
import json
import re
import shutil
import subprocess
from html.parser import HTMLParser

import numpy as np
import pytest

from hubel.report import docking as page_of_docking
from hubel.report.docking import (
    DockedLigand,
    Docking,
    Pose,
    SearchBox,
    Verdict,
    agreement,
    write_docking_report,
)
from hubel.report.molecule_view import (
    RAMP,
    Molecule,
    backbone,
    bonds_by_distance,
    contribution_limit,
    first_look,
    near,
    packed,
    ramp_index,
)

HOSTILE = "</script><b>bold</b><img src=x onerror=\"document.title='taken'\">"

# Formamide, flat and with all its hydrogens, typed in: C, O, N and three H.
ELEMENTS = ("C", "O", "N", "H", "H", "H")
PLACES = np.array(
    [
        [0.0, 0, 0],
        [1.21, 0, 0],
        [-0.65, 1.20, 0],
        [-0.55, -0.95, 0],
        [-0.1, 2.04, 0],
        [-1.66, 1.2, 0],
    ]
)
BONDS = ((0, 1, 2), (0, 2, 1), (0, 3, 1), (2, 4, 1), (2, 5, 1))


def ligand(shift=0.0, contributions=None):
    return Molecule(ELEMENTS, PLACES + np.array([0, 0, shift]), BONDS, contributions=contributions)


def protein():
    """A residue of N, CA, C, O 40 Å away, then four along x, 3.8 Å apart and 3.5 Å below."""
    atoms = [("N", -1.4, 0.4), ("CA", 0.0, 0.0), ("C", 1.4, 0.4), ("O", 1.0, 1.65)]
    places, residues, names = [], [], []
    for number, x in enumerate((45.7, -5.7, -1.9, 1.9, 5.7)):
        for name, dx, y in atoms:
            places.append([x + dx, y, -3.5])
            residues.append(f"GLY {number + 1} A")
            names.append(name)
    return Molecule([n[0] for n in names], np.array(places), residues=residues, names=names)


def pose(rank=1, score=0.9, shift=0.0, **figures):
    return Pose(rank, figures.pop("molecule", ligand(shift)), score, **figures)


def written(tmp_path, docking):
    return write_docking_report(tmp_path / "report.html", docking).read_text("utf-8")


class Page(HTMLParser):
    """The elements, tables and scripts of a page as a browser would see them."""

    def __init__(self, html):
        super().__init__()
        self.elements, self.scripts, self.tables, self.words = [], [], [], []
        self.inside = []
        self.feed(html)
        self.text = re.sub(r"\s+", " ", "".join(self.words))

    def handle_starttag(self, tag, attrs):
        attributes = dict(attrs)
        self.elements.append((tag, attributes))
        if tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append([])
        elif tag in ("td", "th"):
            self.tables[-1][-1].append("")
        elif tag == "script":
            self.scripts.append([attributes, ""])
        if tag not in ("meta", "link", "img", "br", "input"):
            self.inside.append(tag)

    def handle_endtag(self, tag):
        assert self.inside.pop() == tag

    def handle_data(self, data):
        if self.inside[-1:] == ["script"]:
            self.scripts[-1][1] += data
        elif self.inside[-1:] != ["style"]:
            self.words.append(data)
            if {"td", "th"} & set(self.inside):
                self.tables[-1][-1][-1] += data

    def rows(self, table):
        return [
            [re.sub(r"\s+", " ", cell).replace("\xad", "").strip() for cell in row]
            for row in self.tables[table]
        ]

    @property
    def data(self):
        ((_, text),) = [s for s in self.scripts if s[0].get("id") == "docking-data"]
        return json.loads(text)


@pytest.fixture(scope="module")
def docking():
    """One ligand, two poses, all that can be known of them."""
    protein_ = protein()
    toward = np.zeros(20)
    toward[[10, 3]] = [0.02, 0.9]  # the second one is far away: neither drawn nor told
    checks = (Verdict("bond lengths", True), Verdict("clashes", False, "0.4 Å apart"))
    best = pose(
        1, 0.912, score_spread=0.031, affinity=6.25, vina=-7.5, consensus=1.5, rmsd=0.5,
        molecule=ligand(contributions=np.array([0.04, -0.02, 0.0, 0, 0, 0])),
        verdicts=checks, pocket_contributions=toward,
    )  # fmt: skip
    second = pose(
        2, 0.4, 1.0, score_spread=0.02, affinity=5.0, vina=-8.0, consensus=0.5, rmsd=2.5,
        verdicts=(Verdict("bond lengths", True),),
    )  # fmt: skip
    return Docking(
        "1ABC",
        protein_,
        (DockedLigand("formamide", (best, second), crystal=ligand(0.5)),),
        box=SearchBox((0, 0, 0), (20, 20, 22.5)),
        notes=("3 waters were left out",),
        settings={"Exhaustiveness": 8, "Seed": 1, "Nothing": None},
        contributions="How much the score falls without the atom",
        command="hubel dock 1ABC.pdb formamide.sdf",
    )


@pytest.fixture(scope="module")
def page(docking, tmp_path_factory):
    return Page(written(tmp_path_factory.mktemp("page"), docking))


def hostile_docking():
    """Two ligands, one without poses, and markup in every text that comes from outside."""
    found = pose(verdicts=(Verdict(HOSTILE, False, HOSTILE),))
    named = Molecule(["C", HOSTILE], np.zeros((2, 3)), residues=[HOSTILE] * 2, names=[HOSTILE] * 2)
    return Docking(
        HOSTILE,
        named,
        (DockedLigand("none", (), notes=(HOSTILE,)), DockedLigand(HOSTILE, (found,))),
        notes=(HOSTILE,),
        settings={HOSTILE: HOSTILE},
        command=HOSTILE,
    )


def test_the_page_is_closed(page):
    assert page.inside == []
    for tag, attributes in page.elements:
        assert not [name for name in attributes if name.startswith("on")], tag
        for name in ("src", "href", "srcset", "action"):
            assert attributes.get(name, "#").startswith(("#", "data:")), (tag, attributes)
    (policy,) = [a["content"] for t, a in page.elements if t == "meta" and "http-equiv" in a]
    assert policy.startswith("default-src 'none'; ")
    running = [text for attributes, text in page.scripts if "type" not in attributes]
    assert len(running) == 2
    for text in running:
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert f"'sha256-{digest}'" in policy
        assert not re.search(r"https?:|fetch\(|import\(|XMLHttp|innerHTML|eval\(", text)


def test_markup_from_outside_stays_text(tmp_path):
    html = written(tmp_path, hostile_docking())
    page = Page(html)
    assert page.inside == []
    assert "<b>bold" not in html
    assert "<img" not in html
    assert len(page.scripts) == 3
    assert page.data["ligands"][0]["name"] == HOSTILE
    assert page.data["pocket"]["r"] == [HOSTILE]
    assert page.text.count(HOSTILE) >= 8


def test_a_name_that_is_no_text_does_not_lose_the_page(tmp_path):
    html = written(tmp_path, Docking("a\udcff", protein(), (DockedLigand("b\udcfe", (pose(),)),)))
    assert "a\\udcff" in Page(html).text
    assert Page(html).data["ligands"][0]["name"] == "b\udcfe"


def test_the_table_of_poses_has_the_figures(page):
    (rows,) = [page.rows(0)]
    assert rows == [
        ["Pose", "Good pose", "pK", "Vina", "Consensus", "RMSD", "Checks"],
        ["1", "91.2 % ± 3.1", "6.25", "−7.50", "1.50", "0.50",
         "1 failed failed: clashes (0.4 Å apart) passed: bond lengths"],
        ["2", "40.0 % ± 2.0", "5.00", "−8.00", "0.50", "2.50", "all 1 passed: bond lengths"],
    ]  # fmt: skip
    good = [a["data-value"] for t, a in page.elements if "good" in a.get("class", "").split()]
    assert good == ["0.5"]  # nearer than 2 Å
    values = [a["data-value"] for t, a in page.elements if t == "td"]
    assert values[:4] == ["1", "0.912", "6.25", "-7.5"]  # what sorting goes by


def test_columns_without_a_figure_are_left_out(tmp_path):
    page = Page(written(tmp_path, Docking("r", protein(), (DockedLigand("l", (pose(),)),))))
    assert page.rows(0) == [["Pose", "Good pose"], ["1", "90.0 %"]]
    controls = {a["name"] for t, a in page.elements if t in ("input", "select") and "name" in a}
    assert controls == {"protein", "names", "contacts", "hydrogens"}
    assert "Consensus" not in page.text


def test_the_headline_says_how_sure_and_whether_the_scorers_agree(page):
    assert (
        "91.2 % ± 3.1 over rotations: the probability that pose 1 of formamide is a good one, "
        "within 2 Å of the true pose. The scorers disagree: the network puts pose 1 first, Vina "
        "puts pose 2 first and the consensus puts pose 1 first, so look at these. Pose 1 lies "
        "0.50 Å from the crystal pose. It fails 1 check of plausibility: clashes."
    ) in page.text.replace("\u202f", " ")
    assert "Exhaustiveness8" in page.text.replace(" ", "")
    assert "Nothing" not in page.text
    assert "3 waters were left out." in page.text
    assert "edges 20.0 × 20.0 × 22.5 Å" in page.text
    assert "How much the score falls without the atom." in page.text


@pytest.mark.parametrize(
    ("poses", "words"),
    [
        ((), ""),
        ((pose(),), "There is no other pose to compare it with."),
        ((pose(1, 0.9), pose(2, 0.8)), ""),
        (
            (pose(1, 0.9, vina=-9.0), pose(2, 0.8, vina=-8.0)),
            "The scorers agree: the network and Vina put pose 1 first.",
        ),
        (
            (pose(1, 0.9, score_spread=0.1), pose(2, 0.8, score_spread=0.05)),
            "The network's lead of pose 1 over pose 2 (80.0\u202f%) is within the spread over "
            "rotations.",
        ),
        ((pose(1, 0.9, score_spread=0.08), pose(2, 0.8, score_spread=0.05)), ""),
        # Of Vina's figures one is missing, so Vina has no first.
        ((pose(1, 0.7), pose(2, 0.8, vina=-8.0)), ""),
    ],
)
def test_agreement(poses, words):
    assert agreement(DockedLigand("l", poses)) == words


def test_the_view_has_every_atom_and_bond(page):
    (found,) = page.data["ligands"]
    first, second = (p["molecule"] for p in found["poses"])
    assert first["e"] == list(ELEMENTS)
    assert first["x"] == [round(v, 2) for v in PLACES.ravel()]
    assert first["b"] == [v for bond in BONDS for v in bond]
    assert second["x"][2::3] == [1.0] * 6
    assert found["crystal"]["x"][2::3] == [0.5] * 6
    pocket = page.data["pocket"]
    # Residues 2 to 5 lie within 8 Å; each has 3 bonds, and C–N between neighbours is 1 Å here.
    assert pocket["r"] == [f"GLY {i} A" for i in (2, 3, 4, 5)]
    assert pocket["n"] == [i for i in range(4) for _ in range(4)]
    assert pocket["a"] == ["N", "CA", "C", "O"] * 4
    assert len(pocket["b"]) == 3 * (4 * 3 + 3)
    assert page.data["backbone"] == [[-5.7, 0, -3.5, -1.9, 0, -3.5, 1.9, 0, -3.5, 5.7, 0, -3.5]]
    assert page.data["box"] == {"center": [0, 0, 0], "size": [20, 20, 22.5]}


def test_contributions_are_blue_for_and_red_against(page):
    (found,) = page.data["ligands"]
    assert found["limit"] == 0.9  # the atom that is too far away to be drawn belongs to the scale
    first, second = found["poses"]
    assert first["molecule"]["c"] == [0.04, -0.02, 0, 0, 0, 0]
    assert first["molecule"]["k"][2:] == [32] * 4
    assert first["molecule"]["k"][0] > 32 > first["molecule"]["k"][1]
    told = dict(zip(first["pocket"]["i"], first["pocket"]["c"], strict=True))
    assert told[6] == 0.02  # of those drawn
    assert set(told) <= set(range(16))
    assert "k" not in second["molecule"]
    assert "pocket" not in second


def red_and_blue(colour):
    return int(colour[1:3], 16), int(colour[5:7], 16)


def test_the_ramp_runs_from_red_over_white_to_blue():
    assert len(RAMP) == 65
    assert page_of_docking.RAMP is RAMP
    red, blue = red_and_blue(RAMP[0])
    assert red > 150 > 60 > blue
    red, blue = red_and_blue(RAMP[64])
    assert blue > 150 > 60 > red
    assert RAMP[32] == "#f7f7f7"
    blueness = np.array([blue - red for red, blue in map(red_and_blue, RAMP)])
    assert (np.diff(blueness) > 0).all()
    assert [ramp_index(v, 2.0) for v in (-2, -9, 0, 1, 2)] == [0, 0, 32, 48, 64]
    assert ramp_index(0.0, 0.0) == 32
    assert contribution_limit(None, None) is None
    assert contribution_limit(None, np.array([0.1, -0.3])) == 0.3


def test_many_ligands_have_a_table_and_a_chooser(tmp_path):
    ligands = (
        DockedLigand("without", (), notes=("no coordinates could be made",)),
        DockedLigand("low", (pose(1, 0.3, rmsd=3.0), pose(2, 0.2, rmsd=1.0))),
        DockedLigand("high", (pose(1, 0.8, rmsd=1.2),)),
    )
    page = Page(written(tmp_path, Docking("r", protein(), ligands)))
    assert page.rows(0) == [
        ["Ligand", "Poses", "Good pose", "RMSD"],
        ["high", "1", "80.0 %", "1.20"],
        ["low", "2", "30.0 %", "3.00"],
        ["withoutno coordinates could be made.", "0", "–", "–"],
    ]
    options = [a for t, a in page.elements if t == "option"]
    assert [("disabled" in a) for a in options] == [False, False, True]
    assert "First pose is good 1 of 2" in page.text
    assert "one of the first three: 2" in page.text
    assert [entry["name"] for entry in page.data["ligands"]] == ["high", "low", "without"]
    assert [a["data-ligand"] for t, a in page.elements if t == "tbody" and a] == ["0", "1"]


def test_a_page_holds_so_many_ligands_and_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr(page_of_docking, "MAX_LIGANDS", 2)
    ligands = tuple(DockedLigand(f"l{i}", (pose(1, i / 10),)) for i in range(4))
    page = Page(written(tmp_path, Docking("r", protein(), ligands)))
    assert [row[0] for row in page.rows(0)[1:]] == ["l3", "l2"]
    assert "Shown are the 2 most probable of 4" in page.text


def test_no_pose_at_all_is_said(tmp_path):
    page = Page(written(tmp_path, Docking("r", protein(), (DockedLigand("l", ()),))))
    assert "There is no pose to show." in page.text
    assert "canvas" not in [tag for tag, _ in page.elements]
    with pytest.raises(ValueError, match="at least one ligand"):
        written(tmp_path, Docking("r", protein(), ()))


def test_bonds_by_distance_are_those_of_the_molecule():
    found = bonds_by_distance(ELEMENTS, PLACES)
    assert [(i, j) for i, j, _ in found] == [(i, j) for i, j, _ in BONDS]
    assert found[0][2] == 1.0
    pair = np.array([[0.0, 0, 0], [1.85, 0, 0]])  # Å
    assert bonds_by_distance(["C", "C"], pair) == [(0, 1, 1.0)]
    assert bonds_by_distance(["C", "O"], pair) == [(0, 1, 1.0)]
    assert bonds_by_distance(["O", "O"], pair) == []
    assert bonds_by_distance(["Zn", "O"], pair) == []


def test_whole_residues_are_near():
    whole = protein()
    assert near(whole, np.array([[-7.1, 0.4, -3.5]]), 0.1).tolist() == [4, 5, 6, 7]
    assert near(whole, np.array([[0.0, 99, 0]]), 8.0).tolist() == []
    atoms = Molecule(whole.elements, whole.places)
    assert near(atoms, np.array([[-7.1, 0.4, -3.5]]), 0.1).tolist() == [4]


def test_the_backbone_breaks_where_residues_are_missing():
    whole = protein()
    pieces = backbone(whole, np.array([*range(4, 12), *range(16, 20)]))
    assert [piece[:, 0].tolist() for piece in pieces] == [[-5.7, -1.9]]
    assert backbone(Molecule(whole.elements, whole.places), np.arange(20)) == []


def test_a_part_of_a_molecule_keeps_its_bonds():
    data = packed(ligand(), atoms=np.array([0, 2, 4]))
    assert data["e"] == ["C", "N", "H"]
    assert data["b"] == [0, 1, 1, 1, 2, 1]


def test_the_first_look_is_no_mirror_image_and_has_the_pocket_behind():
    for below in (-4.0, 4.0):
        look = first_look(PLACES, np.array([[0, 0, below]]))
        axes = np.array(look["axes"])
        assert np.allclose(axes @ axes.T, np.eye(3), atol=1e-3)
        assert np.linalg.det(axes) == pytest.approx(1, abs=1e-3)
        assert axes[2] @ [0, 0, below] < 0
    assert look["centre"] == [round(v, 2) for v in PLACES.mean(axis=0)]
    assert first_look(PLACES[:1], np.zeros((0, 3)))["reach"] == 7.0


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"places": np.zeros((2, 3))}, r"places must be \(1, 3\). Got \(2, 3\)"),
        ({"places": np.full((1, 3), np.nan)}, "places must be finite"),
        ({"bonds": [(0, 1, 1)]}, "a bond must join two of 1 atoms. Got 0 and 1"),
        ({"residues": []}, "residues must be 1, one an atom. Got 0"),
        ({"contributions": np.array([np.inf])}, "contributions must be 1 finite numbers"),
    ],
)
def test_a_molecule_that_does_not_hold_together(fields, words):
    with pytest.raises(ValueError, match=words):
        Molecule(**{"elements": ["C"], "places": np.zeros((1, 3)), **fields})


def test_contributions_of_the_pocket_are_one_an_atom(tmp_path):
    wrong = pose(pocket_contributions=np.zeros(3))
    with pytest.raises(ValueError, match="contributions must be 20 finite numbers"):
        written(tmp_path, Docking("r", protein(), (DockedLigand("l", (wrong,)),)))


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["plain", "hostile"])
def test_the_view_draws_in_a_browser_and_nothing_else_runs(docking, tmp_path, kind):
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    if browser is None:
        pytest.skip("no Chromium on this machine")
    made = docking if kind == "plain" else hostile_docking()
    path = write_docking_report(tmp_path / "report.html", made)
    result = subprocess.run(
        [
            browser, "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run",
            "--disable-background-networking", "--disable-component-update", "--disable-sync",
            f"--user-data-dir={tmp_path}", "--enable-logging=stderr",
            "--virtual-time-budget=3000", "--dump-dom", path.resolve().as_uri(),
        ],
        check=True, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert "CONSOLE" not in result.stderr  # no error, and no breach of the policy
    shown = Page(result.stdout)
    (canvas,) = [a for t, a in shown.elements if t == "canvas"]
    assert int(canvas["height"]) > 150 < int(canvas["width"])  # drawn at the size it has
    assert canvas["aria-label"].endswith("in the pocket, in three dimensions, 6 atoms.")
    assert [t for t, _ in shown.elements].count("img") == 0
    if kind == "plain":
        assert "Within 4 Å: GLY 3 A, GLY 4 A." in shown.text
