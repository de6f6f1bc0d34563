//! `tests/vectors/sigv4`: what botocore signs.

use serde::Deserialize;

use super::support::Recorded;
use crate::server::Failure;

#[derive(Deserialize)]
struct File {
    vectors: Vec<Vector>,
}

#[derive(Deserialize)]
struct Vector {
    name: String,
    #[serde(flatten)]
    recorded: Recorded,
}

#[test]
fn what_botocore_signs_is_accepted() {
    let file: File = serde_json::from_str(include_str!("../../../../tests/vectors/sigv4/botocore.json")).unwrap();
    assert_eq!(file.vectors.len(), 16);
    for Vector { name, recorded } in file.vectors {
        let caller = recorded.endpoint().aws(&recorded.request());
        assert_eq!(caller.map(|caller| caller.access_key_id), Ok(Some((*recorded.access_key_id).into())), "{name}");
        let mut other = recorded.clone();
        other.secret.push('x');
        assert_eq!(other.endpoint().aws(&recorded.request()), Err(Failure::SignatureMismatch), "{name}");
    }
}
