//! An etcd cluster with authentication: certificates at both ends, and a password.

use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::Result;
use etcd_client::{Certificate, Client, ConnectOptions, Identity, Permission, TlsOptions};

use crate::certificates::Certificates;

/// The user who may do everything: the lab.
const ROOT: &str = "root";
/// The user that turnip is, and its role: it may read and write its cluster's keys.
const TURNIP: &str = "turnip";
/// Of all users, in a lab that nobody else reaches.
const PASSWORD: &str = "only for the lab";
/// The name that the certificate is made out to beside the addresses.
const SERVER_NAME: &str = "etcd.lab";

/// The files of a cluster's certificates, keys and password.
#[derive(Clone, Debug)]
pub struct Security {
    certificates: Certificates,
    /// Whether etcd asks for the password already: before that, it refuses a request that has one.
    asks_password: Arc<AtomicBool>,
}

impl Security {
    /// Makes all of them in `directory`, for members with these addresses.
    ///
    /// # Errors
    /// When they cannot be written.
    pub fn create(directory: &Path, addresses: &[IpAddr]) -> Result<Self> {
        let mut names: Vec<String> = addresses.iter().map(ToString::to_string).collect();
        names.extend(["127.0.0.1".into(), SERVER_NAME.into()]);
        let certificates = Certificates::create(directory, names)?;
        certificates.write("password", PASSWORD)?;
        Ok(Security { certificates, asks_password: Arc::default() })
    }

    /// Puts new certificates in the place of etcd's and its clients', valid for so long, or for good. A
    /// connection that is made from then on is made with these.
    ///
    /// # Errors
    /// When they cannot be written.
    pub fn renew_certificates(&self, valid_for: Option<Duration>) -> Result<()> {
        self.certificates.renew(valid_for)
    }

    /// The same, of the authority.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn renew_authority(&self, valid_for: Option<Duration>) -> Result<()> {
        self.certificates.renew_authority(valid_for)
    }

    /// Puts another password for turnip into its file.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write_password(&self, password: &str) -> Result<()> {
        self.certificates.write("password", password)
    }

    /// Makes it the password that etcd wants of turnip.
    ///
    /// # Errors
    /// As of etcd.
    pub async fn change_password(&self, mut client: Client, password: &str) -> Result<()> {
        client.user_change_password(TURNIP, password).await?;
        Ok(())
    }

    /// etcd's arguments for a member.
    pub fn etcd_arguments(&self) -> Vec<String> {
        self.certificates.etcd_arguments(true)
    }

    /// turnip's settings, as they are in its table `[etcd]`.
    pub fn turnip_settings(&self) -> [(&'static str, String); 5] {
        [
            ("ca", self.path("ca.pem")),
            ("cert", self.path("client.pem")),
            ("key", self.path("client.key")),
            ("user", TURNIP.into()),
            ("password_file", self.path("password")),
        ]
    }

    /// How the lab's own client gets in.
    ///
    /// # Errors
    /// When files are gone.
    pub fn options(&self, options: ConnectOptions) -> Result<ConnectOptions> {
        let options = self.without_login(options)?;
        let with_password = self.asks_password.load(Ordering::Relaxed);
        Ok(if with_password { options.with_user(ROOT, PASSWORD) } else { options })
    }

    /// The same for what needs no password: a login may take longer than what is asked.
    ///
    /// # Errors
    /// When files are gone.
    pub fn without_login(&self, options: ConnectOptions) -> Result<ConnectOptions> {
        let read = |name: &str| std::fs::read(self.certificates.file(name));
        let tls = TlsOptions::new()
            .ca_certificate(Certificate::from_pem(read("ca.pem")?))
            .identity(Identity::from_pem(read("client.pem")?, read("client.key")?));
        Ok(options.with_tls(tls))
    }

    /// Makes the users: turnip's may use the keys of this cluster of turnip's. From now on etcd asks for
    /// the password.
    ///
    /// # Errors
    /// As of etcd.
    pub async fn demand_password(&self, mut client: Client, cluster: &str) -> Result<()> {
        client.user_add(ROOT, PASSWORD, None).await?;
        client.user_grant_role(ROOT, ROOT).await?;
        client.role_add(TURNIP).await?;
        let own = Permission::read_write(format!("/turnip/{cluster}/")).with_prefix();
        client.role_grant_permission(TURNIP, own).await?;
        client.user_add(TURNIP, PASSWORD, None).await?;
        client.user_grant_role(TURNIP, TURNIP).await?;
        client.auth_enable().await?;
        self.asks_password.store(true, Ordering::Relaxed);
        Ok(())
    }

    fn path(&self, name: &str) -> String {
        self.certificates.file(name).display().to_string()
    }
}
