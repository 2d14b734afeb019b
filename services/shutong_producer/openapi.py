"""What the OpenAPI document says of the routes, in Chinese and English."""

from __future__ import annotations

from typing import Any, Final

SUMMARY: Final = "部门系统向总线提交数据 Departmental systems hand records to the bus"
DESCRIPTION: Final = """\
每条记录由 `id`（事件编号）、`operation` 和 `data`（信息项）组成；
`operation` 为 put 新增/变更、correct 更正或 delete 注销。
`id` 用于去重：结果未知时请用同一编号重试；未给出时由总线生成并在结果中告知。
返回 200 表示 Kafka 已确认全部所列记录；区划、重复等由总线随后判定，被退回的见 `/v1/refusals`。

A record is `id` (event id), `operation` (put, correct, delete) and `data` (items). Ids make
repeats harmless: when the outcome is unknown, send the same ids again; a missing id is made and
told. 200 means that Kafka acknowledged every record listed as accepted; region, repeats and the
like are judged after that, refusals are at `/v1/refusals`.
"""
MODE: Final = (
    "all-or-nothing：有一条错误则全部不接收；per-record：逐条接收。"
    " all-or-nothing: one fault and nothing is taken; per-record: each on its own."
)
REASON: Final = "只列这些原因 Only these reason codes, repeated or with commas."
EXCLUDE: Final = "不列这些原因 Not these reason codes, for example DUPLICATE."
_EVENT: Final[dict[str, Any]] = {
    "type": "object",
    "properties": {
        "id": {"type": "string", "maxLength": 128},
        "operation": {"enum": ["put", "correct", "delete"]},
        "data": {"description": "GET /v1/datasets", "type": "object"},
    },
    "required": ["data"],
    "additionalProperties": False,
}
_PROBLEM: Final[dict[str, Any]] = {
    "type": "object",
    "properties": {
        "type": {"type": "string"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "reason": {"type": "string"},
        "zh": {"type": "string"},
        "en": {"type": "string"},
        "detail": {"type": "string"},
        "errors": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {
                    "index": {"type": "integer"},
                    "path": {"type": "string"},
                    "reason": {"type": "string"},
                    "zh": {"type": "string"},
                    "en": {"type": "string"},
                },
            },
        },
    },
}
_HEADER: Final = {"in": "header", "required": False, "schema": {"type": "string"}}


def _problem(text: str) -> dict[str, Any]:
    return {"description": text, "content": {"application/problem+json": {"schema": _PROBLEM}}}


_COMMON: Final[dict[int | str, dict[str, Any]]] = {
    401: _problem("没有有效的接口密钥 No valid API key"),
    403: _problem("无权 No right"),
    429: _problem("请求过多，见 Retry-After Too many requests, see Retry-After"),
    503: _problem("暂不可用，见 Retry-After Not available now, see Retry-After"),
}
_SECURITY: Final[dict[str, Any]] = {"security": [{"apiKey": []}]}

PUBLISH: Final[dict[str, Any]] = {
    "summary": "提交记录 Publish records",
    "responses": {
        200: {"description": "逐条结果与签名回执 Results by record and a signed receipt"},
        413: _problem("超过大小上限 Too large"),
        415: _problem("类型或压缩不受支持 Media type or coding not supported"),
        422: _problem("有记录有误，全部未接收 A record is wrong, nothing was taken"),
        **_COMMON,
    },
    "openapi_extra": {
        **_SECURITY,
        "parameters": [
            {"name": "X-Event-Id", "description": "application/avro: id", **_HEADER},
            {"name": "X-Operation", "description": "application/avro: operation", **_HEADER},
        ],
        "requestBody": {
            "required": True,
            "content": {
                "application/json": {
                    "schema": {
                        "oneOf": [
                            _EVENT,
                            {
                                "type": "object",
                                "properties": {"records": {"type": "array", "items": _EVENT}},
                                "required": ["records"],
                                "additionalProperties": False,
                            },
                        ]
                    }
                },
                "application/x-ndjson": {"schema": _EVENT},
                "application/avro": {"schema": {"type": "string", "format": "binary"}},
            },
        },
    },
}
REFUSALS: Final[dict[str, Any]] = {
    "summary": "接收后被退回的记录 Records refused after they were taken",
    "responses": {
        200: {
            "description": "退回原因与下一游标，不含数据值 Reasons and the next cursor, no values"
        },
        410: _problem("游标过旧，oldest 为最早可用 Cursor too old, `oldest` is the first usable"),
        **_COMMON,
    },
    "openapi_extra": _SECURITY,
}
DATASETS: Final[dict[str, Any]] = {
    "summary": "可发布的数据资源及记录结构 Datasets this system may publish, with their shape",
    "responses": {200: {"description": "数据资源清单 The datasets"}, **_COMMON},
    "openapi_extra": _SECURITY,
}
SECURITY_SCHEMES: Final[dict[str, Any]] = {"apiKey": {"type": "http", "scheme": "bearer"}}
