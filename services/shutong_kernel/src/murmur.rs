//! Kafka's partition of a key: `org.apache.kafka.common.utils.Utils.murmur2`.
#![forbid(unsafe_code)]

const SEED: u32 = 0x9747_B28C;
const M: u32 = 0x5BD1_E995;

/// The hash as an unsigned number. Keys are far below the 4 GiB at which the length would wrap.
#[inline]
fn murmur2(key: &[u8]) -> u32 {
    let (words, rest) = key.as_chunks::<4>();
    let mut h = SEED ^ (key.len() as u32);
    for word in words {
        let mut k = u32::from_le_bytes(*word).wrapping_mul(M);
        k ^= k >> 24;
        h = h.wrapping_mul(M) ^ k.wrapping_mul(M);
    }
    if !rest.is_empty() {
        let last = rest.iter().rev().fold(0u32, |last, byte| last << 8 | u32::from(*byte));
        h = (h ^ last).wrapping_mul(M);
    }
    h ^= h >> 13;
    h = h.wrapping_mul(M);
    h ^ h >> 15
}

/// The lane of a key, 0 … lanes-1; `lanes` is at least 1.
#[inline]
pub fn lane_of(key: &[u8], lanes: u32) -> u32 {
    (murmur2(key) & 0x7FFF_FFFF).checked_rem(lanes).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Values of Kafka's own `UtilsTest.testMurmur2`.
    #[test]
    fn the_hash_is_kafkas() {
        for (key, hash) in [
            ("21", -973_932_308i32),
            ("foobar", -790_332_482),
            ("a-little-bit-long-string", -985_981_536),
            ("a-little-bit-longer-string", -1_486_304_829),
            ("lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58_897_971),
            ("abc", 479_470_107),
        ] {
            assert_eq!(murmur2(key.as_bytes()).cast_signed(), hash, "{key}");
        }
    }
}
