//! Files that change.

use super::*;
use crate::server::tls::testing::{presented, self_signed};

fn write(files: &Files, (certificate, key): &(String, String)) {
    fs::write(&files.certificate, certificate).unwrap();
    fs::write(&files.key, key).unwrap();
}

#[tokio::test]
async fn a_certificate_that_changes_is_loaded_again_and_a_broken_one_is_not() {
    let directory = tempfile::tempdir().unwrap();
    let files = Files { certificate: directory.path().join("tls.crt"), key: directory.path().join("tls.key") };
    let ca = directory.path().join("ca.crt");
    assert!(matches!(files.clone().load(None, watch::channel(None).0), Err(TlsError::File { .. })));

    let (first, second) = (self_signed(), self_signed());
    write(&files, &first);
    fs::write(&ca, "CA 1").unwrap();
    let (told, authority) = watch::channel(None);
    let mut loaded = files.clone().load(Some(ca.clone()), told).unwrap();
    assert_eq!(authority.borrow().as_deref(), Some("CA 1"));
    assert_eq!(presented(&loaded.acceptor(), &first.0).await, Ok(()));
    assert!(!loaded.look().unwrap());

    // In the middle of a change: the new certificate with the old key.
    write(&files, &(second.0.clone(), first.1.clone()));
    assert!(matches!(loaded.look(), Err(TlsError::Pair(_))));
    assert!(!loaded.look().unwrap(), "what can't be used is not tried again");
    assert_eq!(presented(&loaded.acceptor(), &first.0).await, Ok(()));

    write(&files, &second);
    fs::write(&ca, "CA 2").unwrap();
    assert!(loaded.look().unwrap());
    assert_eq!(authority.borrow().as_deref(), Some("CA 2"));
    assert_eq!(presented(&loaded.acceptor(), &second.0).await, Ok(()));
    assert!(presented(&loaded.acceptor(), &first.0).await.is_err());

    for (broken, key) in [("", second.1.as_str()), ("nonsense", second.1.as_str()), (second.0.as_str(), "nonsense")] {
        write(&files, &(broken.to_owned(), key.to_owned()));
        assert!(loaded.look().is_err());
    }
    fs::remove_file(&files.key).unwrap();
    assert!(matches!(loaded.look(), Err(TlsError::File { .. })));
    assert_eq!(presented(&loaded.acceptor(), &second.0).await, Ok(()), "the old one stays");
}
