//! The rest of a key's life: imported, rotated, named, protected, deleted and got back, and what would become of it.

use crate::steps::{Show, Shown, row};

impl Show<'_> {
    pub fn imported_material(&mut self) -> Shown {
        self.heading("Bring your own key material (examples/13-imported-key.yaml)");
        let state = "-o jsonpath='{.status.keyMetadata.origin} {.status.keyMetadata.keyState}'";
        let imported = self.run(&format!("kubectl get cmk imported -n shop {state}"))?;
        self.expect("imported from the Secret, the key is Enabled", imported == "EXTERNAL Enabled")?;
        let refused = self.try_run("head -c 31 /dev/urandom | kubectl cmk import imported -n shop --from-file -");
        self.expect("anything but 32 bytes is refused", !refused.success && refused.text.contains("32 bytes"))?;
        self.run("kubectl patch cmk imported -n shop --type=json -p '[{\"op\":\"remove\",\"path\":\"/spec/importedKeyMaterial\"}]'")?;
        self.run("kubectl wait cmk/imported -n shop --for=jsonpath='{.status.keyMetadata.keyState}'=PendingImport --timeout=60s")?;
        self.run("kubectl apply -f examples/13-imported-key.yaml")?;
        let again = self.run(
            "kubectl wait cmk/imported -n shop --for=jsonpath='{.status.keyMetadata.keyState}'=Enabled --timeout=60s",
        )?;
        self.expect(
            "removed, it is PendingImport; the same material makes it work again",
            again.contains("condition met"),
        )
    }

    pub fn rotated(&mut self) -> Shown {
        self.heading("Rotate a key: every older version still decrypts");
        let delivered = self.plaintext("orders-dek");
        self.run("kubectl cmk rotate orders -n shop")?;
        let tree = self.run("kubectl cmk tree orders -n shop")?;
        let versions = self.look_up("kubectl get cmk orders -n shop -o jsonpath='{.status.keyVersions[*].id}'");
        let versions: Vec<_> = versions.split_whitespace().collect();
        self.expect("the key has two versions", versions.len() == 2)?;
        self.expect("the data key hangs on the first one", versions.first().is_some_and(|id| tree.contains(&id[..8])))?;
        self.run("kubectl delete secret orders-dek -n shop")?;
        self.run("kubectl wait --for=create secret/orders-dek -n shop --timeout=60s")?;
        let restored = self.plaintext("orders-dek");
        self.expect("and comes back with the same bytes", !delivered.is_empty() && restored == delivered)?;

        self.run("kubectl annotate dk sessions-dek -n shop cmk-operator.dev/rotate-requested-at=now")?;
        self.run(
            "kubectl wait dk/sessions-dek -n shop --for=jsonpath='{.status.lastHandledRotation}'=now --timeout=60s",
        )?;
        self.run("kubectl wait dk/sessions-dek -n shop --for=condition=Ready --timeout=60s")?;
        let secret = self.run("kubectl describe secret sessions-dek -n shop | grep plaintext")?;
        self.expect("a rotated data key keeps the one before beside it", secret.contains("previous-plaintext:"))
    }

    pub fn aliases(&mut self) -> Shown {
        self.heading("An alias belongs to one key, and moves");
        let table = self.run("kubectl get cmk customers -n shop")?;
        let id = self.key_id("customers");
        self.expect(
            "customers has it",
            row(&table, "customers") == [&*id, "alias/customers", "Enabled", "default", "True"],
        )?;
        self.run("kubectl patch cmk sessions -n shop --type=merge -p '{\"spec\":{\"alias\":\"customers\"}}'")?;
        let reason = "--for=jsonpath='{.status.conditions[?(@.type==\"Ready\")].reason}'";
        let taken = self.run(&format!("kubectl wait cmk/sessions -n shop {reason}=AliasConflict --timeout=60s"))?;
        self.expect("nobody else gets it while customers has it", taken.contains("condition met"))?;
        self.run("kubectl patch cmk customers -n shop --type=merge -p '{\"spec\":{\"alias\":\"clients\"}}'")?;
        self.run("kubectl wait cmk/sessions -n shop --for=condition=Ready --timeout=60s")?;
        let table = self.run("kubectl get cmk sessions customers -n shop")?;
        self.expect("freed, it goes to the one that waits", row(&table, "sessions").contains(&"alias/customers"))?;
        self.run("kubectl patch cmk sessions -n shop --type=merge -p '{\"spec\":{\"alias\":null}}'")?;
        self.run("kubectl apply -f examples/10-key-with-alias.yaml")?;
        let back = self
            .run("kubectl wait cmk/customers -n shop --for=jsonpath='{.status.alias}'=alias/customers --timeout=60s")?;
        self.expect("and back", back.contains("condition met"))
    }

    pub fn protected(&mut self) -> Shown {
        self.heading("Deletion protection");
        let refused = self.try_run("kubectl delete cmk ledger -n shop");
        self.expect("the object can't be deleted", !refused.success && refused.text.contains("deletionProtection"))?;
        let refused = self.try_run("kubectl delete namespace shop");
        self.expect("nor can its namespace", !refused.success && refused.text.contains("deletionProtection"))?;
        let refused = self.try_run("kubectl cmk schedule-deletion ledger -n shop --force");
        self.expect("nor can the deletion of the key be scheduled", !refused.success)?;
        self.run("kubectl get cmk ledger -n shop")?;
        self.expect("nothing happened to it", self.look_up("kubectl get cmk ledger -n shop").contains("Enabled"))
    }

    pub fn deleted_and_applied_again(&mut self) -> Shown {
        self.heading("Delete a key, and get it back");
        let id = self.key_id("customers");
        self.screen.say(format!("The key id of customers is {id}."));
        self.run(
            "kubectl apply -f - <<EOF\n\
             apiVersion: kms.cmk-operator.dev/v1alpha1\n\
             kind: DataKey\n\
             metadata: {name: customers-dek, namespace: shop}\n\
             spec: {keyRef: {name: customers}}\n\
             EOF",
        )?;
        self.run("kubectl wait --for=condition=Ready dk/customers-dek -n shop --timeout=60s")?;
        let delivered = self.plaintext("customers-dek");
        self.run("kubectl delete cmk customers -n shop --wait=false")?;
        let reason = "--for=jsonpath='{.status.conditions[?(@.type==\"Ready\")].reason}'";
        let waits = self.run(&format!("kubectl wait cmk/customers -n shop {reason}=KeyInUse --timeout=60s"))?;
        self.expect("while a data key is under it, it waits", waits.contains("condition met"))?;
        self.run("kubectl delete dk customers-dek -n shop")?;
        self.run("kubectl wait --for=delete cmk/customers -n shop --timeout=60s")?;
        let gone = self.try_run("kubectl get cmk/customers -n shop");
        self.expect("then it goes, and its key is scheduled for deletion", gone.text.contains("NotFound"))?;

        self.run("kubectl apply -f examples/10-key-with-alias.yaml")?;
        self.run("kubectl wait --for=condition=Ready --timeout=60s cmk/customers -n shop")?;
        let table = self.run("kubectl get cmk customers -n shop")?;
        self.expect("it is the same key", row(&table, "customers").first() == Some(&&*id))?;
        self.run(
            "kubectl create -f - <<EOF\n\
             apiVersion: kms.cmk-operator.dev/v1alpha1\n\
             kind: DataKey\n\
             metadata: {name: customers-again, namespace: shop}\n\
             spec:\n  \
               keyRef: {name: customers}\n  \
               ciphertextBlob: $(kubectl get secret customers-dek -n shop -o jsonpath='{.data.ciphertextBlob}' | base64 -d)\n  \
               encryptionContext: {cmk-operator.dev/data-key: shop/customers-dek}\n\
             EOF",
        )?;
        self.run("kubectl wait --for=condition=Ready dk/customers-again -n shop --timeout=60s")?;
        let again = self.plaintext("customers-again");
        self.expect("and old ciphertext decrypts", !delivered.is_empty() && again == delivered)
    }

    pub fn planned(&mut self) -> Shown {
        self.heading("What would applying this do? (kubectl cmk plan)");
        let plan = self.run("kubectl cmk plan -f examples/")?;
        self.expect("nothing: everything is as the examples declare", plan.contains("shop/orders"))?;
        let planned = self.try_run(
            "kubectl cmk plan -f - <<EOF\n\
             apiVersion: kms.cmk-operator.dev/v1alpha1\n\
             kind: CustomerMasterKey\n\
             metadata: {name: sessions, namespace: shop}\n\
             spec: {scheduleDeletion: true}\n\
             EOF\n\
             echo \"exit status $?\"",
        );
        self.expect("a deletion is announced, with exit status 3", planned.text.contains("exit status 3"))?;
        let doctor = self.run("kubectl cmk doctor")?;
        self.expect("kubectl cmk doctor finds nothing wrong", !doctor.is_empty())
    }
}
