//! containerd's streaming service, without generated code: it has one method, of `Any` in both directions.

use std::{collections::HashMap, sync::Arc, time::Duration};

use async_trait::async_trait;
use containerd_shim_protos::{
    protobuf::well_known_types::any::Any,
    ttrpc::{
        self, Code, Error, Response,
        r#async::{ServerStream, Service, StreamHandler, StreamInner, TtrpcContext},
    },
};
use tokio::time::timeout;

use super::{
    Hub,
    messages::{self, Message},
    slot::Client,
};
use crate::task::stdio::address::STREAM_ID_BYTES_MAX;

/// Source: containerd api/services/streaming/v1/streaming.proto.
const SERVICE: &str = "containerd.services.streaming.v1.Streaming";

/// How long a client may wait for the process that names its stream: kubelet starts a container seconds after it
/// created it.
const JOIN: Duration = Duration::from_secs(600);

/// The service, for a ttrpc server.
pub(crate) fn services(hub: &Arc<Hub>) -> HashMap<String, Service> {
    let handler: Arc<dyn StreamHandler + Send + Sync> = Arc::new(Handler(Arc::clone(hub)));
    let service =
        Service { methods: HashMap::new(), streams: HashMap::from([("Stream".to_owned(), handler)]) };
    HashMap::from([(SERVICE.to_owned(), service)])
}

struct Handler(Arc<Hub>);

#[async_trait]
impl StreamHandler for Handler {
    async fn handler(&self, _: TtrpcContext, stream: StreamInner) -> ttrpc::Result<Option<Response>> {
        let (to, mut from) = ServerStream::<Any, Any>::new(stream).split();
        let first = from.recv().await?.ok_or_else(|| wrong("closed before StreamInit"))?;
        let id = match messages::read(&first).map_err(|why| wrong(&why))? {
            Message::Init(id) if !id.is_empty() && id.len() <= STREAM_ID_BYTES_MAX => id,
            Message::Init(_) => return Err(wrong("id is empty or too long")),
            _ => return Err(wrong("the first message must be StreamInit")),
        };
        let slot = self.0.slot(&id)?;
        to.send(&messages::ready()).await?;
        match timeout(JOIN, slot.joined()).await {
            Ok(true) => slot.serve(&mut Client { to, from }).await.map_err(|why| wrong(&why))?,
            Ok(false) => {}
            Err(_) => {
                self.0.forget(&id, &slot);
                return Err(wrong("no process has named this stream"));
            }
        }
        Ok(None)
    }
}

fn wrong(why: &str) -> Error {
    Error::RpcStatus(ttrpc::get_status(Code::INVALID_ARGUMENT, format!("stream: {why}")))
}
