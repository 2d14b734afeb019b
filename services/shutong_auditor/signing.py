"""Signs and publishes one tree's checkpoint: read back, prove, sign, cosign, store, publish.

Every step may be the last: what was not stored is made again with the same bytes, since Ed25519
and the tree leave no choice.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import structlog

from shutong_auditor.cosigning import WitnessClient, WitnessDisagrees
from shutong_auditor.failpoint import Failpoint
from shutong_auditor.growth import TreeGrowth
from shutong_core.audit.checkpoint import Checkpoint, parse_checkpoint
from shutong_core.audit.merkle import check_consistency, consistency_proof
from shutong_core.audit.signednote import Signature, SignedNote, with_signatures
from shutong_core.domain.errors import Rejected, Retryable
from shutong_core.runtime.ackedwriter import AckedWriter
from shutong_core.runtime.keyring import Signer
from shutong_core.wire.batches import KafkaRecord, RecordBatch

_log = structlog.stdlib.get_logger(__name__)


class CheckpointSigner:
    """What signs the trees of this bus."""

    def __init__(
        self,
        signer: Signer,
        witnesses: Sequence[WitnessClient],
        witnesses_needed: int,
        writer: AckedWriter,
        topic: str,
        failpoint: Failpoint,
    ) -> None:
        self._signer = signer
        self._witnesses = witnesses
        self._needed = witnesses_needed
        self._writer = writer
        self._topic = topic
        self._failpoint = failpoint

    async def publish(self, growth: TreeGrowth) -> Checkpoint:
        """Sign all leaves the tree has now; nothing may be added meanwhile.

        Raises Halted if what is on disk or what a witness knows is not this tree, Retryable if
        Kafka or a witness did not answer.
        """
        checkpoint = await asyncio.to_thread(self._recomputed, growth)
        self._failpoint("recomputed")
        key = growth.tree.key(self._signer.public)
        note = checkpoint.sign(key, self._signer.sign)
        self._failpoint("signed")
        note = await self._cosigned(growth, checkpoint, note)
        self._failpoint("cosigned")
        growth.store.store_checkpoint(note, growth.next_offset)
        self._failpoint("stored")
        record = KafkaRecord(growth.tree.origin.encode(), note.encode())
        await self._writer.write([RecordBatch(self._topic, 0, [record])])
        self._failpoint("published")
        return checkpoint

    def _recomputed(self, growth: TreeGrowth) -> Checkpoint:
        """The checkpoint of what is on disk, which must begin with the last one signed."""
        store = growth.store
        try:
            store.flush()
            root = store.recomputed_root()
            if root != store.root():
                raise Rejected("the files are another tree than the records")
            before = store.checkpoint()
            if before is not None:
                old = parse_checkpoint(before.text)
                proof = consistency_proof(old.size, store.size, store.node(store.size))
                check_consistency(old.size, store.size, old.root, root, proof)
        except Rejected as error:
            raise growth.halt(
                f"磁盘上的树与记录不符：{error}",
                f"the tree on disk is not that of the records: {error}",
            ) from error
        return Checkpoint(growth.tree.origin, store.size, root)

    async def _cosigned(
        self, growth: TreeGrowth, checkpoint: Checkpoint, note: SignedNote
    ) -> SignedNote:
        def prove(old: int) -> list[bytes]:
            return consistency_proof(old, checkpoint.size, growth.store.node(checkpoint.size))

        answers = await asyncio.gather(
            *(each.cosign(checkpoint, note, prove) for each in self._witnesses),
            return_exceptions=True,
        )
        found: list[Signature] = []
        for answer in answers:
            if isinstance(answer, Signature):
                found.append(answer)
            elif isinstance(answer, WitnessDisagrees):
                raise growth.halt(f"见证人不同意：{answer}", f"a witness disagrees: {answer}")
            elif isinstance(answer, Retryable):
                _log.warning("no cosignature", name=growth.name, error=str(answer))
            elif answer is not None:
                raise answer
        if len(found) < self._needed:
            raise Retryable(f"{len(found)} of {self._needed} witnesses cosigned {growth.name}")
        return with_signatures(note, found)
