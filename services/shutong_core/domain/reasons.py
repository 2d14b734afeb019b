"""The closed enumeration of reason codes, each with its text for people.

Every refusal of a record, every withheld verdict and every refused request names exactly one
`Reason`. The number is what audit blocks store (one byte), so a number is never reused.
"""

from __future__ import annotations

from enum import Enum, unique


@unique
class Reason(Enum):
    """One reason code: stored number, Chinese text, English text.

    1-99: refusal of a record as a whole; 100-149: withheld from one grant;
    150-199: refused request (never in an audit block, only on topic `access`).
    """

    # The record cannot be read.
    DATASET_NOT_IN_FORCE = (
        1,
        "清单中没有该数据资源或尚未生效",
        "dataset is not in the list in force",
    )
    NULL_VALUE = (2, "事件类数据的值不能为空", "an event record must have a value")
    NULL_KEY = (3, "记录缺少键", "the record has no key")
    TOO_LARGE = (4, "记录超过大小上限", "the record is larger than the limit")
    BAD_FRAMING = (
        5,
        "不是约定的报文格式（0x00 + 模式编号 + Avro）",
        "not framed as 0x00, schema id, Avro body",
    )
    UNKNOWN_SCHEMA = (
        6,
        "模式编号不属于该数据资源",
        "the schema id does not belong to this dataset",
    )
    MALFORMED = (7, "内容不能按模式解码", "the body cannot be decoded by its schema")
    NOT_CANONICAL = (8, "编码不是唯一规范形式", "the body is not in its one canonical encoding")
    WRONG_KEY = (9, "键与键信息项的值不一致", "the key does not match the key items")
    WRONG_PARTITION = (10, "记录写入了错误的分区", "the record is in the wrong partition")
    # Who may publish it.
    UNKNOWN_PUBLISHER = (20, "发布方未登记", "the publisher is not in the list")
    PUBLISHER_NOT_ALLOWED = (
        21,
        "该部门不是此数据资源的提供方或发布方",
        "this organisation may not publish this dataset",
    )
    UNKNOWN_OPERATION = (22, "操作类型无法识别", "the operation is not put, correct or delete")
    UNKNOWN_REGION = (23, "区划代码不在区划表中", "the region code is not in the division table")
    OUT_OF_JURISDICTION = (
        24,
        "记录不在发布方管辖区划内",
        "the record lies outside the publisher's jurisdiction",
    )
    SECRET = (25, "涉密数据不得上总线", "secret data is not carried")
    # Quality.
    REQUIRED_MISSING = (30, "必填信息项为空", "a required item is empty")
    BAD_ID_NUMBER = (31, "公民身份号码校验不通过", "the identity number fails its check")
    BAD_USCC = (32, "统一社会信用代码校验不通过", "the unified social credit code fails its check")
    ITEMS_DISAGREE = (33, "信息项之间的金额关系不成立", "items that must add up do not")
    BAD_EVENT_ID = (34, "事件编号格式不合要求", "the event id is empty, too long or not text")
    # Memory.
    DUPLICATE = (40, "重复提交，已处理过", "already processed under this event id")
    ID_REUSED = (41, "同一事件编号下内容不同", "other content under an event id already used")
    RULE_ERROR = (50, "规则执行出错，按拒绝处理", "a rule failed, which counts as refusal")
    # Withheld from one grant.
    REGION_OUT_OF_SCOPE = (
        100,
        "记录不在许可的区划范围内",
        "the record's region is outside the grant's scope",
    )
    CONDITION_NOT_MET = (101, "不满足许可的条件", "the grant's condition is not met")
    NOT_YET_VALID = (102, "许可尚未生效", "the grant is not valid yet")
    EXPIRED = (103, "许可已到期", "the grant has expired")
    SUSPENDED = (104, "许可已暂停", "the grant is suspended")
    MINOR_NOT_GRANTED = (
        105,
        "涉及未满十四周岁未成年人，许可未包含",
        "the person is under 14 and the grant does not cover that",
    )
    GRANT_REGION_UNKNOWN = (
        106,
        "许可所用的区划项为空或无法识别",
        "the region item the grant uses is empty or unknown",
    )
    SCHEMA_NOT_GRANTED = (
        107,
        "许可未覆盖该模式版本",
        "the grant does not cover this schema version",
    )
    CONDITION_ERROR = (
        108,
        "许可条件执行出错，按拒绝处理",
        "the condition failed, which counts as refusal",
    )
    NEGATIVE_LIST = (109, "列入负面清单", "on the negative list")
    # Refused requests.
    UNAUTHENTICATED = (150, "未提供有效的接口密钥", "no valid API key")
    NOT_YOUR_DATASET = (151, "该系统无权发布此数据资源", "this system may not publish this dataset")
    NOT_YOUR_GRANT = (152, "该系统无权读取此许可", "this system may not read this grant")
    LIST_LEASE_LOST = (
        153,
        "暂不能确认清单为最新，停止输出",
        "cannot confirm the newest list, nothing is let out",
    )
    BAD_CURSOR = (154, "游标无法识别", "the cursor cannot be read")
    CURSOR_GONE = (155, "游标所指数据已过保存期", "the cursor points before what is still kept")
    BAD_REQUEST = (156, "请求格式错误", "the request cannot be read")
    UNKNOWN_ITEM = (157, "目录中没有该信息项", "the catalogue has no such item")
    BAD_VALUE = (158, "信息项的值类型或格式错误", "the item's value has the wrong type or form")
    KAFKA_UNAVAILABLE = (
        159,
        "消息系统暂不可用，结果未知，请用同一编号重试",
        "Kafka is away: outcome unknown, retry with the same ids",
    )
    TOO_MANY = (160, "请求过多，请稍后再试", "too many requests, try again later")
    NOT_FOUND = (161, "没有该资源", "no such resource")
    CHAIN_MISMATCH = (
        162,
        "投放链与记录不一致，未签收",
        "the delivery chain does not match the records, nothing was signed",
    )

    NOT_YOUR_AUDIT = (
        163,
        "该系统只能查询本部门的审计",
        "this system may ask the audit about its own organisation only",
    )

    def __init__(self, number: int, zh: str, en: str) -> None:
        self.number = number
        self.zh = zh
        self.en = en

    @classmethod
    def of(cls, number: int) -> Reason:
        """The reason stored under `number`; ValueError if there is none."""
        try:
            return _BY_NUMBER[number]
        except KeyError:
            raise ValueError(f"no reason has number {number}") from None


_BY_NUMBER = {reason.number: reason for reason in Reason}

#: Implied by absence from a grant's bitmap, so never written into a block (docs/formats/audit.md).
IMPLIED = frozenset({Reason.REGION_OUT_OF_SCOPE, Reason.CONDITION_NOT_MET})
