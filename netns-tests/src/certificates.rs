//! An authority, a server's certificate and a client's, made on the spot.

use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    date_time_ymd,
};

/// The PEM files of one authority: `ca.pem`, `ca.key`, `server.pem`, `server.key`, `client.pem` and
/// `client.key`, in a directory that whoever makes them removes.
#[derive(Clone, Debug)]
pub struct Certificates {
    directory: PathBuf,
    server_names: Vec<String>,
}

impl Certificates {
    /// Makes them in `directory`; the server's certificate is made out to these names and addresses.
    ///
    /// # Errors
    /// When a name cannot be in a certificate, or a file cannot be written.
    pub fn create(directory: &Path, server_names: Vec<String>) -> Result<Self> {
        let certificates = Certificates { directory: directory.to_owned(), server_names };
        certificates.renew_authority(None)?;
        certificates.renew(None)?;
        Ok(certificates)
    }

    /// Puts a new certificate of the authority in the place of the one that is there, of the same key. It
    /// expires after so long; in some thousand years when that is absent. etcd reads it when it starts, and
    /// never again.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn renew_authority(&self, valid_for: Option<Duration>) -> Result<()> {
        let mut authority = authority()?;
        ends(&mut authority, valid_for)?;
        self.write("ca.pem", &authority.self_signed(&self.key("ca")?)?.pem())
    }

    /// Puts a new server's certificate and a new client's in the place of those that are there, of the
    /// same keys and authority. They expire after so long; in some thousand years when that is absent.
    ///
    /// # Errors
    /// When a name cannot be in a certificate, or a file cannot be written.
    pub fn renew(&self, valid_for: Option<Duration>) -> Result<()> {
        let authority = Issuer::new(authority()?, self.key("ca")?);
        // etcd's own gateway comes with the server's certificate, as a client.
        let both = [ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        for (who, names, usages) in
            [("server", self.server_names.clone(), &both[..]), ("client", Vec::new(), &both[1..])]
        {
            let mut params = CertificateParams::new(names)?;
            params.distinguished_name.push(DnType::CommonName, format!("a {who}"));
            params.extended_key_usages = usages.to_vec();
            ends(&mut params, valid_for)?;
            let certificate = params.signed_by(&self.key(who)?, &authority)?;
            self.write(&format!("{who}.pem"), &certificate.pem())?;
        }
        Ok(())
    }

    /// Somebody's key, which is made when it is asked for first.
    fn key(&self, who: &str) -> Result<KeyPair> {
        let name = format!("{who}.key");
        if let Ok(pem) = std::fs::read_to_string(self.file(&name)) {
            return KeyPair::from_pem(&pem).context(name);
        }
        let key = KeyPair::generate()?;
        self.write(&name, &key.serialize_pem())?;
        Ok(key)
    }

    /// The directory that all of them are in.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Where one of them is.
    pub fn file(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    /// etcd's arguments for a member that clients reach by TLS; `mutual` when these need a certificate.
    pub fn etcd_arguments(&self, mutual: bool) -> Vec<String> {
        let path = |name| self.file(name).display().to_string();
        let mut arguments = vec![
            format!("--cert-file={}", path("server.pem")),
            format!("--key-file={}", path("server.key")),
        ];
        if mutual {
            arguments.push(format!("--trusted-ca-file={}", path("ca.pem")));
            arguments.push("--client-cert-auth".to_owned());
        }
        arguments
    }

    /// Writes a file beside them that only its owner may read.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write(&self, name: &str, text: &str) -> Result<()> {
        let file = self.file(name);
        let mut options = std::fs::File::options();
        let written = options
            .create(true)
            .truncate(true)
            .write(true)
            .mode(0o600)
            .open(&file)
            .and_then(|mut open| open.write_all(text.as_bytes()));
        written.with_context(|| file.display().to_string())
    }
}

/// The certificate expires after so long from now, if that is said.
fn ends(params: &mut CertificateParams, valid_for: Option<Duration>) -> Result<()> {
    if let Some(valid_for) = valid_for {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?;
        params.not_after = date_time_ymd(1970, 1, 1) + now + valid_for;
    }
    Ok(())
}

fn authority() -> Result<CertificateParams> {
    let mut authority = CertificateParams::new(Vec::new())?;
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    authority.distinguished_name.push(DnType::CommonName, "turnip's test authority");
    Ok(authority)
}
