//! What a record's headers say, see `shutong_core.wire.headers` for the rules.
//!
//! Names of publishers and ce_types are judged by Python once and remembered by their bytes; only
//! those that pass are remembered, so a record cannot fill the memory.
#![forbid(unsafe_code)]

use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyList, PyString, PyTuple};
use rustc_hash::FxHashMap;

use crate::halt::{Halt, Step, stop};
use crate::read;

const PUBLISHER: &str = "shutong_publisher";
const EVENT_ID: &str = "ce_id";
const TYPE: &str = "ce_type";
const TIME: &str = "ce_time";
const SCHEMA_ID: &str = "__value_schema_id";

const HEADERS_MAX: usize = 32;
const HEADERS_BYTES_MAX: usize = 8 * 1024;
const EVENT_ID_CHARS_MAX: usize = 128;
/// Longest string in the audit, see `shutong_core.audit.encoding`.
const TEXT_BYTES_MAX: usize = 255;
const PUBLISHERS_MAX: usize = 16_384;
const TYPES_MAX: usize = 64;

/// Who writes: `flags` is the number of its jurisdiction, `label` what its id hashes begin with.
pub struct Writer {
    pub name: Py<PyString>,
    pub flags: usize,
    pub label: Vec<u8>,
}

/// The head of one record; `operation` is what ce_type tells.
pub struct Head<'py> {
    pub writer: usize,
    pub event_id: Option<Bound<'py, PyBytes>>,
    pub operation: u8,
    pub by_guid: bool,
}

pub struct Heads {
    publisher: Py<PyAny>,
    kind: Py<PyAny>,
    time: Py<PyAny>,
    dataset: String,
    guids: Vec<[u8; 17]>,
    pub writers: Vec<Writer>,
    sole: Option<usize>,
    by_name: FxHashMap<Vec<u8>, usize>,
    /// Who wrote last, mostly the one who writes next.
    last: (Vec<u8>, usize),
    by_type: FxHashMap<Vec<u8>, u8>,
    /// The jurisdictions in the order in which they were met.
    pub jurisdictions: Vec<Py<PyAny>>,
}

impl Heads {
    pub fn read(given: &Bound<'_, PyDict>) -> PyResult<Self> {
        let mut heads = Self {
            publisher: read::field(given, "publisher")?.unbind(),
            kind: read::field(given, "type")?.unbind(),
            time: read::field(given, "time")?.unbind(),
            dataset: read::value(given, "dataset")?,
            guids: read::value(given, "guids")?,
            writers: Vec::new(),
            sole: None,
            by_name: FxHashMap::default(),
            last: (Vec::new(), usize::MAX),
            by_type: FxHashMap::default(),
            jurisdictions: Vec::new(),
        };
        if let Some(sole) = read::optional(&read::field(given, "sole")?) {
            heads.sole = Some(heads.met(&sole)?);
        }
        Ok(heads)
    }

    /// The number of a writer told as `(name, flags)`.
    fn met(&mut self, told: &Bound<'_, PyAny>) -> PyResult<usize> {
        let told = told.cast::<PyTuple>()?;
        let name = read::at(told, 0)?.cast_into::<PyString>()?;
        let flags = read::at(told, 1)?;
        let text = name.to_str()?;
        read::ensure(text.len() <= TEXT_BYTES_MAX, "a publisher's name is too long")?;
        let known = self.jurisdictions.iter().position(|each| each.is(&flags));
        let flags = known.unwrap_or_else(|| {
            self.jurisdictions.push(flags.unbind());
            self.jurisdictions.len() - 1
        });
        let mut label = Vec::new();
        for text in [text, &self.dataset] {
            label.extend_from_slice(&u32::try_from(text.len()).unwrap_or(u32::MAX).to_be_bytes());
            label.extend_from_slice(text.as_bytes());
        }
        self.writers.push(Writer { name: name.unbind(), flags, label });
        Ok(self.writers.len() - 1)
    }

    /// The head of a record with these headers.
    pub fn head<'py>(&mut self, headers: &Bound<'py, PyAny>) -> Step<Head<'py>> {
        let mut found = Found::default();
        if let Ok(tuple) = headers.cast_exact::<PyTuple>() {
            within(tuple.len())?;
            for header in tuple.iter_borrowed() {
                self.header(&header, &mut found)?;
            }
        } else {
            let list = headers.cast_exact::<PyList>().map_err(|_| Halt::Stop)?;
            within(list.len())?;
            for header in list.iter() {
                self.header(&header, &mut found)?;
            }
        }
        if found.bytes > HEADERS_BYTES_MAX {
            return stop();
        }
        let Some(writer) = self.sole.or(found.writer) else {
            return stop();
        };
        let operation = found.operation.unwrap_or(0);
        Ok(Head { writer, event_id: found.event_id, operation, by_guid: found.by_guid })
    }

    fn header<'py>(&mut self, header: &Bound<'py, PyAny>, found: &mut Found<'py>) -> Step<()> {
        let pair = header.cast::<PyTuple>().map_err(|_| Halt::Stop)?;
        if pair.len() != 2 {
            return stop();
        }
        let name = pair.get_borrowed_item(0)?;
        let name = name.cast_exact::<PyString>().map_err(|_| Halt::Stop)?;
        let name = name.to_str()?;
        let value = pair.get_borrowed_item(1)?;
        let (seen, told) = match name {
            PUBLISHER => (1, bytes_of(&value)?),
            EVENT_ID => (2, bytes_of(&value)?),
            TYPE => (4, bytes_of(&value)?),
            TIME => (8, bytes_of(&value)?),
            SCHEMA_ID => (16, bytes_of(&value)?),
            _ => {
                // Nobody reads it: it is counted, and may be null.
                let size = if value.is_none() { 0 } else { bytes_of(&value)?.as_bytes().len() };
                found.bytes = found.bytes.saturating_add(name.len()).saturating_add(size);
                return Ok(());
            }
        };
        if found.seen & seen != 0 {
            return stop();
        }
        found.seen |= seen;
        let bytes = told.as_bytes();
        found.bytes = found.bytes.saturating_add(name.len()).saturating_add(bytes.len());
        match name {
            // In own-client mode the list says who writes, whatever stands here.
            PUBLISHER if self.sole.is_some() => {}
            PUBLISHER => found.writer = Some(self.writer(told)?),
            EVENT_ID if is_event_id(bytes) => found.event_id = Some(told.clone()),
            TYPE => found.operation = Some(self.operation(told)?),
            TIME if self.time.bind(header.py()).call1((told,))?.is_truthy()? => {}
            SCHEMA_ID if self.guids.iter().any(|guid| guid == bytes) => found.by_guid = true,
            _ => return stop(),
        }
        Ok(())
    }

    #[inline]
    fn writer(&mut self, told: &Bound<'_, PyBytes>) -> Step<usize> {
        let name = told.as_bytes();
        if self.last.0 == name {
            return Ok(self.last.1);
        }
        if let Some(known) = self.by_name.get(name) {
            self.last = (name.to_vec(), *known);
            return Ok(*known);
        }
        let found = self.publisher.bind(told.py()).call1((told,))?;
        if found.is_none() || self.writers.len() > PUBLISHERS_MAX {
            return stop();
        }
        let writer = self.met(&found)?;
        self.by_name.insert(name.to_vec(), writer);
        Ok(writer)
    }

    fn operation(&mut self, told: &Bound<'_, PyBytes>) -> Step<u8> {
        if let Some(known) = self.by_type.get(told.as_bytes()) {
            return Ok(*known);
        }
        let found = self.kind.bind(told.py()).call1((told,))?;
        if found.is_none() {
            return stop();
        }
        let operation: u8 = found.extract()?;
        if self.by_type.len() < TYPES_MAX {
            self.by_type.insert(told.as_bytes().to_vec(), operation);
        }
        Ok(operation)
    }
}

/// What was seen of the headers so far.
#[derive(Default)]
struct Found<'py> {
    writer: Option<usize>,
    event_id: Option<Bound<'py, PyBytes>>,
    operation: Option<u8>,
    by_guid: bool,
    seen: u8,
    bytes: usize,
}

fn within(count: usize) -> Step<()> {
    if count > HEADERS_MAX { stop() } else { Ok(()) }
}

fn bytes_of<'a, 'py>(value: &'a Bound<'py, PyAny>) -> Step<&'a Bound<'py, PyBytes>> {
    value.cast_exact::<PyBytes>().map_err(|_| Halt::Stop)
}

/// 1–128 visible characters; the set is fixed, see `shutong_core.wire.headers`.
fn is_event_id(bytes: &[u8]) -> bool {
    if bytes.is_empty() || bytes.len() > TEXT_BYTES_MAX {
        return false;
    }
    if bytes.len() <= EVENT_ID_CHARS_MAX && bytes.iter().all(|byte| matches!(byte, 0x20..=0x7E)) {
        return true;
    }
    std::str::from_utf8(bytes).is_ok_and(|text| {
        text.chars().count() <= EVENT_ID_CHARS_MAX && text.chars().all(is_visible)
    })
}

fn is_visible(character: char) -> bool {
    !matches!(
        character,
        '\u{0}'..='\u{1f}'
            | '\u{7f}'..='\u{9f}'
            | '\u{ad}'
            | '\u{200b}'..='\u{200f}'
            | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}'
            | '\u{feff}'
            | '\u{fff0}'..='\u{ffff}'
    )
}

#[cfg(test)]
mod tests {
    use super::is_event_id;

    #[test]
    fn an_event_id_is_short_and_visible() {
        assert!(is_event_id(b"event 1"));
        assert!(is_event_id("事件".as_bytes()));
        assert!(is_event_id(&[b'x'; 128]));
        assert!(!is_event_id(&[b'x'; 129]));
        assert!(!is_event_id(b""));
        assert!(!is_event_id(b"a\n"));
        assert!(!is_event_id("a\u{200b}".as_bytes()));
        assert!(!is_event_id(&[0xFF]));
    }
}
