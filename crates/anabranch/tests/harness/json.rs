//! The JSON surface, over a plain socket: what `curl` would send.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use serde_json::Value;

/// An answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("not JSON ({error}): {}", String::from_utf8_lossy(&self.body)))
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// Sends one request and reads its answer to the end.
pub(crate) fn send(address: SocketAddr, method: &str, path: &str, headers: &str, body: &[u8]) -> Answer {
    try_send(address, method, path, headers, body).unwrap_or_else(|error| panic!("{method} {path}: {error}"))
}

pub(crate) fn try_send(
    address: SocketAddr,
    method: &str,
    path: &str,
    headers: &str,
    body: &[u8],
) -> std::io::Result<Answer> {
    let mut socket = TcpStream::connect(address)?;
    socket.set_read_timeout(Some(Duration::from_secs(60)))?;
    let head = format!(
        "{method} {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\ncontent-length: {}\r\n{headers}\r\n",
        body.len()
    );
    socket.write_all(head.as_bytes())?;
    // A server may answer and close before it has read a body that is too large.
    let _ = socket.write_all(body);
    let mut all = Vec::new();
    let mut part = [0; 65_536];
    loop {
        match socket.read(&mut part) {
            Ok(0) => break,
            Ok(read) => all.extend_from_slice(&part[..read]),
            Err(_) if !all.is_empty() => break,
            Err(error) => return Err(error),
        }
    }
    let end = all
        .windows(4)
        .position(|four| four == b"\r\n\r\n")
        .ok_or_else(|| std::io::Error::other("an answer without a head"))?;
    let head = String::from_utf8_lossy(&all[..end]).to_lowercase();
    let status = head
        .split_whitespace()
        .nth(1)
        .and_then(|code| code.parse().ok())
        .ok_or_else(|| std::io::Error::other("an answer without a status"))?;
    let body = all[end + 4..].to_vec();
    let body = if head.contains("transfer-encoding: chunked") {
        unchunk(&body)
    } else {
        body
    };
    Ok(Answer { status, head, body })
}

fn unchunk(mut chunks: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    while let Some(end) = chunks.windows(2).position(|two| two == b"\r\n") {
        let size = std::str::from_utf8(&chunks[..end])
            .ok()
            .and_then(|digits| usize::from_str_radix(digits, 16).ok());
        let Some(size) = size.filter(|&size| size > 0) else {
            break;
        };
        let start = end + 2;
        body.extend_from_slice(&chunks[start..(start + size).min(chunks.len())]);
        chunks = &chunks[(start + size + 2).min(chunks.len())..];
    }
    body
}

/// Calls a method of the API with a JSON body as bytes.
pub(crate) fn call_bytes(address: SocketAddr, method: &str, body: &[u8]) -> Answer {
    send(
        address,
        "POST",
        &format!("/api/{method}"),
        "content-type: application/json\r\n",
        body,
    )
}

/// Calls a method of the API.
pub(crate) fn call(address: SocketAddr, method: &str, body: &Value) -> Answer {
    call_bytes(address, method, body.to_string().as_bytes())
}
