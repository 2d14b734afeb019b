package cn.shutong.bench;

import com.fasterxml.jackson.annotation.JsonIgnoreProperties;
import com.fasterxml.jackson.annotation.JsonProperty;
import com.fasterxml.jackson.databind.ObjectMapper;
import java.io.IOException;
import java.nio.file.Path;
import java.util.List;

/** What the benchmark tells a peer: written by {@code bench/peerjob.py}. */
@JsonIgnoreProperties(ignoreUnknown = true)
record JobFile(
        String bootstrap,
        String inbound,
        String group,
        Tuning tuning,
        @JsonProperty("state_dir") String stateDir,
        String schema,
        List<GrantFile> grants) {

    @JsonIgnoreProperties(ignoreUnknown = true)
    record Tuning(String codec, int threads, @JsonProperty("commit_ms") int commitMs) {}

    /** One grant; {@code cities} is null for all, {@code secret} for keys that stay as they are. */
    @JsonIgnoreProperties(ignoreUnknown = true)
    record GrantFile(
            String grant,
            String topic,
            @JsonProperty("delivered_id") int deliveredId,
            String schema,
            @JsonProperty("mask_id_number") boolean maskIdNumber,
            List<String> cities,
            @JsonProperty("active_only") boolean activeOnly,
            String secret) {}

    static JobFile read(Path path) throws IOException {
        return new ObjectMapper().readValue(path.toFile(), JobFile.class);
    }
}
