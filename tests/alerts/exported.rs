//! What the operator exports, read by Prometheus' own parser.

use std::{
    collections::BTreeSet,
    fs,
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    process::{Command, Stdio},
};

use k8s_openapi::api::core::v1::ServiceAccount;
use kube::api::{Api, PostParams};
use serde_json::json;

use crate::{
    alerts, path, prometheus, queries,
    support::{
        eventually,
        world::{Operator, SOON, World, key_id},
    },
};

/// Metrics as the parser sees them.
struct Seen {
    /// Names as queries have them.
    names: BTreeSet<String>,
    series: Vec<String>,
}

impl Seen {
    fn read(text: &str) -> Self {
        let mut parser = Command::new(prometheus().join("openmetrics"));
        let mut parser = parser.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let (mut input, text) = (parser.stdin.take().unwrap(), text.to_owned());
        let writer = std::thread::spawn(move || input.write_all(text.as_bytes()));
        let output = parser.wait_with_output().unwrap();
        writer.join().unwrap().unwrap();
        assert!(output.status.success(), "not OpenMetrics: {}", String::from_utf8_lossy(&output.stderr));
        let (mut names, mut series) = (BTreeSet::new(), Vec::new());
        for line in String::from_utf8(output.stdout).unwrap().lines() {
            if let Some(sample) = line.strip_prefix("series ") {
                series.push(sample.to_owned());
                continue;
            }
            let (name, kind) = line.strip_prefix("family ").unwrap().split_once(' ').unwrap();
            let suffixes: &[_] = match kind {
                "counter" => &["_total"],
                "histogram" => &["", "_bucket", "_count", "_sum"],
                "info" => &["_info"],
                _ => &[""],
            };
            names.extend(suffixes.iter().map(|suffix| format!("{name}{suffix}")));
        }
        Self { names, series }
    }

    /// The series with this name and these parts of labels.
    fn has(&self, name: &str, labels: &[&str]) -> Result<String, String> {
        let quoted = format!("__name__=\"{name}\"");
        let matches = |line: &&String| line.contains(&quoted) && labels.iter().all(|label| line.contains(label));
        let found = self.series.iter().find(matches).cloned();
        found.ok_or_else(|| {
            let near: Vec<_> = self.series.iter().filter(|line| line.contains(&quoted)).collect();
            format!("no {name} with {labels:?}, but {near:#?}")
        })
    }
}

/// The names of metrics in a query or a page.
fn named(text: &str) -> BTreeSet<String> {
    let words = text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
    let is_metric = |word: &&str| {
        (word.starts_with("cmk_") || word.starts_with("process_")) && !word.ends_with('_') && *word != "cmk_operator"
    };
    words.filter(is_metric).map(str::to_owned).collect()
}

/// A ServiceAccount that may use keys, and its token.
async fn user(world: &World) -> String {
    let accounts: Api<ServiceAccount> = Api::namespaced(world.client.clone(), &world.namespace);
    let account = serde_json::from_value(json!({"metadata": {"name": "app"}})).unwrap();
    accounts.create(&PostParams::default(), &account).await.unwrap();
    let run = |arguments: &[&str]| {
        let output = world.kubectl(arguments).output().unwrap();
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    };
    let resource = "--resource=customermasterkeys.kms.cmk-operator.dev";
    run(&["create", "role", "app", "--verb=encrypt,decrypt", resource]);
    let account = format!("--serviceaccount={}:app", world.namespace);
    run(&["create", "rolebinding", "app", "--role=app", &account]);
    run(&["create", "token", "app", "--audience=kms.cmk-operator.dev"])
}

/// Encrypts, and answers the status and the body.
fn encrypt(endpoint: SocketAddr, token: &str, key_id: &str) -> (u16, String) {
    let body = json!({"KeyId": key_id, "Plaintext": "aGVsbG8="}).to_string();
    let mut stream = TcpStream::connect(endpoint).unwrap();
    write!(
        stream,
        "POST / HTTP/1.1\r\nHost: {endpoint}\r\nConnection: close\r\nX-Amz-Target: TrentService.Encrypt\r\n\
         Content-Type: application/x-amz-json-1.1\r\nAuthorization: Bearer {token}\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
    .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
}

/// Waits until the endpoint answers with this status.
async fn encrypts(operator: &Operator, token: &str, key_id: &str, status: u16, says: &str) {
    let endpoint = operator.kms_plain.unwrap();
    eventually(&format!("Encrypt to answer {status} {says}"), SOON, async || {
        let (found, body) = encrypt(endpoint, token, key_id);
        if found == status && body.contains(says) { Ok(()) } else { Err(format!("{found} {body}")) }
    })
    .await;
}

async fn seen(operator: &Operator, name: &str, labels: &[&str]) -> String {
    eventually(&format!("{name} {labels:?}"), SOON, async || Seen::read(&operator.metrics.render()).has(name, labels))
        .await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_alerts_and_dashboard_and_docs_name_is_exported() {
    let (world, operator) = World::with_operator("exported").await;
    let token = user(&world).await;
    let used = key_id(&{
        world.apply_key("used", json!({})).await;
        world.key_ready("used").await
    });
    let deleted = key_id(&{
        world.apply_key("deleted", json!({})).await;
        world.key_ready("deleted").await
    });
    world.apply_data_key("under", json!({"keyRef": {"name": "used"}})).await;
    world.data_key_ready("under").await;
    encrypts(&operator, &token, &used, 200, "CiphertextBlob").await;
    seen(&operator, "cmk_key_last_used_timestamp_seconds", &["object_name=\"used\""]).await;
    let count = seen(&operator, "cmk_key_data_keys", &["object_name=\"used\""]).await;
    assert!(count.ends_with(" 1"), "{count}");

    // The use of keys that are to be deleted: of one whose object is there, and of one whose object is gone.
    world.apply_key("used", json!({"scheduleDeletion": true})).await;
    encrypts(&operator, &token, &used, 400, "KMSInvalidStateException").await;
    world.delete_key("deleted").await;
    encrypts(&operator, &token, &deleted, 400, "NotFoundException").await;
    for (name, id) in [("used", &used), ("deleted", &deleted)] {
        let labels = [format!("object_name=\"{name}\""), format!("key_id=\"{id}\"")];
        let labels = labels.each_ref().map(String::as_str);
        seen(&operator, "cmk_key_deletion_timestamp_seconds", &labels).await;
        let refused = seen(&operator, "cmk_key_refused_pending_deletion_total", &labels).await;
        assert!(!refused.ends_with(" 0"), "{refused}");
    }
    world.apply_data_key("waiting", json!({"keyRef": {"name": "nobody"}})).await;
    let waiting = ["object_name=\"waiting\"", "kind=\"DataKey\"", "type=\"Ready\"", "reason=\"KeyNotFound\""];
    seen(&operator, "cmk_condition", &waiting).await;
    seen(&operator, "cmk_objects", &["kind=\"DataKey\"", "standing=\"waiting\"", "reason=\"KeyNotFound\""]).await;

    let exported = Seen::read(&operator.metrics.render()).names;
    let in_alerts = alerts().iter().flat_map(|alert| named(alert["expr"].as_str().unwrap())).collect::<BTreeSet<_>>();
    let in_dashboard = queries().iter().flat_map(|query| named(query)).collect::<BTreeSet<_>>();
    let page = fs::read_to_string(path("docs/operations.md")).unwrap();
    let on_page = named(&page);
    let explained = on_page.iter().filter(|name| name.starts_with("cmk_")).cloned().collect::<BTreeSet<_>>();
    for (what, names) in [("alerts", &in_alerts), ("the dashboard", &in_dashboard), ("docs/operations.md", &explained)]
    {
        let missing: Vec<_> = names.difference(&exported).collect();
        assert!(names.len() > 10 && missing.is_empty(), "{what}: {missing:?} are not exported, but {exported:#?}");
    }
    let whole = |name: &&String| !["_bucket", "_count", "_sum"].iter().any(|suffix| name.ends_with(suffix));
    let unexplained: Vec<_> = exported.difference(&on_page).filter(whole).collect();
    assert!(unexplained.is_empty(), "docs/operations.md lacks {unexplained:?}");
    operator.stop().await.unwrap();
}
