//! The dialect beside AWS's own model of the API, `tests/vectors/aws/model.json`.

mod errors;
mod model;
mod requests;
mod responses;

use std::collections::BTreeSet;

use hyper::{HeaderMap, Method, body::Bytes};
use model::model;

use super::{Action, action::UNSUPPORTED, known, operation_of};
use crate::server::{Failure, Request};

#[test]
fn every_operation_of_the_api_is_served_or_refused_by_name() {
    let model = model();
    let real: BTreeSet<&str> = model["names"].as_array().unwrap().iter().map(|name| name.as_str().unwrap()).collect();
    let served: Vec<&str> = Action::ALL.iter().map(|action| action.as_str()).collect();
    let refused: Vec<&str> = UNSUPPORTED.iter().map(|(name, _)| *name).collect();
    assert_eq!(served.iter().chain(&refused).copied().collect::<BTreeSet<_>>(), real);
    assert_eq!(served.len() + refused.len(), real.len(), "each once");

    for action in Action::ALL {
        assert_eq!(Action::find(action.as_str()).as_ref(), Ok(action));
        assert_eq!(known(action.as_str()), Some(action.as_str()));
    }
    for name in refused {
        assert!(matches!(Action::find(name), Err(Failure::Unsupported(reason)) if reason.starts_with(name)), "{name}");
        assert_eq!(known(name), Some(name));
    }
    for unknown in ["", "encrypt", "Encrypt ", "DescribeKeys"] {
        assert_eq!(Action::find(unknown), Err(Failure::UnknownOperation(unknown.into())));
        assert_eq!(known(unknown), None);
    }
}

#[test]
fn the_operation_is_in_one_header() {
    let request = |targets: &[&str]| {
        let mut headers = HeaderMap::new();
        for target in targets {
            headers.append("x-amz-target", target.parse().unwrap());
        }
        let (path, query) = ("/".into(), String::new());
        Request { method: Method::POST, path, query, headers, body: Bytes::new() }
    };
    assert_eq!(operation_of(&request(&["TrentService.Encrypt"])), Some("Encrypt"));
    for none in [&[][..], &["Encrypt"], &["DynamoDB.Encrypt"], &["TrentService.Encrypt", "TrentService.Decrypt"]] {
        assert_eq!(operation_of(&request(none)), None, "{none:?}");
    }
}
