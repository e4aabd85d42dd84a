"""Files of sellers, weights and results."""

from __future__ import annotations

import csv
import io
import json

import numpy as np
import pytest
from accepting import verdict_of

from pyattr import Attribution
from pyattr.uses import files, lie_costs, measure_selection, price, select

SCORES = Attribution(np.array([[2.0], [1.0], [-1.0], [1.0]]))


def written(tmp_path, text, encoding="utf-8"):
    path = tmp_path / "table.csv"
    path.write_bytes(text.encode(encoding))
    return path


def test_owners_in_order_or_by_number(tmp_path):
    ordered = written(tmp_path, "seller\na\nb\na\n")
    assert files.read_owners(ordered, 3) == ["a", "b", "a"]
    numbered = written(tmp_path, "note,example,seller\n,2,c\n,0,a\n,1,b\n", "utf-8-sig")
    assert files.read_owners(numbered, 3) == ["a", "b", "c"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("seller\na\nb\n", "sellers: expected 3 rows under a header, one for each example, got 2"),
        ("owner\na\nb\nc\n", "sellers: expected one column 'seller', got 0"),
        ("", "sellers: expected 3 rows under a header, one for each example, got 0"),
        ("example,seller\n0,a\n1,\n2,c\n", "sellers: expected a 'seller' in each row"),
        ("example,seller\n0,a\n0,b\n2,c\n", "sellers: expected each example from 0 to 2 once"),
        ("example,seller\n1,a\n2,b\n3,c\n", "sellers: expected each example from 0 to 2 once"),
        ('seller\n"a\nb\nc\n', "sellers: expected a CSV file"),
        ("example,seller\n0,Doe, J\n1,Doe, K\n2,c\n", "sellers: expected rows of 2 cells .*line 2"),
        ("seller,example\na,0\nb,1\nc\n", "sellers: expected rows of 2 cells .*line 4"),
        ("seller,seller\na,b\na,b\na,b\n", "sellers: expected one column 'seller', got 2"),
        ("owner,owner\na,b\na,b\na,b\n", "sellers: expected one column 'seller', got 0"),
    ],
)
def test_wrong_tables_are_refused(tmp_path, text, message):
    with pytest.raises(ValueError, match=message):
        files.read_owners(written(tmp_path, text), 3)
    with pytest.raises(ValueError, match="sellers: expected a CSV file"):
        files.read_owners(written(tmp_path, text, "utf-16"), 3)


def test_weights(tmp_path):
    path = written(tmp_path, "target,weight\n1,2.5\n0,-1\n")
    assert files.read_weights(path, 2).tolist() == [-1.0, 2.5]
    for word in ("one", "nan", "inf"):
        with pytest.raises(ValueError, match=r"weights: expected .*numbers"):
            files.read_weights(written(tmp_path, f"weight\n1\n{word}\n"), 2)


def rows_of(text):
    return list(csv.DictReader(io.StringIO(text)))


def test_a_row_for_each_seller_and_for_each_example():
    owners = ["a", 'b,"x"', "a", "c"]
    made = price(SCORES, 8.0, owners=owners, verdict=verdict_of(SCORES, 0.1))
    sellers = rows_of(files.payments_csv(made))
    assert [row["seller"] for row in sellers] == ["a", 'b,"x"', "c"]
    assert [float(row["payment"]) for row in sellers] == pytest.approx([4.0, 2.0, 2.0])
    assert all(float(r["lower"]) < float(r["payment"]) < float(r["upper"]) for r in sellers)
    examples = rows_of(files.examples_csv(made))
    assert [row["seller"] for row in examples] == owners
    assert [float(row["payment"]) for row in examples] == pytest.approx([4.0, 2.0, 0.0, 2.0])
    assert [float(row["value"]) for row in examples] == [2.0, 1.0, -1.0, 1.0]


def test_names_of_sellers_are_no_formulas():
    owners = ['=HYPERLINK("http://x")', "@a", "-1", "+49", "\tb", "a=b"]
    scores = Attribution(np.array([3.0, -1.0, 1.0, 1.0, 1.0, 1.0]))
    made = price(scores, 6.0, owners=owners, allow_unverified=True)
    chosen = select(scores, 1, owners=owners, allow_unverified=True)
    shown = [f"'{name}" for name in owners[:5]] + ["a=b"]
    for text in (files.payments_csv(made), files.examples_csv(made)):
        assert [row["seller"] for row in rows_of(text)] == shown
    assert [row["value"] for row in rows_of(files.examples_csv(made))][1] == "-1.0"
    assert rows_of(files.selection_csv(chosen))[0]["seller"] == shown[0]
    assert files.payments_record(made)["sellers"][0]["seller"] == owners[0]


def test_json_has_everything_and_no_numbers_that_are_none(tmp_path):
    made = price(SCORES, 8.0, rule="signed", allow_unverified=True)
    record = files.payments_record(made, lie_costs(SCORES, made))
    path = tmp_path / "pay.json"
    files.write_json(path, record)
    read = json.loads(path.read_text())
    assert read == record
    assert read["schema"] == "pyattr-price/1"
    assert read["verified"] is False
    assert read["radius"] is None
    assert [row["lower"] for row in read["sellers"]] == [None] * 4
    assert len(read["lies"]) == 4
    assert len(read["lies"][0]["costs"]) == 4
    assert not list(tmp_path.glob(".*"))


def test_a_selection_and_what_was_measured_of_it():
    selection = select(SCORES, 2, verdict=verdict_of(SCORES, 0.1))
    assert rows_of(files.selection_csv(selection)) == [
        {"example": "0", "seller": "0", "value": "2.0"},
        {"example": "1", "seller": "1", "value": "1.0"},
    ]
    measured = measure_selection(lambda masks, seeds: masks.unpack() @ SCORES.scores, selection)
    record = json.loads(json.dumps(files.selection_record(selection, measured), allow_nan=False))
    assert record["examples"] == [0, 1]
    assert record["measured"]["gain"] == pytest.approx(record["predicted_gain"], abs=0.5)
    assert "measured" not in files.selection_record(selection)
