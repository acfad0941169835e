//! An etcd cluster that lets in only whom it knows: certificates at both ends, and a password.

use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::Result;
use etcd_client::{Certificate, Client, ConnectOptions, Identity, Permission, TlsOptions};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};

use crate::daemon::CLUSTER;

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
    directory: PathBuf,
    /// Whether etcd asks for the password already: before, it refuses to hear one.
    asks_password: Arc<AtomicBool>,
}

impl Security {
    /// Makes all of them in `directory`, for members with these addresses.
    ///
    /// # Errors
    /// When they cannot be written.
    pub fn create(directory: PathBuf, addresses: &[IpAddr]) -> Result<Self> {
        let security = Security { directory, asks_password: Arc::default() };
        let mut authority = CertificateParams::new(Vec::new())?;
        authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate()?;
        security.write("ca.pem", &authority.self_signed(&key)?.pem())?;
        let authority = Issuer::new(authority, key);
        let mut names: Vec<String> = addresses.iter().map(ToString::to_string).collect();
        names.extend(["127.0.0.1".into(), SERVER_NAME.into()]);
        for (who, names) in [("server", names), ("client", vec!["client.lab".into()])] {
            let key = KeyPair::generate()?;
            let certificate = CertificateParams::new(names)?.signed_by(&key, &authority)?;
            security.write(&format!("{who}.pem"), &certificate.pem())?;
            security.write(&format!("{who}-key.pem"), &key.serialize_pem())?;
        }
        security.write("password", PASSWORD)?;
        Ok(security)
    }

    /// What a member must be told.
    pub fn member_arguments(&self) -> Vec<String> {
        vec![
            "--client-cert-auth".into(),
            format!("--trusted-ca-file={}", self.path("ca.pem")),
            format!("--cert-file={}", self.path("server.pem")),
            format!("--key-file={}", self.path("server-key.pem")),
        ]
    }

    /// turnip's settings, as they stand in its table `[etcd]`.
    pub fn turnip_settings(&self) -> [(&'static str, String); 5] {
        [
            ("ca", self.path("ca.pem")),
            ("cert", self.path("client.pem")),
            ("key", self.path("client-key.pem")),
            ("user", TURNIP.into()),
            ("password_file", self.path("password")),
        ]
    }

    /// How the lab's own client gets in.
    ///
    /// # Errors
    /// When files are gone.
    pub fn options(&self, options: ConnectOptions) -> Result<ConnectOptions> {
        let read = |name: &str| std::fs::read(self.directory.join(name));
        let tls = TlsOptions::new()
            .ca_certificate(Certificate::from_pem(read("ca.pem")?))
            .identity(Identity::from_pem(read("client.pem")?, read("client-key.pem")?));
        let options = options.with_tls(tls);
        let with_password = self.asks_password.load(Ordering::Relaxed);
        Ok(if with_password { options.with_user(ROOT, PASSWORD) } else { options })
    }

    /// Makes the users, and the cluster ask for the password from now on.
    ///
    /// # Errors
    /// As of etcd.
    pub async fn demand_password(&self, mut client: Client) -> Result<()> {
        client.user_add(ROOT, PASSWORD, None).await?;
        client.user_grant_role(ROOT, ROOT).await?;
        client.role_add(TURNIP).await?;
        let own = Permission::read_write(format!("/turnip/{CLUSTER}/")).with_prefix();
        client.role_grant_permission(TURNIP, own).await?;
        client.user_add(TURNIP, PASSWORD, None).await?;
        client.user_grant_role(TURNIP, TURNIP).await?;
        client.auth_enable().await?;
        self.asks_password.store(true, Ordering::Relaxed);
        Ok(())
    }

    fn write(&self, name: &str, text: &str) -> Result<()> {
        use std::os::unix::fs::OpenOptionsExt;
        // Keys and passwords are for their owner only.
        let mut options = std::fs::File::options();
        let mut file =
            options.create(true).write(true).mode(0o600).open(self.directory.join(name))?;
        Ok(std::io::Write::write_all(&mut file, text.as_bytes())?)
    }

    fn path(&self, name: &str) -> String {
        self.directory.join(name).display().to_string()
    }
}
