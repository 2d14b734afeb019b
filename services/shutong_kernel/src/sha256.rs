//! SHA-256 digests and HMACs (RFC 2104) with the beginning worked in once.
#![forbid(unsafe_code)]

use sha2::block_api::compress256;

const BLOCK: usize = 64;
const START: [u32; 8] = [
    0x6a09_e667,
    0xbb67_ae85,
    0x3c6e_f372,
    0xa54f_f53a,
    0x510e_527f,
    0x9b05_688c,
    0x1f83_d9ab,
    0x5be0_cd19,
];

/// The digest of whole blocks already in `state`, `before` bytes of them, and of `parts`.
///
/// `scratch` is room for the parts together, kept from call to call.
fn finish(mut state: [u32; 8], before: u64, parts: &[&[u8]], scratch: &mut Vec<u8>) -> [u8; 32] {
    scratch.clear();
    for part in parts {
        scratch.extend_from_slice(part);
    }
    let bits = (before + scratch.len() as u64) * 8;
    scratch.push(0x80);
    let used = (scratch.len() + 8) % BLOCK;
    scratch.resize(scratch.len() + (BLOCK - used) % BLOCK, 0);
    scratch.extend_from_slice(&bits.to_be_bytes());
    compress256(&mut state, scratch.as_chunks().0);
    let mut out = [0; 32];
    for (bytes, word) in out.chunks_exact_mut(4).zip(state) {
        bytes.copy_from_slice(&word.to_be_bytes());
    }
    out
}

/// SHA-256 of `parts` one after the other.
pub fn sha256(parts: &[&[u8]], scratch: &mut Vec<u8>) -> [u8; 32] {
    finish(START, 0, parts, scratch)
}

/// HMAC-SHA-256 under one key.
pub struct Keyed {
    inner: [u32; 8],
    outer: [u32; 8],
}

impl Keyed {
    pub fn new(key: &[u8]) -> Self {
        let mut block = [0; BLOCK];
        let short =
            if key.len() > BLOCK { sha256(&[key], &mut Vec::new()).to_vec() } else { key.to_vec() };
        for (to, from) in block.iter_mut().zip(&short) {
            *to = *from;
        }
        let state = |mask: u8| {
            let mut state = START;
            compress256(&mut state, &[block.map(|byte| byte ^ mask)]);
            state
        };
        Self { inner: state(0x36), outer: state(0x5C) }
    }

    /// The HMAC of `parts` one after the other.
    pub fn digest(&self, parts: &[&[u8]], scratch: &mut Vec<u8>) -> [u8; 32] {
        let within = finish(self.inner, BLOCK as u64, parts, scratch);
        finish(self.outer, BLOCK as u64, &[&within], scratch)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// FIPS 180-4 examples, and a length at each side of a block's edge against itself in parts.
    #[test]
    fn digests_are_those_of_the_standard() {
        let scratch = &mut Vec::new();
        assert_eq!(
            hex(&sha256(&[b"a", b"bc"], scratch)),
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        );
        assert_eq!(
            hex(&sha256(&[b"abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq"], scratch)),
            "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1"
        );
    }

    /// RFC 4231, test cases 2 and 6.
    #[test]
    fn hmacs_are_those_of_the_rfc() {
        let scratch = &mut Vec::new();
        assert_eq!(
            hex(&Keyed::new(b"Jefe").digest(&[b"what do ya want ", b"for nothing?"], scratch)),
            "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"
        );
        assert_eq!(
            hex(&Keyed::new(&[0xAA; 131])
                .digest(&[b"Test Using Larger Than Block-Size Key - Hash Key First"], scratch)),
            "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54"
        );
    }
}
