//! The strict walk over an Avro body: is it the one canonical encoding of a record?
//!
//! The rules are those of `shutong_core.wire.walk`. `None` says that the body is something else, or
//! that there is a doubt; it never says why, since another reading does. Work is bounded by the
//! length of the body and by the limit given.
#![forbid(unsafe_code)]

use crate::number::signed;
use crate::shape::Shape;

const VARINT_BYTES_MAX: u32 = 10;
const UUID_LENGTH: usize = 36;

/// Where one item of the record lies. `start` is where its encoding begins, `inner` where it does
/// without the union branch, `from` where its content does (behind a length), `end` where the next
/// item begins. `number` is its raw value if that is a number of 64 bits.
#[derive(Clone, Copy, Debug, Default)]
pub struct Spot {
    pub start: usize,
    pub inner: usize,
    pub from: usize,
    pub end: usize,
    pub number: i64,
    pub null: bool,
}

struct Leaf {
    from: usize,
    number: i64,
}

/// A place in a body.
struct Walk<'a> {
    body: &'a [u8],
    at: usize,
    values: u64,
    limit: u64,
}

/// Walks `body` over all `fields`; afterwards `spots` has one spot for each.
pub fn walk(fields: &[Shape], limit: u64, body: &[u8], spots: &mut Vec<Spot>) -> Option<()> {
    spots.clear();
    let mut walk = Walk { body, at: 0, values: 0, limit };
    for shape in fields {
        let start = walk.at;
        let (value, null) = match shape {
            Shape::Nullable(value) => (value.as_ref(), !walk.branch()?),
            value => (value, false),
        };
        let inner = walk.at;
        let leaf = if null { Leaf { from: inner, number: 0 } } else { walk.value(value)? };
        let (from, number, end) = (leaf.from, leaf.number, walk.at);
        spots.push(Spot { start, inner, from, end, number, null });
    }
    (walk.at == body.len()).then_some(())
}

impl<'a> Walk<'a> {
    fn value(&mut self, shape: &Shape) -> Option<Leaf> {
        let begin = self.at;
        let leaf = |from, number| Some(Leaf { from, number });
        match shape {
            Shape::Text => {
                let from = self.text()?;
                leaf(from, 0)
            }
            Shape::Number { low, high } => {
                let number = self.number()?;
                if number < *low || number > *high {
                    return None;
                }
                leaf(begin, number)
            }
            Shape::Symbol { count } => {
                let index = self.unsigned()?;
                if index >= *count {
                    return None;
                }
                leaf(begin, i64::try_from(index).ok()?)
            }
            Shape::Boolean => match self.byte()? {
                told @ (0 | 1) => leaf(begin, i64::from(told)),
                _ => None,
            },
            Shape::Nullable(value) => {
                if self.branch()? {
                    self.value(value)?;
                }
                leaf(begin, 0)
            }
            Shape::Uuid => {
                let from = self.text()?;
                is_uuid(self.body.get(from..self.at)?).then_some(())?;
                leaf(from, 0)
            }
            Shape::Bytes => {
                let from = self.length()?;
                leaf(from, 0)
            }
            Shape::Decimal { bound } => {
                let from = self.length()?;
                let digits = self.body.get(from..self.at)?;
                (is_minimal(digits) && fits(digits, *bound)).then_some(())?;
                leaf(from, 0)
            }
            Shape::Fixed { size } => {
                self.take(*size)?;
                leaf(begin, 0)
            }
            Shape::FixedDecimal { size, bound } => {
                fits(self.take(*size)?, *bound).then_some(())?;
                leaf(begin, 0)
            }
            Shape::Float => {
                let raw: [u8; 4] = self.take(4)?.try_into().ok()?;
                f32::from_le_bytes(raw).is_finite().then_some(())?;
                leaf(begin, 0)
            }
            Shape::Double => {
                let raw: [u8; 8] = self.take(8)?.try_into().ok()?;
                f64::from_le_bytes(raw).is_finite().then_some(())?;
                leaf(begin, 0)
            }
            Shape::Array { each, weight } => {
                let count = self.count(*weight)?;
                for _ in 0..count {
                    self.value(each)?;
                }
                self.end_of(count)?;
                leaf(begin, i64::try_from(count).ok()?)
            }
            Shape::Map { each, weight } => {
                let count = self.count(*weight)?;
                self.entries(each, count)?;
                self.end_of(count)?;
                leaf(begin, i64::try_from(count).ok()?)
            }
            Shape::Record(fields) => {
                for field in fields {
                    self.value(field)?;
                }
                leaf(begin, 1)
            }
        }
    }

    /// Entries of a map, keys strictly ascending by their bytes.
    fn entries(&mut self, each: &Shape, count: u64) -> Option<()> {
        let mut last: Option<&'a [u8]> = None;
        for _ in 0..count {
            let from = self.text()?;
            let body = self.body;
            let key = body.get(from..self.at)?;
            if last.is_some_and(|last| key <= last) {
                return None;
            }
            last = Some(key);
            self.value(each)?;
        }
        Some(())
    }

    #[inline]
    fn byte(&mut self) -> Option<u8> {
        let byte = *self.body.get(self.at)?;
        self.at += 1;
        Some(byte)
    }

    #[inline]
    fn take(&mut self, size: usize) -> Option<&'a [u8]> {
        let end = self.at.checked_add(size)?;
        let body = self.body;
        let raw = body.get(self.at..end)?;
        self.at = end;
        Some(raw)
    }

    /// Whether the union `[null, T]` holds a value.
    #[inline]
    fn branch(&mut self) -> Option<bool> {
        match self.byte()? {
            0 => Some(false),
            2 => Some(true),
            _ => None,
        }
    }

    /// A minimal varint of at most 64 bits, not yet decoded.
    #[inline]
    fn varint(&mut self) -> Option<u64> {
        let first = self.byte()?;
        if first < 0x80 {
            return Some(u64::from(first));
        }
        let mut raw = u64::from(first & 0x7F);
        for place in 1..VARINT_BYTES_MAX {
            let byte = self.byte()?;
            if place == VARINT_BYTES_MAX - 1 && byte > 1 {
                return None;
            }
            raw |= u64::from(byte & 0x7F) << (7 * place);
            if byte < 0x80 {
                return (byte != 0).then_some(raw);
            }
        }
        None
    }

    /// A zig-zag number.
    #[inline]
    fn number(&mut self) -> Option<i64> {
        let raw = self.varint()?;
        Some((raw >> 1).cast_signed() ^ -((raw & 1).cast_signed()))
    }

    /// A zig-zag number that is not negative.
    #[inline]
    fn unsigned(&mut self) -> Option<u64> {
        let raw = self.varint()?;
        (raw & 1 == 0).then_some(raw >> 1)
    }

    /// Passes over a length and what it counts; gives where that begins.
    #[inline]
    fn length(&mut self) -> Option<usize> {
        let size = usize::try_from(self.unsigned()?).ok()?;
        let from = self.at;
        self.take(size)?;
        Some(from)
    }

    /// Passes over a text; gives where its bytes begin.
    #[inline]
    fn text(&mut self) -> Option<usize> {
        let from = self.length()?;
        std::str::from_utf8(self.body.get(from..self.at)?).ok()?;
        Some(from)
    }

    /// The count of a first block; its members together must not count more than the limit.
    fn count(&mut self, weight: u64) -> Option<u64> {
        let count = self.unsigned()?;
        self.values = self.values.checked_add(count.checked_mul(weight)?)?;
        (count == 0 || self.values <= self.limit).then_some(count)
    }

    /// The end mark after a block that was there.
    fn end_of(&mut self, count: u64) -> Option<()> {
        (count == 0 || self.byte()? == 0).then_some(())
    }
}

fn is_minimal(digits: &[u8]) -> bool {
    match digits {
        [] => false,
        [0, next, ..] => *next > 0x7F,
        [0xFF, next, ..] => *next <= 0x7F,
        _ => true,
    }
}

fn fits(digits: &[u8], bound: u128) -> bool {
    signed(digits).is_some_and(|value| value.unsigned_abs() < bound)
}

/// The one form of RFC 9562: lower case, hyphens.
fn is_uuid(text: &[u8]) -> bool {
    text.len() == UUID_LENGTH
        && text.iter().enumerate().all(|(place, byte)| match place {
            8 | 13 | 18 | 23 => *byte == b'-',
            _ => matches!(byte, b'0'..=b'9' | b'a'..=b'f'),
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spots_of(fields: &[Shape], body: &[u8]) -> Option<Vec<Spot>> {
        let mut spots = Vec::new();
        walk(fields, 100_000, body, &mut spots).map(|()| spots)
    }

    fn long() -> Shape {
        Shape::Number { low: i64::MIN, high: i64::MAX }
    }

    fn number(body: &[u8]) -> Option<i64> {
        spots_of(&[long()], body).and_then(|spots| spots.first().map(|spot| spot.number))
    }

    #[test]
    fn a_number_is_a_minimal_zig_zag_varint() {
        assert_eq!(number(&[0]), Some(0));
        assert_eq!(number(&[1]), Some(-1));
        assert_eq!(number(&[0x80, 1]), Some(64));
        assert_eq!(number(&[0x80, 0]), None);
        let most = [0xFE, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 1];
        assert_eq!(number(&most), Some(i64::MAX));
        let least = [0xFF; 9].iter().chain(&[1]).copied().collect::<Vec<u8>>();
        assert_eq!(number(&least), Some(i64::MIN));
        assert_eq!(number(&[0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 2]), None);
        assert_eq!(number(&[0x80; 40]), None);
        assert_eq!(number(&[0x80]), None);
    }

    #[test]
    fn a_text_is_utf8_within_the_body() {
        let places = |body: &[u8]| {
            spots_of(&[Shape::Text], body).and_then(|s| s.first().map(|s| (s.from, s.end)))
        };
        assert_eq!(places(&[4, b'a', b'b']), Some((1, 3)));
        assert_eq!(places(&[4, b'a']), None);
        assert_eq!(places(&[4, 0xC0, 0x80]), None);
        assert_eq!(places(&[6, 0xED, 0xA0, 0x80]), None);
        assert_eq!(places(&[1]), None);
        assert_eq!(places(&[0xFE, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 1]), None);
    }

    #[test]
    fn an_array_is_one_block_with_a_count_that_the_limit_allows() {
        let array = || [Shape::Array { each: Box::new(long()), weight: 1 }];
        assert!(spots_of(&array(), &[0]).is_some());
        assert!(spots_of(&array(), &[2, 2, 0]).is_some());
        assert!(spots_of(&array(), &[2, 2]).is_none());
        assert!(spots_of(&array(), &[2, 2, 2, 2, 0]).is_none());
        assert!(spots_of(&array(), &[1, 2, 2, 0]).is_none());
        assert!(spots_of(&array(), &[0xFE, 0xFF, 0xFF, 0xFF, 0x7F, 0]).is_none());
    }

    #[test]
    fn keys_of_a_map_ascend() {
        let map = || [Shape::Map { each: Box::new(Shape::Boolean), weight: 1 }];
        assert!(spots_of(&map(), &[4, 2, b'a', 0, 2, b'b', 1, 0]).is_some());
        assert!(spots_of(&map(), &[4, 2, b'b', 0, 2, b'a', 1, 0]).is_none());
        assert!(spots_of(&map(), &[4, 2, b'a', 0, 2, b'a', 1, 0]).is_none());
    }

    #[test]
    fn a_decimal_is_minimal_and_within_its_precision() {
        let sound = |body: &[u8]| spots_of(&[Shape::Decimal { bound: 1000 }], body).is_some();
        assert!(sound(&[2, 0]));
        assert!(sound(&[2, 0x80]));
        assert!(sound(&[4, 0, 0x80]));
        assert!(!sound(&[0]));
        assert!(!sound(&[4, 0, 0x7F]));
        assert!(!sound(&[4, 0xFF, 0x80]));
        assert!(sound(&[4, 0x03, 0xE7]));
        assert!(!sound(&[4, 0x03, 0xE8]));
        assert!(!sound(&[4, 0xFC, 0x18]));
    }

    #[test]
    fn floats_are_finite_and_nothing_follows_the_end() {
        assert!(spots_of(&[Shape::Float], &1.5f32.to_le_bytes()).is_some());
        assert!(spots_of(&[Shape::Float], &f32::NAN.to_le_bytes()).is_none());
        assert!(spots_of(&[Shape::Double], &f64::INFINITY.to_le_bytes()).is_none());
        assert!(spots_of(&[Shape::Boolean], &[1, 0]).is_none());
        assert!(spots_of(&[Shape::Boolean], &[2]).is_none());
    }

    #[test]
    fn a_null_has_no_content() {
        let found = spots_of(&[Shape::Nullable(Box::new(Shape::Text)), Shape::Boolean], &[0, 1]);
        let found: Vec<_> = found.into_iter().flatten().map(|s| (s.start, s.end, s.null)).collect();
        assert_eq!(found, [(0, 1, true), (1, 2, false)]);
    }
}
