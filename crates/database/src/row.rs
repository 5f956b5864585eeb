use std::sync::Arc;

use time::OffsetDateTime;

use crate::{Error, Value, from_micros};

/// A row of a result, read whole: it borrows nothing from its connection.
#[derive(Clone, Debug)]
pub struct Row {
    columns: Arc<[String]>,
    values: Vec<Value>,
}

/// What a column can be read as: `i64`, `bool`, `String`, `Vec<u8>`, [`OffsetDateTime`] and `Option` of these.
pub trait FromValue: Sized {
    /// # Errors
    /// Gives the value back where it is of another kind.
    fn from_value(value: Value) -> Result<Self, Value>;
}

impl Row {
    pub(crate) fn new(columns: Arc<[String]>, values: Vec<Value>) -> Self {
        Self { columns, values }
    }

    /// # Errors
    /// [`Error::Query`] if there is no such column, or it holds something else.
    pub fn get<T: FromValue>(&self, column: &str) -> Result<T, Error> {
        let value = self.columns.iter().position(|name| name == column).and_then(|at| self.values.get(at));
        let value = value.ok_or_else(|| Error::Query(format!("no column {column}")))?;
        T::from_value(value.clone()).map_err(|value| {
            let wanted = std::any::type_name::<T>();
            Error::Query(format!("column {column} holds {}, not {wanted}", value.kind()))
        })
    }
}

impl FromValue for i64 {
    fn from_value(value: Value) -> Result<Self, Value> {
        match value {
            Value::Integer(integer) => Ok(integer),
            other => Err(other),
        }
    }
}

impl FromValue for bool {
    fn from_value(value: Value) -> Result<Self, Value> {
        i64::from_value(value).map(|integer| integer != 0)
    }
}

impl FromValue for OffsetDateTime {
    fn from_value(value: Value) -> Result<Self, Value> {
        i64::from_value(value).map(from_micros)
    }
}

impl FromValue for String {
    fn from_value(value: Value) -> Result<Self, Value> {
        match value {
            Value::Text(text) => Ok(text),
            other => Err(other),
        }
    }
}

impl FromValue for Vec<u8> {
    fn from_value(value: Value) -> Result<Self, Value> {
        match value {
            Value::Bytes(bytes) => Ok(bytes),
            other => Err(other),
        }
    }
}

impl<T: FromValue> FromValue for Option<T> {
    fn from_value(value: Value) -> Result<Self, Value> {
        match value {
            Value::Null => Ok(None),
            other => T::from_value(other).map(Some),
        }
    }
}
