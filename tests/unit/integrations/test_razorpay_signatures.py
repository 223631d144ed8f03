"""Published signature vectors, against the adapter's verifier and the sandbox's own signer.

Sources: R1 razorpay-node test/utils/razorpay-utils.spec.js, razorpay-java UtilsTest, razorpay-go
verify_payment_test.go; R4 razorpay-python tests/test_client_utility.py; R5 razorpay-ruby test_utility.rb;
R8 razorpay-node; R11 and R12 are our own.
"""

from __future__ import annotations

import pytest

from integrations.ports import PaymentGateway, ReturnOutcome, SignatureError
from integrations.razorpay import RazorpayConfig, RazorpayGateway
from integrations.razorpay.sandbox.signing import sign_checkout, sign_webhook

CHECKOUT = {
    "R1": (
        "EnLs21M47BllR3X8PSFtjtbd",
        "order_IEIaMR65cu6nz3",
        "pay_IH4NVgf4Dreq1l",
        "0d4e745a1838664ad6c9c9902212a32d627d68e917290b0ad5f08ff4561bc50f",
    ),
    "R4": (
        "key_secret",
        "fake_order_id",
        "fake_payment_id",
        "b2335e3b0801106b84a7faff035df56ecffde06918c9ddd1f0fafbb37a51cc89",
    ),
    "R5": (
        "key_secret",
        "fake_other_id",
        "fake_payment_id",
        "965ee2de4c5c4e6f006fb0a5a1736d992e5d4d52f9fe10b98c9b97ee169ebe18",
    ),
    "R11": (
        "sbx_key_secret",
        "order_SbxOrd00000001",
        "pay_SbxPay00000001",
        "63ad4da5f8f1a2e16d7f4a1d0eb71b6f16aa5dfe0e20a962a5d6f79f9afd3020",
    ),
}

R12_BODY = (
    b'{"entity":"event","account_id":"acc_SbxSandbox0001","event":"payment.captured","contains":["payment"],'
    b'"payload":{"payment":{"entity":{"id":"pay_SbxPay00000001","entity":"payment","amount":50000,'
    b'"currency":"INR","status":"captured","order_id":"order_SbxOrd00000001","captured":true}}},'
    b'"created_at":1700000060}'
)
WEBHOOK = {
    "R8": (
        "123456",
        b'{"a":1,"b":2,"c":{"d":3}}',
        "2fe04e22977002e6c7cb553adab8b460cb9e2a4970d5953cb27a8472752e3bbc",
    ),
    "R12": (
        "whsec_sandbox",
        R12_BODY,
        "e7653d97b77bbccdece69c5967a298b55ec7079fa2b74a774a724bae10608806",
    ),
}

checkout_vectors = pytest.mark.parametrize(
    ("secret", "order_id", "payment_id", "signature"), CHECKOUT.values(), ids=CHECKOUT
)
webhook_vectors = pytest.mark.parametrize(("secret", "body", "signature"), WEBHOOK.values(), ids=WEBHOOK)


def gateway(*, key_secret: str = CHECKOUT["R11"][0], webhook_secrets: tuple[str, ...] = ("w",)) -> RazorpayGateway:
    return RazorpayGateway(
        RazorpayConfig(
            key_id="rzp_test_key",
            key_secret=key_secret,
            webhook_secrets=webhook_secrets,
            merchant_name="Matchday",
        )
    )


def returned(payment_id: str, signature: str, order_id: str = "order_from_the_browser") -> dict[str, str]:
    return {
        "razorpay_payment_id": payment_id,
        "razorpay_order_id": order_id,
        "razorpay_signature": signature,
    }


@checkout_vectors
def test_the_adapter_accepts_a_published_checkout_signature_for_the_stored_order(
    secret: str, order_id: str, payment_id: str, signature: str
) -> None:
    claim = gateway(key_secret=secret).verify_return(returned(payment_id, signature), gateway_order_id=order_id)
    assert (claim.outcome, claim.payment_id) == (ReturnOutcome.PAID_CLAIMED, payment_id)


@checkout_vectors
def test_the_adapter_rejects_a_published_checkout_signature_for_anything_else(
    secret: str, order_id: str, payment_id: str, signature: str
) -> None:
    honest = gateway(key_secret=secret)
    attacks = [
        (honest, returned(payment_id, signature, order_id=order_id), "order_of_somebody_else"),
        (honest, returned(payment_id + "0", signature), order_id),
        (honest, returned(payment_id, signature[:-1]), order_id),
        (honest, returned(payment_id, ""), order_id),
        (honest, returned(payment_id, "é\ud800"), order_id),
        (honest, {"razorpay_signature": signature}, order_id),
        (gateway(key_secret=secret + "x"), returned(payment_id, signature), order_id),
    ]
    for attacked, form, stored_order in attacks:
        with pytest.raises(SignatureError):
            attacked.verify_return(form, gateway_order_id=stored_order)


@checkout_vectors
def test_the_sandbox_signs_checkouts_as_published(secret: str, order_id: str, payment_id: str, signature: str) -> None:
    assert sign_checkout(secret, order_id=order_id, payment_id=payment_id) == signature


@webhook_vectors
def test_the_adapter_accepts_a_published_webhook_signature_in_any_case(
    secret: str, body: bytes, signature: str
) -> None:
    verifier = gateway(webhook_secrets=(secret,))
    verifier.verify_webhook({"X-Razorpay-Signature": signature}, body)
    verifier.verify_webhook({"x-razorpay-signature": signature.upper()}, body)


@webhook_vectors
def test_one_byte_more_or_less_breaks_a_webhook_signature(secret: str, body: bytes, signature: str) -> None:
    verifier = gateway(webhook_secrets=(secret,))
    for changed in (body + b"\n", body[:-1], body.replace(b":", b": "), b""):
        with pytest.raises(SignatureError):
            verifier.verify_webhook({"X-Razorpay-Signature": signature}, changed)


@webhook_vectors
def test_a_missing_or_foreign_webhook_signature_is_rejected(secret: str, body: bytes, signature: str) -> None:
    verifier = gateway(webhook_secrets=(secret,))
    foreign = sign_webhook("another", body)
    for headers in ({}, {"X-Razorpay-Signature": ""}, {"X-Razorpay-Signature": foreign}, {"X-Signature": signature}):
        with pytest.raises(SignatureError):
            verifier.verify_webhook(headers, body)


def test_during_a_rotation_the_old_secret_and_the_new_one_both_verify() -> None:
    rotating = gateway(webhook_secrets=("new", "old"))
    for secret in ("new", "old"):
        rotating.verify_webhook({"X-Razorpay-Signature": sign_webhook(secret, b"{}")}, b"{}")
    with pytest.raises(SignatureError):
        rotating.verify_webhook({"X-Razorpay-Signature": sign_webhook("older", b"{}")}, b"{}")


@webhook_vectors
def test_the_sandbox_signs_webhooks_as_published(secret: str, body: bytes, signature: str) -> None:
    assert sign_webhook(secret, body) == signature


def test_the_adapter_is_the_port_that_handlers_see() -> None:
    port: PaymentGateway = gateway()
    assert port.name == "razorpay"


@pytest.mark.parametrize("changes", [{"key_secret": ""}, {"webhook_secrets": ()}, {"webhook_secrets": ("a", "")}])
def test_an_empty_secret_which_anybody_could_sign_with_cannot_be_configured(changes: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="credential"):
        gateway(**changes)  # type: ignore[arg-type]
