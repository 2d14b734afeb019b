"""What a system may publish, with the shape of each record: the answer of GET /v1/datasets."""

from __future__ import annotations

from typing import Any

from shutong_core.domain.catalogue import Dataset, OperationItem
from shutong_core.domain.version import ListVersion
from shutong_producer.datashape import data_shape, field_list
from shutong_producer.door import Door
from shutong_producer.gate import Bounds
from shutong_producer.intake import Intake
from shutong_producer.refused import RequestRefused
from shutong_producer.rights import Caller, may_write


def datasets_document(
    version: ListVersion, caller: Caller, intake: Intake, bounds: Bounds
) -> dict[str, Any]:
    """Datasets that `caller` may publish here, by id, and the limits of a request."""
    found = []
    for row in version.of(Dataset):
        if not isinstance(row, Dataset) or not may_write(row, caller):
            continue
        try:
            found.append(_dataset(intake.door(version, caller, row.id)))
        except RequestRefused:  # own client, secret: not through this service
            continue
    return {
        "list": version.number,
        "datasets": found,
        "limits": {
            "record_bytes_max": bounds.record_bytes_max,
            "request_bytes_max": bounds.request_bytes_max,
            "request_records_max": bounds.request_records_max,
        },
    }


def _dataset(door: Door) -> dict[str, Any]:
    dataset = door.dataset
    ref, schema = door.latest
    operation = dataset.operation
    return {
        "id": dataset.id,
        "title": dataset.title,
        "summary": dataset.summary,
        "key": list(dataset.key),
        "operation": {"item": operation.item}
        if isinstance(operation, OperationItem)
        else operation,
        "schema": {"version": ref.version, "id": ref.id, "guid": ref.guid, "avro": schema.text},
        "items": field_list(schema),
        "data": data_shape(schema),
    }
