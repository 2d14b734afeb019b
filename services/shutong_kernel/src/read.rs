//! Reads Python's description of shapes, conditions, masks and rules, and checks every reference.
#![forbid(unsafe_code)]

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};

use crate::condition::{Literal, Node, Op};
use crate::masks::{Edges, Mask};
use crate::rules::Rule;
use crate::sha256::Keyed;
use crate::shape::Shape;

/// Deeper trees are refused, so that walking one cannot exhaust the stack.
const DEPTH_MAX: usize = 64;

type Value<'py> = Bound<'py, PyAny>;
type Tuple<'py> = Bound<'py, PyTuple>;

pub fn ensure(sound: bool, text: &'static str) -> PyResult<()> {
    if sound { Ok(()) } else { Err(PyValueError::new_err(text)) }
}

pub fn unknown(tag: &str) -> PyErr {
    PyValueError::new_err(format!("unknown form {tag}"))
}

pub fn field<'py>(given: &Bound<'py, PyDict>, name: &str) -> PyResult<Value<'py>> {
    given.get_item(name)?.ok_or_else(|| PyValueError::new_err(format!("{name} is missing")))
}

pub fn value<'py, T>(given: &Bound<'py, PyDict>, name: &str) -> PyResult<T>
where
    T: for<'a> FromPyObject<'a, 'py>,
{
    field(given, name)?.extract().map_err(Into::into)
}

pub fn optional<'py>(told: &Value<'py>) -> Option<Value<'py>> {
    (!told.is_none()).then(|| told.clone())
}

pub fn at<'py>(told: &Tuple<'py>, place: usize) -> PyResult<Value<'py>> {
    told.get_item(place)
}

pub fn tag(told: &Tuple<'_>) -> PyResult<String> {
    at(told, 0)?.extract()
}

pub fn shapes(told: &Value<'_>) -> PyResult<Vec<Shape>> {
    fields(told, 0)
}

fn fields(told: &Value<'_>, depth: usize) -> PyResult<Vec<Shape>> {
    told.try_iter()?.map(|each| shape(each?.cast::<PyTuple>()?, depth)).collect()
}

fn shape(told: &Tuple<'_>, depth: usize) -> PyResult<Shape> {
    ensure(depth < DEPTH_MAX, "types lie too deep")?;
    let within =
        |place| Ok::<_, PyErr>(Box::new(shape(at(told, place)?.cast::<PyTuple>()?, depth + 1)?));
    Ok(match tag(told)?.as_str() {
        "text" => Shape::Text,
        "uuid" => Shape::Uuid,
        "bytes" => Shape::Bytes,
        "boolean" => Shape::Boolean,
        "float" => Shape::Float,
        "double" => Shape::Double,
        "number" => Shape::Number { low: at(told, 1)?.extract()?, high: at(told, 2)?.extract()? },
        "decimal" => Shape::Decimal { bound: at(told, 1)?.extract()? },
        "symbol" => Shape::Symbol { count: at(told, 1)?.extract()? },
        "fixed" => Shape::Fixed { size: at(told, 1)?.extract()? },
        "fixed_decimal" => {
            Shape::FixedDecimal { size: at(told, 1)?.extract()?, bound: at(told, 2)?.extract()? }
        }
        "nullable" => {
            let value = within(1)?;
            ensure(!value.is_nullable(), "null within null")?;
            Shape::Nullable(value)
        }
        "array" => Shape::Array { each: within(1)?, weight: at(told, 2)?.extract()? },
        "map" => Shape::Map { each: within(1)?, weight: at(told, 2)?.extract()? },
        "record" => Shape::Record(fields(&at(told, 1)?, depth + 1)?),
        other => return Err(unknown(other)),
    })
}

/// Reads what refers to items.
pub struct Reading<'a> {
    pub shapes: &'a [Shape],
}

impl Reading<'_> {
    pub fn each<T>(
        &self,
        told: &Value<'_>,
        one: fn(&Self, &Value<'_>) -> PyResult<T>,
    ) -> PyResult<Vec<T>> {
        told.try_iter()?.map(|each| one(self, &each?)).collect()
    }

    pub fn item(&self, told: &Value<'_>) -> PyResult<usize> {
        let item: usize = told.extract()?;
        ensure(item < self.shapes.len(), "no such item")?;
        Ok(item)
    }

    fn that(&self, told: &Value<'_>, fits: fn(&Shape) -> bool) -> PyResult<usize> {
        let item = self.item(told)?;
        ensure(self.shapes.get(item).is_some_and(fits), "an item of another type")?;
        Ok(item)
    }

    pub fn items(&self, told: &Value<'_>) -> PyResult<Vec<usize>> {
        self.each(told, Self::item)
    }

    pub fn text(&self, told: &Value<'_>) -> PyResult<usize> {
        self.that(told, Shape::is_text)
    }

    pub fn texts(&self, told: &Value<'_>) -> PyResult<Vec<usize>> {
        self.each(told, Self::text)
    }

    /// A text that is there, of any form.
    pub fn string(&self, told: &Value<'_>) -> PyResult<usize> {
        self.that(told, |shape| matches!(shape, Shape::Text | Shape::Uuid))
    }

    pub fn number(&self, told: &Value<'_>) -> PyResult<usize> {
        self.that(told, |shape| matches!(shape.inner(), Shape::Number { .. }))
    }

    pub fn symbol(&self, told: &Value<'_>) -> PyResult<usize> {
        self.that(told, |shape| matches!(shape.inner(), Shape::Symbol { .. }))
    }

    pub fn rule(&self, told: &Value<'_>) -> PyResult<Rule> {
        let told = told.cast::<PyTuple>()?;
        Ok(match tag(told)?.as_str() {
            "required" => {
                Rule::Required { item: self.item(&at(told, 1)?)?, holds: at(told, 2)?.extract()? }
            }
            "id_number" => Rule::IdNumber(self.text(&at(told, 1)?)?),
            "uscc" => Rule::Uscc(self.text(&at(told, 1)?)?),
            "sum" => Rule::Sum {
                total: self.scaled(&at(told, 1)?)?,
                parts: self.each(&at(told, 2)?, Self::scaled)?,
            },
            other => return Err(unknown(other)),
        })
    }

    fn scaled(&self, told: &Value<'_>) -> PyResult<(usize, i128)> {
        let told = told.cast::<PyTuple>()?;
        Ok((self.item(&at(told, 0)?)?, at(told, 1)?.extract()?))
    }

    pub fn mask(&self, item: usize, told: &Value<'_>) -> PyResult<Mask> {
        let told = told.cast::<PyTuple>()?;
        let shape = self.shapes.get(item).map(Shape::inner);
        let is_date = matches!(shape, Some(Shape::Number { .. }));
        let mask = match tag(told)?.as_str() {
            "keep" => {
                ensure(matches!(shape, Some(Shape::Text)), "an item of another type")?;
                Mask::Keep { first: at(told, 1)?.extract()?, last: at(told, 2)?.extract()? }
            }
            "hash" => Mask::Hash(Keyed::new(&at(told, 1)?.extract::<Vec<u8>>()?)),
            "year" if is_date => Mask::Year,
            "month" if is_date => Mask::Month,
            "whole_band" => self.band(Edges::Whole(at(told, 1)?.extract()?), told)?,
            "real_band" => self.band(Edges::Real(at(told, 1)?.extract()?), told)?,
            other => return Err(unknown(other)),
        };
        Ok(mask)
    }

    fn band(&self, edges: Edges, told: &Tuple<'_>) -> PyResult<Mask> {
        let labels: Vec<Vec<u8>> = at(told, 2)?.extract()?;
        let (count, ascending) = match &edges {
            Edges::Whole(edges) => (edges.len(), edges.is_sorted()),
            Edges::Real(edges) => (edges.len(), edges.is_sorted()),
        };
        ensure(ascending && labels.len() == count + 1, "bands without labels")?;
        Ok(Mask::Band { edges, labels })
    }

    pub fn node(&self, told: &Tuple<'_>, depth: usize) -> PyResult<Node> {
        ensure(depth < DEPTH_MAX, "a condition lies too deep")?;
        let op = || -> PyResult<Op> {
            let text: String = at(told, 2)?.extract()?;
            Op::named(&text).ok_or_else(|| unknown(&text))
        };
        let item = |place| self.item(&at(told, place)?);
        let terms = || -> PyResult<Vec<Node>> {
            at(told, 1)?
                .try_iter()?
                .map(|term| self.node(term?.cast::<PyTuple>()?, depth + 1))
                .collect()
        };
        Ok(match tag(told)?.as_str() {
            "has" => Node::Has(item(1)?),
            "flag" => Node::Flag(item(1)?),
            "compare" => Node::Compare(item(1)?, op()?, literal(&at(told, 3)?)?),
            "items" => Node::CompareItems(item(1)?, op()?, item(3)?),
            "in" => {
                let literals = at(told, 2)?
                    .try_iter()?
                    .map(|each| literal(&each?))
                    .collect::<PyResult<_>>()?;
                Node::In(item(1)?, literals)
            }
            "not" => Node::Not(Box::new(self.node(at(told, 1)?.cast::<PyTuple>()?, depth + 1)?)),
            "and" => Node::And(terms()?),
            "or" => Node::Or(terms()?),
            other => return Err(unknown(other)),
        })
    }
}

/// `(kind, value)`: the glue says which, so that no type of Python's is guessed.
fn literal(told: &Value<'_>) -> PyResult<Literal> {
    let told = told.cast::<PyTuple>()?;
    let value = at(told, 1)?;
    Ok(match tag(told)?.as_str() {
        "bytes" => Literal::Bytes(value.extract()?),
        "whole" => Literal::Whole(value.extract()?),
        "real" => Literal::Real(value.extract()?),
        other => return Err(unknown(other)),
    })
}
