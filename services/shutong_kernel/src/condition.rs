//! Conditions in Kleene's three-valued logic, see `shutong_broker.policy.truth`.
#![forbid(unsafe_code)]

use std::cmp::Ordering;

use crate::row::{Raw, Row};

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Truth {
    False,
    True,
    Unknown,
}

#[derive(Clone, Copy, Debug)]
pub enum Op {
    Eq,
    Ne,
    Lt,
    Le,
    Gt,
    Ge,
}

#[derive(Clone, Debug)]
pub enum Literal {
    Bytes(Vec<u8>),
    Whole(i128),
    Real(f64),
}

#[derive(Debug)]
pub enum Node {
    Has(usize),
    Flag(usize),
    Compare(usize, Op, Literal),
    CompareItems(usize, Op, usize),
    In(usize, Vec<Literal>),
    Not(Box<Node>),
    And(Vec<Node>),
    Or(Vec<Node>),
}

impl Op {
    pub fn named(text: &str) -> Option<Self> {
        Some(match text {
            "==" => Op::Eq,
            "!=" => Op::Ne,
            "<" => Op::Lt,
            "<=" => Op::Le,
            ">" => Op::Gt,
            ">=" => Op::Ge,
            _ => return None,
        })
    }

    fn holds(self, order: Ordering) -> bool {
        match self {
            Op::Eq => order.is_eq(),
            Op::Ne => order.is_ne(),
            Op::Lt => order.is_lt(),
            Op::Le => order.is_le(),
            Op::Gt => order.is_gt(),
            Op::Ge => order.is_ge(),
        }
    }
}

impl Literal {
    fn raw(&self) -> Raw<'_> {
        match self {
            Literal::Bytes(bytes) => Raw::Bytes(bytes),
            Literal::Whole(number) => Raw::Whole(*number),
            Literal::Real(number) => Raw::Real(*number),
        }
    }
}

/// How two values that are there compare; None for values of different kinds.
fn order(left: Raw<'_>, right: Raw<'_>) -> Option<Ordering> {
    match (left, right) {
        (Raw::Bytes(left), Raw::Bytes(right)) => Some(left.cmp(right)),
        (Raw::Whole(left), Raw::Whole(right)) => Some(left.cmp(&right)),
        (Raw::Real(left), Raw::Real(right)) => left.partial_cmp(&right),
        _ => None,
    }
}

impl From<bool> for Truth {
    fn from(told: bool) -> Self {
        if told { Truth::True } else { Truth::False }
    }
}

impl Node {
    /// The truth of the condition about `row`; None where it cannot be told.
    pub fn truth(&self, row: &Row<'_>) -> Option<Truth> {
        Some(match self {
            Node::Has(item) => (row.raw(*item)? != Raw::Null).into(),
            Node::Flag(item) => match row.raw(*item)? {
                Raw::Null => Truth::Unknown,
                value => (value == Raw::Whole(1)).into(),
            },
            Node::Compare(item, op, literal) => compared(row.raw(*item)?, *op, literal.raw())?,
            Node::CompareItems(left, op, right) => {
                compared(row.raw(*left)?, *op, row.raw(*right)?)?
            }
            Node::In(item, literals) => match row.raw(*item)? {
                Raw::Null => Truth::Unknown,
                value => {
                    let mut found = false;
                    for literal in literals {
                        found |= order(value, literal.raw())?.is_eq();
                    }
                    found.into()
                }
            },
            Node::Not(term) => match term.truth(row)? {
                Truth::True => Truth::False,
                Truth::False => Truth::True,
                Truth::Unknown => Truth::Unknown,
            },
            Node::And(terms) => folded(terms, row, Truth::False, Truth::True)?,
            Node::Or(terms) => folded(terms, row, Truth::True, Truth::False)?,
        })
    }
}

fn compared(left: Raw<'_>, op: Op, right: Raw<'_>) -> Option<Truth> {
    if left == Raw::Null || right == Raw::Null {
        return Some(Truth::Unknown);
    }
    order(left, right).map(|order| op.holds(order).into())
}

/// `absorbing` if any term is, else unknown if any is, else `neutral`.
fn folded(terms: &[Node], row: &Row<'_>, absorbing: Truth, neutral: Truth) -> Option<Truth> {
    let mut found = neutral;
    for term in terms {
        let truth = term.truth(row)?;
        if truth == absorbing {
            return Some(absorbing);
        }
        if truth == Truth::Unknown {
            found = Truth::Unknown;
        }
    }
    Some(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shape::Shape;
    use crate::walk::walk;

    fn truth(node: &Node, body: &[u8]) -> Option<Truth> {
        let shapes = [
            Shape::Nullable(Box::new(Shape::Text)),
            Shape::Number { low: i64::MIN, high: i64::MAX },
        ];
        let mut spots = Vec::new();
        walk(&shapes, 100, body, &mut spots)?;
        node.truth(&Row { shapes: &shapes, body, spots: &spots })
    }

    #[test]
    fn a_comparison_with_null_is_unknown_and_stays_so_under_not() {
        let equal = || Node::Compare(0, Op::Ne, Literal::Bytes(b"x".to_vec()));
        assert_eq!(truth(&equal(), &[0, 2]), Some(Truth::Unknown));
        assert_eq!(truth(&Node::Not(Box::new(equal())), &[0, 2]), Some(Truth::Unknown));
        assert_eq!(truth(&Node::Has(0), &[0, 2]), Some(Truth::False));
        let or = Node::Or(vec![equal(), Node::Compare(1, Op::Eq, Literal::Whole(1))]);
        assert_eq!(truth(&or, &[0, 2]), Some(Truth::True));
        let and = Node::And(vec![equal(), Node::Compare(1, Op::Gt, Literal::Whole(1))]);
        assert_eq!(truth(&and, &[0, 2]), Some(Truth::False));
    }

    #[test]
    fn values_of_different_kinds_are_never_compared() {
        assert_eq!(truth(&Node::Compare(1, Op::Eq, Literal::Real(1.0)), &[0, 2]), None);
    }
}
