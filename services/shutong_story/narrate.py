"""The story told while it happens: one line of Chinese and one of English per event.

What a receiver does with a death certificate is always shown as 待核 (to be checked): a shared
record is a lead, and the receiving department decides by its own law.
"""

from __future__ import annotations

from collections.abc import Callable

from shutong_core.domain.reasons import Reason
from shutong_story.plan import InputFile, Plan, Reader
from shutong_story.progress import (
    BadSent,
    Progress,
    ReaderRefused,
    ResidentArrived,
    ResidentSent,
    StepBegins,
)

STEPS = {
    1: (
        "统计用区划代码逐级下行：国 → 省、市，全国 41,352 行",
        "the division table goes down: nation → province and cities, 41,352 rows",
    ),
    2: (
        "最低生活保障：五华县审核确认，市医保局、省民政厅即得，金额不给医保",
        "minimum living allowance: Wuhua approves, city insurer (no amount) and province get it",
    ),
    3: (
        "异地就医结算：广州就医，梅州参保，数据跑路，群众免带证明",
        "care in Guangzhou, insured in Meizhou: the data travel, certificates to bring: 0",
    ),
    4: (
        "居民死亡医学证明：一次签发，七处同时收到，全部作为待核线索",
        "certificate of death: issued once, seven arrivals, each a lead to be checked",
    ),
    6: (
        "坏数据：每一条拒绝都说明理由",
        "bad records: each refusal gives its reason",
    ),
}
RETURN_FLOW = (
    "数据回流：水寨镇、小榄镇只收到本辖区的记录",
    "return flow: the towns get their own residents' records, nothing else",
)
#: What the receiver of each grant looks into; never a fact that the record alone establishes.
CHECKS = {
    "death-wuhua-police": ("户口注销", "household registration"),
    "death-wuhua-civil": ("低保待遇", "minimum living allowance"),
    "death-meizhou-labour": ("养老金领取资格", "pension"),
    "death-meizhou-insurance": ("医保参保状态", "medical insurance"),
    "death-towns": ("惠民事项", "local services"),
    "death-province-health": ("死因监测", "cause-of-death statistics of the province"),
    "death-nation-health": ("死因监测", "cause-of-death statistics of the nation"),
}


def _texts(reason: str) -> tuple[str, str]:
    """A reason in Chinese and English; an unknown one as it came."""
    known = Reason.__members__.get(reason)
    return (known.zh, known.en) if known else (reason, reason)


class Narrator:
    """Turns progress into lines; `say` gets (Chinese, English)."""

    def __init__(self, plan: Plan, say: Callable[[str, str], None]) -> None:
        self._plan = plan
        self._say = say
        self._sent: dict[str, float] = {}
        self._return_flow_told = False

    def tell(self, event: Progress) -> None:
        """Say what there is to say of `event`; counts of batches and pages are left to tables."""
        match event:
            case StepBegins(step):
                zh, en = STEPS[step]
                self._say(f"第 {step} 步 {zh}", f"step {step}: {en}")
            case ResidentSent(entry, at):
                self._sent.setdefault(entry.dataset, at)
                self._say_sent(entry)
            case ResidentArrived(reader, operation, items, at):
                self._say_arrived(reader, operation, items, at)
            case BadSent():
                self._say_bad(event)
            case ReaderRefused(reader, _, reason):
                zh, en = _texts(reason)
                self._say(
                    f"  {reader.name} 取不到 {reader.grant}：{zh}",
                    f"  nothing is let out under {reader.grant}: {en}",
                )
            case _:
                pass

    def _say_sent(self, entry: InputFile) -> None:
        name = self._plan.resident["name"]
        self._say(
            f"  {entry.system} 发布 {entry.dataset}，其中有 {name}",
            f"  {entry.system} publishes to {entry.dataset}; the resident is among them",
        )

    def _say_arrived(
        self, reader: Reader, operation: str, items: tuple[str, ...], at: float
    ) -> None:
        if reader.territory is not None and not self._return_flow_told:
            self._return_flow_told = True
            self._say(f"第 5 步 {RETURN_FLOW[0]}", f"step 5: {RETURN_FLOW[1]}")
        sent = self._sent.get(reader.dataset)
        after = "" if sent is None else f" +{max(0.0, at - sent) * 1000:.0f} ms"
        zh = f"  {reader.name} 收到{after}，{len(items)} 项（{operation}）"
        en = f"  arrived under {reader.grant}{after}, {len(items)} items ({operation})"
        if reader.grant in CHECKS:
            zh += f"：{CHECKS[reader.grant][0]}待核"
            en += f": {CHECKS[reader.grant][1]} to be checked"
        self._say(zh, en)

    def _say_bad(self, event: BadSent) -> None:
        case = event.case
        door_zh, door_en = (
            ("入口拒绝", "refused at the door")
            if case.door == "http"
            else ("入口已收，由总线拒绝", "taken in, to be refused by the bus")
        )
        mark = "" if event.as_expected else "（与预期不符 UNEXPECTED）"
        self._say(
            f"  {case.name}：{door_zh}，{case.zh}{mark}",
            f"  {case.name}: {door_en}, {case.en}{mark}",
        )
