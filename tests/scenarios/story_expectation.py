"""What must come of the sample story, worked out a second time without a line of the product.

    python story_expectation.py LIST.yaml DIVISIONS.tsv.xz SCHEMA_DIRECTORY INPUT_DIRECTORY

Prints the expected counts as JSON. It shares nothing with the product but the files: its own
reader of the division table, its own rules for regions, conditions, validity, ages, duplicates,
directions. Where both agree, two readings of the law agree. Standard library and PyYAML only.
"""

from __future__ import annotations

import json
import lzma
import re
import sys
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path

import yaml

LEVELS = ("nation", "province", "city", "county", "town")
TOWNS = ("441424100000", "442000118000")
EVERYONE, GUANGDONG = "divisions-everyone", "divisions-guangdong"
HTTP_RECORD_BYTES_MAX = 900 * 1024
#: Verdicts must be the same on any day in between, so that the counts do not age.
DAYS = (date(2026, 6, 1), date(2029, 12, 31))


class Divisions:
    """The division table: level and parent by code, retired codes with their one successor."""

    def __init__(self, path: Path) -> None:
        self.level: dict[str, int] = {}
        self.parent: dict[str, str] = {}
        self.renamed: dict[str, str] = {}
        for line in lzma.decompress(path.read_bytes()).decode().splitlines():
            cells = line.split("\t")
            if line[0] == "!":
                successors = cells[3].split(",")
                if len(successors) == 1:
                    self.renamed[cells[0][1:]] = successors[0]
            elif line[0] not in "#=":
                self.level[cells[0]] = int(cells[1])
                self.parent[cells[0]] = cells[3]

    def full(self, text: str | None) -> str | None:
        """The 12-digit code for 6, 9 or 12 digits; None for what is not in the table."""
        if text is None or len(text) not in (6, 9, 12):
            return None
        code = text + "0" * (12 - len(text))
        code = self.renamed.get(code, code)
        return code if code in self.level else None

    def around(self, code: str) -> list[str]:
        """The region, then every region it lies in."""
        chain = []
        while code:
            chain.append(code)
            code = self.parent[code]
        return chain

    def lies_in(self, inner: str, outer: str) -> bool:
        return outer in self.around(inner)

    def name_of_level(self, code: str) -> str:
        return LEVELS[self.level[code]]


@dataclass
class Story:
    """All that was read."""

    divisions: Divisions
    organisations: dict[str, dict]
    systems: dict[str, dict]
    datasets: dict[str, dict]
    grants: dict[str, list[dict]]
    schemas: dict[str, dict[str, dict]]
    directory: Path
    plan: dict
    published: Counter = field(default_factory=Counter)
    by_publisher: Counter = field(default_factory=Counter)
    refused: Counter = field(default_factory=Counter)
    verdicts: Counter = field(default_factory=Counter)
    flows: Counter = field(default_factory=Counter)
    territories: dict[str, Counter] = field(default_factory=lambda: defaultdict(Counter))
    arrivals: list[dict] = field(default_factory=list)
    not_arrived: list[str] = field(default_factory=list)
    seen: dict[tuple[str, str, str], dict] = field(default_factory=dict)


def read(list_path: Path, table: Path, schemas: Path, directory: Path) -> Story:
    rows = yaml.safe_load(list_path.read_text(encoding="utf-8"))
    grants: dict[str, list[dict]] = defaultdict(list)
    for grant in rows["grants"]:
        grants[grant["dataset"]].append(grant)
    fields = {}
    for dataset in rows["datasets"]:
        schema = json.loads((schemas / Path(dataset["schema_files"][-1]).name).read_text("utf-8"))
        fields[dataset["id"]] = {f["name"]: f["type"] for f in schema["fields"]}
    return Story(
        divisions=Divisions(table),
        organisations={row["id"]: row for row in rows["organisations"]},
        systems={row["id"]: row for row in rows["systems"]},
        datasets={row["id"]: row for row in rows["datasets"]},
        grants=grants,
        schemas=fields,
        directory=directory,
        plan=json.loads((directory / "plan.json").read_text(encoding="utf-8")),
    )


# --- may it enter? ---


def id_number_holds(text: str) -> bool:
    if not re.fullmatch(r"\d{17}[\dX]", text):
        return False
    try:
        datetime.strptime(text[6:14], "%Y%m%d")  # noqa: DTZ007 - a day, not a moment
    except ValueError:
        return False
    # ISO 7064 MOD 11-2: weighted by powers of two, the whole must leave 1
    digits = [10 if c == "X" else int(c) for c in text]
    return sum(d * 2 ** (17 - i) for i, d in enumerate(digits)) % 11 == 1


def uscc_holds(text: str) -> bool:
    alphabet = "0123456789ABCDEFGHJKLMNPQRTUWXY"
    if len(text) != 18 or any(c not in alphabet for c in text):
        return False
    return (
        sum(alphabet.index(c) * 3**i for i, c in enumerate(text[:17])) % 31
        == (31 - alphabet.index(text[17])) % 31
    )


def value_fits(kind: object, value: object) -> bool:
    """Whether a JSON value has the form of the Avro type."""
    if isinstance(kind, list):
        return value is None or value_fits(kind[1], value)
    if isinstance(kind, dict):
        if kind["type"] == "enum":
            return value in kind["symbols"]
        if not isinstance(value, str):
            return False
        pattern = {
            "date": r"\d{4}-\d\d-\d\d",
            "decimal": r"-?\d{1,10}(\.\d{1,2})?",
            "timestamp-millis": r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)",
        }[kind["logicalType"]]
        return re.fullmatch(pattern, value) is not None
    return type(value) is {"string": str, "int": int}[kind]


def refused_at_the_door(story: Story, dataset: str, system: str, line: bytes) -> str | None:
    """The reason the producer service must give; None if it must accept."""
    entry, fields = story.datasets[dataset], story.schemas[dataset]
    if story.systems[system]["organisation"] not in allowed_regions(story, dataset):
        return "NOT_YOUR_DATASET"
    if len(line) > HTTP_RECORD_BYTES_MAX:
        return "TOO_LARGE"
    data = json.loads(line)["data"]
    if set(data) - set(fields):
        return "UNKNOWN_ITEM"
    for name, kind in fields.items():
        if name not in data and not isinstance(kind, list):
            return "REQUIRED_MISSING"
        if not value_fits(kind, data.get(name)):
            return "BAD_VALUE"
    for rule in entry["quality"]:
        reason = broken(rule, data)
        if reason:
            return reason
    return None


def broken(rule: dict, data: dict) -> str | None:
    """The reason if a rule of quality does not hold."""
    if rule["rule"] == "sum":
        parts = sum(Decimal(data[name]) for name in rule["parts"])
        return None if parts == Decimal(data[rule["total"]]) else "ITEMS_DISAGREE"
    values = [data.get(name) for name in rule["items"]]
    if rule["rule"] == "required":
        return None if all(values) else "REQUIRED_MISSING"
    holds, reason = {
        "id_number": (id_number_holds, "BAD_ID_NUMBER"),
        "uscc": (uscc_holds, "BAD_USCC"),
    }[rule["rule"]]
    return None if all(holds(v) for v in values if v is not None) else reason


def raw_refused(value: bytes) -> str:
    """The reason for a raw record of which no schema can be known."""
    if value[0] != 0:
        return "BAD_FRAMING"
    if int.from_bytes(value[1:5], "big") == 0x7FFFFFFF:
        return "UNKNOWN_SCHEMA"
    raise SystemExit("a raw record that cannot be judged without the registry")


def allowed_regions(story: Story, dataset: str) -> dict[str, list[str]]:
    """Regions an organisation may write for, by USCC."""
    regions = defaultdict(list)
    for publisher in story.datasets[dataset]["publishers"]:
        regions[publisher["organisation"]].append(publisher["region"])
    return regions


def refused_by_the_lane(story: Story, dataset: str, system: str, event: dict) -> str | None:
    entry, data = story.datasets[dataset], event["data"]
    region = story.divisions.full(data[entry["regions"][entry["provider_role"]]])
    if region is None:
        return "UNKNOWN_REGION"
    organisation = story.systems[system]["organisation"]
    regions = allowed_regions(story, dataset)[organisation]
    if not any(story.divisions.lies_in(region, outer) for outer in regions):
        return "OUT_OF_JURISDICTION"
    identity = (dataset, system, event["id"])
    before = story.seen.setdefault(identity, data)
    if before is not data:
        return "DUPLICATE" if before == data else "ID_REUSED"
    return None


# --- who gets it? ---


def the_same(values: list) -> object:
    if any(value != values[0] for value in values):
        raise SystemExit(f"not the same on all days of {DAYS}: the story's counts would age")
    return values[0]


def under_14(story: Story, dataset: str, data: dict) -> bool:
    def birth(text: str) -> date:
        return date.fromisoformat(
            text if "-" in text else f"{text[6:10]}-{text[10:12]}-{text[12:14]}"
        )

    rows = story.datasets[dataset]
    persons = rows.get("subjects", [])
    telling = set(rows.get("birth_items", []))
    for rule in rows.get("quality", []):
        if rule["rule"] == "id_number":
            telling |= {item for item in rule["items"] if item in persons}
    births = [birth(data[item]) for item in telling if data.get(item) is not None]
    if telling and not births:  # nothing tells the age: doubtful if a person is named
        return any(data.get(item) is not None for item in persons)
    return any(
        the_same([(d.year - b.year - ((d.month, d.day) < (b.month, b.day))) < 14 for d in DAYS])
        for b in births
    )


def condition_holds(condition: str, data: dict) -> bool:
    """`a == "X" && b >= 2` and the like; what is unknown does not hold."""
    for part in condition.split("&&"):
        name, operator, literal = re.fullmatch(r'\s*(\w+) (==|>=) ("\w+"|\d+)\s*', part).groups()
        value = data.get(name)
        if value is None:
            return False
        if operator == "==" and value != json.loads(literal):
            return False
        if operator == ">=" and value < json.loads(literal):
            return False
    return True


def verdict(story: Story, grant: dict, data: dict, minor: bool) -> str:
    """`placed`, or the reason for withholding."""
    start, end = (datetime.fromisoformat(grant[k]).date() for k in ("valid_from", "valid_until"))
    if the_same([day <= start for day in DAYS]):
        return "NOT_YET_VALID"
    if the_same([day >= end for day in DAYS]):
        return "EXPIRED"
    if "suspended" in grant:
        return "SUSPENDED"
    role = story.datasets[grant["dataset"]]["regions"][grant["scope"]["role"]]
    region = story.divisions.full(data.get(role))
    if region is None:
        return "GRANT_REGION_UNKNOWN"
    if not in_scope(story, grant, region):
        return "REGION_OUT_OF_SCOPE"
    if "condition" in grant and not condition_holds(grant["condition"], data):
        return "CONDITION_NOT_MET"
    if minor and not grant.get("minors", False):
        return "MINOR_NOT_GRANTED"
    return "placed"


def in_scope(story: Story, grant: dict, region: str) -> bool:
    if "requester_class" in grant:
        return territory(story, grant, region) is not None
    return any(story.divisions.lies_in(region, outer) for outer in grant["scope"]["regions"])


def territory(story: Story, grant: dict, region: str) -> str | None:
    """The member of the class whose own territory the region lies in."""
    wanted = grant["requester_class"]
    for code in story.divisions.around(region):
        if story.divisions.name_of_level(code) == wanted["level"]:
            return code if story.divisions.lies_in(code, wanted["within"]) else None
    return None


def direction(story: Story, grant: dict, giver: dict, receiver: str, line: str | None) -> str:
    """First match wins; `receiver` is the receiving government's region."""
    home, lies_in = giver["region"], story.divisions.lies_in
    if home == receiver:
        return "横向"
    if lies_in(home, receiver):
        return "上行" if line == giver["line"] else "斜向"
    if lies_in(receiver, home):
        # every record that gets here lies in the grant's scope, which lies in the receiver's region
        return "下行回流" if grant.get("return_flow") else "下行共享"
    return "跨区域"


def decide(story: Story, dataset: str, system: str, event: dict) -> None:
    """Count the verdict of each grant."""
    data = event["data"]
    minor = under_14(story, dataset, data)
    resident = story.plan["resident"]["id_number"]
    about_resident = resident in (data.get("id_number"), data.get("certno"))
    for grant in story.grants[dataset]:
        found = verdict(story, grant, data, minor)
        story.verdicts[grant["id"], found] += 1
        publisher = story.systems[system]["organisation"]
        giver = story.organisations[
            story.datasets[dataset]["provider"] if grant.get("return_flow") else publisher
        ]
        receiver: str | None
        if "requester" in grant:
            taker = story.organisations[grant["requester"]]
            receiver, line, name = taker["region"], taker["line"], taker["name"]
            to_level = story.divisions.name_of_level(receiver)
        else:
            role = story.datasets[dataset]["regions"][grant["scope"]["role"]]
            region = story.divisions.full(data.get(role))
            receiver = territory(story, grant, region) if region else None
            line, name, to_level = None, receiver, grant["requester_class"]["level"]
        way = direction(story, grant, giver, receiver, line) if receiver else None
        flow = (
            dataset,
            grant["id"],
            giver["id"],
            story.divisions.name_of_level(giver["region"]),
            to_level,
            way,
            found,
        )
        story.flows[flow] += 1
        if found == "placed" and "requester_class" in grant:
            story.territories[grant["id"]][receiver] += 1
        if about_resident and found == "placed":
            story.arrivals.append(
                {"dataset": dataset, "grant": grant["id"], "to": name, "direction": way}
            )
        elif about_resident:
            story.not_arrived.append(grant["id"])


def play(story: Story) -> None:
    """All inputs in the order in which they are published, then the bad records."""
    for entry in story.plan["inputs"]:
        dataset, system = entry["dataset"], entry["system"]
        for line in (story.directory / entry["path"]).read_bytes().splitlines(keepends=True):
            door, reason = one(story, dataset, system, line)
            if reason:
                raise SystemExit(f"a good record is refused: {door} {reason} in {entry['path']}")
    for case in story.plan["bad"]:
        raw = (story.directory / case["path"]).read_bytes()
        ndjson = case["path"].endswith(".ndjson")
        for body in raw.splitlines(keepends=True) if ndjson else [raw]:
            found = one(story, case["dataset"], case["system"], body, ndjson=ndjson)
            if found != (case["door"], case["reason"]):
                raise SystemExit(f"case {case['name']}: the plan says otherwise than {found}")


def one(
    story: Story, dataset: str, system: str, body: bytes, *, ndjson: bool = True
) -> tuple[str, str | None]:
    story.published[dataset] += 1
    story.by_publisher[dataset, system] += 1
    reason = refused_at_the_door(story, dataset, system, body) if ndjson else raw_refused(body)
    door = "http"
    if reason is None:
        event = json.loads(body)
        door, reason = "lane", refused_by_the_lane(story, dataset, system, event)
        if reason is None:
            decide(story, dataset, system, event)
    if reason:
        story.refused[dataset, door, reason] += 1
    return door, reason


# --- the report ---


def per_dataset(story: Story) -> dict:
    result = {}
    for dataset in story.datasets:
        refused: dict[str, dict[str, int]] = {"http": {}, "lane": {}}
        for (of, door, reason), count in sorted(story.refused.items()):
            if of == dataset:
                refused[door][reason] = count
        at_door, in_lane = (sum(refused[door].values()) for door in ("http", "lane"))
        result[dataset] = {
            "published": story.published[dataset],
            "by_system": {s: n for (d, s), n in story.by_publisher.items() if d == dataset},
            "refused": refused,
            "reached_inbound": story.published[dataset] - at_door,
            "decided": story.published[dataset] - at_door - in_lane,
        }
    return result


def per_grant(story: Story) -> dict:
    result = {}
    for grants in story.grants.values():
        for grant in grants:
            found = {v: n for (g, v), n in sorted(story.verdicts.items()) if g == grant["id"]}
            placed = found.pop("placed", 0)
            result[grant["id"]] = {"placed": placed, "withheld": found}
    return result


def per_territory(story: Story) -> dict:
    return {
        grant: {
            **{town: counts[town] for town in TOWNS},
            "territories_with_records": len(counts),
            "placed": sum(counts.values()),
        }
        for grant, counts in story.territories.items()
    }


def level_matrix(story: Story) -> list[dict]:
    cells: Counter = Counter()
    for (_, _, _, giver, taker, way, found), count in story.flows.items():
        if found == "placed":
            cells[giver, taker, way] += count
    order = {level: i for i, level in enumerate(LEVELS)}
    return [
        {"from": giver, "to": taker, "direction": way, "placed": count}
        for (giver, taker, way), count in sorted(
            cells.items(), key=lambda cell: (order[cell[0][0]], order[cell[0][1]], cell[0][2])
        )
    ]


def facts(story: Story) -> dict:
    def placed(grant: str) -> int:
        return story.verdicts[grant, "placed"]

    return {
        "step_1": {
            "everyone": placed(EVERYONE),
            "guangdong": placed(GUANGDONG),
            "meizhou": placed("divisions-meizhou"),
            "zhongshan": placed("divisions-zhongshan"),
        },
        "step_2": {
            "meizhou_medical_aid": placed("allowance-meizhou-medical-aid"),
            "xingning_sees_the_resident": "allowance-xingning-medical-aid" not in story.not_arrived,
        },
        "step_3": {
            "meizhou_settlements": placed("settlement-meizhou"),
            "certificates_to_bring": 0,
        },
        "step_4": {
            "arrivals_of_the_residents_certificate": sum(
                a["dataset"] == "death-certificate" for a in story.arrivals
            )
        },
        "step_5": {
            grant: {town: story.territories[grant][town] for town in TOWNS}
            for grant in story.territories
        },
        "step_6": {
            "bad_records": sum(story.refused.values()),
            "expired": story.verdicts["allowance-meizhou-education-2023", "EXPIRED"],
            "suspended": story.verdicts["settlement-maoming", "SUSPENDED"],
        },
    }


def report(story: Story) -> dict:
    names = ("dataset", "grant", "provider", "from", "to", "direction", "verdict")
    return {
        "datasets": per_dataset(story),
        "grants": per_grant(story),
        "territories": per_territory(story),
        "level_matrix": level_matrix(story),
        "resident": {"arrivals": story.arrivals},
        "facts": facts(story),
        "flows": [
            {**dict(zip(names, flow, strict=True)), "count": count}
            for flow, count in sorted(
                story.flows.items(), key=lambda item: tuple(str(part) for part in item[0])
            )
        ],
    }


def main() -> None:
    if len(sys.argv) != 5:
        raise SystemExit(__doc__)
    story = read(*(Path(argument) for argument in sys.argv[1:]))
    play(story)
    json.dump(report(story), sys.stdout, ensure_ascii=False, indent=1)
    sys.stdout.write("\n")


if __name__ == "__main__":
    main()
