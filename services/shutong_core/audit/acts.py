"""The acts of administration that topic `access` knows, each with its words.

An act is written before it takes effect, or in one commit with it (docs/formats/audit.md).
"""

from __future__ import annotations

import re
from enum import Enum, unique

_ACTOR_CHARS_MAX = 200


@unique
class ActName(Enum):
    """Name as stored, Chinese, English."""

    LIST_ACTIVATE = ("list.activate", "清单生效", "a list came into force")
    GRANT_ADD = ("grant.add", "新增许可", "a grant was added")
    GRANT_CHANGE = ("grant.change", "变更许可", "a grant was changed")
    GRANT_REMOVE = ("grant.remove", "移除许可", "a grant was removed")
    GRANT_SUSPEND = ("grant.suspend", "暂停许可", "a grant was suspended")
    GRANT_RESUME = ("grant.resume", "恢复许可", "a grant was resumed")
    SCHEMA_ADD = ("schema.add", "登记模式", "a schema was registered")
    KEY_ISSUE = ("key.issue", "签发接口密钥", "an API key was issued")
    KEY_REVOKE = ("key.revoke", "收回接口密钥", "API keys were revoked")
    KEY_TRUST = ("key.trust", "信任公钥", "a public key was trusted")
    KEY_ROTATE = ("key.rotate", "轮换审计密钥", "the auditor's key was rotated")
    AUDIT_EXPORT = ("audit.export", "导出审计副本", "an audit copy was exported")
    AUDIT_SHEET = ("audit.sheet", "导出查询结果", "an answer of the audit was taken out as a file")
    AUDIT_PURGE = ("audit.purge", "清除过期索引", "what was past its term left the index")
    USE_RECORD = ("use.record", "登记使用记录", "a record of use was filed")
    AUDIT_CERTIFY = ("audit.certify", "出具免责凭证", "a supply certificate was given out")
    AUDIT_PROVE = ("audit.prove", "出具记录证明", "a proof of one record was given out")
    SUBJECT_REPORT = ("subject.report", "个人查询", "a person's report was made")

    def __init__(self, stored: str, zh: str, en: str) -> None:
        self.stored = stored
        self.zh = zh
        self.en = en


def local_actor(user: str, host: str) -> str:
    """Who acted from a command line: the machine's user, which is no identity of the bus."""
    clean = re.sub(r"[^\w.@-]", "_", f"{user}@{host}")
    return f"cli/{clean}"[:_ACTOR_CHARS_MAX]
