//! Shutong's optional compiled kernel: decides runs of records as the generated policy does.
//!
//! It knows no refusals. A record that is not plainly sound ends the run before it, and the pure
//! Python path decides that one; whatever is unforeseen here is an end, never a guess.

mod blake2b;
mod columns;
mod condition;
mod halt;
mod head;
mod identity;
mod masks;
mod murmur;
mod number;
mod plan;
mod read;
mod regions;
mod row;
mod rules;
mod run;
mod sha256;
mod shape;
mod walk;

/// The Python module.
#[pyo3::pymodule]
mod shutong_kernel {
    #[pymodule_export]
    use crate::run::Program;

    /// Version of what `shutong_broker.policy.nativeplan` writes and of what `run` gives.
    #[pymodule_export]
    const FORMAT: u32 = 1;
}
