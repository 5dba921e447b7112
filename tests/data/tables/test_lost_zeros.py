import pandas as pd
import pytest

import medmcl
from medmcl.core.errors import CohortError
from medmcl.data.tables.lost_zeros import refuse_lost_zeros

PEOPLE = [f"{number:03d}" for number in range(95, 105)]
MORE = {
    "join": "join: [{table: more.csv, on: id}]",
    "dates": "dates: {late: {table: more.csv, date: when}}",
    "records": "",
    "events": "",
}


@pytest.mark.parametrize("way", MORE)
@pytest.mark.parametrize("as_text", [True, False])
def test_people_whose_ids_lost_zeros_in_another_table_are_not_without_data(way, as_text, tmp_path):
    """Half had no laboratory values, or no event, and nothing said why."""
    people = pd.DataFrame({"id": PEOPLE, "split": ["train"] * 8 + ["tuning", "held_out"], "age": 5})
    people.to_csv(tmp_path / "people.csv", index=False)
    more = pd.DataFrame({"id": PEOPLE, "when": "2020-01-01", "code": "A", "crea": 1.5})
    more.assign(id=more["id"] if as_text else more["id"].astype(int)).to_csv(
        tmp_path / "more.csv", index=False
    )
    second = {
        "records": "lab: {reader: table, table: more.csv, columns: [crea]}",
        "events": "lab: {reader: events, table: more.csv, date: when}",
    }.get(way, "")
    (tmp_path / "cohort.yaml").write_text(
        f"""schema: medmcl/cohort@1
subjects: {{table: people.csv, id: id, split: split, {MORE[way]}}}
modalities:
  base: {{reader: table, columns: [age]}}
  {second}
"""
    )
    if as_text:
        assert not medmcl.open_cohort(tmp_path).findings
        return
    with pytest.raises(CohortError, match="5 ids of 10 agree with the cohort's but for the zeros"):
        medmcl.open_cohort(tmp_path)


def test_strangers_and_keys_of_several_columns():
    refuse_lost_zeros(["12", "7", None], ["012", "12", None], "")  # 7 is of nobody, 12 is 12
    with pytest.raises(CohortError, match="1 id of 2 agree"):
        refuse_lost_zeros(["a\x1f7", "b\x1f7"], ["a\x1f007", "b\x1f7"], "")
