//! Pieces of a projection: slices of the body and masked items.
//!
//! See `shutong_broker.policy.masks` for what a subscriber sees in place of a value.
#![forbid(unsafe_code)]

use std::io::Write;

use crate::identity::date_of;
use crate::number::push_length;
use crate::row::{Raw, Row};
use crate::sha256::Keyed;

const STARS: &[u8] = b"********";
const HASH_BYTES: usize = 16;
const BASE64_URL: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/// Where bands begin, ascending.
#[derive(Debug)]
pub enum Edges {
    Whole(Vec<i128>),
    Real(Vec<f64>),
}

pub enum Mask {
    /// `first` and `last` code points around eight stars.
    Keep {
        first: usize,
        last: usize,
    },
    Hash(Keyed),
    Year,
    Month,
    /// `labels` are whole encodings, one more than there are edges.
    Band {
        edges: Edges,
        labels: Vec<Vec<u8>>,
    },
}

/// Appends what stands in place of `item`. None where the mask cannot be applied.
pub fn push_masked(
    out: &mut Vec<u8>,
    mask: &Mask,
    row: &Row<'_>,
    item: usize,
    scratch: &mut Vec<u8>,
) -> Option<()> {
    let nullable = row.shapes.get(item)?.is_nullable();
    if row.spots.get(item)?.null {
        out.push(0);
        return Some(());
    }
    if let Mask::Band { edges, labels } = mask {
        let band = match (edges, row.raw(item)?) {
            (Edges::Whole(edges), Raw::Whole(value)) => {
                edges.partition_point(|edge| *edge <= value)
            }
            (Edges::Real(edges), Raw::Real(value)) => edges.partition_point(|edge| *edge <= value),
            _ => return None,
        };
        out.extend_from_slice(labels.get(band)?);
        return Some(());
    }
    if nullable {
        out.push(2);
    }
    match mask {
        Mask::Keep { first, last } => {
            let text = std::str::from_utf8(row.bytes(item)??).ok()?;
            let (head, tail) = kept(text, *first, *last)?;
            push_length(out, head.len() + STARS.len() + tail.len());
            for part in [head.as_bytes(), STARS, tail.as_bytes()] {
                out.extend_from_slice(part);
            }
        }
        Mask::Hash(keyed) => {
            let digest = keyed.digest(&[row.encoding(item)??], scratch);
            let (hash, _) = digest.split_first_chunk::<HASH_BYTES>()?;
            push_length(out, 22);
            push_base64(out, hash);
        }
        Mask::Year | Mask::Month => {
            let (year, month, _) = date_of(row.spots.get(item)?.number);
            if let Mask::Year = mask {
                push_length(out, 4);
                write!(out, "{year:04}").ok()?;
            } else {
                push_length(out, 7);
                write!(out, "{year:04}-{month:02}").ok()?;
            }
        }
        Mask::Band { .. } => return None,
    }
    Some(())
}

/// What is left at both ends; nothing if the text is so short that nothing would be hidden.
fn kept(text: &str, first: usize, last: usize) -> Option<(&str, &str)> {
    if text.is_ascii() {
        let hidden = text.len().checked_sub(first.checked_add(last)?);
        return Some(match hidden {
            None | Some(0) => ("", ""),
            Some(_) => (text.get(..first)?, text.get(text.len() - last..)?),
        });
    }
    let size = text.chars().count();
    if size <= first.checked_add(last)? {
        return Some(("", ""));
    }
    let place = |chars: usize| text.char_indices().nth(chars).map_or(text.len(), |(at, _)| at);
    Some((text.get(..place(first))?, text.get(place(size - last)..)?))
}

/// RFC 4648, section 5, without padding.
fn push_base64(out: &mut Vec<u8>, data: &[u8]) {
    for three in data.chunks(3) {
        let mut bits = 0u32;
        for place in 0..3 {
            bits = bits << 8 | u32::from(three.get(place).copied().unwrap_or(0));
        }
        for place in 0..=three.len() {
            let six = bits >> (18 - 6 * place) & 63;
            out.extend(BASE64_URL.get(six as usize));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_unpadded() {
        let text = |data: &[u8]| {
            let mut out = Vec::new();
            push_base64(&mut out, data);
            String::from_utf8(out).unwrap_or_default()
        };
        assert_eq!(text(b"fo"), "Zm8");
        assert_eq!(text(b"foo"), "Zm9v");
        assert_eq!(text(b"foob"), "Zm9vYg");
        assert_eq!(text(&[0xFB, 0xFF]), "-_8");
    }

    #[test]
    fn keep_counts_code_points_and_hides_at_least_one() {
        assert_eq!(kept("abcdef", 2, 1), Some(("ab", "f")));
        assert_eq!(kept("abc", 2, 1), Some(("", "")));
        assert_eq!(kept("甲乙丙丁", 1, 1), Some(("甲", "丁")));
        assert_eq!(kept("甲乙", 1, 1), Some(("", "")));
        assert_eq!(kept("甲乙", 0, 1), Some(("", "乙")));
        assert_eq!(kept("", 0, 0), Some(("", "")));
        assert_eq!(kept("甲乙", usize::MAX, 1), None);
    }
}
