//! One walked record: its items as raw values, as `shutong_broker.policy.rawvalues` defines them.
#![forbid(unsafe_code)]

use crate::number::signed;
use crate::shape::Shape;
use crate::walk::Spot;

/// What an item holds, without an object for it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Raw<'a> {
    Null,
    Bytes(&'a [u8]),
    Whole(i128),
    Real(f64),
}

/// A body with the places of its items.
pub struct Row<'a> {
    pub shapes: &'a [Shape],
    pub body: &'a [u8],
    pub spots: &'a [Spot],
}

impl<'a> Row<'a> {
    /// The raw value of an item. None only for what cannot be: no such item.
    pub fn raw(&self, item: usize) -> Option<Raw<'a>> {
        let spot = self.spots.get(item)?;
        if spot.null {
            return Some(Raw::Null);
        }
        let content = self.body.get(spot.from..spot.end)?;
        Some(match self.shapes.get(item)?.inner() {
            Shape::Text | Shape::Uuid | Shape::Bytes | Shape::Fixed { .. } => Raw::Bytes(content),
            Shape::Decimal { .. } | Shape::FixedDecimal { .. } => Raw::Whole(signed(content)?),
            Shape::Float => Raw::Real(f64::from(f32::from_le_bytes(content.try_into().ok()?))),
            Shape::Double => Raw::Real(f64::from_le_bytes(content.try_into().ok()?)),
            _ => Raw::Whole(i128::from(spot.number)),
        })
    }

    /// The bytes of a text or bytes item; Some(None) where it is null.
    #[inline]
    pub fn bytes(&self, item: usize) -> Option<Option<&'a [u8]>> {
        let spot = self.spots.get(item)?;
        if spot.null {
            return Some(None);
        }
        Some(Some(self.body.get(spot.from..spot.end)?))
    }

    /// The item's encoding without union branch; Some(None) where it is null.
    pub fn encoding(&self, item: usize) -> Option<Option<&'a [u8]>> {
        let spot = self.spots.get(item)?;
        if spot.null {
            return Some(None);
        }
        Some(Some(self.body.get(spot.inner..spot.end)?))
    }

    /// The encodings of the items `first` … `end`-1, which stand together.
    #[inline]
    pub fn slice(&self, first: usize, end: usize) -> Option<&'a [u8]> {
        let begin = self.spots.get(first)?.start;
        let after = match self.spots.get(end) {
            Some(spot) => spot.start,
            None => self.body.len(),
        };
        self.body.get(begin..after)
    }
}
