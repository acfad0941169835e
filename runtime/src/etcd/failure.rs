//! Why a request failed, and whether it may have been carried out.

use std::error::Error as StdError;

use etcd_client::Error;
use tonic::{Code, Status};
use turnip_core::StoreError;

/// Why a request brought no answer. Each text names the endpoint and the cause.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Failure {
    /// It has certainly not been carried out, and another endpoint may do better.
    NotSent(String),
    /// It may have been carried out, or may still be.
    Unknown(String),
    /// etcd refuses it, whichever endpoint is asked.
    Refused(String),
}

impl Failure {
    /// What `error`, from the endpoint `url`, means for the request.
    pub(super) fn of(url: &str, error: &Error) -> Self {
        let status = match error {
            Error::GRpcStatus(status) => status,
            Error::InvalidArgs(_) | Error::InvalidUri(_) | Error::InvalidMetadataValue(_) => {
                return Failure::Refused(format!("{url}: {error}"));
            }
            _ => return Failure::Unknown(format!("{url}: {}", chain(error))),
        };
        if let Some(cause) = never_connected(status) {
            return Failure::NotSent(format!("cannot connect to {url}: {cause}"));
        }
        let why = format!("{url}: {}", explain(status));
        match status.code() {
            // Said by the member before it looks at the request.
            _ if status.message() == LEARNER => Failure::NotSent(why),
            Code::Unavailable if status.message() == NO_LEADER => Failure::NotSent(why),
            Code::Unauthenticated if status.message() == INVALID_TOKEN => Failure::NotSent(why),
            Code::InvalidArgument if status.message() == OLD_AUTH_REVISION => Failure::Unknown(why),
            Code::InvalidArgument
            | Code::FailedPrecondition
            | Code::PermissionDenied
            | Code::Unauthenticated => Failure::Refused(why),
            _ => Failure::Unknown(why),
        }
    }
}

impl From<Failure> for StoreError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::NotSent(why) | Failure::Unknown(why) => StoreError::Unavailable(why),
            Failure::Refused(why) => StoreError::Refused(why),
        }
    }
}

const NO_LEADER: &str = "etcdserver: no leader";
const LEARNER: &str = "etcdserver: rpc not supported for learner";
const INVALID_TOKEN: &str = "etcdserver: invalid auth token";
const OLD_AUTH_REVISION: &str = "etcdserver: revision of auth store is old";
const NO_USER: &str = "etcdserver: user name is empty";
const WRONG_PASSWORD: &str = "etcdserver: authentication failed, invalid user ID or password";
const AUTH_DISABLED: &str = "etcdserver: authentication is not enabled";
const TOO_LARGE: &str = "etcdserver: request is too large";
const FULL: &str = "etcdserver: mvcc: database space exceeded";

/// Whether the request was refused, before anything was done, because it had no valid token.
pub(super) fn wants_login(error: &Error) -> bool {
    is_message(error, &[INVALID_TOKEN, OLD_AUTH_REVISION, NO_USER])
}

/// Whether the token has ended, or is unknown to the member.
pub(super) fn is_token_unknown(error: &Error) -> bool {
    is_message(error, &[INVALID_TOKEN])
}

/// Whether etcd refused the user or the password.
pub(super) fn is_wrong_password(error: &Error) -> bool {
    is_message(error, &[WRONG_PASSWORD])
}

/// Whether etcd answered that it needs no login.
pub(super) fn needs_no_login(error: &Error) -> bool {
    is_message(error, &[AUTH_DISABLED])
}

/// Whether etcd answered that the revision asked for has been compacted.
pub(super) fn is_compacted(error: &Error) -> bool {
    is_message(error, &["etcdserver: mvcc: required revision has been compacted"])
}

/// How etcd's own messages begin, and those of its raft, which it passes on.
const MESSAGE_PREFIXES: [&str; 3] = ["etcdserver: ", "raft: ", "raft proposal dropped"];

/// Whether the error came from etcd, not from a layer below.
pub(super) fn came_from_etcd(error: &Error) -> bool {
    matches!(error, Error::GRpcStatus(status) if is_from_etcd(status))
}

/// The same of the status alone.
pub(super) fn is_from_etcd(status: &Status) -> bool {
    MESSAGE_PREFIXES.iter().any(|prefix| status.message().starts_with(prefix))
}

fn is_message(error: &Error, messages: &[&str]) -> bool {
    matches!(error, Error::GRpcStatus(status) if messages.contains(&status.message()))
}

/// The reason for which a watch was cancelled, as a failure.
pub(super) fn of_cancelled_watch(url: &str, reason: &str) -> Failure {
    let why = format!("{url}: the watch was cancelled: {reason}");
    if reason.contains("permission denied") || reason.contains(NO_USER) {
        Failure::Refused(why)
    } else {
        Failure::Unknown(why)
    }
}

/// etcd's message, with an explanation where it does not say what to do.
fn explain(status: &Status) -> String {
    let message = status.message();
    let meaning = match message {
        NO_LEADER => "the member has no raft leader",
        LEARNER => "the member is a learner, which does not answer before it is promoted",
        NO_USER => "etcd wants a user and a password, and none is configured",
        WRONG_PASSWORD => "the user name or the password is wrong",
        FULL => "etcd's database is full: compact and defragment it, then disarm the alarm",
        TOO_LARGE => "it is larger than etcd's --max-request-bytes; raise that on all members",
        _ if status.code() == Code::PermissionDenied => "the user's roles do not allow this",
        _ if status.source().is_some() => return chain(status),
        _ => return message.to_owned(),
    };
    format!("{meaning} ({message})")
}

/// The cause when there has been no connection over which the request could have gone.
fn never_connected(error: &(dyn StdError + 'static)) -> Option<String> {
    let mut source = error.source();
    while let Some(error) = source {
        if let Some(cause) = error.downcast_ref::<tonic::ConnectError>() {
            return Some(chain(cause));
        }
        source = error.source();
    }
    None
}

/// Why there is no connection.
pub(super) fn of_connecting(error: &tonic::transport::Error) -> String {
    never_connected(error).unwrap_or_else(|| chain(error))
}

/// An error with all its causes, each once.
pub(super) fn chain(error: &(dyn StdError + 'static)) -> String {
    let mut texts: Vec<String> = Vec::new();
    let mut next = Some(error);
    while let Some(error) = next {
        let text = match error.downcast_ref::<Status>() {
            Some(status) => status.message().to_owned(),
            None => error.to_string(),
        };
        if !text.is_empty() && !texts.iter().any(|earlier| earlier.contains(&text)) {
            texts.push(text);
        }
        next = error.source();
    }
    texts.join(": ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failure(code: Code, message: &str) -> Failure {
        Failure::of("http://etcd:2379", &Error::GRpcStatus(Status::new(code, message)))
    }

    #[test]
    fn a_wrong_password_is_a_refusal_that_says_so() {
        let failure = failure(Code::InvalidArgument, WRONG_PASSWORD);
        let Failure::Refused(why) = &failure else { panic!("{failure:?}") };
        assert!(why.contains("http://etcd:2379") && why.contains("password is wrong"), "{why}");
    }

    #[test]
    fn a_member_without_a_leader_has_not_done_it() {
        assert!(matches!(failure(Code::Unavailable, NO_LEADER), Failure::NotSent(_)));
    }

    #[test]
    fn a_learner_has_not_done_it_and_others_may_be_asked() {
        for code in [Code::Unavailable, Code::FailedPrecondition] {
            let Failure::NotSent(why) = failure(code, LEARNER) else { panic!("{code}") };
            assert!(why.contains("learner"), "{why}");
        }
    }

    #[test]
    fn a_request_that_timed_out_in_etcd_may_have_been_done() {
        let message = "etcdserver: request timed out";
        assert!(matches!(failure(Code::Unavailable, message), Failure::Unknown(_)));
        assert!(matches!(failure(Code::Unknown, "raft proposal dropped"), Failure::Unknown(_)));
        assert!(matches!(failure(Code::ResourceExhausted, FULL), Failure::Unknown(_)));
    }

    #[test]
    fn errors_of_etcd_are_recognised_by_how_their_messages_begin() {
        let said = |message| Error::GRpcStatus(Status::new(Code::Unknown, message));
        assert!(came_from_etcd(&said("etcdserver: request timed out")));
        assert!(came_from_etcd(&said("raft proposal dropped")));
        assert!(!came_from_etcd(&said("h2 protocol error: http2 error")));
    }

    #[test]
    fn permissions_and_malformed_requests_are_refusals() {
        for (code, message) in [
            (Code::PermissionDenied, "etcdserver: permission denied"),
            (Code::InvalidArgument, "etcdserver: too many operations in txn request"),
            (Code::InvalidArgument, NO_USER),
        ] {
            assert!(matches!(failure(code, message), Failure::Refused(_)), "{message}");
        }
    }
}
