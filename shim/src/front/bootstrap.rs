//! How containerd says what it wants of `start`, and in which form it wants the answer.
//!
//! | containerd | asks by | reads |
//! |---|---|---|
//! | 2.3 and later | `BootstrapParams` on standard input (flags stay) | `BootstrapResult` |
//! | 1.6 to 2.2 | flags and environment; runtime options on standard input | a bare address, taken as task API v2 |
//!
//! 2.0 to 2.2 read JSON with a version as well; a bare address means the same there (`parseStartResponse`,
//! core/runtime/v2/shim.go), and nothing that they send tells them from 1.7, which knows no version 3. One form
//! serves all, since the server offers the task API under both names.
//!
//! Invariant: pure.

use containerd_shim::Flags;
use containerd_shim_protos::bootstrap_api::{BootstrapParams, BootstrapResult, LogLevel};
use protobuf::{Enum, Message};

use super::FrontError;

/// The task API version that [`BootstrapResult`] names.
const TASK_API_VERSION: i32 = containerd_shim_protos::TASK_API_VERSION;

/// In which form containerd reads the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ReplyForm {
    /// A [`BootstrapResult`].
    Protobuf,
    /// The address alone.
    Address,
}

/// What `start` is asked for, whichever way it was said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Asked {
    /// Id of the container.
    pub(crate) id: String,
    /// containerd's namespace.
    pub(crate) namespace: String,
    /// containerd's gRPC socket.
    pub(crate) grpc_address: String,
    /// containerd's ttrpc socket, where events go.
    pub(crate) ttrpc_address: String,
    /// Directory for the socket, if containerd names one.
    pub(crate) socket_dir: Option<String>,
    /// Runtime options, encoded as an `Any`; empty for none.
    pub(crate) options: Vec<u8>,
    /// Whether to log much.
    pub(crate) debug: bool,
    /// How to answer.
    pub(crate) reply: ReplyForm,
}

/// What the environment says.
#[derive(Clone, Debug, Default)]
pub(crate) struct Variables {
    /// TTRPC_ADDRESS.
    pub(crate) ttrpc_address: String,
    /// GRPC_ADDRESS.
    pub(crate) grpc_address: String,
}

/// Reads flags, environment and standard input as one request.
pub(crate) fn asked(flags: &Flags, variables: Variables, input: &[u8]) -> Result<Asked, FrontError> {
    let asked = match bootstrap_params(flags, input)? {
        Some(params) => Asked {
            options: options(&params)?,
            debug: flags.debug || params.log_level.value() <= LogLevel::LOG_LEVEL_DEBUG.value(),
            id: params.instance_id,
            namespace: params.namespace,
            grpc_address: params.containerd_grpc_address,
            ttrpc_address: params.containerd_ttrpc_address,
            socket_dir: params.socket_dir.filter(|dir| !dir.is_empty()),
            reply: ReplyForm::Protobuf,
        },
        None => Asked {
            id: flags.id.clone(),
            namespace: flags.namespace.clone(),
            grpc_address: first_of(&flags.address, &variables.grpc_address),
            ttrpc_address: variables.ttrpc_address,
            socket_dir: None,
            options: input.to_vec(),
            debug: flags.debug,
            reply: ReplyForm::Address,
        },
    };
    for (name, value) in [
        ("the id", &asked.id),
        ("the namespace", &asked.namespace),
        ("containerd's gRPC address", &asked.grpc_address),
        ("containerd's ttrpc address (TTRPC_ADDRESS)", &asked.ttrpc_address),
    ] {
        if value.is_empty() {
            return Err(FrontError::Usage(format!("{name} is missing")));
        }
    }
    Ok(asked)
}

/// Writes the answer.
pub(crate) fn reply(form: ReplyForm, address: &str) -> Result<Vec<u8>, FrontError> {
    match form {
        ReplyForm::Address => Ok(address.as_bytes().to_vec()),
        ReplyForm::Protobuf => {
            let mut result = BootstrapResult::new();
            result.version = TASK_API_VERSION;
            result.address = address.to_owned();
            result.protocol = "ttrpc".to_owned();
            Ok(result.write_to_bytes()?)
        }
    }
}

/// The runtime options among the extensions: runc's, or those of all other runtimes.
fn options(params: &BootstrapParams) -> Result<Vec<u8>, FrontError> {
    let values = params.extensions.iter().filter_map(|extension| extension.value.as_ref());
    let found = values.into_iter().find(|any| {
        any.type_url.ends_with("runtimeoptions.v1.Options")
            || any.type_url.ends_with("containerd.runc.v1.Options")
    });
    found.map_or(Ok(Vec::new()), |any| Ok(any.write_to_bytes()?))
}

/// The [`BootstrapParams`] on standard input, or `None` from a containerd that sends none.
///
/// Runtime options of an older containerd (an `Any`) decode as such a message too: type URL as `instance_id`,
/// value as `namespace`, nothing else. A message that names this container is meant; one that names another
/// and says more than an `Any` can is an error.
fn bootstrap_params(flags: &Flags, input: &[u8]) -> Result<Option<BootstrapParams>, FrontError> {
    if input.is_empty() {
        return Ok(None);
    }
    let Ok(params) = BootstrapParams::parse_from_bytes(input) else { return Ok(None) };
    if params.instance_id == flags.id && params.namespace == flags.namespace {
        return Ok(Some(params));
    }
    let mut as_any = BootstrapParams::new();
    as_any.instance_id.clone_from(&params.instance_id);
    as_any.namespace.clone_from(&params.namespace);
    if params == as_any {
        return Ok(None);
    }
    Err(FrontError::Usage(format!(
        "bootstrap parameters are for {}/{}, flags for {}/{}",
        params.namespace, params.instance_id, flags.namespace, flags.id
    )))
}

fn first_of(first: &str, second: &str) -> String {
    if first.is_empty() { second } else { first }.to_owned()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use protobuf::well_known_types::any::Any;

    fn flags() -> Flags {
        Flags {
            id: "c1".into(),
            namespace: "k8s.io".into(),
            address: "/run/c.sock".into(),
            ..Flags::default()
        }
    }

    fn variables() -> Variables {
        Variables { ttrpc_address: "/run/c.sock.ttrpc".into(), grpc_address: "/run/other.sock".into() }
    }

    fn params(id: &str) -> BootstrapParams {
        let mut params = BootstrapParams::new();
        params.instance_id = id.into();
        params.namespace = "k8s.io".into();
        params.containerd_grpc_address = "/run/new.sock".into();
        params.containerd_ttrpc_address = "/run/new.sock.ttrpc".into();
        params
    }

    #[test]
    fn containerd_2_3_is_answered_in_protobuf() {
        let asked = asked(&flags(), Variables::default(), &params("c1").write_to_bytes().unwrap()).unwrap();
        assert_eq!((asked.reply, asked.grpc_address.as_str()), (ReplyForm::Protobuf, "/run/new.sock"));
        let answer = reply(asked.reply, "unix:///s").unwrap();
        let answer = BootstrapResult::parse_from_bytes(&answer).unwrap();
        assert_eq!(
            (answer.version, answer.address.as_str(), answer.protocol.as_str()),
            (3, "unix:///s", "ttrpc")
        );
    }

    #[test]
    fn older_containerd_is_answered_with_a_bare_address() {
        let asked = asked(&flags(), variables(), &[]).unwrap();
        assert_eq!((asked.reply, asked.grpc_address.as_str()), (ReplyForm::Address, "/run/c.sock"));
        assert_eq!(reply(asked.reply, "unix:///s").unwrap(), b"unix:///s");
    }

    #[test]
    fn runtime_options_on_stdin_are_not_taken_for_bootstrap_parameters() {
        let mut any = Any::new();
        any.type_url = "runtimeoptions.v1.Options".into();
        any.value = b"/etc/p.toml".to_vec();
        let asked = asked(&flags(), variables(), &any.write_to_bytes().unwrap()).unwrap();
        assert_eq!((asked.reply, asked.id.as_str()), (ReplyForm::Address, "c1"));
        assert_eq!(Any::parse_from_bytes(&asked.options).unwrap(), any);
    }

    #[test]
    fn runtime_options_are_found_among_the_extensions_of_containerd_2_3() {
        use containerd_shim_protos::bootstrap_api::Extension;
        let mut any = Any::new();
        any.type_url = "containerd.runc.v1.Options".into();
        any.value = b"\x1a\x02/a".to_vec();
        let extension = |any: &Any| {
            let mut extension = Extension::new();
            extension.value = protobuf::MessageField::some(any.clone());
            extension
        };
        let mut other = Any::new();
        other.type_url = "containerd.io/nri.v1.PluginConfig".into();
        let mut params = params("c1");
        params.extensions = vec![extension(&other)];
        let ask = |params: &BootstrapParams| {
            asked(&flags(), Variables::default(), &params.write_to_bytes().unwrap()).unwrap().options
        };
        assert!(ask(&params).is_empty());
        params.extensions.push(extension(&any));
        assert_eq!(Any::parse_from_bytes(&ask(&params)).unwrap(), any);
    }

    #[test]
    fn bootstrap_parameters_of_another_container_are_an_error() {
        assert!(asked(&flags(), variables(), &params("c2").write_to_bytes().unwrap()).is_err());
    }

    #[test]
    fn start_without_an_address_for_events_is_an_error() {
        assert!(asked(&flags(), Variables::default(), &[]).is_err());
    }
}
