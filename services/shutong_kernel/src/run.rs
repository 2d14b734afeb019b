//! The loop over the records of a run.
//!
//! A record is first decided wholly, and only then told in the columns, so that the run can end at
//! any record and leave no trace of it.
#![forbid(unsafe_code)]

use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyString, PyTuple};

use crate::columns::{Columns, Placed, Shared};
use crate::condition::Truth;
use crate::halt::{Halt, Step, stop};
use crate::head::{Head, Heads};
use crate::identity::text_is_under_14;
use crate::masks::push_masked;
use crate::murmur::lane_of;
use crate::plan::{Birth, Call, Condition, Grant, Key, Operations, Piece, Plan};
use crate::regions::{Jurisdiction, Moment};
use crate::row::{Raw, Row};
use crate::sha256::sha256;
use crate::walk::{Spot, walk};

const DATASET: usize = 0;
const PARTITION: usize = 1;
const OFFSET: usize = 2;
const KEY: usize = 3;
const VALUE: usize = 4;
const HEADERS: usize = 5;
const TIMESTAMP: usize = 6;
/// Largest inbound value and key together, as the topic is configured.
const INBOUND_BYTES_MAX: usize = 1024 * 1024;
const PREFIX_BYTES: usize = 5;
const DELIVERED_KEY_LABEL: &[u8] = b"shutong-key-v1";
const DELIVERED_KEY_BYTES: usize = 16;
const OPERATIONS: [&str; 3] = ["put", "correct", "delete"];
const NOWHERE: u32 = u32::MAX;

/// One schema version of a dataset under one list: decides runs of its records.
#[pyclass(module = "shutong_kernel")]
pub struct Program {
    plan: Plan,
    heads: Heads,
    jurisdictions: Vec<Jurisdiction>,
    moment: Option<Moment>,
    room: Room,
}

/// Room that is used again for each record.
struct Room {
    spots: Vec<Spot>,
    bytes: Vec<u8>,
    value: Vec<u8>,
    /// Of each grant its place among those met in this run.
    places: Vec<u32>,
    /// Of each projection the row for which it was made last, and its place among those.
    made: Vec<(u32, usize)>,
}

/// One verdict, not yet told.
enum Verdict<'py> {
    Placed {
        key: Bound<'py, PyBytes>,
        value: Bound<'py, PyBytes>,
        headers: Option<Bound<'py, PyAny>>,
    },
    NotMet,
    Minor,
}

/// What is known of the record under way: nothing of it is told before all of it is known.
#[derive(Default)]
struct Pending<'py> {
    verdicts: Vec<(u32, Verdict<'py>)>,
    /// Of each projection made for it.
    values: Vec<Bound<'py, PyBytes>>,
    /// The object that the records before it name the dataset by, mostly the same one.
    dataset: Option<Bound<'py, PyAny>>,
}

#[pymethods]
impl Program {
    /// Reads what `shutong_broker.policy.nativeplan` wrote. Raises ValueError or TypeError for
    /// anything else.
    #[new]
    fn new(given: &Bound<'_, PyDict>) -> PyResult<Self> {
        let plan = Plan::read(given)?;
        let room = Room {
            spots: Vec::with_capacity(plan.shapes.len()),
            bytes: Vec::new(),
            value: Vec::new(),
            places: vec![NOWHERE; plan.grants.len()],
            made: vec![(NOWHERE, 0); plan.projections.len()],
        };
        let heads = Heads::read(given)?;
        Ok(Self { plan, heads, jurisdictions: Vec::new(), moment: None, room })
    }

    /// Decides `records[first:end]` up to the first record that is not for it; gives the fields of
    /// `Columns`. `salt` is the audit block's.
    fn run<'py>(
        &mut self,
        records: &Bound<'py, PyAny>,
        first: usize,
        end: usize,
        salt: &[u8],
        moment: &Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyTuple>> {
        let py = moment.py();
        let mut columns = Columns::default();
        let mut pending = Pending::default();
        if !self.moment.as_ref().is_some_and(|known| known.is(moment)) {
            self.moment = Some(Moment::new(moment)?);
        }
        let mut ended = Ok(());
        for place in first..end.min(first.saturating_add(NOWHERE as usize - 1)) {
            let record = records.get_item(place);
            let decided = record
                .map_err(Halt::from)
                .and_then(|record| self.record(&record, salt, &mut pending, &mut columns));
            if let Err(halt) = decided {
                ended = halt.settled(py);
                break;
            }
        }
        for placed in &columns.placed {
            if let Some(place) = self.room.places.get_mut(placed.grant as usize) {
                *place = NOWHERE;
            }
        }
        self.room.made.fill((NOWHERE, 0));
        ended?;
        columns.told(&self.plan, py)
    }
}

impl Program {
    /// Decides one record, or stops before it.
    fn record<'py>(
        &mut self,
        record: &Bound<'py, PyAny>,
        salt: &[u8],
        pending: &mut Pending<'py>,
        columns: &mut Columns<'py>,
    ) -> Step<()> {
        let py = record.py();
        let record = record.cast::<PyTuple>().map_err(|_| Halt::Stop)?;
        let dataset = record.get_borrowed_item(DATASET)?;
        if !pending.dataset.as_ref().is_some_and(|known| known.is(&*dataset)) {
            let told = dataset.cast_exact::<PyString>().map_err(|_| Halt::Stop)?;
            if told.to_str()? != self.plan.dataset {
                return stop();
            }
            pending.dataset = Some(dataset.to_owned());
        }
        let key = record.get_borrowed_item(KEY)?;
        let key = key.cast_exact::<PyBytes>().map_err(|_| Halt::Stop)?;
        let value = record.get_borrowed_item(VALUE)?;
        let value = value.cast_exact::<PyBytes>().map_err(|_| Halt::Stop)?;
        let value = value.as_bytes();
        if value.len().saturating_add(key.as_bytes().len()) > INBOUND_BYTES_MAX {
            return stop();
        }
        let headers = record.get_borrowed_item(HEADERS)?;
        let head = self.heads.head(&headers)?;
        let plan = &self.plan;
        let body = if head.by_guid {
            value
        } else {
            let (prefix, body) = value.split_first_chunk::<PREFIX_BYTES>().ok_or(Halt::Stop)?;
            if !plan.prefixes.contains(prefix) {
                return stop();
            }
            body
        };
        walk(&plan.shapes, plan.limit, body, &mut self.room.spots).ok_or(Halt::Stop)?;
        let row = Row { shapes: &plan.shapes, body, spots: &self.room.spots };
        key_is_sound(plan, &row, key.as_bytes(), &mut self.room.bytes).ok_or(Halt::Stop)?;
        let partition: u32 = record.get_borrowed_item(PARTITION)?.extract()?;
        if lane_of(key.as_bytes(), plan.lanes) != partition {
            return stop();
        }
        let operation = operation(plan, &row, &head).ok_or(Halt::Stop)?;
        let writer = self.heads.writers.get(head.writer).ok_or(Halt::Stop)?;
        let flags = self.heads.jurisdictions.get(writer.flags).ok_or(Halt::Stop)?;
        if self.jurisdictions.len() <= writer.flags {
            self.jurisdictions.resize_with(writer.flags + 1, Jurisdiction::default);
        }
        let jurisdiction = self.jurisdictions.get_mut(writer.flags).ok_or(Halt::Stop)?;
        let region = row.bytes(plan.provider).flatten().ok_or(Halt::Stop)?;
        if !jurisdiction.holds(flags.bind(py), region)? {
            return stop();
        }
        for rule in &plan.rules {
            if rule.holds(&row) != Some(true) {
                return stop();
            }
        }
        for call in &plan.calls {
            if !called(call, &row, py)? {
                return stop();
            }
        }
        pending.values.clear();
        let moment = self.moment.as_mut().ok_or(Halt::Stop)?;
        let number = moment.matched(plan, &row, py)?;
        let moment = &*moment;
        let matched = moment.matches.get(number).ok_or(Halt::Stop)?;
        let mut verdicts = Verdicts {
            plan,
            row: &row,
            moment,
            record,
            key: &key,
            operation,
            young: None,
            number: columns.rows,
            made: &mut self.room.made,
            values: &mut pending.values,
            scratch: &mut self.room.bytes,
            value: &mut self.room.value,
        };
        pending.verdicts.clear();
        for candidate in &matched.candidates {
            let grant = plan.grants.get(*candidate as usize).ok_or(Halt::Stop)?;
            pending.verdicts.push((*candidate, verdicts.on(grant)?));
        }
        // From here on nothing stops.
        for (grant, verdict) in pending.verdicts.drain(..) {
            let number = columns.rows;
            tell(placed(columns, &mut self.room.places, grant), number, verdict);
        }
        share(columns, matched.shared.bind(py));
        let scratch = &mut self.room.bytes;
        columns.digests.extend_from_slice(&sha256(&[salt, body], scratch));
        let mut tokens = 0;
        for item in &plan.subjects {
            if let Some(Some(subject)) = row.bytes(*item) {
                let digest = plan.token.digest(subject);
                columns.tokens.extend(digest.iter().take(16));
                tokens += 1;
            }
        }
        columns.token_counts.push(tokens);
        columns.id_present.push(head.event_id.is_some().into());
        if let Some(event_id) = &head.event_id {
            let event_id = event_id.as_bytes();
            scratch.clear();
            scratch.extend_from_slice(&writer.label);
            scratch.extend_from_slice(&(event_id.len() as u32).to_be_bytes());
            scratch.extend_from_slice(event_id);
            let [a, b, c, d, e, f, g, h, ..] = plan.id.digest(scratch);
            columns.ids.push(PyBytes::new(py, &[a, b, c, d, e, f, g, h]));
        }
        columns.operations.push(operation);
        columns.publishers.push(writer.name.bind(py).clone());
        columns.rows += 1;
        Ok(())
    }
}

/// Whether `key` is what the key items say.
#[inline]
fn key_is_sound(plan: &Plan, row: &Row<'_>, key: &[u8], room: &mut Vec<u8>) -> Option<()> {
    let sound = match &plan.key {
        Key::Text(item) => row.bytes(*item)?? == key,
        Key::Slices(items) => {
            room.clear();
            for item in items {
                room.extend_from_slice(row.slice(*item, item + 1)?);
            }
            room.as_slice() == key
        }
    };
    sound.then_some(())
}

/// From the operation item, else as the headers told; null is a put.
fn operation(plan: &Plan, row: &Row<'_>, head: &Head<'_>) -> Option<u8> {
    let told = match &plan.operations {
        None => head.operation,
        Some(Operations::Texts(item, known)) => match row.bytes(*item)? {
            None => 0,
            Some(text) => *known.get(text)?,
        },
        Some(Operations::Symbols(item, known)) => {
            let spot = row.spots.get(*item)?;
            if spot.null { 0 } else { *known.get(&spot.number)? }
        }
    };
    (usize::from(told) < OPERATIONS.len()).then_some(told)
}

/// The truth of a Python function over raw values.
fn called(call: &Call, row: &Row<'_>, py: Python<'_>) -> Step<bool> {
    let mut values = Vec::with_capacity(call.items.len());
    for item in &call.items {
        values.push(object(row.raw(*item).ok_or(Halt::Stop)?, py)?);
    }
    let values = PyTuple::new(py, values)?;
    Ok(call.function.bind(py).call1((values, &call.literals))?.is_truthy()?)
}

/// A raw value as Python has it.
fn object<'py>(raw: Raw<'_>, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
    Ok(match raw {
        Raw::Null => py.None().into_bound(py),
        Raw::Bytes(bytes) => PyBytes::new(py, bytes).into_any(),
        Raw::Whole(number) => match i64::try_from(number) {
            Ok(number) => number.into_pyobject(py)?.into_any(),
            Err(_) => number.into_pyobject(py)?.into_any(),
        },
        Raw::Real(number) => number.into_pyobject(py)?.into_any(),
    })
}

/// What the verdicts on one record need.
struct Verdicts<'a, 'py> {
    plan: &'a Plan,
    row: &'a Row<'a>,
    moment: &'a Moment,
    record: &'a Bound<'py, PyTuple>,
    key: &'a Bound<'py, PyBytes>,
    operation: u8,
    young: Option<bool>,
    number: u32,
    made: &'a mut Vec<(u32, usize)>,
    values: &'a mut Vec<Bound<'py, PyBytes>>,
    scratch: &'a mut Vec<u8>,
    value: &'a mut Vec<u8>,
}

impl<'py> Verdicts<'_, 'py> {
    /// The verdict on one grant whose scope holds the record.
    fn on(&mut self, grant: &Grant) -> Step<Verdict<'py>> {
        let py = self.record.py();
        let passes = match &grant.condition {
            None => true,
            Some(Condition::Native(node)) => node.truth(self.row).ok_or(Halt::Stop)? == Truth::True,
            Some(Condition::Call(call)) => called(call, self.row, py)?,
        };
        if !passes {
            return Ok(Verdict::NotMet);
        }
        if grant.minor.is_some() && self.is_young()? {
            return Ok(Verdict::Minor);
        }
        let value = self.projected(grant.projection)?;
        let key = match &grant.hide {
            None => self.key.clone(),
            Some(keyed) => {
                let digest =
                    keyed.digest(&[DELIVERED_KEY_LABEL, self.key.as_bytes()], self.scratch);
                let (hidden, _) =
                    digest.split_first_chunk::<DELIVERED_KEY_BYTES>().ok_or(Halt::Stop)?;
                PyBytes::new(py, hidden)
            }
        };
        let headers = match &grant.events {
            None => None,
            Some(events) => Some(self.headers(events.bind(py))?),
        };
        Ok(Verdict::Placed { key, value, headers })
    }

    fn headers(&self, events: &Bound<'py, PyAny>) -> Step<Bound<'py, PyAny>> {
        let operation = OPERATIONS.get(usize::from(self.operation)).ok_or(Halt::Stop)?;
        Ok(events.call1((
            PyString::intern(self.record.py(), operation),
            self.record.get_borrowed_item(PARTITION)?,
            self.record.get_borrowed_item(OFFSET)?,
            self.record.get_borrowed_item(TIMESTAMP)?,
        ))?)
    }

    /// The record of one projection, made once.
    fn projected(&mut self, number: usize) -> Step<Bound<'py, PyBytes>> {
        let py = self.record.py();
        let made = self.made.get_mut(number).ok_or(Halt::Stop)?;
        if made.0 == self.number
            && let Some(value) = self.values.get(made.1)
        {
            return Ok(value.clone());
        }
        let projection = self.plan.projections.get(number).ok_or(Halt::Stop)?;
        let out = &mut *self.value;
        out.clear();
        out.extend_from_slice(&projection.prefix);
        for piece in &projection.pieces {
            match piece {
                Piece::Slice(first, end) => {
                    out.extend_from_slice(self.row.slice(*first, *end).ok_or(Halt::Stop)?);
                }
                Piece::Masked(item, mask) => {
                    push_masked(out, mask, self.row, *item, self.scratch).ok_or(Halt::Stop)?;
                }
                Piece::Call(item, mask) => {
                    let raw = object(self.row.raw(*item).ok_or(Halt::Stop)?, py)?;
                    let told = mask.bind(py).call1((raw,))?;
                    out.extend_from_slice(told.extract::<&[u8]>().map_err(PyErr::from)?);
                }
            }
        }
        let value = PyBytes::new(py, out);
        *made = (self.number, self.values.len());
        self.values.push(value.clone());
        Ok(value)
    }

    /// Whether the record is, or may be, of a person under 14; worked out once.
    fn is_young(&mut self) -> Step<bool> {
        if let Some(known) = self.young {
            return Ok(known);
        }
        let (mut young, mut told) = (false, false);
        for birth in &self.plan.births {
            if let Some(of_this) = self.tells_young(birth)? {
                told = true;
                young |= of_this;
            }
        }
        if self.plan.tells_age && !told {
            let spots = self.row.spots;
            young = self.plan.subjects.iter().any(|item| spots.get(*item).is_some_and(|s| !s.null));
        }
        self.young = Some(young);
        Ok(young)
    }

    /// What one birth tells; None where it is null.
    fn tells_young(&self, birth: &Birth) -> Step<Option<bool>> {
        let (Birth::Date(item)
        | Birth::Text(item)
        | Birth::Unreadable(item)
        | Birth::Moment { item, .. }) = birth;
        let spot = self.row.spots.get(*item).ok_or(Halt::Stop)?;
        if spot.null {
            return Ok(None);
        }
        Ok(Some(match birth {
            Birth::Date(_) => spot.number >= self.moment.adult_before,
            Birth::Moment { day, last, .. } => {
                if spot.number > *last {
                    return stop(); // no day in China
                }
                (spot.number + day / 3).div_euclid(*day) >= self.moment.adult_before
            }
            Birth::Text(_) => {
                let text = self.row.bytes(*item).flatten().ok_or(Halt::Stop)?;
                text_is_under_14(text, self.moment.today)
            }
            Birth::Unreadable(_) => true,
        }))
    }
}

/// The columns of one grant in this run.
#[inline]
fn placed<'a, 'py>(
    columns: &'a mut Columns<'py>,
    places: &mut [u32],
    grant: u32,
) -> Option<&'a mut Placed<'py>> {
    let place = places.get_mut(grant as usize)?;
    if *place == NOWHERE {
        *place = columns.placed.len() as u32;
        columns.placed.push(Placed { grant, ..Placed::default() });
    }
    columns.placed.get_mut(*place as usize)
}

fn tell<'py>(placed: Option<&mut Placed<'py>>, row: u32, verdict: Verdict<'py>) {
    let Some(placed) = placed else {
        return;
    };
    match verdict {
        Verdict::NotMet => placed.not_met.push(row),
        Verdict::Minor => placed.minors.push(row),
        Verdict::Placed { key, value, headers } => {
            placed.rows.push(row);
            placed.keys.push(key);
            placed.values.push(value);
            placed.headers.extend(headers);
        }
    }
}

/// Those withheld from the present row whatever it holds: the run before grows if it is the same.
#[inline]
fn share<'py>(columns: &mut Columns<'py>, told: &Bound<'py, PyTuple>) {
    let row = columns.rows;
    if let Some(last) = columns.shared.last_mut()
        && last.end == row
        && last.told.is(told)
    {
        last.end += 1;
    } else if !told.is_empty() {
        columns.shared.push(Shared { first: row, end: row + 1, told: told.clone() });
    }
}
