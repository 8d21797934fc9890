//! Proxies that speak CQL before each node of a cluster, what they do to frames, and what is read off these.
//!
//! Tests of other crates take this file by its path.
#![allow(dead_code, reason = "each test uses its part")]

pub(crate) mod faults;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::panic::AssertUnwindSafe;

use futures::FutureExt;
use scylla_proxy::{
    Condition, Node, Proxy, ProxyError, RequestFrame, RequestOpcode, RunningProxy, ShardAwareness,
};

/// A proxy before each of these nodes (HOST:PORT): the proxies, and by which address each node is reached now.
pub(crate) async fn before(points: &[String]) -> (RunningProxy, HashMap<SocketAddr, SocketAddr>) {
    let nodes: Vec<SocketAddr> = points.iter().map(|point| point.parse().unwrap()).collect();
    let proxied: HashMap<SocketAddr, SocketAddr> = nodes.iter().map(|node| (*node, beside(*node))).collect();
    let proxies = nodes
        .iter()
        .map(|node| Node::new(*node, proxied[node], ShardAwareness::Unaware, None, None));
    (Proxy::new(proxies).run().await.unwrap(), proxied)
}

/// A free port beside a node.
fn beside(node: SocketAddr) -> SocketAddr {
    let listener = std::net::TcpListener::bind((node.ip(), 0)).unwrap();
    listener.local_addr().unwrap()
}

/// Ends a proxy. That connections of it ended before, and how, is what the tests were for.
pub(crate) async fn finish(proxy: RunningProxy) {
    match AssertUnwindSafe(proxy.finish()).catch_unwind().await {
        Ok(Ok(()) | Err(ProxyError::Worker(_))) => {}
        Ok(Err(error)) => panic!("the proxy broke: {error}"),
        Err(panic) => {
            // All have ended, and the last of them has not let go of its channel yet.
            let text = panic.downcast_ref::<&str>().copied();
            let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
            if !text.is_some_and(|text| text.contains("Worker await logic bug")) {
                std::panic::resume_unwind(panic);
            }
        }
    }
}

/// Statements of the store, not those by which the driver watches the cluster.
pub(crate) fn of_ours(opcodes: [RequestOpcode; 2]) -> Condition {
    let [one, other] = opcodes.map(Condition::RequestOpcode);
    one.or(other)
        .and(Condition::not(Condition::ConnectionRegisteredAnyEvent))
}

/// Statements that do something.
pub(crate) fn executed() -> Condition {
    of_ours([RequestOpcode::Execute, RequestOpcode::Batch])
}

/// The text of a PREPARE or QUERY.
pub(crate) fn text_of(frame: &RequestFrame) -> String {
    let (length, rest) = frame.body.split_first_chunk::<4>().unwrap();
    let length = usize::try_from(u32::from_be_bytes(*length)).unwrap();
    String::from_utf8(rest[..length].to_vec()).unwrap()
}
