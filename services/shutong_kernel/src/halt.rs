//! Why a run ends at a record: it is not for us, or Python must stop altogether.
#![forbid(unsafe_code)]

use pyo3::exceptions::PyException;
use pyo3::prelude::*;

pub enum Halt {
    /// Another reading decides this record; why does not matter.
    Stop,
    /// Python raised something.
    Raised(PyErr),
}

pub type Step<T> = Result<T, Halt>;

pub fn stop<T>() -> Step<T> {
    Err(Halt::Stop)
}

impl From<PyErr> for Halt {
    fn from(error: PyErr) -> Self {
        Halt::Raised(error)
    }
}

impl Halt {
    /// Errors are stops; what is no error (an interrupt, an exit) goes on.
    pub fn settled(self, py: Python<'_>) -> PyResult<()> {
        match self {
            Halt::Raised(error) if !error.is_instance_of::<PyException>(py) => Err(error),
            _ => Ok(()),
        }
    }
}
