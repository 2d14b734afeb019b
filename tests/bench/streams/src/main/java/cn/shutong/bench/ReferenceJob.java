package cn.shutong.bench;

import java.nio.file.Path;
import java.time.Duration;
import java.util.Properties;
import java.util.concurrent.CountDownLatch;
import org.apache.kafka.clients.consumer.ConsumerConfig;
import org.apache.kafka.clients.producer.ProducerConfig;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;
import org.apache.kafka.common.serialization.ByteArraySerializer;
import org.apache.kafka.streams.KafkaStreams;
import org.apache.kafka.streams.StreamsConfig;
import org.apache.kafka.streams.Topology;
import org.apache.kafka.streams.errors.StreamsUncaughtExceptionHandler.StreamThreadExceptionResponse;

/** The reference job in Kafka Streams, exactly once: {@code ReferenceJob peer.json}. */
public final class ReferenceJob {
    private ReferenceJob() {}

    public static void main(String[] arguments) throws Exception {
        JobFile job = JobFile.read(Path.of(arguments[0]));
        CountDownLatch ended = new CountDownLatch(1);
        KafkaStreams streams = new KafkaStreams(topology(job), settings(job));
        streams.setUncaughtExceptionHandler(error -> {
            error.printStackTrace();
            ended.countDown();
            return StreamThreadExceptionResponse.SHUTDOWN_CLIENT;
        });
        Runtime.getRuntime().addShutdownHook(new Thread(() -> streams.close(Duration.ofSeconds(10))));
        streams.start();
        ended.await();
        System.exit(1);
    }

    private static Topology topology(JobFile job) {
        Topology topology = new Topology();
        topology.addSource("inbound", new ByteArrayDeserializer(), new ByteArrayDeserializer(), job.inbound());
        topology.addProcessor("decide", () -> new Decide(job), "inbound");
        for (JobFile.GrantFile grant : job.grants()) {
            topology.addSink(
                    grant.grant(), grant.topic(), new ByteArraySerializer(), new ByteArraySerializer(),
                    new Lane(), "decide");
        }
        return topology;
    }

    /** Settings for throughput; codec, threads and commit interval are tried by the benchmark. */
    private static Properties settings(JobFile job) {
        Properties settings = new Properties();
        settings.put(StreamsConfig.APPLICATION_ID_CONFIG, job.group());
        settings.put(StreamsConfig.BOOTSTRAP_SERVERS_CONFIG, job.bootstrap());
        settings.put(StreamsConfig.STATE_DIR_CONFIG, job.stateDir());
        settings.put(StreamsConfig.PROCESSING_GUARANTEE_CONFIG, StreamsConfig.EXACTLY_ONCE_V2);
        settings.put(StreamsConfig.NUM_STREAM_THREADS_CONFIG, job.tuning().threads());
        settings.put(StreamsConfig.COMMIT_INTERVAL_MS_CONFIG, job.tuning().commitMs());
        settings.put(StreamsConfig.BUFFERED_RECORDS_PER_PARTITION_CONFIG, 5_000);
        settings.put(StreamsConfig.consumerPrefix(ConsumerConfig.MAX_POLL_RECORDS_CONFIG), 5_000);
        settings.put(StreamsConfig.consumerPrefix(ConsumerConfig.MAX_PARTITION_FETCH_BYTES_CONFIG), 2 << 20);
        settings.put(StreamsConfig.producerPrefix(ProducerConfig.COMPRESSION_TYPE_CONFIG), job.tuning().codec());
        settings.put(StreamsConfig.producerPrefix(ProducerConfig.BATCH_SIZE_CONFIG), 256 * 1024);
        settings.put(StreamsConfig.producerPrefix(ProducerConfig.LINGER_MS_CONFIG), 100);
        settings.put(StreamsConfig.producerPrefix(ProducerConfig.BUFFER_MEMORY_CONFIG), 64L << 20);
        return settings;
    }
}
