//! As much of MongoDB's protocol as it takes to make a replica set: one command, one answer.
//!
//! Sources: the MongoDB wire protocol, `OP_MSG`; bsonspec.org, version 1.1.

use std::fmt;
use std::io::{Error, Read, Result, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::time::Duration;

const OP_MSG: i32 = 2013;
const TIMEOUT: Duration = Duration::from_secs(5);
/// Larger answers are not to be expected.
const MOST: usize = 1 << 20;

/// What stands in a command.
pub(crate) enum Value {
    Int(i32),
    Bool(bool),
    Text(String),
    Document(Vec<(&'static str, Value)>),
    Array(Vec<Value>),
}

/// The document that was answered, as it came.
pub(crate) struct Reply(Vec<u8>);

impl Reply {
    /// Whether a field of that name, at any depth, is true.
    pub(crate) fn says_true(&self, field: &str) -> bool {
        self.holds(&[&[0x08], field.as_bytes(), &[0, 1]].concat())
    }

    /// Whether the command was carried out.
    pub(crate) fn is_ok(&self) -> bool {
        self.holds(&[b"\x01ok\0".as_slice(), &1_f64.to_le_bytes()].concat())
    }

    fn holds(&self, bytes: &[u8]) -> bool {
        self.0.windows(bytes.len()).any(|window| window == bytes)
    }
}

impl fmt::Display for Reply {
    /// What can be read of it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let readable: String =
            self.0.iter().map(|b| if b.is_ascii_graphic() { char::from(*b) } else { ' ' }).collect();
        f.write_str(&readable.split_whitespace().collect::<Vec<_>>().join(" "))
    }
}

/// Sends a command to the database `admin`.
pub(crate) fn ask(port: u16, command: &[(&'static str, Value)]) -> Result<Reply> {
    let mut body = Vec::new();
    for (name, value) in command {
        put(&mut body, name, value);
    }
    put(&mut body, "$db", &Value::Text("admin".to_owned()));
    let document = enclosed(&body);

    let mut message = Vec::new();
    // Length, request id, in answer to what, operation, flags, and a section of one document.
    for number in [length(document.len() + 21), 1, 0, OP_MSG, 0] {
        message.extend(number.to_le_bytes());
    }
    message.push(0);
    message.extend(document);

    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    stream.write_all(&message)?;
    let mut size = [0; 4];
    stream.read_exact(&mut size)?;
    let rest = usize::try_from(i32::from_le_bytes(size)).unwrap_or(0).saturating_sub(4);
    if rest > MOST {
        return Err(Error::other("the answer is too large"));
    }
    let mut reply = vec![0; rest];
    stream.read_exact(&mut reply)?;
    Ok(Reply(reply))
}

fn put(into: &mut Vec<u8>, name: &str, value: &Value) {
    let (kind, bytes) = match value {
        Value::Int(n) => (0x10, n.to_le_bytes().to_vec()),
        Value::Bool(yes) => (0x08, vec![u8::from(*yes)]),
        Value::Text(text) => (0x02, [&length(text.len() + 1).to_le_bytes(), text.as_bytes(), &[0]].concat()),
        Value::Document(fields) => {
            let mut body = Vec::new();
            for (name, value) in fields {
                put(&mut body, name, value);
            }
            (0x03, enclosed(&body))
        }
        Value::Array(values) => {
            let mut body = Vec::new();
            for (i, value) in values.iter().enumerate() {
                put(&mut body, &i.to_string(), value);
            }
            (0x04, enclosed(&body))
        }
    };
    into.push(kind);
    into.extend(name.as_bytes());
    into.push(0);
    into.extend(bytes);
}

/// A document: its length, its fields, and a zero.
fn enclosed(body: &[u8]) -> Vec<u8> {
    [&length(body.len() + 5).to_le_bytes(), body, &[0]].concat()
}

fn length(n: usize) -> i32 {
    i32::try_from(n).unwrap_or(i32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_document_is_written_as_the_specification_shows_it() {
        let mut body = Vec::new();
        put(&mut body, "hello", &Value::Text("world".to_owned()));
        assert_eq!(enclosed(&body), b"\x16\0\0\0\x02hello\0\x06\0\0\0world\0\0");
    }

    #[test]
    fn a_reply_is_searched_for_what_it_says() {
        let mut body = Vec::new();
        put(&mut body, "isWritablePrimary", &Value::Bool(true));
        put(&mut body, "secondary", &Value::Bool(false));
        let reply = Reply(body);
        assert!(reply.says_true("isWritablePrimary") && !reply.says_true("secondary") && !reply.is_ok());
    }
}
