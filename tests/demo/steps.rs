//! What is shown: each step types its commands, and checks that they show what they should.

use crate::stage::{Ran, Stage};
use crate::support::screen::{Failed, Screen};

pub(crate) type Shown = Result<(), Failed>;

/// A step's commands and checks.
pub struct Show<'a> {
    pub screen: &'a mut Screen,
    pub stage: &'a mut Stage,
}

/// Where the operator keeps its own Secrets.
pub const OPERATOR_NAMESPACE: &str = "cmk-system";

impl Show<'_> {
    /// Types a command, which has to succeed.
    pub(crate) fn run(&mut self, line: &str) -> Result<String, Failed> {
        let Ran { text, success } = self.try_run(line);
        if !success {
            self.screen.expect("the command to succeed", false)?;
        }
        Ok(text)
    }

    /// Types a command, whatever becomes of it.
    pub(crate) fn try_run(&mut self, line: &str) -> Ran {
        self.screen.command(line);
        let ran = self.stage.shell(line);
        if !ran.text.trim().is_empty() {
            self.screen.say(ran.text.trim_end());
        }
        ran
    }

    /// Types a command that exports variables to those after it.
    pub(crate) fn export(&mut self, line: &str) {
        self.screen.command(line);
        self.stage.export(line);
    }

    pub(crate) fn heading(&self, text: &str) {
        self.screen.heading(text);
    }

    pub(crate) fn expect(&mut self, what: &str, seen: bool) -> Shown {
        self.screen.expect(what, seen)
    }

    /// Something that is looked up without being shown.
    pub(crate) fn look_up(&self, line: &str) -> String {
        self.stage.shell(line).text
    }

    pub(crate) fn key_id(&self, name: &str) -> String {
        self.look_up(&format!("kubectl get cmk {name} -n shop -o jsonpath='{{.status.keyMetadata.keyId}}'"))
    }

    /// To be compared, never to be printed.
    pub(crate) fn plaintext(&self, secret: &str) -> String {
        self.look_up(&format!("kubectl get secret {secret} -n shop -o jsonpath='{{.data.plaintext}}'"))
    }

    /// What a user does once, before the operator runs.
    pub fn install(&mut self) -> Shown {
        self.heading("Install: the kinds, the operator's rights, the admission policies");
        self.run(&format!("kubectl create namespace {OPERATOR_NAMESPACE}"))?;
        let crds = self.run("cmk-operator crds | kubectl apply --server-side -f -")?;
        self.run("kubectl apply --server-side -f deploy/rbac.yaml")?;
        let policies = self.run("cmk-operator policies | kubectl apply --server-side -f -")?;
        let names = ["customermasterkeys", "datakeys", "clusterkeystores", "accesskeys"]
            .map(|n| format!("crd/{n}.kms.cmk-operator.dev"));
        self.run(&format!("kubectl wait --for=condition=Established --timeout=60s {}", names.join(" ")))?;
        self.expect(
            "the four kinds and the policies are installed",
            crds.matches("serverside-applied").count() == 4 && policies.contains("serverside-applied"),
        )
    }

    /// The rest, with the operator running.
    pub fn all(&mut self) -> Shown {
        self.manifests_become_keys()?;
        self.table_of_keys()?;
        self.metadata()?;
        self.data_keys()?;
        self.delivered_secrets()?;
        self.disabled_key()?;
        self.enabled_again()?;
        self.endpoint()?;
        self.imported_material()?;
        self.rotated()?;
        self.aliases()?;
        self.protected()?;
        self.deleted_and_applied_again()?;
        self.planned()?;
        self.refusals()?;
        self.events()?;
        self.verified()
    }

    fn manifests_become_keys(&mut self) -> Shown {
        self.heading("Apply the examples: keys, data keys, key stores, an access key");
        self.run("kubectl apply -f examples/00-namespace.yaml")?;
        self.run(
            "head -c 32 /dev/urandom | \\\n  \
             kubectl create secret generic imported-material -n shop --from-file=material=/dev/stdin",
        )?;
        self.run("kubectl apply -f examples/")?;
        let all = "kubectl wait --for=condition=Ready --timeout=60s --all";
        self.run(&format!("{all} clusterkeystores"))?;
        // The keys last: when the data keys are Ready, there is the service key as well.
        let waited = self.run(&format!("{all} -A dk,ak,cmk"))?;
        self.expect(
            "all are Ready: ten keys, and the service key of a data key that names none; six data keys; an access key",
            waited.matches("customermasterkey").count() == 11
                && waited.matches("datakey.").count() == 6
                && waited.matches("accesskey.").count() == 1,
        )
    }

    fn table_of_keys(&mut self) -> Shown {
        self.heading("The keys");
        let table = self.run("kubectl get cmk -n shop")?;
        let id = self.key_id("orders");
        self.expect(
            "orders is Enabled, and has a key id",
            row(&table, "orders") == [&*id, "Enabled", "default", "True"],
        )?;
        self.expect("archive is Disabled, as declared", says(&table, "archive", &["Disabled", "True"]))?;
        self.expect("retired is PendingDeletion, as declared", says(&table, "retired", &["PendingDeletion", "True"]))?;

        let wide = self.run("kubectl get cmk -n shop -o wide")?;
        let date = "kubectl get cmk retired -n shop -o jsonpath='{.status.keyMetadata.deleteDate}'";
        let date = self.look_up(date);
        self.expect("retired shows when it is deleted", date.ends_with('Z') && says(&wide, "retired", &[&date]))?;
        self.expect("billing has the origin AWS_KMS", says(&wide, "billing", &["AWS_KMS"]))
    }

    fn metadata(&mut self) -> Shown {
        self.heading("One key's metadata, in the vocabulary of the cloud services");
        let yaml = self.run("kubectl get cmk orders -n shop -o yaml | grep -A 12 keyMetadata:")?;
        let arn = format!("arn: acs:kms:cn-hangzhou:123456:key/{}", self.key_id("orders"));
        let expected =
            [&arn, "keyState: Enabled", "description: Orders database", "origin: Aliyun_KMS", "creationDate:"];
        self.expect("it has the ARN, the state and what was declared", expected.iter().all(|e| yaml.contains(e)))?;

        let arn = self.run("kubectl get cmk billing -n shop -o jsonpath='{.status.keyMetadata.arn}'")?;
        self.expect(
            "an AWS_KMS key has an ARN of AWS",
            arn == format!("arn:aws:kms:cn-hangzhou:000000123456:key/{}", self.key_id("billing")),
        )
    }

    fn data_keys(&mut self) -> Shown {
        self.heading("The data keys");
        let table = self.run("kubectl get dk -n shop")?;
        let is = |name: &str, key: &str| row(&table, name) == [key, name, "True", "AsDeclared"];
        let all = is("orders-dek", "orders") && is("orders-backup", "orders") && is("billing-dek", "billing");
        self.expect("each is delivered as a Secret", all)
    }

    fn delivered_secrets(&mut self) -> Shown {
        self.heading("The Secret of a data key (kubectl describe hides the values)");
        let secret = self.run("kubectl describe secret orders-dek -n shop")?;
        let lines: Vec<_> = secret.lines().map(squeezed).collect();
        self.expect("the plaintext has 32 bytes", lines.iter().any(|line| line == "plaintext: 32 bytes"))?;
        let context = "kubectl get secret orders-dek -n shop -o jsonpath='{.data.encryptionContext}' | base64 -d";
        let context = self.run(context)?;
        let expected = serde_json::json!({"app": "shop", "cmk-operator.dev/data-key": "shop/orders-dek"});
        self.expect(
            "its encryption context is the declared one, and names the DataKey",
            serde_json::from_str::<serde_json::Value>(&context).is_ok_and(|context| context == expected),
        )?;

        let secret = self.run("kubectl describe secret orders-backup -n shop | grep bytes")?;
        self.expect(
            "a data key without plaintext holds the ciphertext only",
            secret.contains("ciphertextBlob:") && !secret.contains("plaintext:"),
        )?;
        let secret = self.run("kubectl describe secret billing-dek -n shop | grep plaintext")?;
        self.expect("as Base64, for an environment variable, it has 44 bytes", secret.contains("44 bytes"))
    }

    fn disabled_key(&mut self) -> Shown {
        self.heading("Disable a key: nothing new is made under it, what was delivered stays");
        let delivered = self.plaintext("orders-dek");
        self.run("kubectl patch cmk orders -n shop --type=merge -p '{\"spec\":{\"enabled\":false}}'")?;
        let disabled = "--for=jsonpath='{.status.keyMetadata.keyState}'=Disabled";
        self.run(&format!("kubectl wait cmk/orders -n shop {disabled} --timeout=60s"))?;
        self.run(
            "kubectl apply -f - <<EOF\n\
             apiVersion: kms.cmk-operator.dev/v1alpha1\n\
             kind: DataKey\n\
             metadata: {name: orders-reports, namespace: shop}\n\
             spec: {keyRef: {name: orders}}\n\
             EOF",
        )?;
        let reason = "--for=jsonpath='{.status.conditions[?(@.type==\"Ready\")].reason}'";
        self.run(&format!("kubectl wait dk/orders-reports dk/orders-dek -n shop {reason}=KeyDisabled --timeout=60s"))?;
        let table = self.run("kubectl get dk -n shop")?;
        self.expect(
            "the new data key is refused, with the reason",
            row(&table, "orders-reports") == ["orders", "False", "KeyDisabled"],
        )?;
        let message = "-o jsonpath='{.status.conditions[?(@.type==\"Ready\")].message}'";
        let message = self.run(&format!("kubectl get dk orders-reports -n shop {message}"))?;
        self.expect(
            "and a sentence says what to do",
            message.contains("is Disabled") && message.contains("enable it"),
        )?;
        let none = self.try_run("kubectl get secret orders-reports -n shop");
        self.expect("there is no Secret for it", none.text.contains("NotFound"))?;
        self.run("kubectl get secret orders-dek -n shop")?;
        self.expect(
            "the Secret delivered before holds the same bytes",
            !delivered.is_empty() && self.plaintext("orders-dek") == delivered,
        )
    }

    fn enabled_again(&mut self) -> Shown {
        self.heading("Enable it again");
        self.run("kubectl patch cmk orders -n shop --type=merge -p '{\"spec\":{\"enabled\":true}}'")?;
        self.run("kubectl wait --for=condition=Ready --timeout=60s -n shop --all cmk,dk")?;
        let table = self.run("kubectl get dk -n shop")?;
        self.expect(
            "the refused data key became Ready by itself",
            row(&table, "orders-reports") == ["orders", "orders-reports", "True", "AsDeclared"],
        )
    }

    fn refusals(&mut self) -> Shown {
        self.heading("What is wrong is refused with a sentence, and changes nothing");
        let refused = self.try_run(
            "kubectl apply -f - <<EOF\n\
             apiVersion: kms.cmk-operator.dev/v1alpha1\n\
             kind: CustomerMasterKey\n\
             metadata: {name: careless, namespace: shop}\n\
             spec: {pendingDeletionDays: 3}\n\
             EOF",
        );
        self.expect(
            "the sentence names the field and its limits",
            !refused.success && refused.text.contains("spec.pendingDeletionDays must be 7 to 366 days"),
        )?;
        let patch = "kubectl patch cmk orders -n shop --type=merge";
        let refused = self.try_run(&format!("{patch} -p '{{\"spec\":{{\"origin\":\"AWS_KMS\"}}}}'"));
        self.expect("the origin can't change", !refused.success && refused.text.contains("spec.origin is immutable"))?;
        let status = "-p '{\"status\":{\"keyMetadata\":{\"keyState\":\"Enabled\"}}}'";
        let refused =
            self.try_run(&format!("kubectl patch cmk archive -n shop --subresource=status --type=merge {status}"));
        self.expect(
            "nobody but the operator writes status, not even the administrator",
            !refused.success && refused.text.contains("only the operator"),
        )
    }

    fn events(&mut self) -> Shown {
        self.heading("What happened, for people");
        let described = self.run("kubectl describe cmk customers -n shop")?;
        let events = described.split("Events:").nth(1).unwrap_or_default();
        self.expect(
            "the Events say that the key was taken back, and its deletion cancelled",
            events.contains("KeyAdopted") && events.contains("DeletionCancelled"),
        )
    }

    fn verified(&mut self) -> Shown {
        self.heading("What stands behind it: one sealed Secret a key, in the operator's namespace");
        let secrets = self.run(&format!("kubectl get secrets -n {OPERATOR_NAMESPACE}"))?;
        self.expect(
            "eleven records, the claims of two aliases, an access key, the endpoint's certificate, and the root key",
            secrets.matches("kms.cmk-operator.dev/key ").count() == 11
                && secrets.matches("kms.cmk-operator.dev/alias ").count() == 2
                && secrets.matches("kms.cmk-operator.dev/access-key ").count() == 1
                && ["cmk-kms-tls", "cmk-root-key"].iter().all(|name| secrets.contains(name)),
        )?;
        let report = self.run("cmk-operator verify")?;
        self.expect(
            "every record is authentic and unwraps",
            report.contains("11 keys unwrap, 0 tombstones") && report.contains("1 access keys open, 0 do not"),
        )
    }
}

/// The columns of a table's row, without the first and the last: the name and the age.
pub(crate) fn row<'a>(table: &'a str, name: &str) -> Vec<&'a str> {
    let mut columns = table.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    let mut row = columns.find(|columns| columns.first() == Some(&name)).unwrap_or_default();
    row.pop();
    row.into_iter().skip(1).collect()
}

/// Whether a table's row has all of these columns.
pub(crate) fn says(table: &str, name: &str, columns: &[&str]) -> bool {
    let row = row(table, name);
    columns.iter().all(|column| row.contains(column))
}

fn squeezed(line: &str) -> String {
    line.split_whitespace().collect::<Vec<_>>().join(" ")
}
