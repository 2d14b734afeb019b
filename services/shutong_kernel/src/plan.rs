//! What the decision on one schema version needs, read once from plain Python values.
//!
//! `shutong_broker.policy.nativeplan` writes these values; anything else is refused here, when the
//! program is made. Places of items are checked once, so that later none can be missing.
#![forbid(unsafe_code)]

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString, PyTuple};
use rustc_hash::FxHashMap;

use crate::blake2b::Blake2b;
use crate::condition::Node;
use crate::masks::Mask;
use crate::read::{self, Reading};
use crate::rules::Rule;
use crate::sha256::Keyed;
use crate::shape::Shape;

/// A function of Python's over raw values of items, for what is rare.
pub struct Call {
    pub function: Py<PyAny>,
    pub literals: Py<PyAny>,
    pub items: Vec<usize>,
}

pub enum Condition {
    Native(Node),
    Call(Call),
}

pub enum Piece {
    Slice(usize, usize),
    Masked(usize, Mask),
    /// A mask made by Python from the raw value.
    Call(usize, Py<PyAny>),
}

pub struct Projection {
    pub prefix: Vec<u8>,
    pub pieces: Vec<Piece>,
}

pub struct Grant {
    pub id: Py<PyString>,
    pub condition: Option<Condition>,
    pub not_met: Py<PyAny>,
    pub minor: Option<Py<PyAny>>,
    pub projection: usize,
    pub hide: Option<Keyed>,
    pub events: Option<Py<PyAny>>,
}

pub enum Key {
    Text(usize),
    Slices(Vec<usize>),
}

/// How an item tells a birth; `Unreadable` counts as under 14.
pub enum Birth {
    Date(usize),
    Moment { item: usize, day: i64, last: i64 },
    Text(usize),
    Unreadable(usize),
}

pub enum Operations {
    /// By a text item or an enum's index.
    Texts(usize, FxHashMap<Vec<u8>, u8>),
    Symbols(usize, FxHashMap<i64, u8>),
}

pub struct Plan {
    pub dataset: String,
    pub prefixes: Vec<[u8; 5]>,
    pub shapes: Vec<Shape>,
    pub limit: u64,
    pub lanes: u32,
    pub key: Key,
    pub subjects: Vec<usize>,
    pub token: Blake2b,
    pub id: Blake2b,
    pub operations: Option<Operations>,
    pub provider: usize,
    pub rules: Vec<Rule>,
    pub calls: Vec<Call>,
    pub roles: Vec<usize>,
    pub births: Vec<Birth>,
    pub tells_age: bool,
    pub projections: Vec<Projection>,
    pub grants: Vec<Grant>,
    pub grant_numbers: FxHashMap<String, u32>,
}

const ID_PERSON: [u8; 16] = *b"shutong-event-id";
const TOKEN_BYTES: u8 = 16;
const ID_BYTES: u8 = 8;
const SUBJECTS_MAX: usize = 255;

impl Plan {
    pub fn read(given: &Bound<'_, PyDict>) -> PyResult<Self> {
        let shapes = read::shapes(&read::field(given, "shapes")?)?;
        let reading = Reading { shapes: &shapes };
        let subjects = reading.texts(&read::field(given, "subjects")?)?;
        read::ensure(subjects.len() <= SUBJECTS_MAX, "too many subjects")?;
        let projections = reading.each(&read::field(given, "projections")?, projection)?;
        let grants = reading.each(&read::field(given, "grants")?, grant)?;
        read::ensure(
            grants.iter().all(|grant| grant.projection < projections.len()),
            "a grant without projection",
        )?;
        let py = given.py();
        let mut grant_numbers = FxHashMap::default();
        for (number, grant) in (0u32..).zip(&grants) {
            grant_numbers.insert(grant.id.bind(py).to_str()?.to_owned(), number);
        }
        let lanes: u32 = read::value(given, "lanes")?;
        read::ensure(lanes > 0, "no lanes")?;
        Ok(Self {
            dataset: read::value(given, "dataset")?,
            prefixes: read::value(given, "prefixes")?,
            limit: read::value(given, "limit")?,
            lanes,
            key: key(&reading, &read::field(given, "key")?)?,
            subjects,
            token: keyed(TOKEN_BYTES, &read::value::<Vec<u8>>(given, "token_key")?, [0; 16])?,
            id: keyed(ID_BYTES, &read::value::<Vec<u8>>(given, "id_key")?, ID_PERSON)?,
            operations: read::optional(&read::field(given, "operations")?)
                .map(|told| operations(&reading, &told))
                .transpose()?,
            provider: reading.text(&read::field(given, "provider")?)?,
            rules: reading.each(&read::field(given, "rules")?, Reading::rule)?,
            calls: reading.each(&read::field(given, "calls")?, call)?,
            roles: reading.texts(&read::field(given, "roles")?)?,
            births: reading.each(&read::field(given, "births")?, birth)?,
            tells_age: read::value(given, "tells_age")?,
            projections,
            grants,
            grant_numbers,
            shapes,
        })
    }
}

fn keyed(size: u8, key: &[u8], person: [u8; 16]) -> PyResult<Blake2b> {
    Blake2b::new(size, key, person).ok_or_else(|| PyValueError::new_err("a key is too long"))
}

fn key(reading: &Reading<'_>, told: &Bound<'_, PyAny>) -> PyResult<Key> {
    let told = told.cast::<PyTuple>()?;
    let items = read::at(told, 1)?;
    match read::tag(told)?.as_str() {
        "text" => Ok(Key::Text(reading.string(&items)?)),
        "slices" => Ok(Key::Slices(reading.items(&items)?)),
        other => Err(read::unknown(other)),
    }
}

fn operations(reading: &Reading<'_>, told: &Bound<'_, PyAny>) -> PyResult<Operations> {
    let told = told.cast::<PyTuple>()?;
    let (item, known) = (read::at(told, 1)?, read::at(told, 2)?);
    match read::tag(told)?.as_str() {
        "texts" => {
            let pairs: Vec<(Vec<u8>, u8)> = known.extract()?;
            Ok(Operations::Texts(reading.text(&item)?, pairs.into_iter().collect()))
        }
        "symbols" => {
            let pairs: Vec<(i64, u8)> = known.extract()?;
            Ok(Operations::Symbols(reading.symbol(&item)?, pairs.into_iter().collect()))
        }
        other => Err(read::unknown(other)),
    }
}

fn birth(reading: &Reading<'_>, told: &Bound<'_, PyAny>) -> PyResult<Birth> {
    let told = told.cast::<PyTuple>()?;
    let item = read::at(told, 1)?;
    Ok(match read::tag(told)?.as_str() {
        "date" => Birth::Date(reading.number(&item)?),
        "moment" => {
            let day: i64 = read::at(told, 2)?.extract()?;
            read::ensure(day > 0, "a day has no length")?;
            let last: i64 = read::at(told, 3)?.extract()?;
            Birth::Moment { item: reading.number(&item)?, day, last }
        }
        "text" => Birth::Text(reading.text(&item)?),
        "unreadable" => Birth::Unreadable(reading.item(&item)?),
        other => return Err(read::unknown(other)),
    })
}

fn call(reading: &Reading<'_>, told: &Bound<'_, PyAny>) -> PyResult<Call> {
    let told = told.cast::<PyTuple>()?;
    Ok(Call {
        function: read::at(told, 1)?.unbind(),
        literals: read::at(told, 2)?.unbind(),
        items: reading.items(&read::at(told, 3)?)?,
    })
}

fn projection(reading: &Reading<'_>, told: &Bound<'_, PyAny>) -> PyResult<Projection> {
    let told = told.cast::<PyTuple>()?;
    Ok(Projection {
        prefix: read::at(told, 0)?.extract()?,
        pieces: reading.each(&read::at(told, 1)?, piece)?,
    })
}

fn piece(reading: &Reading<'_>, told: &Bound<'_, PyAny>) -> PyResult<Piece> {
    let told = told.cast::<PyTuple>()?;
    let tag = read::tag(told)?;
    if tag == "slice" {
        let (first, end) = (reading.item(&read::at(told, 1)?)?, read::at(told, 2)?.extract()?);
        read::ensure(first < end && end <= reading.shapes.len(), "no such slice")?;
        return Ok(Piece::Slice(first, end));
    }
    let item = reading.item(&read::at(told, 1)?)?;
    Ok(match tag.as_str() {
        "masked" => Piece::Masked(item, reading.mask(item, &read::at(told, 2)?)?),
        "call" => Piece::Call(item, read::at(told, 2)?.unbind()),
        other => return Err(read::unknown(other)),
    })
}

fn grant(reading: &Reading<'_>, told: &Bound<'_, PyAny>) -> PyResult<Grant> {
    let told = told.cast::<PyDict>()?;
    let condition = match read::optional(&read::field(told, "condition")?) {
        None => None,
        Some(node) => {
            let node = node.cast::<PyTuple>()?.clone();
            Some(if read::tag(&node)? == "call" {
                Condition::Call(call(reading, node.as_any())?)
            } else {
                Condition::Native(reading.node(&node, 0)?)
            })
        }
    };
    let secret: Option<Vec<u8>> = read::value(told, "hide")?;
    Ok(Grant {
        id: read::field(told, "id")?.cast_into::<PyString>()?.unbind(),
        condition,
        not_met: read::field(told, "not_met")?.unbind(),
        minor: read::optional(&read::field(told, "minor")?).map(Bound::unbind),
        projection: read::value(told, "projection")?,
        hide: secret.map(|secret| Keyed::new(&secret)),
        events: read::optional(&read::field(told, "events")?).map(Bound::unbind),
    })
}
