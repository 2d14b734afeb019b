//! The verdicts on a run of records as they grow, see `shutong_broker.policy.columns`.
#![forbid(unsafe_code)]

use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyList, PyString, PyTuple};

use crate::plan::Plan;

/// What one grant gets, and the rows withheld from it for what stands in them.
#[derive(Default)]
pub struct Placed<'py> {
    pub grant: u32,
    pub rows: Vec<u32>,
    pub keys: Vec<Bound<'py, PyBytes>>,
    pub values: Vec<Bound<'py, PyBytes>>,
    pub headers: Vec<Bound<'py, PyAny>>,
    pub not_met: Vec<u32>,
    pub minors: Vec<u32>,
}

/// Rows [first, end) with those withheld from all of them.
pub struct Shared<'py> {
    pub first: u32,
    pub end: u32,
    pub told: Bound<'py, PyTuple>,
}

#[derive(Default)]
pub struct Columns<'py> {
    pub rows: u32,
    pub publishers: Vec<Bound<'py, PyString>>,
    pub operations: Vec<u8>,
    pub digests: Vec<u8>,
    pub token_counts: Vec<u8>,
    pub tokens: Vec<u8>,
    pub id_present: Vec<u8>,
    pub ids: Vec<Bound<'py, PyBytes>>,
    /// In the order in which the grants were met.
    pub placed: Vec<Placed<'py>>,
    pub shared: Vec<Shared<'py>>,
}

impl<'py> Columns<'py> {
    /// The fields of `Columns` in its order, `placed` as tuples of the fields of `Placed`.
    pub fn told(self, plan: &Plan, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        let (placed, own) = (PyDict::new(py), PyDict::new(py));
        for each in self.placed {
            let Some(grant) = plan.grants.get(each.grant as usize) else {
                continue;
            };
            if !each.not_met.is_empty() {
                own.set_item(&grant.not_met, each.not_met)?;
            }
            if let (Some(minor), false) = (&grant.minor, each.minors.is_empty()) {
                own.set_item(minor, each.minors)?;
            }
            if !each.rows.is_empty() {
                placed.set_item(&grant.id, (each.rows, each.keys, each.values, each.headers))?;
            }
        }
        let shared = self.shared.into_iter().map(|run| (run.first, run.end, run.told));
        let columns = [
            self.rows.into_pyobject(py)?.into_any(),
            PyList::new(py, self.publishers)?.into_any(),
            PyBytes::new(py, &self.operations).into_any(),
            PyBytes::new(py, &self.digests).into_any(),
            PyBytes::new(py, &self.token_counts).into_any(),
            PyBytes::new(py, &self.tokens).into_any(),
            PyBytes::new(py, &self.id_present).into_any(),
            PyList::new(py, self.ids)?.into_any(),
            placed.into_any(),
            PyList::new(py, shared.collect::<Vec<_>>())?.into_any(),
            own.into_any(),
        ];
        PyTuple::new(py, columns)
    }
}
