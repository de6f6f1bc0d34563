use cmk_operator::server::alibaba::{Format, Parameters, refuse, requests::ActionRequest};
use uuid::Uuid;

/// The name of an Alibaba Cloud action and, after a line feed, its query. What is refused is refused in JSON and in XML.
pub fn run(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let (action, query) = text.split_once('\n').unwrap_or((text, ""));
    let Ok(parameters) = Parameters::parse(query, "") else { return };
    let Err(failure) = ActionRequest::parse(action, &parameters) else { return };

    let json = refuse(&failure, Format::Json, action, Uuid::nil());
    let status = json.status.as_u16();
    assert!((400..500).contains(&status), "{status}");
    let body: serde_json::Value = serde_json::from_slice(&json.body).expect("every refusal is JSON");
    assert!(body["Code"].is_string() && body["HttpStatus"] == status);

    let xml = refuse(&failure, Format::Xml, action, Uuid::nil());
    let text = std::str::from_utf8(&xml.body).expect("every refusal is UTF-8");
    assert_eq!(xml.status, json.status);
    assert!(text.contains("<KMS>") && text.ends_with("</KMS>"), "{text}");
    assert!(!text.chars().any(|c| c < ' ' && !"\t\r\n".contains(c)), "no XML 1.0 text has these: {text:?}");
}
