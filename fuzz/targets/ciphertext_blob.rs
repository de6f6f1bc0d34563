use cmk_operator::crypto::{BLOB_HEADER_LEN, BLOB_OVERHEAD, BlobKeys, KEY_LEN, KeyMaterial, parse_header};

/// Key material, the length of a context in one byte, the context, and a blob.
pub fn run(data: &[u8]) {
    let Some((material, rest)) = data.split_at_checked(KEY_LEN) else { return };
    let Some((len, rest)) = rest.split_first() else { return };
    let Some((context, blob)) = rest.split_at_checked(usize::from(*len)) else { return };
    let header = parse_header(blob);
    if let Ok(header) = &header {
        assert!(blob.len() >= BLOB_OVERHEAD && blob[..BLOB_HEADER_LEN].starts_with(b"cmk\x01"));
        assert_eq!((&header.key_id.as_bytes()[..], &header.key_version_id.as_bytes()[..]), (&blob[4..20], &blob[20..36]));
    }
    let keys = BlobKeys::derive(&KeyMaterial::from_bytes(material).expect("the length is that of key material"));
    let Ok(plaintext) = keys.open(blob, context) else { return };
    assert!(header.is_ok() && plaintext.len() == blob.len() - BLOB_OVERHEAD);
    assert!(keys.open(blob, &[context, b"x"].concat()).is_err());
    assert!(keys.open(&blob[..blob.len() - 1], context).is_err());
}
