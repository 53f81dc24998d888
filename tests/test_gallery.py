"""The gallery and the page of claims: from committed records to files, and back to the same bytes."""

import re
from pathlib import Path

import pytest

from mtlkit import claims, gallery, paths, records
from mtlkit.errors import MtlkitError
from mtlkit.gallery import claims_page, redraw, verdict
from tests import factory


@pytest.fixture
def committed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Nine seeds of two arms of the study cifar_flip, in one condition."""
    folder = tmp_path / "records"
    for arm in ("ew", "slgrad"):
        for seed in range(9):
            one = records.rounded(factory.record(arm, "uniform_0.3", seed))
            records.write(one, folder / "cifar_flip" / "uniform_0.3" / arm / f"seed{seed}.json")
    monkeypatch.setattr(paths, "COMMITTED_RECORDS", folder)
    return folder


def test_everything_is_drawn_and_linked_and_drawn_again_the_same(committed: Path, tmp_path: Path) -> None:
    said: list[str] = []
    first, second = (redraw(folder=tmp_path / name, say=said.append) for name in ("a", "b"))
    assert [path.relative_to(tmp_path / "a") for path in first] == [path.relative_to(tmp_path / "b") for path in second]
    assert all(a.read_bytes() == b.read_bytes() for a, b in zip(first, second, strict=True))
    assert any(line.startswith("cifar_flip: 18 records") for line in said)
    text = (tmp_path / "a" / "README.md").read_text()
    for path in first:
        if path.parent.name == "cifar_flip":
            assert f"({path.relative_to(tmp_path / 'a')})" in text
    assert "18 records, data cifar10-jpeg75, seeds 0 to 8" in text
    assert "make reproduce SCALE=desk STUDIES=cifar_flip" in text
    assert text.count("![cifar_flip, ") == sum(path.suffix == ".png" for path in first)
    page = (tmp_path / "a" / "claims" / "README.md").read_text()
    rows = [line for line in page.splitlines() if "SLGrad, as meant − EW" in line and "uniform flips 0.3  " in line]
    assert len(rows) == 2 and all("9/9" in row for row in rows), "loss and AUC"
    written_down = paths.PARAMS / "claims.yaml"
    families = claims.load(written_down)
    for number, one in enumerate(claims.statements(written_down), 1):
        row = next(line for line in page.splitlines() if line.startswith(f"| [{number}]"))
        after_a_look = any(families[rest["family"]]["exploratory"] for rest in one.get("rests_on", []))
        assert ("(exploratory)**" in row) == after_a_look, one["claim"]
    assert any(family["exploratory"] for family in families.values())


def test_one_study_draws_no_claims(committed: Path, tmp_path: Path) -> None:
    records.write(records.rounded(factory.record()), committed / "toy" / "x.json")
    written = redraw(["cifar_flip"], tmp_path / "a", say=lambda _: None)
    assert {path.parent.name for path in written} == {"cifar_flip"}


def test_wrong_names_and_no_records(committed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(MtlkitError, match=r"the study is 'cifar_flop', which is not one of cifar_flip \(did you mean"):
        redraw(["cifar_flop"], tmp_path / "a")
    monkeypatch.setattr(paths, "COMMITTED_RECORDS", tmp_path / "nothing")
    with pytest.raises(MtlkitError, match="there are no records below"):
        redraw(folder=tmp_path / "a")
    assert not (tmp_path / "a").exists()


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ([], "open"),
        (["", ""], "open"),
        (["better", ""], "holds, so far"),
        (["better", "better"], "holds"),
        (["better", "undecided"], "holds in part"),
        (["better", "within margin"], "holds in part"),
        (["better", "worse"], "mixed"),
        (["worse", "undecided"], "undecided"),
        (["worse", "within margin"], "does not hold"),
    ],
)
def test_verdict(words: list[str], expected: str) -> None:
    assert verdict(words) == expected


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["within margin", "better"], "holds"),
        (["within margin", "undecided"], "holds in part"),
        (["within margin", "worse"], "mixed"),
        (["worse", "worse"], "does not hold"),
        (["undecided"], "undecided"),
        (["within margin", ""], "holds, so far"),
    ],
)
def test_verdict_of_a_claim_that_something_is_no_worse(words: list[str], expected: str) -> None:
    assert verdict(words, "no_worse") == expected


def test_an_open_claim_says_why() -> None:
    from mtlkit import claims

    tables = claims.claims([], paths.PARAMS / "claims.yaml")
    page = claims_page([{"claim": "It flies.", "source": "nobody", "why": "it has no wings"}], {}, tables, ())
    assert "It flies. (nobody)" in page and "**Verdict: open.**" in page and "Why: it has no wings." in page


def test_what_was_changed_after_first_runs_goes_with_the_claim() -> None:
    from mtlkit import claims

    families = claims.load(paths.PARAMS / "claims.yaml")
    (table,) = [one for one in claims.claims([], paths.PARAMS / "claims.yaml") if one.caption.startswith("toy:")]
    said = families["toy"]["study"].again
    assert said.startswith("Second runs") and said in table.notes
    page = claims_page(
        [{"claim": "It flies.", "source": "nobody", "rests_on": [{"family": "toy"}]}], families, [table], ()
    )
    assert page.count(f"toy: {said}") == 1


def test_every_figure_has_a_text() -> None:
    """`_section` takes the longest beginning that fits: every name that is drawn must have one."""
    drawn = {path.stem for path in paths.FIGURES.glob("*/*.png")}
    assert drawn and all(any(name.startswith(key) for key in gallery.ALT) for name in drawn)


def test_the_readme_shows_the_verdicts() -> None:
    """Its table is that of figures/claims/README.md without the claims that are still open; copy it after a change."""
    page, readme = (path.read_text() for path in (paths.FIGURES / "claims" / "README.md", paths.ROOT / "README.md"))
    decided = [line for line in page.splitlines() if line.startswith("| [") and "**open**" not in line]
    shown = [line for line in readme.splitlines() if "figures/claims/README.md#" in line]
    assert decided and shown == [line.replace("](#", "](figures/claims/README.md#") for line in decided]


def test_links_of_the_pages_lead_somewhere() -> None:
    for page in (paths.FIGURES / "README.md", paths.FIGURES / "claims" / "README.md", paths.ROOT / "README.md"):
        links = re.findall(r"\]\((?!http|#)([^)#]+)", page.read_text())
        assert links and not [link for link in links if not (page.parent / link).exists()]
