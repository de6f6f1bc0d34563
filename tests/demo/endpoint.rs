//! The KMS endpoint: `aws kms` and the SDK of Alibaba Cloud, with the credentials of an AccessKey.

use crate::steps::{Show, Shown, row};

/// The Secret's entries as a shell takes them, which is what `envFrom` does for a pod.
const AS_VARIABLES: &str = r#"{{range $name, $value := .data}}{{if ne $name "ca.crt"}}export {{$name}}={{base64decode $value}}{{"\n"}}{{end}}{{end}}"#;

impl Show<'_> {
    pub fn endpoint(&mut self) -> Shown {
        self.access_key()?;
        self.environment()?;
        self.one_key_two_apis()?;
        self.refused_at_the_endpoint()
    }

    fn access_key(&mut self) -> Shown {
        self.heading("Credentials for AWS and Alibaba Cloud clients (examples/40-access-key.yaml)");
        let table = self.run("kubectl get accesskeys -n shop")?;
        let id = self.look_up("kubectl get ak orders-kms -n shop -o jsonpath='{.status.accessKeyId}'");
        self.expect(
            "the ServiceAccount orders-api has an access key",
            id.starts_with("CMKA")
                && row(&table, "orders-kms") == ["orders-api", &id, "orders-kms", "True", "AsDeclared"],
        )?;
        let bindings = self.run("kubectl get rolebindings -n shop -o wide")?;
        self.expect(
            "which may encrypt and decrypt, and nothing else",
            ["cmk-encrypter", "cmk-decrypter"].iter().all(|role| bindings.contains(&format!("ClusterRole/{role}")))
                && bindings.matches("shop/orders-api").count() == 2,
        )?;
        let secret = self.run("kubectl describe secret orders-kms -n shop | grep bytes")?;
        let mut entries: Vec<_> =
            secret.lines().filter_map(|line| line.split_once(':')).map(|(name, _)| name).collect();
        entries.sort_unstable();
        self.expect(
            "it is delivered under the names that the SDKs read",
            entries
                == [
                    "ALIBABA_CLOUD_ACCESS_KEY_ID",
                    "ALIBABA_CLOUD_ACCESS_KEY_SECRET",
                    "AWS_ACCESS_KEY_ID",
                    "AWS_CA_BUNDLE",
                    "AWS_DEFAULT_REGION",
                    "AWS_ENDPOINT_URL_KMS",
                    "AWS_REGION",
                    "AWS_SECRET_ACCESS_KEY",
                    "ca.crt",
                ],
        )
    }

    fn environment(&mut self) -> Shown {
        self.heading("The environment of a pod with envFrom and ca.crt mounted, in this shell");
        self.run(&format!("kubectl get secret orders-kms -n shop -o go-template='{AS_VARIABLES}' > ~/orders-kms.env"))?;
        self.run("kubectl get secret orders-kms -n shop -o jsonpath='{.data.ca\\.crt}' | base64 -d > ~/ca.crt")?;
        self.export(". ~/orders-kms.env; export AWS_CA_BUNDLE=~/ca.crt");
        let found = self.run("echo $AWS_ENDPOINT_URL_KMS")?;
        let url = self.stage.kms_url().to_owned();
        self.expect("the endpoint is the operator's", found.trim() == url)
    }

    fn one_key_two_apis(&mut self) -> Shown {
        self.heading("Encrypt and decrypt with aws kms");
        let id = self.key_id("customers");
        self.run("printf 'Ada Lovelace' > ~/name.txt")?;
        let encrypted = self.run(
            "aws kms encrypt --key-id alias/customers --plaintext fileb://~/name.txt \\\n  \
             --query CiphertextBlob --output text | tee ~/name.encrypted",
        )?;
        // `cmk` and the version 1 of the format.
        self.expect("it is a CiphertextBlob of the operator's", encrypted.starts_with("Y21rA"))?;
        let decrypted = self.run(
            "base64 -d ~/name.encrypted > ~/name.bin\n  \
             aws kms decrypt --ciphertext-blob fileb://~/name.bin --query Plaintext --output text | base64 -d",
        )?;
        self.expect("the plaintext is back", decrypted.trim_end() == "Ada Lovelace")?;

        self.heading("The same ciphertext through Alibaba Cloud's SDK");
        let decrypted = self.run("python examples/clients/alibaba_decrypt.py < ~/name.encrypted")?;
        self.expect(
            "one key, both APIs",
            decrypted.contains("Plaintext: Ada Lovelace") && decrypted.contains(&format!("KeyId: {id}")),
        )
    }

    fn refused_at_the_endpoint(&mut self) -> Shown {
        self.heading("Refused, as the service would");
        let decrypt = "aws kms decrypt --ciphertext-blob fileb://~/name.bin";
        self.run("kubectl cmk disable customers -n shop")?;
        let refused = self.try_run(decrypt);
        self.expect(
            "a disabled key decrypts nothing",
            !refused.success && refused.text.contains("(DisabledException)"),
        )?;
        self.run("kubectl cmk enable customers -n shop")?;
        let decrypted = self.run(&format!("{decrypt} --query Plaintext --output text | base64 -d"))?;
        self.expect("enabled again, it does", decrypted.trim_end() == "Ada Lovelace")?;

        let denied = self.try_run(&format!("aws kms schedule-key-deletion --key-id {}", self.key_id("customers")));
        self.expect(
            "who may encrypt may not delete: the sentence says who lacks what",
            !denied.success
                && ["(AccessDeniedException)", "system:serviceaccount:shop:orders-api", "delete"]
                    .iter()
                    .all(|part| denied.text.contains(part)),
        )?;
        let state = self.look_up("kubectl get cmk customers -n shop -o jsonpath='{.status.keyMetadata.keyState}'");
        self.expect("and the key is what it was", state == "Enabled")
    }
}
