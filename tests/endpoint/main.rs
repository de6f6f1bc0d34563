//! The KMS endpoint through the clients that users have, on a real API server: every operation, and every cell of both state
//! tables. The programs are in `tests/clients/`; what they check is there.

#![allow(clippy::expect_used, clippy::unwrap_used, reason = "a test that fails says why")]

#[path = "../support/mod.rs"]
mod support;

mod application;
mod clients;
mod kms_http;
mod outage;
mod refusals;
mod replicas;
mod watches;

use application::Application;

/// Runs one of the programs as an application of its own namespace.
async fn drive(namespace: &str, program: &str) {
    let application = Application::start(namespace).await;
    clients::run(program, &application.configuration()).await;
    application.operator.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn aws_state_table_through_boto3() {
    drive("aws-states", "aws_states.py").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn alibaba_state_table_through_both_sdks() {
    drive("alibaba-states", "alibaba_states.py").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn aws_operations_through_boto3() {
    drive("aws-tour", "aws_tour.py").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn alibaba_operations_through_both_sdks() {
    drive("alibaba-tour", "alibaba_tour.py").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn aws_cli() {
    drive("aws-cli", "aws_cli_roundtrip.py").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sops() {
    drive("sops", "sops_roundtrip.py").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn aws_encryption_sdk() {
    drive("encryption-sdk", "encryption_sdk_roundtrip.py").await;
}
