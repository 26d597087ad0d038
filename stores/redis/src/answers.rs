//! Answers of scripts, taken apart.

use redis::Value;
use unified_scheduler_core::id::ExecutionId;
use unified_scheduler_core::{Result, Timestamp};

use crate::error::odd;

/// What a script answered in an array, item by item.
#[derive(Debug)]
pub(crate) struct Answer(std::vec::IntoIter<Value>);

impl Answer {
    pub(crate) fn of(value: Value) -> Result<Self> {
        list(value).map(|items| Self(items.into_iter()))
    }

    pub(crate) fn next(&mut self) -> Value {
        self.0.next().unwrap_or_default()
    }

    pub(crate) fn int(&mut self) -> Result<i64> {
        int(&self.next())
    }

    /// Lua's `true` is 1, its `false` nothing.
    pub(crate) fn bool(&mut self) -> bool {
        self.next() != Value::Nil
    }

    pub(crate) fn bytes(&mut self) -> Option<Vec<u8>> {
        bytes(self.next())
    }

    pub(crate) fn list(&mut self) -> Result<Vec<Value>> {
        list(self.next())
    }

    pub(crate) fn time(&mut self) -> Result<Timestamp> {
        self.int().map(Timestamp::from_millis)
    }

    pub(crate) fn time_or_none(&mut self) -> Result<Option<Timestamp>> {
        match self.next() {
            Value::Nil => Ok(None),
            value => int(&value).map(|millis| Some(Timestamp::from_millis(millis))),
        }
    }

    pub(crate) fn text(&mut self) -> Result<String> {
        text(self.next())
    }

    pub(crate) fn id(&mut self) -> Result<ExecutionId> {
        id(&self.bytes().unwrap_or_default())
    }
}

pub(crate) fn int(value: &Value) -> Result<i64> {
    match value {
        Value::Int(n) => Ok(*n),
        Value::BulkString(digits) => {
            std::str::from_utf8(digits).ok().and_then(|n| n.parse().ok()).ok_or_else(|| odd("number"))
        }
        _ => Err(odd("number")),
    }
}

pub(crate) fn bytes(value: Value) -> Option<Vec<u8>> {
    match value {
        Value::BulkString(bytes) => Some(bytes),
        _ => None,
    }
}

pub(crate) fn text(value: Value) -> Result<String> {
    bytes(value).and_then(|bytes| String::from_utf8(bytes).ok()).ok_or_else(|| odd("text"))
}

/// An empty table of Lua is an empty list.
pub(crate) fn list(value: Value) -> Result<Vec<Value>> {
    match value {
        Value::Array(items) => Ok(items),
        Value::Nil => Ok(Vec::new()),
        _ => Err(odd("list")),
    }
}

pub(crate) fn id(bytes: &[u8]) -> Result<ExecutionId> {
    let uuid = uuid::Uuid::from_slice(bytes).map_err(|_| odd("id"))?;
    Ok(ExecutionId::from_uuid(uuid))
}

/// The bytes of an execution's id.
pub(crate) fn key(id: &ExecutionId) -> &[u8] {
    id.as_uuid().as_bytes()
}
