//! Whole numbers as bytes: two's complement and varints.
#![forbid(unsafe_code)]

/// The big-endian two's complement number, if it fits 128 bits.
pub fn signed(digits: &[u8]) -> Option<i128> {
    let negative = digits.first()? & 0x80 != 0;
    let fill = if negative { 0xFF } else { 0 };
    let (lead, last) = digits.split_at(digits.len().saturating_sub(16));
    if lead.iter().any(|byte| *byte != fill) {
        return None;
    }
    let mut raw: i128 = if negative { -1 } else { 0 };
    for byte in last {
        raw = raw << 8 | i128::from(*byte);
    }
    (raw.is_negative() == negative).then_some(raw)
}

/// Appends the Avro encoding of a length.
pub fn push_length(out: &mut Vec<u8>, length: usize) {
    let mut raw = (length as u64) << 1;
    while raw > 0x7F {
        out.push(raw.to_le_bytes()[0] | 0x80);
        raw >>= 7;
    }
    out.push(raw.to_le_bytes()[0]);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signed_number_keeps_its_sign() {
        assert_eq!(signed(&[]), None);
        assert_eq!(signed(&[0x80]), Some(-128));
        assert_eq!(signed(&[0, 0x80]), Some(128));
        assert_eq!(signed(&[0xFF; 20]), Some(-1));
        assert_eq!(signed(&i128::MAX.to_be_bytes()), Some(i128::MAX));
        assert_eq!(signed(&[&[0u8][..], &[0xFF; 16]].concat()), None);
        assert_eq!(signed(&[&[0xFFu8][..], &[0x7F; 16]].concat()), None);
    }

    #[test]
    fn a_length_is_a_varint() {
        let mut out = Vec::new();
        push_length(&mut out, 63);
        push_length(&mut out, 64);
        assert_eq!(out, [126, 0x80, 1]);
    }
}
