use cmk_operator::server::aws::{Action, refuse, requests::Input};
use uuid::Uuid;

/// The name of an AWS operation and, after a line feed, its body.
pub fn run(data: &[u8]) {
    let Some(at) = data.iter().position(|byte| *byte == b'\n') else { return };
    let (name, body) = (&data[..at], &data[at + 1..]);
    let Ok(name) = std::str::from_utf8(name) else { return };
    let failure = match Action::find(name) {
        Ok(action) => {
            assert_eq!(action.as_str(), name);
            Input::parse(action, body).err()
        }
        Err(failure) => Some(failure),
    };
    if let Some(failure) = failure {
        let reply = refuse(&failure, Uuid::nil());
        assert_eq!(reply.status.as_u16(), 400);
        assert!(serde_json::from_slice::<serde_json::Value>(&reply.body).is_ok_and(|body| body["__type"].is_string()));
    }
}
