//! What the list says of regions, remembered by their raw bytes.
//!
//! Python's own tables hold the rules; what they remember is remembered here too, no more: only
//! regions that the division table knows, so a record cannot fill the memory.
#![forbid(unsafe_code)]

use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyTuple};
use rustc_hash::FxHashMap;

use crate::halt::{Halt, Step, stop};
use crate::identity::Day;
use crate::plan::Plan;
use crate::row::Row;

const REMEMBERED_MAX: usize = 65_536;

/// Whether a region lies in one publisher's jurisdiction: `RegionFlags`.
#[derive(Default)]
pub struct Jurisdiction {
    known: FxHashMap<Vec<u8>, bool>,
}

impl Jurisdiction {
    /// Stops for a region that is unknown.
    #[inline]
    pub fn holds(&mut self, flags: &Bound<'_, PyAny>, raw: &[u8]) -> Step<bool> {
        if let Some(known) = self.known.get(raw) {
            return Ok(*known);
        }
        let told = flags.get_item(PyBytes::new(flags.py(), raw))?;
        if told.is_none() {
            return stop();
        }
        let told: bool = told.extract()?;
        if self.known.len() >= REMEMBERED_MAX {
            self.known.clear();
        }
        self.known.insert(raw.to_vec(), told);
        Ok(told)
    }
}

/// The grants that a record's regions lead to: `Match`.
pub struct Match {
    pub candidates: Vec<u32>,
    pub shared: Py<PyTuple>,
    /// Keeps its address taken, by which it is found.
    _of: Py<PyAny>,
}

/// What holds at one span of time: `Moment`.
pub struct Moment {
    of: Py<PyAny>,
    pub adult_before: i64,
    pub today: Day,
    by_regions: FxHashMap<Vec<u8>, usize>,
    by_address: FxHashMap<usize, usize>,
    pub matches: Vec<Match>,
    key: Vec<u8>,
}

impl Moment {
    pub fn new(of: &Bound<'_, PyAny>) -> PyResult<Self> {
        let today = of.getattr("today")?;
        Ok(Self {
            adult_before: of.getattr("adult_before")?.extract()?,
            today: (
                today.getattr("year")?.extract()?,
                today.getattr("month")?.extract()?,
                today.getattr("day")?.extract()?,
            ),
            of: of.clone().unbind(),
            by_regions: FxHashMap::default(),
            by_address: FxHashMap::default(),
            matches: Vec::new(),
            key: Vec::new(),
        })
    }

    pub fn is(&self, other: &Bound<'_, PyAny>) -> bool {
        self.of.is(other)
    }

    /// The number of the match of a record.
    #[inline]
    pub fn matched(&mut self, plan: &Plan, row: &Row<'_>, py: Python<'_>) -> Step<usize> {
        let mut key = std::mem::take(&mut self.key);
        let found = match self.key_of(plan, row, &mut key) {
            None => stop(),
            Some(()) => match self.by_regions.get(&key) {
                Some(known) => Ok(*known),
                None => self.asked(plan, row, &key, py),
            },
        };
        self.key = key;
        found
    }

    /// One byte that tells null from text for each role; lengths, so that no two are alike.
    fn key_of(&self, plan: &Plan, row: &Row<'_>, key: &mut Vec<u8>) -> Option<()> {
        key.clear();
        for role in &plan.roles {
            match row.bytes(*role)? {
                None => key.push(0),
                Some(raw) => {
                    key.push(1);
                    if plan.roles.len() > 1 {
                        key.extend_from_slice(&raw.len().to_le_bytes());
                    }
                    key.extend_from_slice(raw);
                }
            }
        }
        Some(())
    }

    fn asked(&mut self, plan: &Plan, row: &Row<'_>, key: &[u8], py: Python<'_>) -> Step<usize> {
        let mut raws = Vec::with_capacity(plan.roles.len());
        for role in &plan.roles {
            let raw = row.bytes(*role).ok_or(Halt::Stop)?;
            raws.push(match raw {
                Some(raw) => PyBytes::new(py, raw).into_any(),
                None => py.None().into_bound(py),
            });
        }
        let asked = match raws.as_slice() {
            [] => py.None().into_bound(py),
            [one] => one.clone(),
            _ => PyTuple::new(py, raws)?.into_any(),
        };
        let of = self.of.bind(py).clone();
        let found = of.get_item(&asked)?;
        if self.by_regions.len() >= REMEMBERED_MAX || self.matches.len() >= REMEMBERED_MAX {
            self.by_regions.clear();
            self.by_address.clear();
            self.matches.clear();
        }
        let number = self.met(plan, &found)?;
        if of.contains(&asked)? {
            self.by_regions.insert(key.to_vec(), number);
        }
        Ok(number)
    }

    /// The number of a match that Python made.
    fn met(&mut self, plan: &Plan, found: &Bound<'_, PyAny>) -> Step<usize> {
        let address = found.as_ptr() as usize;
        if let Some(known) = self.by_address.get(&address) {
            return Ok(*known);
        }
        let mut candidates = Vec::new();
        for candidate in found.getattr("candidates")?.try_iter()? {
            let grant = candidate?.getattr("grant")?;
            let grant: &str = grant.extract()?;
            candidates.push(*plan.grant_numbers.get(grant).ok_or(Halt::Stop)?);
        }
        let shared = found.getattr("shared")?.cast_into::<PyTuple>().map_err(PyErr::from)?.unbind();
        self.matches.push(Match { candidates, shared, _of: found.clone().unbind() });
        self.by_address.insert(address, self.matches.len() - 1);
        Ok(self.matches.len() - 1)
    }
}
