//! What is kept good beside the requests: logins, what is read from files, and what is known of certificates.

use std::convert::Infallible;
use std::net::IpAddr;
use std::time::{Duration, SystemTime};

use futures::future::join_all;
use tokio::time::sleep;

use super::Etcd;
use super::certificates::{self, Certificate, CertificateEnd};
use super::endpoint::Endpoint;

/// How often files are looked at.
const FILES_EVERY: Duration = Duration::from_secs(5);
/// How often it is looked at a certificate of etcd that is about to end: it may have been renewed.
const SERVERS_EVERY: Duration = Duration::from_secs(3600);
/// That is, from so many seconds before the end on: before the first warning is due.
const LOOKED_AT_BEFORE: i64 = 31 * 86_400;

impl Etcd {
    /// Keeps logins good, and reads what is in files again when it changes; never ends. Without it a
    /// request may have to wait for a login. `prefix` is one that the user may read.
    pub async fn upkeep(&self, prefix: &str) -> Infallible {
        let logins = self.all().map(|endpoint| endpoint.keep_let_in(prefix));
        let logins = async {
            join_all(logins).await;
            std::future::pending::<Infallible>().await
        };
        let files = async {
            loop {
                sleep(FILES_EVERY).await;
                self.read_again();
            }
        };
        let servers = async {
            loop {
                sleep(SERVERS_EVERY).await;
                self.look_at_certificates().await;
            }
        };
        tokio::select! {
            never = logins => never,
            never = files => never,
            never = servers => never,
        }
    }

    /// Reads certificates, keys and the password again.
    pub fn read_again(&self) {
        if let Some(trust) = &self.trust {
            trust.read_again();
        }
        self.all().for_each(Endpoint::read_password_again);
    }

    /// When this client's certificate ends, those that etcd has shown, and those of the authorities that
    /// signed them. Nothing without TLS.
    pub fn certificate_ends(&self) -> Vec<CertificateEnd> {
        let Some(trust) = &self.trust else { return Vec::new() };
        let (own, authorities) = trust.certificates();
        let settings = trust.settings();
        let client = settings.client.as_ref();
        let servers: Vec<(String, Vec<Certificate>)> =
            self.all().map(|endpoint| (endpoint.url().to_owned(), endpoint.shown())).collect();
        certificates::ends(
            client.map(|(file, _)| (file.as_path(), own.as_slice())),
            settings.ca_file.as_deref().map(|file| (file, authorities.as_slice())),
            &servers,
        )
    }

    /// The addresses of an endpoint, as far as they are known without asking the resolver.
    pub fn known_addresses(&self, url: &str) -> Vec<IpAddr> {
        self.endpoint(url).map(Endpoint::known_addresses).unwrap_or_default()
    }

    /// The addresses of a host that etcd names, such as a member's in its peer URLs: itself where it is an address,
    /// and the resolver's answer or the last good one where it is a name.
    ///
    /// # Errors
    /// With the name, and what the resolver says, when there is neither within `timeout`.
    pub async fn host_addresses(
        &self,
        host: &str,
        timeout: Duration,
    ) -> Result<Vec<IpAddr>, String> {
        if let Ok(ip) = host.parse() {
            return Ok(vec![ip]);
        }
        let late = |_| format!("the resolver gives no address for {host} within {timeout:?}");
        let found = tokio::time::timeout(timeout, self.names.addresses(host)).await;
        let found = found.map_err(late)?.map_err(|error| error.to_string())?;
        // The members reach each other by it.
        self.names.note_good(host);
        Ok(found)
    }

    /// The addresses of an endpoint: the resolver's, or the last good ones.
    ///
    /// # Errors
    /// When there are none, with the reason.
    pub async fn addresses(&self, url: &str) -> Result<Vec<IpAddr>, String> {
        match self.endpoint(url) {
            Some(endpoint) => endpoint.addresses().await,
            None => Err(format!("{url} is no configured endpoint")),
        }
    }

    async fn look_at_certificates(&self) {
        let now = SystemTime::UNIX_EPOCH.elapsed().map_or(0, |now| now.as_secs().cast_signed());
        let soon = |certificate: &Certificate| certificate.ends_unix() - now < LOOKED_AT_BEFORE;
        for endpoint in self.all().filter(|endpoint| endpoint.shown().iter().any(soon)) {
            endpoint.look_at_certificate().await;
        }
    }

    fn all(&self) -> impl Iterator<Item = &Endpoint> {
        self.endpoints.iter().chain(&self.apart)
    }
}
