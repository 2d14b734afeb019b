//! Quality rules, see `shutong_core.domain.quality`. A record that breaks one is not decided here.
#![forbid(unsafe_code)]

use crate::identity::{birth_of, is_uscc};
use crate::row::{Raw, Row};

#[derive(Debug)]
pub enum Rule {
    /// Not null; where it `holds` something, not empty either.
    Required {
        item: usize,
        holds: bool,
    },
    IdNumber(usize),
    Uscc(usize),
    /// Items with what their raw numbers are multiplied by, so that they compare.
    Sum {
        total: (usize, i128),
        parts: Vec<(usize, i128)>,
    },
}

impl Rule {
    /// Whether the record is sound; None where that cannot be told.
    pub fn holds(&self, row: &Row<'_>) -> Option<bool> {
        Some(match self {
            Rule::Required { item, holds } => match row.raw(*item)? {
                Raw::Null => false,
                Raw::Bytes(bytes) => !(*holds && bytes.is_empty()),
                Raw::Whole(members) => !(*holds && members == 0),
                Raw::Real(_) => true,
            },
            Rule::IdNumber(item) => row.bytes(*item)?.is_none_or(|text| birth_of(text).is_some()),
            Rule::Uscc(item) => row.bytes(*item)?.is_none_or(is_uscc),
            Rule::Sum { total, parts } => {
                let Some(total) = scaled(row, *total) else {
                    return Some(false);
                };
                let mut sum: i128 = 0;
                for part in parts {
                    let Some(part) = scaled(row, *part) else {
                        return Some(false);
                    };
                    sum = sum.checked_add(part)?;
                }
                sum == total
            }
        })
    }
}

fn scaled(row: &Row<'_>, (item, step): (usize, i128)) -> Option<i128> {
    match row.raw(item)? {
        Raw::Whole(number) => number.checked_mul(step),
        _ => None,
    }
}
