//! Keyed BLAKE2b (RFC 7693) with the key's block worked in once.
//!
//! A subject token or an event id is one short block behind the key's, so keeping the state after
//! the key's block halves the work.
#![forbid(unsafe_code)]

const BLOCK: usize = 128;
const IV: [u64; 8] = [
    0x6a09_e667_f3bc_c908,
    0xbb67_ae85_84ca_a73b,
    0x3c6e_f372_fe94_f82b,
    0xa54f_f53a_5f1d_36f1,
    0x510e_527f_ade6_82d1,
    0x9b05_688c_2b3e_6c1f,
    0x1f83_d9ab_fb41_bd6b,
    0x5be0_cd19_137e_2179,
];

/// A digest of `size` bytes with a key of at most 64 bytes and 16 bytes of personalisation.
pub struct Blake2b {
    start: [u64; 8],
    /// The key's block; a digest of nothing ends with it.
    key: Option<[u8; BLOCK]>,
    /// The state after the key's block.
    keyed: [u64; 8],
}

impl Blake2b {
    /// None if the key is too long or `size` is not 1 … 64.
    pub fn new(size: u8, key: &[u8], person: [u8; 16]) -> Option<Self> {
        if key.len() > 64 || !(1..=64).contains(&size) {
            return None;
        }
        let mut start = IV;
        let (low, high) = person.split_at(8);
        let parameters =
            [u64::from(size) | (key.len() as u64) << 8 | 1 << 16 | 1 << 24, 0, 0, 0, 0, 0];
        let person =
            [u64::from_le_bytes(low.try_into().ok()?), u64::from_le_bytes(high.try_into().ok()?)];
        for (word, value) in start.iter_mut().zip(parameters.iter().chain(&person)) {
            *word ^= value;
        }
        let mut keyed = start;
        let key = (!key.is_empty()).then(|| padded(key));
        if let Some(block) = &key {
            compress(&mut keyed, block, BLOCK as u128, false);
        }
        Some(Self { start, key, keyed })
    }

    /// The digest's 64 bytes, of which the first `size` count.
    pub fn digest(&self, data: &[u8]) -> [u8; 64] {
        let mut state = self.keyed;
        let mut counted = if self.key.is_some() { BLOCK as u128 } else { 0 };
        match &self.key {
            Some(block) if data.is_empty() => {
                state = self.start;
                compress(&mut state, block, BLOCK as u128, true);
            }
            _ => {
                let mut rest = data;
                while let Some((block, more)) = rest.split_first_chunk::<BLOCK>() {
                    if more.is_empty() {
                        break;
                    }
                    counted += BLOCK as u128;
                    compress(&mut state, block, counted, false);
                    rest = more;
                }
                compress(&mut state, &padded(rest), counted + rest.len() as u128, true);
            }
        }
        let mut out = [0; 64];
        for (bytes, word) in out.chunks_exact_mut(8).zip(state) {
            bytes.copy_from_slice(&word.to_le_bytes());
        }
        out
    }
}

/// `data` (at most a block) and zeros.
#[inline]
fn padded(data: &[u8]) -> [u8; BLOCK] {
    let mut block = [0; BLOCK];
    for (to, from) in block.iter_mut().zip(data) {
        *to = *from;
    }
    block
}

macro_rules! mix {
    ($a:ident, $b:ident, $c:ident, $d:ident, $x:expr, $y:expr) => {
        $a = $a.wrapping_add($b).wrapping_add($x);
        $d = ($d ^ $a).rotate_right(32);
        $c = $c.wrapping_add($d);
        $b = ($b ^ $c).rotate_right(24);
        $a = $a.wrapping_add($b).wrapping_add($y);
        $d = ($d ^ $a).rotate_right(16);
        $c = $c.wrapping_add($d);
        $b = ($b ^ $c).rotate_right(63);
    };
}

/// One round: columns, then diagonals, with the message words in the round's order.
macro_rules! round {
    ($v0:ident $v1:ident $v2:ident $v3:ident $v4:ident $v5:ident $v6:ident $v7:ident
     $v8:ident $v9:ident $va:ident $vb:ident $vc:ident $vd:ident $ve:ident $vf:ident;
     $a:ident $b:ident $c:ident $d:ident $e:ident $f:ident $g:ident $h:ident
     $i:ident $j:ident $k:ident $l:ident $m:ident $n:ident $o:ident $p:ident) => {
        mix!($v0, $v4, $v8, $vc, $a, $b);
        mix!($v1, $v5, $v9, $vd, $c, $d);
        mix!($v2, $v6, $va, $ve, $e, $f);
        mix!($v3, $v7, $vb, $vf, $g, $h);
        mix!($v0, $v5, $va, $vf, $i, $j);
        mix!($v1, $v6, $vb, $vc, $k, $l);
        mix!($v2, $v7, $v8, $vd, $m, $n);
        mix!($v3, $v4, $v9, $ve, $o, $p);
    };
}

/// RFC 7693, section 3.2; the rounds' orders of the message words are its table SIGMA.
fn compress(state: &mut [u64; 8], block: &[u8; BLOCK], counted: u128, last: bool) {
    let (words, _) = block.as_chunks::<8>();
    let mut message = [0u64; 16];
    for (word, bytes) in message.iter_mut().zip(words) {
        *word = u64::from_le_bytes(*bytes);
    }
    let [m0, m1, m2, m3, m4, m5, m6, m7, m8, m9, ma, mb, mc, md, me, mf] = message;
    let [mut v0, mut v1, mut v2, mut v3, mut v4, mut v5, mut v6, mut v7] = *state;
    let [mut v8, mut v9, mut va, mut vb, mut vc, mut vd, mut ve, mut vf] = IV;
    vc ^= counted as u64;
    vd ^= (counted >> 64) as u64;
    if last {
        ve = !ve;
    }
    macro_rules! rounds {
        ($(($($m:ident)*))*) => {$(
            round!(v0 v1 v2 v3 v4 v5 v6 v7 v8 v9 va vb vc vd ve vf; $($m)*);
        )*};
    }
    rounds! {
        (m0 m1 m2 m3 m4 m5 m6 m7 m8 m9 ma mb mc md me mf)
        (me ma m4 m8 m9 mf md m6 m1 mc m0 m2 mb m7 m5 m3)
        (mb m8 mc m0 m5 m2 mf md ma me m3 m6 m7 m1 m9 m4)
        (m7 m9 m3 m1 md mc mb me m2 m6 m5 ma m4 m0 mf m8)
        (m9 m0 m5 m7 m2 m4 ma mf me m1 mb mc m6 m8 m3 md)
        (m2 mc m6 ma m0 mb m8 m3 m4 md m7 m5 mf me m1 m9)
        (mc m5 m1 mf me md m4 ma m0 m7 m6 m3 m9 m2 m8 mb)
        (md mb m7 me mc m1 m3 m9 m5 m0 mf m4 m8 m6 m2 ma)
        (m6 mf me m9 mb m3 m0 m8 mc m2 md m7 m1 m4 ma m5)
        (ma m2 m8 m4 m7 m6 m1 m5 mf mb m9 me m3 mc md m0)
        (m0 m1 m2 m3 m4 m5 m6 m7 m8 m9 ma mb mc md me mf)
        (me ma m4 m8 m9 mf md m6 m1 mc m0 m2 mb m7 m5 m3)
    }
    let low = [v0, v1, v2, v3, v4, v5, v6, v7];
    let high = [v8, v9, va, vb, vc, vd, ve, vf];
    for ((word, a), b) in state.iter_mut().zip(low).zip(high) {
        *word ^= a ^ b;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// RFC 7693, appendix A.
    #[test]
    fn the_digest_of_abc_is_the_rfcs() {
        let plain = Blake2b::new(64, b"", [0; 16]).map(|made| hex(&made.digest(b"abc")));
        assert_eq!(
            plain.as_deref(),
            Some(concat!(
                "ba80a53f981c4d0d6a2797b69f12f6e94c212f14685ac4b74b12bb6fdbffa2d1",
                "7d87c5392aab792dc252d5de4533cc9518d38aa8dbf1925ab92386edd4009923"
            ))
        );
    }

    /// The first keyed vectors of the reference implementation: key 00…3f, message 00…(n-1).
    #[test]
    fn keyed_digests_are_the_reference_implementations() {
        let key: Vec<u8> = (0..64).collect();
        let made = Blake2b::new(64, &key, [0; 16]);
        let start = |size: u8| {
            let message: Vec<u8> = (0..size).collect();
            made.as_ref()
                .map(|made| hex(&made.digest(&message)).chars().take(16).collect::<String>())
        };
        assert_eq!(start(0).as_deref(), Some("10ebb67700b1868e"));
        assert_eq!(start(1).as_deref(), Some("961f6dd1e4dd30f6"));
        assert_eq!(start(128).as_deref(), Some("72065ee4dd91c2d8"));
        assert_eq!(start(129).as_deref(), Some("64475dfe7600d717"));
        assert_eq!(start(255).as_deref(), Some("142709d62e28fccc"));
    }

    #[test]
    fn size_key_and_person_make_another_digest() {
        let made =
            Blake2b::new(8, b"k", *b"shutong-event-id").map(|made| hex(&made.digest(b"abc")));
        assert_eq!(made.unwrap_or_default().get(..16), Some("66c70246c81e43ae"));
        assert!(Blake2b::new(8, &[0; 65], [0; 16]).is_none());
        assert!(Blake2b::new(65, b"", [0; 16]).is_none());
    }
}
