package cn.shutong.bench;

import java.util.Optional;
import java.util.Set;
import org.apache.kafka.streams.processor.StreamPartitioner;

/**
 * Outputs go to the partition their input came from, as on the bus: batches stay whole.
 *
 * <p>Forwarding to a sink happens in the thread of the task, so the lane is the thread's.
 */
final class Lane implements StreamPartitioner<byte[], byte[]> {
    private static final ThreadLocal<Optional<Set<Integer>>> NOW = new ThreadLocal<>();
    @SuppressWarnings("unchecked")
    private static final Optional<Set<Integer>>[] LANES = new Optional[64];

    static {
        for (int lane = 0; lane < LANES.length; lane++) {
            LANES[lane] = Optional.of(Set.of(lane));
        }
    }

    static void now(int lane) {
        NOW.set(LANES[lane]);
    }

    @Override
    public Optional<Set<Integer>> partitions(String topic, byte[] key, byte[] value, int count) {
        return NOW.get();
    }
}
