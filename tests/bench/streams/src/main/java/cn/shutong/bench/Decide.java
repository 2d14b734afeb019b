package cn.shutong.bench;

import java.io.IOException;
import java.security.GeneralSecurityException;
import java.security.MessageDigest;
import java.util.ArrayList;
import java.util.List;
import org.apache.avro.Schema;
import org.apache.avro.generic.GenericDatumReader;
import org.apache.avro.generic.GenericRecord;
import org.apache.avro.io.BinaryDecoder;
import org.apache.avro.io.DecoderFactory;
import org.apache.kafka.streams.processor.api.Processor;
import org.apache.kafka.streams.processor.api.ProcessorContext;
import org.apache.kafka.streams.processor.api.Record;

/** Decodes a record, takes its digest, gives each grant what it may have. One per task. */
final class Decide implements Processor<byte[], byte[], byte[], byte[]> {
    private static final int FRAMING_BYTES = 5;

    private final GenericDatumReader<GenericRecord> reader;
    private final List<Grant> grants = new ArrayList<>();
    private final MessageDigest sha256;
    /** So that no digest is work without an effect, which a compiler may leave out. */
    private byte seen;

    private ProcessorContext<byte[], byte[]> context;
    private BinaryDecoder decoder;
    private GenericRecord reused;

    Decide(JobFile job) {
        Schema schema = new Schema.Parser().parse(job.schema());
        reader = new GenericDatumReader<>(schema);
        try {
            sha256 = MessageDigest.getInstance("SHA-256");
            for (JobFile.GrantFile file : job.grants()) {
                grants.add(new Grant(file, schema));
            }
        } catch (GeneralSecurityException impossible) {
            throw new IllegalStateException(impossible);
        }
    }

    @Override
    public void init(ProcessorContext<byte[], byte[]> context) {
        this.context = context;
    }

    @Override
    public void process(Record<byte[], byte[]> record) {
        byte[] value = record.value();
        sha256.update(value, FRAMING_BYTES, value.length - FRAMING_BYTES);
        seen ^= sha256.digest()[0];
        try {
            decoder = DecoderFactory.get()
                    .binaryDecoder(value, FRAMING_BYTES, value.length - FRAMING_BYTES, decoder);
            reused = reader.read(reused, decoder);
            context.recordMetadata().ifPresent(metadata -> Lane.now(metadata.partition()));
            for (Grant grant : grants) {
                if (grant.takes(reused)) {
                    // A new record: the publisher's headers must not pass.
                    context.forward(
                            new Record<>(grant.key(record.key()), grant.value(reused), record.timestamp()),
                            grant.sink);
                }
            }
        } catch (IOException error) {
            throw new IllegalStateException("not a record of the job", error);
        }
    }

    @Override
    public void close() {
        System.out.println("digests seen: " + seen);
    }
}
