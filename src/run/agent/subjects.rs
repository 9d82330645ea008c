//! What a message is about, as far as its place in the spool depends on it.

use bytes::Bytes;
use serde::Deserialize;
use smol_str::SmolStr;

/// The devices that a message is about, and its request id.
pub(super) fn subjects(payload: &Bytes) -> (Vec<SmolStr>, SmolStr) {
    #[derive(Deserialize)]
    struct WholeMessage {
        #[serde(default)]
        request_id: String,
        param: Subject,
    }
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Subject {
        One(Cid),
        Several(Vec<Cid>),
    }
    #[derive(Deserialize)]
    struct Cid {
        cid: String,
    }
    let Ok(WholeMessage { request_id, param }) = serde_json::from_slice(payload) else {
        return (Vec::new(), SmolStr::default());
    };
    let devices = match param {
        Subject::One(Cid { cid }) => vec![cid.into()],
        Subject::Several(several) => several.into_iter().map(|Cid { cid }| cid.into()).collect(),
    };
    (devices, request_id.into())
}
