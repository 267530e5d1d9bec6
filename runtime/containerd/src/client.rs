//! One connection to containerd: a namespace, a deadline for every call, limits for every answer.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use bulkhead_model::Namespace;
use containerd_client::services::v1::{
    containers_client::ContainersClient, content_client::ContentClient, images_client::ImagesClient,
    introspection_client::IntrospectionClient, snapshots::snapshots_client::SnapshotsClient,
};
use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;
use tonic::{
    Code, Request, Response, Status,
    metadata::{Ascii, MetadataValue},
    transport::{Channel, Endpoint},
};

use crate::error::Failure;

/// How long containerd may take for one call.
///
/// A healthy one takes well below 10 ms; kubelet gives up on CreateContainer after two minutes.
pub const CALL_TIMEOUT: Duration = Duration::from_secs(5);

/// Largest answer to one call, in bytes.
///
/// Source: `DefaultMaxRecvMsgSize`, containerd defaults/defaults.go: containerd itself sends no more.
const ANSWER_BYTES_MAX: usize = 16 * 1024 * 1024;

/// A connection to containerd's API, for one namespace.
#[derive(Clone, Debug)]
pub struct Containerd {
    channel: Channel,
    namespace: Namespace,
    header: MetadataValue<Ascii>,
    call_timeout: Duration,
}

impl Containerd {
    /// Connects to the socket. Must be called within a tokio runtime that has its I/O and time drivers.
    ///
    /// Drop it when the request is answered: a connection costs memory on both sides and takes a third of a
    /// millisecond to make.
    ///
    /// # Errors
    /// Says why the socket cannot be reached.
    pub async fn connect(
        socket: &Path,
        namespace: &Namespace,
        call_timeout: Duration,
    ) -> Result<Self, Failure> {
        let silent = || Failure::Silent {
            call: "connect",
            subject: socket.display().to_string(),
            after: call_timeout,
        };
        let failed = |error| Failure::Connect { socket: socket.to_owned(), error };
        let path: PathBuf = socket.to_owned();
        let connector = tower::service_fn(move |_| {
            let path = path.clone();
            async move { Ok::<_, std::io::Error>(TokioIo::new(UnixStream::connect(path).await?)) }
        });
        // The address is not used: the connector knows the socket.
        let endpoint = Endpoint::from_static("http://containerd.socket");
        let channel = tokio::time::timeout(call_timeout, endpoint.connect_with_connector(connector))
            .await
            .map_err(|_| silent())?
            .map_err(failed)?;
        Ok(Self { channel, namespace: namespace.clone(), header: header(namespace)?, call_timeout })
    }

    /// The namespace that is asked about.
    #[must_use]
    pub fn namespace(&self) -> &Namespace {
        &self.namespace
    }

    /// The same connection, for another namespace.
    ///
    /// # Errors
    /// The name is none for containerd.
    pub fn in_namespace(&self, namespace: &Namespace) -> Result<Self, Failure> {
        Ok(Self { namespace: namespace.clone(), header: header(namespace)?, ..self.clone() })
    }

    pub(crate) fn channel(&self) -> Channel {
        self.channel.clone()
    }

    pub(crate) fn containers(&self) -> ContainersClient<Channel> {
        ContainersClient::new(self.channel.clone()).max_decoding_message_size(ANSWER_BYTES_MAX)
    }

    pub(crate) fn images(&self) -> ImagesClient<Channel> {
        ImagesClient::new(self.channel.clone()).max_decoding_message_size(ANSWER_BYTES_MAX)
    }

    pub(crate) fn snapshots(&self) -> SnapshotsClient<Channel> {
        SnapshotsClient::new(self.channel.clone()).max_decoding_message_size(ANSWER_BYTES_MAX)
    }

    pub(crate) fn introspection(&self) -> IntrospectionClient<Channel> {
        IntrospectionClient::new(self.channel.clone()).max_decoding_message_size(ANSWER_BYTES_MAX)
    }

    pub(crate) fn content(&self) -> ContentClient<Channel> {
        ContentClient::new(self.channel.clone()).max_decoding_message_size(ANSWER_BYTES_MAX)
    }

    /// A request in the namespace.
    pub(crate) fn request<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        request.metadata_mut().insert("containerd-namespace", self.header.clone());
        request
    }

    /// Waits for one answer, no longer than a call may take.
    pub(crate) async fn answer<T>(
        &self,
        call: &'static str,
        subject: &str,
        answer: impl Future<Output = Result<T, Status>>,
    ) -> Result<T, Failure> {
        match tokio::time::timeout(self.call_timeout, answer).await {
            Err(_) => Err(Failure::Silent { call, subject: subject.to_owned(), after: self.call_timeout }),
            Ok(Err(status)) => Err(Failure::Call {
                call,
                subject: subject.to_owned(),
                code: status.code(),
                message: status.message().chars().take(300).collect(),
            }),
            Ok(Ok(answer)) => Ok(answer),
        }
    }
}

fn header(namespace: &Namespace) -> Result<MetadataValue<Ascii>, Failure> {
    let subject = namespace.to_string();
    namespace.as_str().parse().map_err(|_| Failure::Answer { call: "connect", subject, field: "namespace" })
}

/// `None` for what containerd says is not there.
pub(crate) fn found<T>(answer: Result<Response<T>, Failure>) -> Result<Option<T>, Failure> {
    match answer {
        Ok(answer) => Ok(Some(answer.into_inner())),
        Err(Failure::Call { code: Code::NotFound, .. }) => Ok(None),
        Err(failure) => Err(failure),
    }
}
