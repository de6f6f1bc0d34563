//! A certificate in files that somebody else renews: cert-manager through a mounted Secret, say.

#[cfg(test)]
mod tests;

use std::{
    fs, io,
    path::{Path, PathBuf},
    time::Duration,
};

use tokio::sync::watch;
use zeroize::Zeroizing;

use super::{Acceptor, TlsError};

/// How often to look at the files. A mounted Secret changes by a symbolic link that points elsewhere: so their content is
/// what is looked at.
const LOOK: Duration = Duration::from_secs(5);

/// The files.
#[derive(Clone, Debug)]
pub struct Files {
    /// `--kms-tls-cert`
    pub certificate: PathBuf,
    /// `--kms-tls-key`
    pub key: PathBuf,
}

/// What was in them.
#[derive(PartialEq, Eq)]
struct Content {
    certificate: Vec<u8>,
    authority: Option<Vec<u8>>,
    key: Zeroizing<Vec<u8>>,
}

/// A certificate in files, and what it was loaded from.
pub struct FromFiles {
    files: Files,
    /// `--kms-tls-ca`, and who wants to know what is in it.
    authority: (Option<PathBuf>, watch::Sender<Option<String>>),
    acceptor: Acceptor,
    seen: Content,
}

impl Files {
    /// Loads them. `authority` is the file with the CA that clients need, and where it is told.
    ///
    /// # Errors
    /// [`TlsError`]: they can't be read or used.
    pub fn load(self, authority: Option<PathBuf>, told: watch::Sender<Option<String>>) -> Result<FromFiles, TlsError> {
        let seen = self.read(authority.as_deref())?;
        let acceptor = Acceptor::new(&seen.certificate, &seen.key)?;
        let loaded = FromFiles { files: self, authority: (authority, told), acceptor, seen };
        loaded.tell()?;
        Ok(loaded)
    }

    fn read(&self, authority: Option<&Path>) -> Result<Content, TlsError> {
        Ok(Content {
            certificate: read(&self.certificate)?,
            authority: authority.map(read).transpose()?,
            key: Zeroizing::new(read(&self.key)?),
        })
    }
}

fn read(file: &Path) -> Result<Vec<u8>, TlsError> {
    fs::read(file).map_err(|error: io::Error| TlsError::File { file: file.display().to_string(), error })
}

impl FromFiles {
    /// What accepts connections with them.
    #[must_use]
    pub fn acceptor(&self) -> Acceptor {
        self.acceptor.clone()
    }

    /// Looks whether they changed, and answers whether another certificate is in use now.
    ///
    /// # Errors
    /// [`TlsError`]: what is there now can't be used. The certificate in use stays, and the same content is not tried
    /// again.
    pub fn look(&mut self) -> Result<bool, TlsError> {
        let now = self.files.read(self.authority.0.as_deref())?;
        if now == self.seen {
            return Ok(false);
        }
        self.seen = now;
        self.acceptor.replace(&self.seen.certificate, &self.seen.key)?;
        self.tell()?;
        Ok(true)
    }

    /// Tells the CA that clients need.
    fn tell(&self) -> Result<(), TlsError> {
        let (_, told) = &self.authority;
        let text = self.seen.authority.clone().map(String::from_utf8).transpose();
        told.send_replace(text.map_err(|_| TlsError::Certificate("the CA is not PEM".into()))?);
        Ok(())
    }

    /// Looks for ever.
    pub async fn keep(mut self) {
        loop {
            tokio::time::sleep(LOOK).await;
            match self.look() {
                Ok(false) => {}
                Ok(true) => tracing::info!("the certificate of the KMS endpoint was loaded again"),
                // In the middle of a renewal the two files may not belong together.
                Err(error) => tracing::warn!(%error, "the new certificate is not used: the old one stays"),
            }
        }
    }
}
