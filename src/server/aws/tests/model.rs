//! AWS's model, and whether a response has its shape.

use base64::{Engine, prelude::BASE64_STANDARD};
use serde_json::Value;

pub(super) fn model() -> Value {
    serde_json::from_str(include_str!("../../../../tests/vectors/aws/model.json")).unwrap()
}

/// Checks the answer of an operation. Empty is right for operations without output.
pub(super) fn check_output(model: &Value, operation: &str, body: &[u8]) {
    match model["operations"][operation]["output"].as_str() {
        None => assert!(body.is_empty(), "{operation} answers nothing"),
        Some(shape) => {
            let value: Value = serde_json::from_slice(body).unwrap();
            check(model, shape, &value, operation);
        }
    }
}

/// Checks a value against a shape: types, members that exist and that are required, enumerations, lengths and ranges.
fn check(model: &Value, name: &str, value: &Value, path: &str) {
    let shape = &model["shapes"][name];
    let within = |number: i64| {
        assert!(shape["min"].as_i64().is_none_or(|min| number >= min), "{path} is too small: {value}");
        assert!(shape["max"].as_i64().is_none_or(|max| number <= max), "{path} is too large: {value}");
    };
    match shape["type"].as_str().unwrap() {
        "structure" => {
            let members = value.as_object().unwrap_or_else(|| panic!("{path} is an object"));
            for (member, value) in members {
                let target = shape["members"][member].as_str().unwrap_or_else(|| panic!("{path} has no {member}"));
                check(model, target, value, &format!("{path}.{member}"));
            }
            for required in shape["required"].as_array().into_iter().flatten() {
                assert!(members.contains_key(required.as_str().unwrap()), "{path} needs {required}");
            }
        }
        "list" => {
            for item in value.as_array().unwrap_or_else(|| panic!("{path} is a list")) {
                check(model, shape["member"].as_str().unwrap(), item, &format!("{path}[]"));
            }
        }
        "string" => {
            let text = value.as_str().unwrap_or_else(|| panic!("{path} is a string"));
            within(i64::try_from(text.chars().count()).unwrap());
            if let Some(all) = shape["enum"].as_array() {
                assert!(all.contains(value), "{path} is one of {all:?}, not {value}");
            }
        }
        "blob" => {
            let bytes = BASE64_STANDARD.decode(value.as_str().unwrap_or_else(|| panic!("{path} is a string"))).unwrap();
            within(i64::try_from(bytes.len()).unwrap());
        }
        "integer" => within(value.as_i64().unwrap_or_else(|| panic!("{path} is a number"))),
        "boolean" => assert!(value.is_boolean(), "{path} is a boolean"),
        "timestamp" => assert!(value.is_f64(), "{path} is a number with a fraction"),
        other => panic!("{path}: what is {other}?"),
    }
}
