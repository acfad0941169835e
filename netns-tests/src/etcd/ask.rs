//! What is asked of a member, by etcd's own client on its host.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use etcd_client::{Client, ConnectOptions, GetOptions};

use super::{Access, Member};
use crate::security::Security;

/// What a member says of itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct MemberStatus {
    /// Its id.
    pub id: u64,
    /// The leader that it follows; 0 when it knows none.
    pub leader: u64,
    /// In which term.
    pub term: u64,
}

/// Who asks, where etcd asks for a password.
#[derive(Clone, Copy)]
enum Login {
    /// The user who may do everything.
    Root,
    /// Nobody: what is asked is answered all the same.
    Needless,
}

impl Member {
    /// Writes something by way of it, and says how long that took.
    ///
    /// # Errors
    /// When it was not done within 10 s.
    pub fn time_to_commit(&self) -> Result<Duration> {
        self.ask(Duration::from_secs(10), |mut client| async move {
            let begun = Instant::now();
            client.put("/lab", "", None).await?;
            Ok(begun.elapsed())
        })
    }

    /// Asks it what it knows.
    ///
    /// # Errors
    /// When it does not answer within 300 ms.
    pub fn status(&self) -> Result<MemberStatus> {
        self.ask_as(Login::Needless, Duration::from_millis(300), |mut client| async move {
            let status = client.status().await?;
            let id = status.header().map_or(0, etcd_client::ResponseHeader::member_id);
            Ok(MemberStatus { id, leader: status.leader(), term: status.raft_term() })
        })
    }

    /// Which etcd it is, as in `3.4.23`.
    ///
    /// # Errors
    /// When it does not answer within 5 s.
    pub fn version(&self) -> Result<String> {
        self.ask(Duration::from_secs(5), |mut client| async move {
            Ok(client.status().await?.version().to_owned())
        })
    }

    /// Makes it hand its leadership to another member.
    ///
    /// # Errors
    /// When it is not the leader, or the other does not take it.
    pub fn move_leader_to(&self, id: u64) -> Result<()> {
        self.ask(Duration::from_secs(5), |mut client| async move {
            client.move_leader(id).await?;
            Ok(())
        })
    }

    /// The store's revision.
    ///
    /// # Errors
    /// Without a quorum.
    pub fn revision(&self) -> Result<i64> {
        self.ask(Duration::from_secs(5), |mut client| async move {
            let answer = client.get("/", None).await?;
            Ok(answer.header().map_or(0, etcd_client::ResponseHeader::revision))
        })
    }

    /// The keys that begin with `prefix`.
    ///
    /// # Errors
    /// Without a quorum.
    pub fn keys(&self, prefix: &str) -> Result<Vec<String>> {
        self.ask(Duration::from_secs(5), |mut client| async move {
            let options = GetOptions::new().with_prefix().with_keys_only();
            let answer = client.get(prefix, Some(options)).await?;
            Ok(answer.kvs().iter().map(|kv| String::from_utf8_lossy(kv.key()).into()).collect())
        })
    }

    /// The value of a key; none where there is no such key.
    ///
    /// # Errors
    /// Without a quorum.
    pub fn value(&self, key: &str) -> Result<Option<Vec<u8>>> {
        self.ask(Duration::from_secs(5), |mut client| async move {
            let answer = client.get(key, None).await?;
            Ok(answer.kvs().first().map(|kv| kv.value().to_vec()))
        })
    }

    /// Writes so much, under one key that nobody else uses.
    ///
    /// # Errors
    /// When etcd refuses it.
    pub fn write_kib(&self, kib: usize) -> Result<()> {
        self.ask(Duration::from_secs(5), |mut client| async move {
            client.put("/lab/large", vec![b'x'; kib * 1024], None).await?;
            Ok(())
        })
    }

    /// Makes it the password that turnip logs in with.
    ///
    /// # Errors
    /// As of etcd.
    pub fn change_password(&self, security: &Security, password: &str) -> Result<()> {
        self.ask(Duration::from_secs(20), |client| security.change_password(client, password))
    }

    /// Puts such a value under a key.
    ///
    /// # Errors
    /// When etcd refuses it.
    pub fn put(&self, key: &str, value: &str) -> Result<()> {
        self.ask(Duration::from_secs(10), |mut client| async move {
            client.put(key, value, None).await?;
            Ok(())
        })
    }

    /// Removes a key.
    ///
    /// # Errors
    /// When etcd refuses it.
    pub fn delete(&self, key: &str) -> Result<()> {
        self.ask(Duration::from_secs(10), |mut client| async move {
            client.delete(key, None).await?;
            Ok(())
        })
    }

    /// Writes, under one key that nobody else uses, until the store's revision is at least this one.
    ///
    /// # Errors
    /// When etcd refuses it.
    pub fn write_up_to(&self, revision: i64) -> Result<()> {
        self.ask(Duration::from_secs(20), |mut client| async move {
            loop {
                let answer = client.put("/lab", "", None).await?;
                let newest = answer.header().map_or(0, etcd_client::ResponseHeader::revision);
                if newest >= revision {
                    return Ok(());
                }
            }
        })
    }

    /// Compacts the history.
    ///
    /// # Errors
    /// As of etcd.
    pub fn compact(&self) -> Result<()> {
        self.ask(Duration::from_secs(20), |mut client| async move {
            let answer = client.get("/", None).await?;
            let revision = answer.header().map_or(0, etcd_client::ResponseHeader::revision);
            let options = etcd_client::CompactionOptions::new().with_physical();
            client.compact(revision, Some(options)).await?;
            Ok(())
        })
    }

    /// Gives back what this member's file has for nothing.
    ///
    /// # Errors
    /// As of etcd.
    pub fn defragment(&self) -> Result<()> {
        self.ask(Duration::from_secs(20), |mut client| async move {
            client.defragment().await?;
            Ok(())
        })
    }

    /// Has etcd believe that its quota is full: it refuses writes, as it does then, until that alarm is ended.
    ///
    /// # Errors
    /// As of etcd.
    pub fn raise_alarm(&self) -> Result<()> {
        let id = self.status()?.id;
        self.ask(Duration::from_secs(5), |mut client| async move {
            let mut member = etcd_client::AlarmOptions::new();
            member.with_member(id);
            let (raise, full) =
                (etcd_client::AlarmAction::Activate, etcd_client::AlarmType::Nospace);
            client.alarm(raise, full, Some(member)).await?;
            Ok(())
        })
    }

    /// Ends the alarm that etcd has no space left.
    ///
    /// # Errors
    /// As of etcd.
    pub fn end_alarm(&self) -> Result<()> {
        self.ask(Duration::from_secs(5), |mut client| async move {
            let alarms =
                client.alarm(etcd_client::AlarmAction::Get, etcd_client::AlarmType::None, None);
            for alarm in alarms.await?.alarms() {
                let mut member = etcd_client::AlarmOptions::new();
                member.with_member(alarm.member_id());
                client
                    .alarm(etcd_client::AlarmAction::Deactivate, alarm.alarm(), Some(member))
                    .await?;
            }
            Ok(())
        })
    }

    /// Has etcd ask for its password from now on; turnip's user may use the keys of this cluster.
    ///
    /// # Errors
    /// When it is not secured, or as of etcd.
    pub fn demand_password(&self, cluster: &str) -> Result<()> {
        let Access::Secured(security) = &self.access else { bail!("no password was made") };
        // Passwords may be made as dear as etcd allows, on a machine that has much else to do.
        self.ask(Duration::from_secs(30), |client| security.demand_password(client, cluster))
    }

    /// Uses etcd's client on its host.
    ///
    /// # Errors
    /// As of the client, or after `patience`.
    pub fn ask<T: Send, F: Future<Output = Result<T>>>(
        &self,
        patience: Duration,
        f: impl FnOnce(Client) -> F + Send,
    ) -> Result<T> {
        self.ask_as(Login::Root, patience, f)
    }

    fn ask_as<T: Send, F: Future<Output = Result<T>>>(
        &self,
        login: Login,
        patience: Duration,
        f: impl FnOnce(Client) -> F + Send,
    ) -> Result<T> {
        let ask = || async move {
            let asked = async {
                let mut options = ConnectOptions::new().with_connect_timeout(patience);
                if let Access::Secured(security) = &self.access {
                    options = match login {
                        Login::Root => security.options(options)?,
                        Login::Needless => security.without_login(options)?,
                    };
                }
                let port = self.place.clients.port();
                let own = format!("{}://127.0.0.1:{port}", self.access.scheme());
                f(Client::connect([own], Some(options)).await?).await
            };
            tokio::time::timeout(patience, asked).await.map_err(|_| anyhow!("no answer"))?
        };
        self.namespace()?.block_on(ask).with_context(|| format!("etcd {}", self.name()))
    }
}
