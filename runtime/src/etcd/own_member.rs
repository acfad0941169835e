//! The member on this host, which is asked whether it is the raft leader: whether it is a member at all.

use std::cell::{Cell, RefCell};
use std::time::Duration;

use tokio::time::Instant;
use turnip_core::StoreError;

use super::Etcd;
use super::answerer::Answerer;
use super::inspect::EndpointStatus;

/// How often it is looked again whether it still is one.
const VERIFY_EVERY: Duration = Duration::from_secs(30);

/// What was found out of it last.
#[derive(Default)]
pub(super) struct OwnMember {
    verified: Cell<Option<(u64, Instant)>>,
    refused: RefCell<Option<String>>,
}

impl Etcd {
    /// Whether who answered with `status` at `url` is a member of its own. One that does not say which
    /// members there are is taken for one: core notices when another answers in its place.
    ///
    /// # Errors
    /// `Refused` when it is none, with who it is.
    pub(super) async fn verify_own_member(
        &self,
        url: &str,
        status: &EndpointStatus,
        deadline: Instant,
    ) -> Result<(), StoreError> {
        let own = &self.own_member;
        let is_known = own
            .verified
            .get()
            .is_some_and(|(id, at)| id == status.member_id && at.elapsed() < VERIFY_EVERY);
        if !is_known {
            let left = deadline.saturating_duration_since(Instant::now());
            if let Ok(named) = self.members_at(url, left).await {
                let said = std::slice::from_ref(status);
                let who = Answerer::of(said, &named, None).filter(|who| !who.is_a_member());
                let refused = who.map(|who| format!("at {url} answers {who}"));
                own.verified.set(Some((status.member_id, Instant::now())));
                *own.refused.borrow_mut() = refused;
            }
        }
        match &*own.refused.borrow() {
            Some(why) => Err(StoreError::Refused(why.clone())),
            None => Ok(()),
        }
    }
}
