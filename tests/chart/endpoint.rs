//! The names of the endpoint: its Service, what access keys say, and what is in the certificate.

use std::{net::SocketAddr, sync::Arc};

use clap::Parser;
use cmk_operator::runtime::{
    admin::{self, Admin},
    arguments::{Arguments, Command},
    kms_endpoint::KmsListeners,
    log_levels::LogLevels,
};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::helm::{Helm, objects, only, operator_arguments, values_file};

/// The Service, what access keys say, and the names in the certificate belong together.
#[test]
fn the_endpoint_has_the_names_that_clients_are_told() {
    let names = |arguments: &[&str]| {
        let rendered = objects(&Helm::Four.template(arguments));
        let arguments = operator_arguments(only(&rendered, "Deployment"));
        let value = |flag: &str| {
            let found = arguments.iter().find_map(|argument| argument.strip_prefix(&format!("{flag}=")));
            found.unwrap_or_default().to_owned()
        };
        let services = rendered.iter().filter(|object| object["kind"] == "Service");
        let services = services.map(|service| service["metadata"]["name"].as_str().unwrap().to_owned());
        (value("--kms-url"), value("--kms-tls-host"), services.collect::<Vec<_>>())
    };
    let (url, hosts, services) = names(&[]);
    assert_eq!(url, "https://cmk-operator-kms.cmk-system.svc");
    let expected = "cmk-operator-kms,cmk-operator-kms.cmk-system,cmk-operator-kms.cmk-system.svc,\
                    cmk-operator-kms.cmk-system.svc.cluster.local";
    assert_eq!(hosts, expected);
    assert_eq!(services, ["cmk-operator-kms", "cmk-operator-metrics"]);

    let (url, hosts, services) = names(&["--set", "fullnameOverride=keys,endpoint.service.port=8443"]);
    assert_eq!(url, "https://keys-kms.cmk-system.svc:8443");
    assert!(hosts.contains("keys-kms.cmk-system.svc.cluster.local"), "{hosts}");
    assert_eq!(services, ["keys-kms", "keys-metrics"]);

    let rendered = objects(&Helm::Four.template(&["--values", &values_file("cert-manager")]));
    let certificate = &only(&rendered, "Certificate")["spec"];
    let listed: Vec<_> = expected.split(',').chain(["kms.example.com"]).collect();
    assert_eq!(certificate["dnsNames"], json!(listed));
    let volumes = &only(&rendered, "Deployment")["spec"]["template"]["spec"]["volumes"];
    assert_eq!(volumes[0]["secret"]["secretName"], certificate["secretName"]);
}

/// The Certificate with these arguments.
fn certificate(arguments: &[&str]) -> Value {
    only(&objects(&Helm::Four.template(arguments)), "Certificate")["spec"].clone()
}

/// No authority outside the cluster issues a certificate for a name in it, and cert-manager would try for ever.
#[test]
fn a_public_certificate_has_no_name_of_the_cluster() {
    let file = values_file("cert-manager-public");
    assert_eq!(certificate(&["--values", &file])["dnsNames"], json!(["kms.example.com", "*.kms.example.com"]));
    // An authority that clients know all the same may issue one for the Service, where that is asked for.
    let service = "cmk-operator-kms.cmk-system.svc";
    let set = format!("endpoint.url=,endpoint.tls.dnsNames={{{service}}}");
    assert_eq!(certificate(&["--values", &file, "--set", &set])["dnsNames"], json!([service]));
}

/// An address is no DNS name: clients would not take it for one, and cert-manager refuses it.
#[test]
fn addresses_are_in_the_certificate_as_addresses() {
    let file = values_file("cert-manager-public");
    let set = "endpoint.url=https://[2001:db8::1]:8443,endpoint.tls.dnsNames={192.0.2.1,kms.example.com,2001:db8::2}";
    let spec = certificate(&["--values", &file, "--set", set]);
    assert_eq!(spec["dnsNames"], json!(["kms.example.com"]));
    assert_eq!(spec["ipAddresses"], json!(["2001:db8::1", "192.0.2.1", "2001:db8::2"]));
    let spec = certificate(&["--values", &file, "--set", "endpoint.url=https://192.0.2.1,endpoint.tls.dnsNames=null"]);
    assert_eq!((&spec["dnsNames"], &spec["ipAddresses"]), (&Value::Null, &json!(["192.0.2.1"])));
}

/// The addresses to listen on, with these arguments of Helm's.
fn listeners(arguments: &[&str]) -> Vec<String> {
    let rendered = objects(&Helm::Four.template(arguments));
    let arguments = operator_arguments(only(&rendered, "Deployment"));
    arguments.into_iter().filter(|argument| argument.contains("-listen=")).collect()
}

#[test]
fn both_listeners_are_where_the_cluster_has_its_addresses() {
    assert_eq!(listeners(&[]), ["--admin-listen=0.0.0.0:8080", "--kms-listen=0.0.0.0:8443"]);
    let ipv6 = listeners(&["--values", &values_file("ipv6")]);
    assert_eq!(ipv6, ["--admin-listen=[::]:8080", "--kms-listen=[::]:8443"]);
}

/// On a node of both families, `[::]` is for both; and the pod itself is known by either address.
#[tokio::test]
async fn what_listens_for_ipv6_is_reached_by_ipv4_too() {
    let arguments = listeners(&["--values", &values_file("ipv6")]);
    let any_port = arguments.iter().map(|argument| argument.replace(":8080", ":0").replace(":8443", ":0"));
    let line = ["cmk-operator".to_owned(), "run".to_owned()].into_iter().chain(any_port);
    let Command::Run(run) = Arguments::parse_from(line).command else { panic!("{arguments:?}") };
    let kms = KmsListeners::open(&run.kms).await.unwrap().tls.unwrap();
    let admin = admin::listen(run.admin_listen.unwrap()).await.unwrap();
    let (kms_port, admin_port) = (kms.local_addr().unwrap().port(), admin.local_addr().unwrap().port());
    let (levels, _filter) = LogLevels::begin("info").unwrap();
    let answers = Admin { readiness: Default::default(), metrics: Arc::default(), levels };
    let serving = tokio::spawn(admin::serve(admin, answers));
    for address in ["127.0.0.1", "::1"] {
        let address = address.parse().unwrap();
        TcpStream::connect(SocketAddr::new(address, kms_port)).await.unwrap();
        let mut stream = TcpStream::connect(SocketAddr::new(address, admin_port)).await.unwrap();
        stream.write_all(b"GET /loglevel HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n").await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.ends_with("info\n"), "{address}: {answer}");
    }
    serving.abort();
}
