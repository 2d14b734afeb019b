package cn.shutong.bench;

import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.security.GeneralSecurityException;
import java.util.Arrays;
import java.util.HashSet;
import java.util.HexFormat;
import java.util.Set;
import javax.crypto.Mac;
import javax.crypto.spec.SecretKeySpec;
import org.apache.avro.Schema;
import org.apache.avro.generic.GenericData;
import org.apache.avro.generic.GenericDatumWriter;
import org.apache.avro.generic.GenericRecord;
import org.apache.avro.io.BinaryEncoder;
import org.apache.avro.io.EncoderFactory;
import org.apache.avro.util.Utf8;

/** Whom one grant takes and what it gives. Belongs to one task: everything in it is reused. */
final class Grant {
    private static final byte[] STARS = "********".getBytes(StandardCharsets.US_ASCII);
    private static final Utf8 ACTIVE = new Utf8("active");
    private static final int FIRST = 6;
    private static final int LAST = 4;
    private static final int HIDDEN_KEY_BYTES = 16;

    final String sink;
    private final Set<Integer> cities;
    private final boolean activeOnly;
    private final byte[] framing;
    private final Mac mac;

    private final int town;
    private final int status;
    private final int[] source;
    private final int masked;
    private final GenericData.Record given;
    private final GenericDatumWriter<GenericRecord> writer;
    private final ByteArrayOutputStream bytes = new ByteArrayOutputStream(512);
    private BinaryEncoder encoder;

    Grant(JobFile.GrantFile file, Schema inbound) throws GeneralSecurityException {
        sink = file.grant();
        cities = file.cities() == null ? null : new HashSet<>();
        if (cities != null) {
            file.cities().forEach(city -> cities.add(digits(city.getBytes(StandardCharsets.US_ASCII))));
        }
        activeOnly = file.activeOnly();
        framing = ByteBuffer.allocate(5).put((byte) 0).putInt(file.deliveredId()).array();
        mac = file.secret() == null ? null : Mac.getInstance("HmacSHA256");
        if (mac != null) {
            mac.init(new SecretKeySpec(HexFormat.of().parseHex(file.secret()), "HmacSHA256"));
        }
        Schema schema = new Schema.Parser().parse(file.schema());
        town = inbound.getField("town_code").pos();
        status = inbound.getField("status").pos();
        source = schema.getFields().stream().mapToInt(f -> inbound.getField(f.name()).pos()).toArray();
        masked = file.maskIdNumber() ? schema.getField("id_number").pos() : -1;
        given = new GenericData.Record(schema);
        writer = new GenericDatumWriter<>(schema);
    }

    boolean takes(GenericRecord record) {
        if (cities != null && !cities.contains(digits(((Utf8) record.get(town)).getBytes()))) {
            return false;
        }
        return !activeOnly || ACTIVE.equals(record.get(status));
    }

    byte[] key(byte[] key) {
        return mac == null ? key : Arrays.copyOf(mac.doFinal(key), HIDDEN_KEY_BYTES);
    }

    byte[] value(GenericRecord record) throws IOException {
        for (int at = 0; at < source.length; at++) {
            Object value = record.get(source[at]);
            given.put(at, at == masked ? keep((Utf8) value) : value);
        }
        bytes.reset();
        bytes.write(framing, 0, framing.length);
        encoder = EncoderFactory.get().binaryEncoder(bytes, encoder);
        writer.write(given, encoder);
        encoder.flush();
        return bytes.toByteArray();
    }

    /** The first four digits of a region code: its city. */
    private static Integer digits(byte[] code) {
        return (code[0] << 24) | (code[1] << 16) | (code[2] << 8) | code[3];
    }

    /** The mask keep: identity numbers are ASCII, so bytes are code points. */
    private static Utf8 keep(Utf8 value) {
        byte[] kept = new byte[FIRST + STARS.length + LAST];
        System.arraycopy(value.getBytes(), 0, kept, 0, FIRST);
        System.arraycopy(STARS, 0, kept, FIRST, STARS.length);
        System.arraycopy(value.getBytes(), value.getByteLength() - LAST, kept, FIRST + STARS.length, LAST);
        return new Utf8(kept);
    }
}
