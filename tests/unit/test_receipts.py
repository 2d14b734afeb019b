"""Receipts: one form, a signature that holds for exactly that form."""

from __future__ import annotations

import json

import pytest
import rfc8785
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from pydantic import ValidationError

from shutong_core.audit.receipts import (
    RECEIPT_BYTES_MAX,
    DeliveryReceipt,
    encode_receipt,
    parse_receipt,
)
from shutong_core.domain.errors import Rejected

KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
DELIVERY = DeliveryReceipt(
    cluster="bus-330000",
    grant="deaths-city",
    lane=3,
    first=1,
    last=40,
    chain="ab" * 32,
    agency="11330100002489514D/social-1",
    at_ms=1_780_000_000_000,
)


def _verify(key_id: str, message: bytes, signature: bytes) -> bool:
    try:
        KEY.public_key().verify(signature, message)
    except InvalidSignature:
        return False
    return key_id == "agency-1"


def _signed(receipt) -> bytes:
    return encode_receipt(receipt, "agency-1", KEY.sign)


def test_a_signed_receipt_comes_back():
    assert parse_receipt(_signed(DELIVERY), _verify) == DELIVERY


def test_a_territory_receipt_names_its_territory():
    receipt = DELIVERY.model_copy(update={"territory": "330106000000"})
    assert json.loads(_signed(receipt))["body"]["territory"] == "330106000000"
    assert "territory" not in json.loads(_signed(DELIVERY))["body"]
    assert json.loads(_signed(DELIVERY))["body"]["from"] == 1


def test_every_changed_field_breaks_the_signature():
    whole = json.loads(_signed(DELIVERY))
    for name, value in whole["body"].items():
        changed = dict(whole["body"])
        changed[name] = (
            value + 1 if isinstance(value, int) else value[:-1] + ("1" if value[-1] == "0" else "0")
        )
        with pytest.raises(Rejected):
            parse_receipt(rfc8785.dumps(whole | {"body": changed}), _verify)


def test_an_unknown_key_is_rejected():
    with pytest.raises(Rejected, match="signature"):
        parse_receipt(encode_receipt(DELIVERY, "somebody", KEY.sign), _verify)


@pytest.mark.parametrize(
    "change",
    [
        lambda data: b" " + data,
        lambda data: data + b"\n",
        lambda data: data[:-1],
        lambda data: b"[]",
        lambda data: b"\xff\xfe",
        lambda data: b"[" * 10_000,
        lambda data: b"x" * (RECEIPT_BYTES_MAX + 1),
        lambda data: data.replace(b'"key"', b'"kez"'),
        lambda data: data.replace(b'"kind":"delivery"', b'"kind":"delivers"'),
        lambda data: data.replace(b'"kind":"delivery"', b'"kind":["delivery"]'),
        lambda data: data.replace(b'"lane":3', b'"lane":"3"'),
        lambda data: data.replace(b'"lane":3', b'"lane":3,"lanf":3'),
        lambda data: data.replace(b'"signature":"', b'"signature":"A'),
    ],
)
def test_anything_but_the_one_form_is_rejected(change):
    with pytest.raises(Rejected):
        parse_receipt(change(_signed(DELIVERY)), _verify)


def test_spare_bits_of_the_signature_do_not_make_a_second_form():
    whole = json.loads(_signed(DELIVERY))
    last = whole["signature"][-3]
    other = {"A": "B", "Q": "R", "g": "h", "w": "x"}[last]
    whole["signature"] = whole["signature"][:-3] + other + "=="
    with pytest.raises(Rejected, match="one form"):
        parse_receipt(rfc8785.dumps(whole), _verify)


@pytest.mark.parametrize(
    "changes",
    [
        {"first": 0},
        {"first": 5, "last": 4},
        {"chain": "AB" * 32},
        {"lane": -1},
        {"lane": 2**53},
        {"territory": "3301"},
        {"grant": "Bad"},
    ],
)
def test_a_delivery_receipt_names_a_real_range(changes):
    with pytest.raises(ValidationError):
        DeliveryReceipt(**(DELIVERY.model_dump() | changes))
