//! The admitted subset of Avro as a tree, see `shutong_core.wire.shapes`.
#![forbid(unsafe_code)]

/// One type. `weight` is the most values that one member of an array or map counts.
#[derive(Debug)]
pub enum Shape {
    Text,
    Uuid,
    Bytes,
    Boolean,
    Float,
    Double,
    Number {
        low: i64,
        high: i64,
    },
    /// Over bytes: minimal two's complement, its magnitude below `bound`.
    Decimal {
        bound: u128,
    },
    Symbol {
        count: u64,
    },
    Fixed {
        size: usize,
    },
    FixedDecimal {
        size: usize,
        bound: u128,
    },
    Nullable(Box<Shape>),
    Array {
        each: Box<Shape>,
        weight: u64,
    },
    Map {
        each: Box<Shape>,
        weight: u64,
    },
    Record(Vec<Shape>),
}

impl Shape {
    /// The type without the null branch.
    pub fn inner(&self) -> &Shape {
        match self {
            Shape::Nullable(value) => value,
            other => other,
        }
    }

    pub fn is_nullable(&self) -> bool {
        matches!(self, Shape::Nullable(_))
    }

    pub fn is_text(&self) -> bool {
        matches!(self.inner(), Shape::Text)
    }
}
