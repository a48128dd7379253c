//! What transactions are made of.

use volley_proto::wire::etcd::compare::{CompareResult, CompareTarget, TargetUnion};
use volley_proto::wire::etcd::request_op::Request;
use volley_proto::wire::etcd::response_op::Response;
use volley_proto::wire::etcd::{Compare, DeleteRangeRequest, KeyValue, PutRequest, RangeRequest, RequestOp, ResponseOp};

fn operation(request: Request) -> RequestOp {
    RequestOp { request: Some(request) }
}

/// Writes a key.
pub(super) fn put(key: impl Into<Vec<u8>>, value: impl Into<Vec<u8>>) -> RequestOp {
    leased(key, value, 0)
}

/// Writes a key that goes with a lease.
pub(super) fn leased(key: impl Into<Vec<u8>>, value: impl Into<Vec<u8>>, lease: i64) -> RequestOp {
    operation(Request::RequestPut(PutRequest { key: key.into().into(), value: value.into().into(), lease, prev_kv: true }))
}

/// Removes the keys from `from` on that are before `end`.
pub(super) fn delete_range(from: impl Into<Vec<u8>>, end: impl Into<Vec<u8>>) -> RequestOp {
    operation(Request::RequestDeleteRange(DeleteRangeRequest { key: from.into().into(), range_end: end.into().into(), prev_kv: false }))
}

/// Removes a key.
pub(super) fn delete(key: impl Into<Vec<u8>>) -> RequestOp {
    let request = DeleteRangeRequest { key: key.into().into(), prev_kv: true, ..Default::default() };
    operation(Request::RequestDeleteRange(request))
}

/// Reads a key.
pub(super) fn get(key: impl Into<Vec<u8>>) -> RequestOp {
    range(RangeRequest { key: key.into().into(), ..Default::default() })
}

pub(super) fn range(request: RangeRequest) -> RequestOp {
    operation(Request::RequestRange(request))
}

/// Holds if a key was made at this revision; 0 stands for one that is not there.
pub(super) fn was_made_at(key: impl Into<Vec<u8>>, revision: i64) -> Compare {
    compare(key.into(), CompareTarget::Create, TargetUnion::CreateRevision(revision))
}

/// Holds if a key was last written at this revision.
pub(super) fn was_written_at(key: impl Into<Vec<u8>>, revision: i64) -> Compare {
    compare(key.into(), CompareTarget::Mod, TargetUnion::ModRevision(revision))
}

/// Holds if a key's value is less than this, byte by byte.
pub(super) fn is_less(key: impl Into<Vec<u8>>, value: impl Into<Vec<u8>>) -> Compare {
    let compare = compare(key.into(), CompareTarget::Value, TargetUnion::Value(value.into().into()));
    Compare { result: CompareResult::Less.into(), ..compare }
}

fn compare(key: Vec<u8>, target: CompareTarget, value: TargetUnion) -> Compare {
    Compare { result: CompareResult::Equal.into(), target: target.into(), key: key.into(), target_union: Some(value) }
}

/// The key that was read.
pub(super) fn got(response: Option<&ResponseOp>) -> Option<&KeyValue> {
    match &response?.response {
        Some(Response::ResponseRange(found)) => found.kvs.first(),
        _ => None,
    }
}

/// What a write or a removal took the place of.
pub(super) fn replaced(response: Option<&ResponseOp>) -> Option<&KeyValue> {
    match &response?.response {
        Some(Response::ResponsePut(put)) => put.prev_kv.as_ref(),
        Some(Response::ResponseDeleteRange(deleted)) => deleted.prev_kvs.first(),
        _ => None,
    }
}

/// The first key behind all that begin with `prefix`.
pub(super) fn end_of(prefix: &[u8]) -> Vec<u8> {
    let mut end = prefix.to_vec();
    while let Some(last) = end.pop() {
        if last < u8::MAX {
            end.push(last + 1);
            return end;
        }
    }
    vec![0]
}
